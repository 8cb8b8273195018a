"""Feedback on alerts of anomaly rules, and the notification thresholds of series that follow from it.

The threshold of a series is computed from its feedback in order, so that withdrawing one undoes exactly its effect.
"""

from collections.abc import Collection

from django.db import transaction
from django.utils import timezone

from alerts import timeline
from alerts.detector.sensitivity import adjust
from alerts.models import Alert, AnomalyFeedback, EventKind
from rest.errors import InvalidField

WITHDRAWN = "withdrawn"
_ANSWERS = {True: "an anomaly", False: "not an anomaly"}


def takes_feedback(alert: Alert) -> bool:
    """Return whether the alert was opened by an anomaly of a series."""
    return alert.series is not None and "gravity" in alert.evidence


def feedback_of(alert: Alert) -> AnomalyFeedback | None:
    """Return the feedback on an alert; without a query for alerts that take none."""
    if not takes_feedback(alert):
        return None
    return AnomalyFeedback.objects.filter(alert_id=alert.alert_id).first()


@transaction.atomic
def give_feedback(alert: Alert, is_anomaly: bool, by: str) -> AnomalyFeedback:
    """Store whether the alert was an anomaly; it replaces an earlier answer. Raises InvalidField."""
    if not takes_feedback(alert):
        raise InvalidField("alert_id", "feedback is accepted for alerts of anomaly rules")
    feedback = _locked(alert)
    if feedback is not None and feedback.is_anomaly == is_anomaly:
        return feedback
    assert alert.series is not None
    feedback = feedback or AnomalyFeedback(
        alert_id=alert.alert_id,
        series=alert.series,
        device_name=alert.device_name,
        metric_name=alert.metric_name,
        gravity=alert.evidence["gravity"],
    )
    feedback.is_anomaly, feedback.by, feedback.at = is_anomaly, by, timezone.now()
    feedback.save()
    timeline.add_events({alert.pk: _ANSWERS[is_anomaly]}, EventKind.FEEDBACK, by, feedback.at)
    return feedback


@transaction.atomic
def withdraw_feedback(alert: Alert, by: str) -> bool:
    """Delete the feedback on the alert; return whether there was any."""
    feedback = _locked(alert)
    if feedback is None:
        return False
    feedback.delete()
    timeline.add_events({alert.pk: WITHDRAWN}, EventKind.FEEDBACK, by, timezone.now())
    return True


def read_adjustments(series: Collection[int] | None = None) -> dict[int, float]:
    """Return the threshold factors of series with feedback; of all such series by default."""
    rows = AnomalyFeedback.objects.order_by("at", "id")
    if series is not None:
        rows = rows.filter(series__in=series)
    adjustments: dict[int, float] = {}
    for number, gravity, is_anomaly in rows.values_list("series", "gravity", "is_anomaly"):
        adjustments[number] = adjust(adjustments.get(number, 1.0), gravity, is_anomaly)
    return adjustments


def _locked(alert: Alert) -> AnomalyFeedback | None:
    """Lock the alert, so that two answers come one after the other, and return its feedback."""
    Alert.objects.select_for_update(of=("self",), no_key=True).get(pk=alert.pk)
    return feedback_of(alert)
