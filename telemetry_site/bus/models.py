"""State of the event bus: targets, the position in the stream of commits, and messages that could not be processed."""

from django.db import models
from django.db.models.functions import Now

from metrics.models import NAME_LENGTH

MAX_REASON_LENGTH = 1000  # characters
MAX_SUBJECT_LENGTH = 2 * NAME_LENGTH + 20


class BusTarget(models.Model):
    """Last report of the relay of a target; other processes show it in health and in the doctor's report."""

    name = models.CharField(max_length=100, primary_key=True)
    reported_at = models.DateTimeField()
    delivered = models.BigIntegerField(default=0, help_text="Events delivered since the installation.")
    delivered_at = models.DateTimeField(null=True)
    failing_since = models.DateTimeField(null=True)
    last_error = models.CharField(max_length=MAX_REASON_LENGTH, blank=True)
    is_replay = models.BooleanField(default=False, help_text="Its next events are a replay, so none is skipped.")
    sync_interval = models.CharField(max_length=40, blank=True, help_text="Of a NATS server; empty for other targets.")

    def __str__(self) -> str:
        return self.name


class CommitPosition(models.Model):
    """The last commit of a shard whose data events a target has received."""

    pk = models.CompositePrimaryKey("target", "shard")
    target = models.CharField(max_length=100)
    shard = models.PositiveSmallIntegerField()
    seq = models.BigIntegerField()


class Direction(models.TextChoices):
    INBOUND = "inbound"
    OUTBOUND = "outbound"


class ParkedMessage(models.Model):
    """A message that could not be processed or delivered, with the reason, until someone replays or deletes it."""

    direction = models.CharField(max_length=8, choices=Direction.choices)
    peer = models.CharField(max_length=100, help_text="Stream of an inbound message, target of an outbound one.")
    message_id = models.CharField(max_length=500, help_text="Its id for the sender; the place in the stream otherwise.")
    type = models.CharField(max_length=200, blank=True)
    subject = models.CharField(max_length=MAX_SUBJECT_LENGTH, blank=True)
    headers = models.JSONField(default=dict)
    payload = models.BinaryField()
    size = models.IntegerField(help_text="Bytes of the whole payload; a long one is stored in part.")
    reason = models.CharField(max_length=MAX_REASON_LENGTH)
    attempts = models.IntegerField(default=1)
    parked_at = models.DateTimeField(db_default=Now())

    class Meta:
        ordering = ["-id"]
        constraints = [models.UniqueConstraint(fields=["direction", "peer", "message_id"], name="parked_once")]

    def __str__(self) -> str:
        return f"{self.type or self.subject} {self.message_id}"

    @property
    def is_complete(self) -> bool:
        """Whether the whole payload is stored, so that the message can be replayed."""
        return len(self.payload) == self.size


class HandledMessage(models.Model):
    """An inbound message that was processed; a redelivered one has no effect."""

    pk = models.CompositePrimaryKey("source", "message_id")
    source = models.CharField(max_length=500)
    message_id = models.CharField(max_length=500)
    handled_at = models.DateTimeField(db_default=Now(), db_index=True)
