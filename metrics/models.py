"""What is measured (devices, metric definitions, series) and the tables in which measurements live.

The storage tables at the end are Django models so that migrations, checks and the admin know them; they are
written and read by `metrics.storage` alone, in SQL.
"""

from typing import Any

from django.core.validators import MaxValueValidator, MinValueValidator
from django.db import models
from django.db.models.functions import Now
from django.utils import timezone
from django.utils.crypto import get_random_string

from metrics.storage.policies import DEFAULT_HOUR_DAYS, DEFAULT_MINUTES_DAYS, DEFAULT_RETENTION_DAYS

NAME_LENGTH = 200
LONGEST_RETENTION_DAYS = 3650
_DAYS = [MinValueValidator(1), MaxValueValidator(LONGEST_RETENTION_DAYS)]


class DeviceGroup(models.Model):
    """Devices that are asked about together: a site, a customer, a kind of machine. A device may be in several."""

    name = models.CharField(max_length=NAME_LENGTH, unique=True)
    description = models.TextField(blank=True)
    created_at = models.DateTimeField(default=timezone.now, editable=False)

    class Meta:
        ordering = ["name"]

    def __str__(self) -> str:
        return self.name


class Device(models.Model):
    """Something that sends measurements, known by the `device_id` that it calls itself."""

    device_id = models.CharField(max_length=NAME_LENGTH, unique=True)
    name = models.CharField(max_length=NAME_LENGTH, blank=True, help_text="What people call it; its id where empty.")
    expected_interval = models.PositiveIntegerField(
        null=True,
        blank=True,
        help_text="Seconds between measurements; a device that is later than three of them is late.",
    )
    groups = models.ManyToManyField(DeviceGroup, blank=True, related_name="devices")
    created_at = models.DateTimeField(default=timezone.now, editable=False)

    class Meta:
        ordering = ["device_id"]

    def __str__(self) -> str:
        return self.name or self.device_id


class Revision(models.Model):
    """One row whose number moves whenever keys or definitions change: every process notices within a second."""

    number = models.BigIntegerField(default=0)

    @classmethod
    def move(cls) -> None:
        cls.objects.filter(pk=1).update(number=models.F("number") + 1)


class Announced(models.Model):
    """A row that every process remembers: saving or deleting it moves the revision."""

    class Meta:
        abstract = True

    def save(self, *args: Any, **kwargs: Any) -> None:
        super().save(*args, **kwargs)
        Revision.move()

    def delete(self, *args: Any, **kwargs: Any) -> tuple[int, dict[str, int]]:
        deleted = super().delete(*args, **kwargs)
        Revision.move()
        return deleted


class DataType(models.TextChoices):
    """What a value of a metric may be."""

    NUMERIC = "numeric"
    STRING = "string"
    BOOLEAN = "boolean"
    JSON = "json"
    GEOLOCATION = "geolocation"
    BINARY = "binary"


class MetricType(models.TextChoices):
    """How the values of a metric are to be read."""

    GAUGE = "gauge"
    COUNTER = "counter"
    HISTOGRAM = "histogram"
    SUMMARY = "summary"


def new_metric_id() -> str:
    return "met_" + get_random_string(12, "0123456789abcdef")


class MetricDefinition(Announced):
    """What is known of a metric beforehand: its type, its bounds, how long it is kept. Optional for every metric."""

    metric_id = models.CharField(max_length=20, unique=True, default=new_metric_id, editable=False)
    name = models.CharField(max_length=NAME_LENGTH, unique=True)
    description = models.TextField(blank=True)
    data_type = models.CharField(max_length=12, choices=DataType.choices)
    metric_type = models.CharField(max_length=10, choices=MetricType.choices, default=MetricType.GAUGE)
    unit = models.CharField(max_length=50, blank=True)
    min_value = models.FloatField(null=True, blank=True)
    max_value = models.FloatField(null=True, blank=True)
    retention_days = models.PositiveIntegerField(
        default=DEFAULT_RETENTION_DAYS, validators=_DAYS, help_text="Days that its points are kept as they were sent."
    )
    rollup_5m_days = models.PositiveIntegerField(
        "rollup 5 min days",
        default=DEFAULT_MINUTES_DAYS,
        validators=_DAYS,
        help_text="Days that count, sum, least, greatest, first and last value of every five minutes are kept;"
        " never less long than the points.",
    )
    rollup_1h_days = models.PositiveIntegerField(
        "rollup 1 h days",
        default=DEFAULT_HOUR_DAYS,
        validators=_DAYS,
        help_text="Days that the same of every hour is kept; never less long than the points.",
    )
    aggregation_interval = models.PositiveIntegerField(default=60, validators=[MinValueValidator(1)])
    tags = models.JSONField(default=list, blank=True)
    metadata = models.JSONField(default=dict, blank=True)
    created_at = models.DateTimeField(auto_now_add=True)
    updated_at = models.DateTimeField(auto_now=True)
    created_by = models.CharField(max_length=NAME_LENGTH, blank=True)

    class Meta:
        ordering = ["name"]
        constraints = [
            models.CheckConstraint(
                condition=models.Q(rollup_1h_days__gte=models.F("rollup_5m_days")),
                name="hours_outlive_minutes",
                violation_error_message="Hourly rollups are kept at least as long as those of five minutes.",
            )
        ]

    def __str__(self) -> str:
        return self.name


