"""Metric definitions."""

from django.core.validators import MaxValueValidator, MinValueValidator
from django.db import models
from django.utils.crypto import get_random_string

from metrics.models.audit import Audited
from metrics.models.new_names import validate_new_names
from metrics.models.revision import Announced
from metrics.storage.merge.retention_policies import (
    DEFAULT_RETENTION_DAYS,
    DEFAULT_ROLLUP_1H_DAYS,
    DEFAULT_ROLLUP_5M_DAYS,
)
from rest.names import NAME_LENGTH, id_error

LONGEST_RETENTION_DAYS = 3650
_DAYS = [MinValueValidator(1), MaxValueValidator(LONGEST_RETENTION_DAYS)]


class DataType(models.TextChoices):
    """The type of a metric's values."""

    NUMERIC = "numeric"
    STRING = "string"
    BOOLEAN = "boolean"
    JSON = "json"
    GEOLOCATION = "geolocation"
    BINARY = "binary"


class MetricType(models.TextChoices):
    """The kind of a metric, as in Prometheus."""

    GAUGE = "gauge"
    COUNTER = "counter"
    HISTOGRAM = "histogram"
    SUMMARY = "summary"


def new_metric_id() -> str:
    return "met_" + get_random_string(12, "0123456789abcdef")


class MetricDefinition(Audited, Announced):
    """Type, bounds, unit and retention of a metric. Optional for every metric."""

    metric_id = models.CharField(max_length=20, unique=True, default=new_metric_id, editable=False)
    name = models.CharField(max_length=NAME_LENGTH, unique=True)
    description = models.TextField(blank=True)
    data_type = models.CharField(max_length=12, choices=DataType.choices)
    metric_type = models.CharField(max_length=10, choices=MetricType.choices, default=MetricType.GAUGE)
    unit = models.CharField(max_length=50, blank=True)
    min_value = models.FloatField(null=True, blank=True)
    max_value = models.FloatField(null=True, blank=True)
    retention_days = models.PositiveIntegerField(
        default=DEFAULT_RETENTION_DAYS, validators=_DAYS, help_text="Retention of raw points in days."
    )
    rollup_5m_days = models.PositiveIntegerField(
        "rollup 5 min days",
        default=DEFAULT_ROLLUP_5M_DAYS,
        validators=_DAYS,
        help_text="Retention in days of five-minute rollups (count, sum, minimum, maximum, first and last value);"
        " at least that of the raw points.",
    )
    rollup_1h_days = models.PositiveIntegerField(
        "rollup 1 h days",
        default=DEFAULT_ROLLUP_1H_DAYS,
        validators=_DAYS,
        help_text="Retention of hourly rollups in days; at least that of the raw points.",
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
                violation_error_message="The retention of hourly rollups must be at least that of five-minute rollups.",
            )
        ]

    def __str__(self) -> str:
        return self.name

    def clean(self) -> None:
        super().clean()
        validate_new_names(self, name=id_error)
