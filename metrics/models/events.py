"""Events of the outbox, and the positions up to which each target of the event bus has read them."""

from django.db import models
from django.db.models import Func

from rest.names import NAME_LENGTH


class TransactionIdField(models.BigIntegerField):
    """A transaction id that never wraps around (`xid8`)."""

    def db_type(self, connection: object) -> str:
        return "xid8"


class CurrentTransaction(Func):
    """The id of the transaction that writes the row."""

    function = "pg_current_xact_id"
    output_field = TransactionIdField()


class Event(models.Model):
    """An event, written in the transaction of the change that it reports.

    Ids are assigned before commit, so a reader that remembers the largest id misses rows of transactions that commit
    late: see metrics.events.reader.
    """

    xid = TransactionIdField(db_default=CurrentTransaction())
    event_id = models.UUIDField(unique=True)
    type = models.CharField(max_length=60)
    subject = models.CharField(max_length=2 * NAME_LENGTH + 20)
    device_id = models.CharField(max_length=NAME_LENGTH, null=True, help_text="The device that decides who may see it.")
    owner_id = models.BigIntegerField(null=True, help_text="The only user who may see it.")
    time = models.DateTimeField()
    data = models.JSONField()

    class Meta:
        indexes = [models.Index(fields=["xid", "id"], name="event_by_transaction")]

    def __str__(self) -> str:
        return f"{self.type} {self.subject}"


class EventCursor(models.Model):
    """How far a target of the event bus has read: a band of transactions and the last event within it."""

    name = models.CharField(max_length=100, primary_key=True)
    epoch = models.CharField(max_length=8)
    low = models.BigIntegerField(help_text="Every event of earlier transactions has been read.")
    high = models.BigIntegerField(help_text="The first transaction after the band that is being read.")
    last_id = models.BigIntegerField(default=0, help_text="Last event read in the band.")
    checkpoint_xid = models.BigIntegerField(help_text="Events of earlier transactions may be deleted.")
    checkpoint_at = models.DateTimeField(help_text="When `low` had this value; moves after ten minutes.")
    next_checkpoint_xid = models.BigIntegerField()
    seen_at = models.DateTimeField()

    def __str__(self) -> str:
        return self.name


class SilentDevice(models.Model):
    """A device whose silence is recorded as an event. Without a foreign key: the device may be deleted meanwhile."""

    device_id = models.BigIntegerField(primary_key=True, help_text="Primary key of the device.")
    last_seen = models.DateTimeField()

    def __str__(self) -> str:
        return str(self.device_id)
