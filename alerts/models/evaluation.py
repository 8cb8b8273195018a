"""How far evaluation is, and what it remembers."""

from django.db import models
from django.db.models.functions import Now

from alerts.models.rules import Rule


class Cursor(models.Model):
    """The last commit of a shard that was judged. Moved in the transaction of what was found in it."""

    shard = models.PositiveSmallIntegerField(primary_key=True)
    seq = models.BigIntegerField()
    at = models.DateTimeField(help_text="When that commit was made.")


class LateRange(models.Model):
    """Points of a series that came too late or out of order: to be judged with what was measured around them."""

    series = models.BigIntegerField(primary_key=True)
    time_from = models.BigIntegerField(help_text="µs since 1970, UTC")
    time_to = models.BigIntegerField()
    since = models.DateTimeField(db_default=Now())


class DetectorState(models.Model):
    """What the anomaly detector has learnt of a series, up to a time."""

    series = models.BigIntegerField(primary_key=True)
    time = models.BigIntegerField(help_text="Of the last point that it knows; µs since 1970, UTC.")
    state = models.BinaryField()
    updated_at = models.DateTimeField(db_default=Now())


class EvaluatorReport(models.Model):
    """What the evaluator last told of itself: one row."""

    at = models.DateTimeField(db_default=Now())
    figures = models.JSONField(default=dict)


class NoiseScore(models.Model):
    """How much of what a rule said was worth saying, as last reckoned."""

    rule = models.OneToOneField(Rule, models.CASCADE, related_name="noise")
    at = models.DateTimeField(db_default=Now())
    figures = models.JSONField(default=dict)


class Pattern(models.Model):
    """Something that alerts do again and again, as last reckoned."""

    kind = models.CharField(max_length=20)
    subject = models.JSONField(help_text="Rules, devices, hours: what it is about.")
    support = models.PositiveIntegerField(help_text="How often it was seen.")
    confidence = models.FloatField(help_text="In which share of the cases where it might have been.")
    description = models.TextField()
    devices = models.JSONField(default=list, help_text="device_ids that it is about; whoever sees them all sees it.")
    found_at = models.DateTimeField(db_default=Now())

    class Meta:
        ordering = ["-confidence", "-support", "id"]
