"""Background exports."""

from django.db import models
from django.utils import timezone
from django.utils.crypto import get_random_string

from rest.names import NAME_LENGTH


class ExportStatus(models.TextChoices):
    """Status of an export."""

    QUEUED = "queued"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"


def new_export_id() -> str:
    return "exp_" + get_random_string(20, "0123456789abcdef")


class ExportJob(models.Model):
    """A background export: its query and its progress. Updated by metrics.export.jobs."""

    export_id = models.CharField(max_length=24, unique=True, default=new_export_id, editable=False)
    owner = models.CharField(max_length=2 * NAME_LENGTH, help_text="Owner: key:NUMBER:NAME or user:NAME")
    question = models.JSONField()
    format = models.CharField(max_length=10)
    status = models.CharField(max_length=10, choices=ExportStatus.choices, default=ExportStatus.QUEUED)
    progress = models.FloatField(default=0.0)
    rows = models.BigIntegerField(default=0)
    bytes = models.BigIntegerField(default=0)
    detail = models.TextField(blank=True, help_text="Reason of a failure.")
    incomplete = models.JSONField(default=list, help_text="Names of damaged blocks that are left out.")
    devices = models.JSONField(default=list, help_text="IDs of the devices that the file may contain.")
    place = models.JSONField(null=True, help_text="Position from which to continue.")
    files = models.JSONField(default=list, help_text="[name, valid bytes] of each file, in order.")
    attempt = models.PositiveIntegerField(default=0)
    lease_until = models.DateTimeField(null=True)
    created_at = models.DateTimeField(default=timezone.now)
    started_at = models.DateTimeField(null=True)
    finished_at = models.DateTimeField(null=True)
    expires_at = models.DateTimeField(null=True)

    audit_name = "export_id"

    class Meta:
        ordering = ["-id"]
        indexes = [
            models.Index(fields=["owner", "-id"], name="export_owner"),
            models.Index(fields=["id"], name="export_unfinished", condition=models.Q(status__in=["queued", "running"])),
            models.Index(fields=["expires_at"], name="export_expiry"),
        ]

    def __str__(self) -> str:
        return self.export_id
