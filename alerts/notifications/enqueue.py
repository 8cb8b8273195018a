"""Who is to be told of alerts: notices, written in the transaction of what they tell of."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Final, NamedTuple

from django.db import connection
from django.db.models import Q
from django.utils import timezone

from alerts import silences, timeline
from alerts.models import Alert, Channel, EventKind, Kind, Notice, NoticeKind, NoticeStatus, Rule
from alerts.notifications import incidents, routes

ABSENCE_GATHERS: Final = timedelta(seconds=2)  # devices of one site fall silent one after the other
BY: Final = "notifications"
DISABLED: Final = "the channel is disabled"

_WRITE: Final = """
INSERT INTO alerts_notice (kind, created_at, alert_id, channel_name, status, reason, due_at)
SELECT %s, %s, n.* FROM unnest(%s::bigint[], %s::text[], %s::text[], %s::text[], %s::timestamptz[]) n
"""
# Whoever was told that an alert fired, or is being told now, is told that it is over.
_TELL_RESOLVED: Final = """
INSERT INTO alerts_notice (alert_id, channel_name, kind, status, due_at, created_at, reason)
SELECT DISTINCT n.alert_id, n.channel_name, 'resolved', 'waiting', %(now)s::timestamptz, %(now)s::timestamptz, ''
FROM alerts_notice n JOIN alerts_channel c ON c.name = n.channel_name AND c.enabled AND c.send_resolved
WHERE n.alert_id = ANY(%(alerts)s) AND n.kind <> 'resolved'
    AND n.status IN ('sent', 'waiting')
"""


class Planned(NamedTuple):
    """That a channel is to be told of an alert (by primary key)."""

    alert: int
    channel_name: str
    due_at: datetime
    reason: str = ""


def announce(alerts: Sequence[Alert], kind: NoticeKind, now: datetime | None = None) -> None:
    """Write down that the channels of these alerts are to be told. The caller holds a transaction."""
    now = now or timezone.now()
    told = [alert for alert in alerts if not alert.shadow and not alert.retroactive]
    if not told:
        return
    if kind == NoticeKind.RESOLVED:
        _resolved(told, now)
    else:
        _fired(told, now)


def _fired(alerts: Sequence[Alert], now: datetime) -> None:
    rules = Rule.objects.in_bulk({alert.rule_id for alert in alerts if alert.rule_id is not None})
    for alert in alerts:
        alert.rule = rules.get(alert.rule_id or 0)
    incidents.join(alerts, now)
    names = routes.channels_of(alerts, now)
    quiet = silences.covering([alert.pk for alert in alerts], now)
    write(
        [
            Planned(alert.pk, name, _due(alert, now))
            for alert in sorted(alerts, key=lambda alert: alert.pk)
            for name in names[alert.pk]
        ],
        NoticeKind.FIRED,
        quiet,
        now,
    )


def write(notices: Sequence[Planned], kind: NoticeKind, quiet: dict[int, str], now: datetime) -> None:
    """Insert notices, in the order of their alerts: waiting, or with the reason for which they do not wait."""
    if not notices:
        return
    channels = dict(Channel.objects.values_list("name", "enabled"))
    rows = [(one.alert, one.channel_name, *_state(one, channels, quiet), one.due_at) for one in notices]
    with connection.cursor() as cursor:
        cursor.execute(_WRITE, [kind, now, *(list(column) for column in zip(*rows, strict=True))])
    timeline.tell({one.alert: quiet[one.alert] for one in notices if one.alert in quiet}, EventKind.SILENCED, BY, now)


def _state(one: Planned, channels: dict[str, bool], quiet: dict[int, str]) -> tuple[NoticeStatus, str]:
    if one.channel_name not in channels:
        return NoticeStatus.UNCONFIGURED, "there is no such channel"
    if one.alert in quiet:
        return NoticeStatus.SILENCED, quiet[one.alert]
    if not channels[one.channel_name]:
        return NoticeStatus.DROPPED, DISABLED
    return NoticeStatus.WAITING, one.reason


def _due(alert: Alert, now: datetime) -> datetime:
    absent = alert.rule is not None and alert.rule.kind == Kind.ABSENCE
    return now + ABSENCE_GATHERS if absent else now


def _resolved(alerts: Sequence[Alert], now: datetime) -> None:
    pks = [alert.pk for alert in alerts]
    # What is held back on purpose is not told any more once it is over; what merely waits its turn is, and that first.
    gathering = Channel.objects.filter(gather_seconds__gt=0).values("name")
    Notice.objects.filter(
        Q(due_at__gt=now) | Q(channel_name__in=gathering), alert__in=pks, status=NoticeStatus.WAITING, delivery=None
    ).update(status=NoticeStatus.DROPPED, reason="it was resolved before this was sent")
    with connection.cursor() as cursor:
        cursor.execute(_TELL_RESOLVED, {"alerts": pks, "now": now})
