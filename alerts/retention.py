"""What is over for long goes: alerts with all that belongs to them, deliveries, silences, and states of no series."""

from datetime import datetime, timedelta

from django.conf import settings
from django.db import connection

from alerts.models import Alert, Delivery, Incident, Silence

AT_ONCE = 5000  # rows of one step
DELIVERIES_KEPT = timedelta(days=90)

_STATES = """
DELETE FROM alerts_detectorstate d WHERE NOT EXISTS (SELECT FROM metrics_series s WHERE s.id = d.series)
"""


def drop_expired(now: datetime) -> int:
    """Delete what is past its time, so many rows at once at the most; returns how many alerts went."""
    before = now - timedelta(days=settings.ALERT_RETENTION_DAYS)
    old = Alert.objects.filter(status="resolved", resolved_at__lt=before).order_by("pk").values_list("pk", flat=True)
    _, gone = Alert.objects.filter(pk__in=list(old[:AT_ONCE])).delete()
    Incident.objects.filter(last_at__lt=before, alerts=None).delete()
    sent = Delivery.objects.filter(created_at__lt=now - DELIVERIES_KEPT, status__in=["sent", "failed"]).order_by("pk")
    Delivery.objects.filter(pk__in=list(sent.values_list("pk", flat=True)[:AT_ONCE])).delete()
    for silence in Silence.objects.filter(ends_at__lt=before)[:AT_ONCE]:
        silence.delete()
    with connection.cursor() as cursor:
        cursor.execute(_STATES)
    return gone.get("alerts.Alert", 0)
