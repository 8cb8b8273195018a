"""Models of the storage tables.

They are Django models for migrations, checks and the admin; only `metrics.storage` reads and writes them, in SQL.
"""

from django.db import models
from django.db.models.functions import Now

from rest.names import NAME_LENGTH


class Head(models.Model):
    """The head of a shard's commit stream: the last sequence number and the checksum of everything up to it."""

    shard = models.PositiveSmallIntegerField(primary_key=True)
    seq = models.BigIntegerField(default=0)
    checksum = models.BinaryField(default=b"")
    deleted_at_revision = models.BigIntegerField(
        db_default=0, help_text="The revision of the last deletion of a device."
    )
    other_kinds_revision = models.BigIntegerField(
        db_default=0, help_text="Number of times that series of another kind of value were created."
    )


class Merged(models.Model):
    """The last merged commit of a shard. Separate from Head, so that a merge never delays a commit."""

    shard = models.PositiveSmallIntegerField(primary_key=True)
    seq = models.BigIntegerField(default=0)


class Young(models.Model):
    """One unmerged commit: everything that arrived during the commit before. Followers read them in order of `seq`."""

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
    bucket = models.IntegerField(help_text="series id // metrics.storage.format.layout.SERIES_PER_BUCKET")
    day = models.IntegerField(help_text="days since 1970, UTC")
    seq_from = models.BigIntegerField()
    seq_to = models.BigIntegerField()
    series_from = models.BigIntegerField()
    series_to = models.BigIntegerField()
    time_from = models.BigIntegerField()
    time_to = models.BigIntegerField()
    points = models.IntegerField()
    keep = models.PositiveSmallIntegerField(
        null=True, help_text="Retention of all its points in days, if they share one."
    )
    made_at = models.DateTimeField(db_default=Now())
    payload = models.BinaryField()

    class Meta:
        indexes = [models.Index(fields=["shard", "bucket", "day", "series_from", "series_to"], name="block_place")]


class Rollup(models.Model):
    """Rollups of some series of a bucket on one day."""

    pk = models.CompositePrimaryKey("shard", "id")
    shard = models.PositiveSmallIntegerField()
    id = models.BigIntegerField()
    bucket = models.IntegerField()
    resolution = models.PositiveSmallIntegerField(help_text="seconds of an interval")
    day = models.IntegerField(help_text="days since 1970, UTC")
    series_from = models.BigIntegerField()
    series_to = models.BigIntegerField()
    intervals = models.IntegerField()
    keep = models.PositiveSmallIntegerField(help_text="Retention in days.")
    payload = models.BinaryField()

    class Meta:
        indexes = [models.Index(fields=["shard", "bucket", "resolution", "day"], name="rollup_place")]


class GroupedBy(models.Model):
    """The policy by which the stored days of a metric are grouped into rows; without a row it is the default."""

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
    """The journal: one line per commit, one entry per request, chained by checksum. Kept longer than the commit."""

    pk = models.CompositePrimaryKey("shard", "seq")
    shard = models.PositiveSmallIntegerField()
    seq = models.BigIntegerField()
    at = models.DateTimeField(db_default=Now())
    entries = models.TextField(help_text="JSON as it was written, byte for byte")
    payload_digest = models.BinaryField(null=True, help_text="SHA-256 of the payload")
    digest = models.BinaryField(help_text="SHA-256 of the payload's digest and the entries")
    checksum = models.BinaryField(help_text="SHA-256 of the previous checksum and the digest")


class JournalPack(models.Model):
    """A thousand journal lines that are some minutes old, in one row."""

    pk = models.CompositePrimaryKey("shard", "seq_from")
    shard = models.PositiveSmallIntegerField()
    seq_from = models.BigIntegerField()
    seq_to = models.BigIntegerField()
    at_from = models.DateTimeField()
    at_to = models.DateTimeField()
    before = models.BinaryField(null=True, help_text="The checksum before the first line, if known")
    checksum = models.BinaryField(help_text="The checksum of the last line")
    payload = models.BinaryField()


class IngestedBatch(models.Model):
    """An answered `batch_id` with its answer, so that a retry gets the same answer."""

    pk = models.CompositePrimaryKey("device_id", "batch_id")
    device_id = models.CharField(max_length=NAME_LENGTH)
    batch_id = models.CharField(max_length=NAME_LENGTH)
    at = models.DateTimeField(db_default=Now())
    answer = models.JSONField()
    digest = models.BinaryField(null=True, help_text="SHA-256 of the points, to distinguish a retry from another batch")

    class Meta:
        indexes = [models.Index(fields=["at"])]


class DamagedBlock(models.Model):
    """A quarantined block whose checksum differs. Restore its payload, and the next merge restores the block."""

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
