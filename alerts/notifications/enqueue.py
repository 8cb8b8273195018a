"""Write notifications (notices) in the transaction of the alert changes that they report."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import NamedTuple

from django.db import connection
from django.db.models import Q
from django.utils import timezone

from alerts import silences, timeline
from alerts.models import Alert, Channel, EventKind, Notice, NoticeKind, NoticeStatus, Rule, RuleKind
from alerts.notifications import incidents, routes

ABSENCE_DELAY = timedelta(seconds=2)  # devices of one site go offline one after the other: group their alerts
CHANNEL_DISABLED = "the channel is disabled"

_INSERT_NOTICES = """
INSERT INTO alerts_notice (kind, created_at, alert_id, channel_name, status, reason, due_at)
SELECT %s, %s, n.* FROM unnest(%s::bigint[], %s::text[], %s::text[], %s::text[], %s::timestamptz[]) n
"""
# Channels that were notified of the alert, or are about to be, are notified when it is resolved.
_INSERT_RESOLVED = """
INSERT INTO alerts_notice (alert_id, channel_name, kind, status, due_at, created_at, reason)
SELECT DISTINCT n.alert_id, n.channel_name, 'resolved', 'waiting', %(now)s::timestamptz, %(now)s::timestamptz, ''
FROM alerts_notice n JOIN alerts_channel c ON c.name = n.channel_name AND c.enabled AND c.send_resolved
WHERE n.alert_id = ANY(%(alerts)s) AND n.kind <> 'resolved'
    AND n.status IN ('sent', 'waiting')
"""


class PlannedNotice(NamedTuple):
    """Notification of one alert (by primary key) to one channel."""

    alert: int
    channel_name: str
    due_at: datetime
    reason: str = ""


def enqueue_notifications(alerts: Sequence[Alert], kind: NoticeKind, now: datetime | None = None) -> None:
    """Write notifications of opened or resolved alerts; shadow and retroactive alerts have none.

    Must be called in a transaction.
    """
    now = now or timezone.now()
    notified = [alert for alert in alerts if not alert.shadow and not alert.retroactive]
    if not notified:
        return
    if kind == NoticeKind.RESOLVED:
        _enqueue_resolved(notified, now)
    else:
        _enqueue_fired(notified, now)


def _enqueue_fired(alerts: Sequence[Alert], now: datetime) -> None:
    rules = Rule.objects.in_bulk({alert.rule_id for alert in alerts if alert.rule_id is not None})
    for alert in alerts:
        alert.rule = rules.get(alert.rule_id or 0)
    incidents.assign_incidents(alerts, now)
    channels = routes.find_channels(alerts, now)
    silenced = silences.find_covering([alert.pk for alert in alerts], now)
    notices = [
        PlannedNotice(alert.pk, name, _due_at(alert, now))
        for alert in sorted(alerts, key=lambda alert: alert.pk)
        for name in channels[alert.pk]
    ]
    insert_notices(notices, NoticeKind.FIRED, silenced, now)


def insert_notices(notices: Sequence[PlannedNotice], kind: NoticeKind, silenced: dict[int, str], now: datetime) -> None:
    """Insert notices in the order of their alerts: `waiting`, or with the reason why they are not sent."""
    if not notices:
        return
    enabled = dict(Channel.objects.values_list("name", "enabled"))
    rows = [
        (notice.alert, notice.channel_name, *_initial_status(notice, enabled, silenced), notice.due_at)
        for notice in notices
    ]
    with connection.cursor() as cursor:
        cursor.execute(_INSERT_NOTICES, [kind, now, *(list(column) for column in zip(*rows, strict=True))])
    reasons = {notice.alert: silenced[notice.alert] for notice in notices if notice.alert in silenced}
    timeline.add_events(reasons, EventKind.SILENCED, timeline.NOTIFICATION_AUTHOR, now)


def _initial_status(
    notice: PlannedNotice, enabled: dict[str, bool], silenced: dict[int, str]
) -> tuple[NoticeStatus, str]:
    if notice.channel_name not in enabled:
        return NoticeStatus.UNCONFIGURED, "the channel does not exist"
    if notice.alert in silenced:
        return NoticeStatus.SILENCED, silenced[notice.alert]
    if not enabled[notice.channel_name]:
        return NoticeStatus.DROPPED, CHANNEL_DISABLED
    return NoticeStatus.WAITING, notice.reason


def _due_at(alert: Alert, now: datetime) -> datetime:
    is_absence = alert.rule is not None and alert.rule.kind == RuleKind.ABSENCE
    return now + ABSENCE_DELAY if is_absence else now


def _enqueue_resolved(alerts: Sequence[Alert], now: datetime) -> None:
    pks = [alert.pk for alert in alerts]
    # Notifications that are delayed for grouping are dropped: the alert is resolved already. Those that are due now are
    # still sent, before the one of the resolution.
    gathering = Channel.objects.filter(gather_seconds__gt=0).values("name")
    Notice.objects.filter(
        Q(due_at__gt=now) | Q(channel_name__in=gathering), alert__in=pks, status=NoticeStatus.WAITING, delivery=None
    ).update(status=NoticeStatus.DROPPED, reason="the alert was resolved before the notification was sent")
    with connection.cursor() as cursor:
        cursor.execute(_INSERT_RESOLVED, {"alerts": pks, "now": now})
