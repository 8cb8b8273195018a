"""What a delivery tells: the payload of its alerts, the worst first, the same for every kind of channel."""

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any, Final

from django.conf import settings

from alerts.models import WEIGHTS, Alert, Channel, Incident, Level, NoticeKind, Status
from alerts.notifications.incidents import title_of
from metrics.models import NAME_LENGTH

MOST_ALERTS: Final = 5000
EVENTS: Final = {
    NoticeKind.FIRED: "alert.triggered",
    NoticeKind.RESOLVED: "alert.resolved",
    NoticeKind.REPEATED: "alert.repeated",
    NoticeKind.ESCALATED: "alert.escalated",
    NoticeKind.UNSILENCED: "alert.unsilenced",
}
_MARKS: Final = {
    NoticeKind.RESOLVED: "RESOLVED",
    NoticeKind.REPEATED: "STILL",
    NoticeKind.ESCALATED: "ESCALATED",
    NoticeKind.UNSILENCED: "NO LONGER SILENCED",
}


def title_for(kind: str, alerts: Sequence[Alert], cause: str | None) -> str:
    """Such as "[CRITICAL] 12 devices of site a: no data"; alerts are the worst first."""
    worst = alerts[0]
    if cause is not None:
        what = title_of(alerts, cause)
    elif len(alerts) == 1:
        what = worst.message
    else:
        what = f"{worst.message}, and {len(alerts) - 1} more"
    mark = _MARKS.get(NoticeKind(kind), worst.level.upper())
    return f"[{mark}] {what}"[: 2 * NAME_LENGTH]


def worst_first(alerts: Iterable[Alert]) -> list[Alert]:
    return sorted(alerts, key=lambda alert: (-WEIGHTS[alert.level], alert.triggered_at, alert.pk))


def payload_of(
    delivery_id: str,
    event: str,
    title: str,
    alerts: list[dict[str, Any]],
    now: datetime,
    incident: Incident | None = None,
) -> dict[str, Any]:
    """`alerts` are the worst first; the fields of the worst stand at the top too."""
    return alerts[0] | {
        "event": event,
        "delivery_id": delivery_id,
        "sent_at": _stamp(now),
        "title": title,
        "count": len(alerts),
        "incident": incident_fields(incident),
        "alerts": alerts[:MOST_ALERTS],
    }


def incident_fields(incident: Incident | None) -> dict[str, Any] | None:
    if incident is None:
        return None
    return {
        "incident_id": incident.incident_id,
        "title": incident.title,
        "cause": incident.cause,
        "began_at": _stamp(incident.began_at),
    }


def alert_fields(alert: Alert) -> dict[str, Any]:
    """An alert as programs are told of it; `alert.rule` was loaded."""
    return {
        "alert_id": alert.alert_id,
        "rule_id": alert.rule.rule_id if alert.rule is not None else None,
        "rule_name": alert.rule_name,
        "device_id": alert.device_name,
        "metric_name": alert.metric_name,
        "condition": alert.rule.condition if alert.rule is not None else None,
        "value": alert.value,
        "threshold_value": alert.threshold,
        "level": alert.level,
        "severity": alert.level,
        "status": alert.status,
        "message": alert.message,
        "description": alert.description or alert.message,
        "runbook_url": alert.runbook_url,
        "triggered_at": _stamp(alert.triggered_at),
        "resolved_at": _stamp(alert.resolved_at) if alert.resolved_at else None,
        "resolution": alert.resolution or None,
        "url": f"{settings.SITE_URL}/alerts/{alert.alert_id}/",
    }


def trial_fields(channel: Channel, now: datetime) -> dict[str, Any]:
    """What a test of a channel tells of: an alert that there is not."""
    message = f"This is a test of the channel {channel.name}."
    return alert_fields(
        Alert(
            alert_id="test",
            rule_name="test",
            device_name="test",
            metric_name="test",
            level=Level.INFO,
            status=Status.ACTIVE,
            message=message,
            triggered_at=now,
        )
    ) | {"url": f"{settings.SITE_URL}/alerts/"}


def _stamp(at: datetime) -> str:
    return at.isoformat().replace("+00:00", "Z")
