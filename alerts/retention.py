"""Retention: delete old resolved alerts, incidents, deliveries and silences, and the data of deleted series."""

from datetime import datetime, timedelta

from django.conf import settings
from django.db import connection

from alerts.models import Alert, Delivery, Incident, Silence
from metrics.storage.series_registry import series_exists_sql

DELETE_BATCH = 5000  # rows per table and run
DELIVERY_RETENTION = timedelta(days=90)

_DELETE_ORPHANS = [
    f"DELETE FROM {table} d WHERE NOT {series_exists_sql('d.series')}"  # noqa: S608
    for table in ("alerts_detectorstate", "alerts_anomalyfeedback")
]


def delete_expired(now: datetime) -> int:
    """Delete what is past its retention, at most one batch per table. Returns the number of deleted alerts."""
    before = now - timedelta(days=settings.ALERT_RETENTION_DAYS)
    expired_alerts = (
        Alert.objects.filter(status="resolved", resolved_at__lt=before).order_by("pk").values_list("pk", flat=True)
    )
    _, deleted = Alert.objects.filter(pk__in=list(expired_alerts[:DELETE_BATCH])).delete()
    Incident.objects.filter(last_at__lt=before, alerts=None).delete()
    sent = Delivery.objects.filter(created_at__lt=now - DELIVERY_RETENTION, status__in=["sent", "failed"]).order_by(
        "pk"
    )
    Delivery.objects.filter(pk__in=list(sent.values_list("pk", flat=True)[:DELETE_BATCH])).delete()
    for silence in Silence.objects.filter(ends_at__lt=before)[:DELETE_BATCH]:
        silence.delete()
    with connection.cursor() as cursor:
        for statement in _DELETE_ORPHANS:
            cursor.execute(statement)
    return deleted.get("alerts.Alert", 0)
