"""What the daily task deletes: resolved alerts, deliveries and silences past their time, and data of deleted series."""

from datetime import timedelta
from typing import Any

from django.utils import timezone

from alerts import retention
from alerts.models import Alert, AnomalyFeedback, Delivery, DetectorState, Incident, Silence
from metrics.models import Device, Series
from tests.alerts.factories import create_alerts, create_rule
from tests.alerts.stored_points import store_points

DAY = timedelta(days=1)


def test_only_alerts_resolved_before_the_retention_are_deleted(site: None, settings: Any) -> None:
    settings.ALERT_RETENTION_DAYS = 30
    now, rule = timezone.now(), create_rule()
    for name, status, age in (("old", "resolved", 31), ("recent", "resolved", 29), ("open", "active", 400)):
        [alert] = create_alerts(rule, Device.objects.create(device_id=name))
        Alert.objects.filter(pk=alert.pk).update(
            status=status, triggered_at=now - age * DAY, resolved_at=now - age * DAY if status == "resolved" else None
        )
    assert retention.delete_expired(now) == 1
    assert set(Alert.objects.values_list("device_name", flat=True)) == {"recent", "open"}
    assert retention.delete_expired(now) == 0


def test_unfinished_deliveries_are_kept(site: None) -> None:
    now = timezone.now()
    for title, status, age in (
        ("old", "sent", 91),
        ("failed", "failed", 91),
        ("retried", "pending", 91),
        ("new", "sent", 89),
    ):
        delivery = Delivery.objects.create(title=title, status=status, payload={})
        Delivery.objects.filter(pk=delivery.pk).update(created_at=now - age * DAY)
    retention.delete_expired(now)
    assert set(Delivery.objects.values_list("title", flat=True)) == {"retried", "new"}


def test_ended_silences_and_empty_incidents_past_the_retention_are_deleted(site: None, settings: Any) -> None:
    settings.ALERT_RETENTION_DAYS = 30
    now = timezone.now()
    for reason, age in (("old", 31), ("recent", 29)):
        ends_at = now - age * DAY
        Silence.objects.create(reason=reason, starts_at=ends_at - DAY, ends_at=ends_at, created_by="user:mei")
        Incident.objects.create(last_at=ends_at)
    retention.delete_expired(now)
    assert list(Silence.objects.values_list("reason", flat=True)) == ["recent"]
    assert Incident.objects.count() == 1


def test_detector_state_and_feedback_of_deleted_series_are_deleted(site: None) -> None:
    kept, deleted = (store_points(name, "load", [0.0], [1.0]) for name in ("kept", "deleted"))
    for series in (kept, deleted):
        DetectorState.objects.create(series=series, time=0, state=b"")
        AnomalyFeedback.objects.create(
            alert_id=f"alt_{series}", series=series, is_anomaly=False, gravity=2.0, by="user:mei"
        )
    Series.objects.get(pk=deleted).delete()
    retention.delete_expired(timezone.now())
    assert list(DetectorState.objects.values_list("series", flat=True)) == [kept]
    assert list(AnomalyFeedback.objects.values_list("series", flat=True)) == [kept]
