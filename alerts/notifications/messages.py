"""Payloads and titles of deliveries: the same for every channel kind."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

from django.conf import settings

from alerts.alert_values import headline, peak_and_current
from alerts.models import LEVEL_RANKS, Alert, Channel, Incident, Level, NoticeKind, Status
from alerts.notifications.incidents import build_incident_title
from metrics.models import NAME_LENGTH

MAX_PAYLOAD_ALERTS = 5000
EVENTS = {
    NoticeKind.FIRED: "alert.triggered",
    NoticeKind.RESOLVED: "alert.resolved",
    NoticeKind.REPEATED: "alert.repeated",
    NoticeKind.ESCALATED: "alert.escalated",
    NoticeKind.UNSILENCED: "alert.unsilenced",
}
_TITLE_PREFIXES = {  # of an alert that opened: its level
    NoticeKind.RESOLVED: "RESOLVED",
    NoticeKind.REPEATED: "REPEATED",
    NoticeKind.ESCALATED: "ESCALATED",
    NoticeKind.UNSILENCED: "SILENCE ENDED",
}


def build_title(kind: str, alerts: Sequence[Alert], cause: str | None, current: Mapping[int, Any]) -> str:
    """Return a title such as "[CRITICAL] 12 devices of site a: no data"; `alerts` are sorted by severity.

    The message of an alert has the value that opened it, so it is the title of that notification only; later ones have
    the peak and the current value.
    """
    first = alerts[0]
    if cause is not None:
        text = build_incident_title(alerts, cause)
    else:
        text = first.message if kind == NoticeKind.FIRED else _describe_later(first, current.get(first.pk))
        text += f", and {len(alerts) - 1} more" if len(alerts) > 1 else ""
    prefix = _TITLE_PREFIXES.get(NoticeKind(kind), first.level.upper())
    return f"[{prefix}] {text}"[: 2 * NAME_LENGTH]


def _describe_later(alert: Alert, current: Any) -> str:
    values = peak_and_current(alert, unit_of(alert), current)
    return f"{headline(alert)}, {values}" if values else headline(alert)


def unit_of(alert: Alert) -> str:
    """Return the unit of the alert's values, annotated where the evidence is not loaded."""
    return (alert.unit if hasattr(alert, "unit") else alert.evidence.get("unit")) or ""


def sort_by_severity(alerts: Iterable[Alert]) -> list[Alert]:
    """Sort alerts by level, the most severe first, then by time."""
    return sorted(alerts, key=lambda alert: (-LEVEL_RANKS[alert.level], alert.triggered_at, alert.pk))


def build_payload(
    delivery_id: str,
    event: str,
    title: str,
    alerts: list[dict[str, Any]],
    now: datetime,
    incident: Incident | None = None,
) -> dict[str, Any]:
    """Return the payload of a delivery; the fields of the first, most severe alert are repeated at the top level."""
    return alerts[0] | {
        "event": event,
        "delivery_id": delivery_id,
        "sent_at": _format_time(now),
        "title": title,
        "count": len(alerts),
        "incident": _build_incident_fields(incident),
        "alerts": alerts[:MAX_PAYLOAD_ALERTS],
    }


def _build_incident_fields(incident: Incident | None) -> dict[str, Any] | None:
    if incident is None:
        return None
    return {
        "incident_id": incident.incident_id,
        "title": incident.title,
        "cause": incident.cause,
        "began_at": _format_time(incident.began_at),
    }


def build_alert_fields(alert: Alert, current: Any = None) -> dict[str, Any]:
    """Return the fields of an alert in payloads; `alert.rule` must be loaded. `current` is the newest value."""
    return {
        "alert_id": alert.alert_id,
        "rule_id": alert.rule.rule_id if alert.rule is not None else None,
        "rule_name": alert.rule_name,
        "device_id": alert.device_name,
        "metric_name": alert.metric_name,
        "condition": alert.rule.condition if alert.rule is not None else None,
        "value": alert.value,
        "worst_value": alert.worst_value,
        "current_value": current,
        "unit": unit_of(alert),
        "threshold_value": alert.threshold,
        "level": alert.level,
        "severity": alert.level,
        "status": alert.status,
        "message": alert.message,
        "description": alert.description or alert.message,
        "runbook_url": alert.runbook_url,
        "triggered_at": _format_time(alert.triggered_at),
        "resolved_at": _format_time(alert.resolved_at) if alert.resolved_at else None,
        "resolution": alert.resolution or None,
        "url": f"{settings.SITE_URL}/alerts/{alert.alert_id}/",
    }


def build_test_alert_fields(channel: Channel, now: datetime) -> dict[str, Any]:
    """Return the fields of the fictitious alert that a test message of a channel reports."""
    alert = Alert(
        alert_id="test",
        rule_name="test",
        device_name="test",
        metric_name="test",
        level=Level.INFO,
        status=Status.ACTIVE,
        message=f"This is a test message of the channel {channel.name}.",
        triggered_at=now,
    )
    return build_alert_fields(alert) | {"url": f"{settings.SITE_URL}/alerts/"}


def _format_time(at: datetime) -> str:
    return at.isoformat().replace("+00:00", "Z")
