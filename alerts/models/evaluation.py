"""State of evaluation: cursors, late data, detector states, and results per rule."""

from django.db import models
from django.db.models.functions import Now

from alerts.models.rules import Rule


class Cursor(models.Model):
    """Last evaluated commit of a shard; moved in the transaction that stores the results of evaluation."""

    shard = models.PositiveSmallIntegerField(primary_key=True)
    seq = models.BigIntegerField()
    at = models.DateTimeField(help_text="Time of that commit.")


class LateRange(models.Model):
    """Time range of late or out-of-order points of a series, which is evaluated again as history."""

    series = models.BigIntegerField(primary_key=True)
    time_from = models.BigIntegerField(help_text="Start of the range in µs since 1970, UTC.")
    time_to = models.BigIntegerField()
    since = models.DateTimeField(db_default=Now())


class DetectorState(models.Model):
    """State of the anomaly detector of a series."""

    series = models.BigIntegerField(primary_key=True)
    time = models.BigIntegerField(help_text="Time of the latest point in the state, in µs since 1970, UTC.")
    state = models.BinaryField(help_text="Empty until the series has learnt for the first time.")
    evaluate_from = models.BigIntegerField(
        null=True,
        help_text="While the series is learning: time in µs since 1970, UTC, from which points are evaluated.",
    )
    updated_at = models.DateTimeField(db_default=Now())


class EvaluatorReport(models.Model):
    """Latest self-metrics of the evaluator, in one row."""

    at = models.DateTimeField(db_default=Now())
    figures = models.JSONField(default=dict)


class EvaluatorFailure(models.Model):
    """An error after which evaluation was started again."""

    at = models.DateTimeField(db_default=Now(), db_index=True)
    error = models.TextField()


class NoiseScore(models.Model):
    """Noise score of a rule: its share of alerts without a reaction."""

    rule = models.OneToOneField(Rule, models.CASCADE, related_name="noise")
    at = models.DateTimeField(db_default=Now())
    figures = models.JSONField(default=dict)


class Pattern(models.Model):
    """Pattern in the alerts of the last month."""

    kind = models.CharField(max_length=20)
    subject = models.JSONField(help_text="Rules, devices, groups and hours of the pattern.")
    support = models.PositiveIntegerField(help_text="Number of occurrences.")
    confidence = models.FloatField(help_text="Share of the possible cases in which the pattern occurred.")
    description = models.TextField()
    devices = models.JSONField(
        default=list, help_text="device_ids of the pattern; visible to callers who may see all of them."
    )
    found_at = models.DateTimeField(db_default=Now())

    class Meta:
        ordering = ["-confidence", "-support", "id"]