class Series(models.Model):
    """One metric of one device in one kind of value: the thing whose points are stored in order of time."""

    device = models.ForeignKey(Device, on_delete=models.CASCADE, related_name="series")
    metric_name = models.CharField(max_length=NAME_LENGTH)
    kind = models.PositiveSmallIntegerField(help_text="metrics.storage.codec.Kind")

    class Meta:
        constraints = [models.UniqueConstraint(fields=["device", "metric_name", "kind"], name="one_series_per_kind")]
        indexes = [models.Index(fields=["metric_name"])]

    def __str__(self) -> str:
        return f"{self.device_id}/{self.metric_name}"


class Lane(models.Model):
    """Where the next series of a metric is numbered: from `next` to before `end`, then in a lane of its own anew."""

    metric_name = models.CharField(primary_key=True, max_length=NAME_LENGTH)
    next = models.BigIntegerField()
    end = models.BigIntegerField(db_index=True)
    size = models.PositiveSmallIntegerField()


# --- exports ---------------------------------------------------------------------------------------


class ExportStatus(models.TextChoices):
    """How far an export is."""

    QUEUED = "queued"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"


def new_export_id() -> str:
    return "exp_" + get_random_string(20, "0123456789abcdef")


class ExportJob(models.Model):
    """An export that is made in the background: what was asked, and how far it is. Moved by metrics.export.jobs."""

    export_id = models.CharField(max_length=24, unique=True, default=new_export_id, editable=False)
    owner = models.CharField(max_length=2 * NAME_LENGTH, help_text="Who asked: key:<number>:<name> or user:<name>")
    question = models.JSONField()
    format = models.CharField(max_length=10)
    status = models.CharField(max_length=10, choices=ExportStatus.choices, default=ExportStatus.QUEUED)
    progress = models.FloatField(default=0.0)
    rows = models.BigIntegerField(default=0)
    bytes = models.BigIntegerField(default=0)
    detail = models.TextField(blank=True, help_text="Why it failed.")
    incomplete = models.JSONField(default=list, help_text="What could not be read and is left out.")
    place = models.JSONField(null=True, help_text="Where to go on.")
    files = models.JSONField(default=list, help_text="[name, bytes that count] of each file, in order.")
    attempt = models.PositiveIntegerField(default=0)
    lease_until = models.DateTimeField(null=True)
    created_at = models.DateTimeField(default=timezone.now)
    started_at = models.DateTimeField(null=True)
    finished_at = models.DateTimeField(null=True)
    expires_at = models.DateTimeField(null=True)

    class Meta:
        ordering = ["-id"]
        indexes = [
            models.Index(fields=["owner", "-id"], name="export_owner"),
            models.Index(fields=["id"], name="export_unfinished", condition=models.Q(status__in=["queued", "running"])),
            models.Index(fields=["expires_at"], name="export_expiry"),
        ]

    def __str__(self) -> str:
        return self.export_id


# --- storage ----------------------------------------------------------------------------------------


class Head(models.Model):
    """The end of the stream of one shard: the last commit's number and the checksum of everything up to it."""

    shard = models.PositiveSmallIntegerField(primary_key=True)
    seq = models.BigIntegerField(default=0)
    checksum = models.BinaryField(default=b"")


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
    bucket = models.IntegerField(help_text="series id // metrics.storage.blocks.BUCKET")
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
        return f"{'merged' if self.level else 'young'} block {self.number}"
