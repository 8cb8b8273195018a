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

NAME_LENGTH = 200
DEFAULT_RETENTION_DAYS = 90
LONGEST_RETENTION_DAYS = 3650


class Device(models.Model):
    """Something that sends measurements, known by the `device_id` that it calls itself."""

    device_id = models.CharField(max_length=NAME_LENGTH, unique=True)
    name = models.CharField(max_length=NAME_LENGTH, blank=True, help_text="What people call it; its id where empty.")
    expected_interval = models.PositiveIntegerField(
        null=True,
        blank=True,
        help_text="Seconds between measurements; a device that is later than three of them is late.",
    )
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
        default=DEFAULT_RETENTION_DAYS,
        validators=[MinValueValidator(1), MaxValueValidator(LONGEST_RETENTION_DAYS)],
    )
    aggregation_interval = models.PositiveIntegerField(default=60, validators=[MinValueValidator(1)])
    tags = models.JSONField(default=list, blank=True)
    metadata = models.JSONField(default=dict, blank=True)
    created_at = models.DateTimeField(auto_now_add=True)
    updated_at = models.DateTimeField(auto_now=True)
    created_by = models.CharField(max_length=NAME_LENGTH, blank=True)

    class Meta:
        ordering = ["name"]

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
    made_at = models.DateTimeField(db_default=Now())
    payload = models.BinaryField()

    class Meta:
        indexes = [models.Index(fields=["shard", "bucket", "day", "series_from", "series_to"], name="block_place")]


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
    entries = models.JSONField()
    digest = models.BinaryField(help_text="SHA-256 of the payload and the entries")
    checksum = models.BinaryField(help_text="SHA-256 of the checksum before and the digest")


class IngestedBatch(models.Model):
    """A `batch_id` that was answered, and what was answered, so that a retry gets the same answer."""

    pk = models.CompositePrimaryKey("device_id", "batch_id")
    device_id = models.CharField(max_length=NAME_LENGTH)
    batch_id = models.CharField(max_length=NAME_LENGTH)
    at = models.DateTimeField(db_default=Now())
    answer = models.JSONField()

    class Meta:
        indexes = [models.Index(fields=["at"])]
