"""The tables in which measurements live.

They are Django models so that migrations, checks and the admin know them; they are written and read by
`metrics.storage` alone, in SQL.
"""

from django.db import models
from django.db.models.functions import Now

from rest.names import NAME_LENGTH


class Head(models.Model):
    """The end of the stream of one shard: the last commit's number and the checksum of everything up to it."""

    shard = models.PositiveSmallIntegerField(primary_key=True)
    seq = models.BigIntegerField(default=0)
    checksum = models.BinaryField(default=b"")
    deleted_at_revision = models.BigIntegerField(
        db_default=0, help_text="The revision of the last deletion of a device."
    )


class Merged(models.Model):
    """Up to which commit young blocks are merged. Apart from Head, so that a merge never holds up a commit."""

    shard = models.PositiveSmallIntegerField(primary_key=True)
    seq = models.BigIntegerField(default=0)


class Young(models.Model):
    """One commit: everything that arrived while the one before it ran. Followers read these in order of `seq`."""

    pk = models.CompositePrimaryKey("shard", "seq")
    shard = models.PositiveSmallIntegerField()
    seq = models.BigIntegerField()
    at = models.DateTimeField(db_default=Now())
    points = models.IntegerField()
    time_from = models.BigIntegerField(help_text="µs since 1970, UTC")
    time_to = models.BigIntegerField()
    payload = models.BinaryField()


class Block(models.Model):
    """Merged points of some series of one bucket on one day (UTC), in order of series and time."""

    pk = models.CompositePrimaryKey("shard", "id")
    shard = models.PositiveSmallIntegerField()
    id = models.BigIntegerField()
    level = models.PositiveSmallIntegerField()
    bucket = models.IntegerField(help_text="series id // metrics.storage.format.layout.BUCKET")
    day = models.IntegerField(help_text="days since 1970, UTC")
    seq_from = models.BigIntegerField()
    seq_to = models.BigIntegerField()
    series_from = models.BigIntegerField()
    series_to = models.BigIntegerField()
    time_from = models.BigIntegerField()
    time_to = models.BigIntegerField()
    points = models.IntegerField()
    keep = models.PositiveSmallIntegerField(null=True, help_text="Days that all of it is kept, once known.")
    made_at = models.DateTimeField(db_default=Now())
    payload = models.BinaryField()

    class Meta:
        indexes = [models.Index(fields=["shard", "bucket", "day", "series_from", "series_to"], name="block_place")]


class Rollup(models.Model):
    """What the intervals of a day of some series of a bucket amounted to."""

    pk = models.CompositePrimaryKey("shard", "id")
    shard = models.PositiveSmallIntegerField()
    id = models.BigIntegerField()
    bucket = models.IntegerField()
    resolution = models.PositiveSmallIntegerField(help_text="seconds of an interval")
    day = models.IntegerField(help_text="days since 1970, UTC")
    series_from = models.BigIntegerField()
    series_to = models.BigIntegerField()
    intervals = models.IntegerField()
    keep = models.PositiveSmallIntegerField(help_text="Days that all of it is kept.")
    payload = models.BinaryField()

    class Meta:
        indexes = [models.Index(fields=["shard", "bucket", "resolution", "day"], name="rollup_place")]


class GroupedBy(models.Model):
    """The policy by which the stored days of a metric are grouped into rows; a metric without one has the default."""

    metric_name = models.CharField(max_length=NAME_LENGTH, primary_key=True)
    points = models.PositiveSmallIntegerField()
    minutes = models.PositiveSmallIntegerField()
    hours = models.PositiveSmallIntegerField()


class Latest(models.Model):
    """The newest merged point of every series of a bucket."""

    pk = models.CompositePrimaryKey("shard", "bucket")
    shard = models.PositiveSmallIntegerField()
    bucket = models.IntegerField()
    payload = models.BinaryField()


class Journal(models.Model):
    """Who sent what: one row per commit, one entry per request, chained by checksum. Outlives the young block."""

    pk = models.CompositePrimaryKey("shard", "seq")
    shard = models.PositiveSmallIntegerField()
    seq = models.BigIntegerField()
    at = models.DateTimeField(db_default=Now())
    entries = models.TextField(help_text="JSON as it was written, byte for byte")
    payload_digest = models.BinaryField(null=True, help_text="SHA-256 of the payload")
    digest = models.BinaryField(help_text="SHA-256 of the payload's digest and the entries")
    checksum = models.BinaryField(help_text="SHA-256 of the checksum before and the digest")


class JournalPack(models.Model):
    """Lines of the journal that are some minutes old, a thousand in a row."""

    pk = models.CompositePrimaryKey("shard", "seq_from")
    shard = models.PositiveSmallIntegerField()
    seq_from = models.BigIntegerField()
    seq_to = models.BigIntegerField()
    at_from = models.DateTimeField()
    at_to = models.DateTimeField()
    before = models.BinaryField(null=True, help_text="The checksum before the first line, where it was known")
    checksum = models.BinaryField(help_text="The checksum of the last line")
    payload = models.BinaryField()


class IngestedBatch(models.Model):
    """A `batch_id` that was answered, and what was answered, so that a retry gets the same answer."""

    pk = models.CompositePrimaryKey("device_id", "batch_id")
    device_id = models.CharField(max_length=NAME_LENGTH)
    batch_id = models.CharField(max_length=NAME_LENGTH)
    at = models.DateTimeField(db_default=Now())
    answer = models.JSONField()

    class Meta:
        indexes = [models.Index(fields=["at"])]


class DamagedBlock(models.Model):
    """A block that was set aside since its checksum differs. Restore its payload, and the next merge puts it back."""

    shard = models.PositiveSmallIntegerField()
    level = models.PositiveSmallIntegerField(help_text="0: a commit that was not merged yet")
    number = models.BigIntegerField(help_text="seq of a commit, id of a merged block")
    bucket = models.IntegerField(null=True)
    day = models.IntegerField(null=True)
    seq_from = models.BigIntegerField()
    seq_to = models.BigIntegerField()
    series_from = models.BigIntegerField(null=True)
    series_to = models.BigIntegerField(null=True)
    time_from = models.BigIntegerField()
    time_to = models.BigIntegerField()
    points = models.IntegerField()
    found_at = models.DateTimeField(db_default=Now())
    payload = models.BinaryField()

    class Meta:
        constraints = [models.UniqueConstraint(fields=["shard", "level", "number"], name="damaged_once")]

    def __str__(self) -> str:
        return f"{'merged' if self.level else 'unmerged'} block {self.number}"
