"""Deletions of devices whose stored points are still to be deleted."""

from django.contrib.postgres.fields import ArrayField
from django.db import models
from django.utils import timezone
from django.utils.crypto import get_random_string

from rest.names import NAME_LENGTH


class DeletionStatus(models.TextChoices):
    """Status of a deletion."""

    QUEUED = "queued"  # until the last commits with points of the device are merged
    RUNNING = "running"
    ENDING = "ending"  # until those commits, which followers can read for a while, are deleted
    DONE = "done"


def new_deletion_id() -> str:
    return "del_" + get_random_string(20, "0123456789abcdef")


class Deletion(models.Model):
    """A deleted device and the progress of deleting its points. Updated by metrics.devices.delete_device."""

    deletion_id = models.CharField(max_length=24, unique=True, default=new_deletion_id, editable=False)
    device_id = models.CharField(max_length=NAME_LENGTH)
    requested_by = models.CharField(max_length=2 * NAME_LENGTH)
    series = ArrayField(models.BigIntegerField(), help_text="Series of the device, ascending.")
    heads = models.JSONField(help_text="The last commit of each shard that may have points of the device.")
    status = models.CharField(max_length=10, choices=DeletionStatus.choices, default=DeletionStatus.QUEUED)
    progress = models.FloatField(default=0.0)
    points = models.BigIntegerField(default=0, help_text="Deleted points.")
    incomplete = models.JSONField(
        default=list, help_text="Names of damaged blocks that may still have points of the device."
    )
    bucket = models.IntegerField(null=True, help_text="Last processed bucket.")
    day = models.IntegerField(null=True)
    created_at = models.DateTimeField(default=timezone.now)
    started_at = models.DateTimeField(null=True)
    finished_at = models.DateTimeField(null=True)

    class Meta:
        ordering = ["-id"]
        indexes = [
            models.Index(fields=["device_id", "-id"], name="deletion_of_device"),
            models.Index(
                fields=["id"],
                name="deletion_unfinished",
                condition=models.Q(status__in=["queued", "running", "ending"]),
            ),
        ]

    def __str__(self) -> str:
        return f"{self.deletion_id} of {self.device_id}"
