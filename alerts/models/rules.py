"""Alert rules and their versions."""

from typing import Any

from django.contrib.postgres.fields import ArrayField
from django.core.validators import MaxValueValidator, MinValueValidator
from django.db import models
from django.utils import timezone

from alerts.models.names import ID_LENGTH, new_rule_id
from metrics.models import NAME_LENGTH, Audited

MAX_EVALUATION_WINDOW = 7 * 86_400  # seconds
MAX_TRIGGER_COUNT = 1000
MAX_COOLDOWN_MINUTES = 7 * 24 * 60  # minutes
MAX_AUTO_RESOLVE_TIMEOUT = 30 * 86_400  # seconds


class Level(models.TextChoices):
    """Severity, in ascending order."""

    INFO = "info"
    WARNING = "warning"
    ERROR = "error"
    CRITICAL = "critical"
    EMERGENCY = "emergency"


LEVEL_RANKS = {level: rank for rank, level in enumerate(Level.values)}


class RuleKind(models.TextChoices):
    """Kind of condition of a rule."""

    THRESHOLD = "threshold"
    TREND = "trend"
    ANOMALY = "anomaly"
    ABSENCE = "absence"
    FORECAST = "forecast"
    COMPOSITE = "composite"


class Mode(models.TextChoices):
    """Mode of a rule; a shadow rule is evaluated and opens alerts, but never notifies."""

    LIVE = "live"
    SHADOW = "shadow"


class Condition(models.TextChoices):
    """Comparison of a value with the threshold."""

    ABOVE = ">"
    BELOW = "<"
    AT_LEAST = ">="
    AT_MOST = "<="
    EQUAL = "=="
    UNEQUAL = "!="


class RuleGeneration(models.Model):
    """One row whose number is incremented with every change of a rule, so that evaluators reload the rules."""

    number = models.BigIntegerField(default=0)

    @classmethod
    def increment(cls) -> None:
        cls.objects.filter(pk=1).update(number=models.F("number") + 1)


class Rule(Audited):
    """Alert rule. alerts.conditions.spec defines which values are valid.

    Only alerts.rules.lifecycle writes it; every change is stored as a version.
    """

    rule_id = models.CharField(max_length=ID_LENGTH, unique=True, default=new_rule_id, editable=False)
    name = models.CharField(max_length=NAME_LENGTH)
    description = models.TextField(
        blank=True, help_text="Text of the alert. Placeholders such as {device}, {metric} and {value} are replaced."
    )
    runbook_url = models.CharField(
        max_length=2000, blank=True, help_text="URL of the runbook. Placeholders are replaced as in the description."
    )
    enabled = models.BooleanField(default=True)
    mode = models.CharField(max_length=6, choices=Mode.choices, default=Mode.LIVE)
    shadow_of = models.ForeignKey(
        "self",
        models.CASCADE,
        null=True,
        blank=True,
        related_name="shadows",
        help_text="Live rule that this shadow rule is compared with.",
    )
    metric_name = models.CharField(
        max_length=NAME_LENGTH,
        help_text="Metric that the rule evaluates. * (absence rules only): any metric of the device.",
    )
    kind = models.CharField(max_length=9, choices=RuleKind.choices, default=RuleKind.THRESHOLD)
    condition = models.CharField(max_length=2, choices=Condition.choices, default=Condition.ABOVE)
    threshold_value = models.JSONField(
        null=True, blank=True, help_text="JSON: a number, true, false, or a text in quotes. null: no threshold."
    )
    clear_threshold = models.FloatField(
        null=True,
        blank=True,
        help_text="Recovery threshold: the value must cross it for the alert to recover. Empty: the threshold value.",
    )
    aggregation = models.CharField(
        max_length=20,
        blank=True,
        help_text="Aggregation of the values in the evaluation window, such as avg or p95. Empty: none.",
    )
    parameters = models.JSONField(
        default=dict, blank=True, help_text="JSON object with the parameters of the kind of rule."
    )
    level = models.CharField(max_length=9, choices=Level.choices, default=Level.WARNING)
    evaluation_window = models.PositiveIntegerField(
        default=300,
        validators=[MinValueValidator(1), MaxValueValidator(MAX_EVALUATION_WINDOW)],
        help_text="Evaluation window in seconds.",
    )
    trigger_count = models.PositiveIntegerField(
        default=1,
        validators=[MinValueValidator(1), MaxValueValidator(MAX_TRIGGER_COUNT)],
        help_text="Number of values in the window that must breach the condition.",
    )
    device_ids = ArrayField(models.CharField(max_length=NAME_LENGTH), default=list, blank=True)
    device_groups = ArrayField(models.CharField(max_length=NAME_LENGTH), default=list, blank=True)
    notification_channels = ArrayField(models.CharField(max_length=NAME_LENGTH), default=list, blank=True)
    cooldown_minutes = models.PositiveIntegerField(
        default=0,
        validators=[MaxValueValidator(MAX_COOLDOWN_MINUTES)],
        help_text="Minimum minutes between two alerts of one series.",
    )
    auto_resolve = models.BooleanField(default=True, help_text="Resolve alerts when their values recover.")
    auto_resolve_timeout = models.PositiveIntegerField(
        null=True,
        blank=True,
        validators=[MinValueValidator(1), MaxValueValidator(MAX_AUTO_RESOLVE_TIMEOUT)],
        help_text="Seconds without a breach after which an alert is resolved, even if it has not recovered.",
    )
    version = models.PositiveIntegerField(default=1, editable=False)
    total_triggers = models.BigIntegerField(default=0, editable=False)
    last_triggered = models.DateTimeField(null=True, editable=False)
    suspended = models.TextField(
        blank=True, editable=False, help_text="Error that suspends the evaluation of the rule."
    )
    created_by = models.CharField(max_length=2 * NAME_LENGTH, blank=True, editable=False)
    created_at = models.DateTimeField(default=timezone.now, editable=False)
    updated_at = models.DateTimeField(default=timezone.now, editable=False)

    other_devices = False  # in responses: whether the rule also concerns devices that the caller does not see

    class Meta:
        verbose_name = "alert rule"
        ordering = ["name", "id"]
        indexes = [models.Index(fields=["metric_name"], name="rule_by_metric")]

    def __str__(self) -> str:
        return self.name

    def save(self, *args: Any, **kwargs: Any) -> None:
        super().save(*args, **kwargs)
        RuleGeneration.increment()

    def delete(self, *args: Any, **kwargs: Any) -> tuple[int, dict[str, int]]:
        deleted = super().delete(*args, **kwargs)
        RuleGeneration.increment()
        return deleted


class RuleVersion(models.Model):
    """Version of a rule: its fields from one change to the next."""

    rule = models.ForeignKey(Rule, models.CASCADE, related_name="versions")
    version = models.PositiveIntegerField()
    document = models.JSONField(help_text="Values by field.")
    by = models.CharField(max_length=2 * NAME_LENGTH)
    at = models.DateTimeField(default=timezone.now)
    note = models.CharField(max_length=NAME_LENGTH, blank=True)

    class Meta:
        ordering = ["-version"]
        constraints = [models.UniqueConstraint(fields=["rule", "version"], name="one_row_per_version")]

    def __str__(self) -> str:
        return f"version {self.version}"
