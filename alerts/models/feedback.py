"""Feedback of people on the alerts of anomaly rules."""

from typing import Any

from django.db import models
from django.utils import timezone

from alerts.models.names import ID_LENGTH
from alerts.models.rules import RuleGeneration
from metrics.models import NAME_LENGTH, Audited


class AnomalyFeedback(Audited):
    """Whether an alert of an anomaly rule was an anomaly; it moves the notification threshold of the series.

    Kept after the alert is deleted, since the threshold of the series still depends on it.
    """

    alert_id = models.CharField(max_length=ID_LENGTH, unique=True, editable=False)
    series = models.BigIntegerField(db_index=True, editable=False)
    device_name = models.CharField(max_length=NAME_LENGTH, editable=False)
    metric_name = models.CharField(max_length=NAME_LENGTH, editable=False)
    is_anomaly = models.BooleanField()
    gravity = models.FloatField(
        editable=False, help_text="Strength of the alert's anomaly: 1 notifies at normal sensitivity."
    )
    by = models.CharField(max_length=2 * NAME_LENGTH, editable=False)
    at = models.DateTimeField(default=timezone.now, editable=False)

    audit_name = "alert_id"

    class Meta:
        ordering = ["-at", "-id"]
        verbose_name = "anomaly feedback"
        verbose_name_plural = "anomaly feedback"

    def __str__(self) -> str:
        return f"{self.alert_id}: {'an anomaly' if self.is_anomaly else 'not an anomaly'}"

    def save(self, *args: Any, **kwargs: Any) -> None:
        super().save(*args, **kwargs)
        RuleGeneration.increment()  # evaluators read the thresholds again

    def delete(self, *args: Any, **kwargs: Any) -> tuple[int, dict[str, int]]:
        deleted = super().delete(*args, **kwargs)
        RuleGeneration.increment()
        return deleted
