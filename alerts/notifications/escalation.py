"""Notifications that become due with time: repeats, escalation steps, and alerts whose silence ended.

`enqueue_due` finds what is due and not written yet; it may run at any interval and miss runs without losing any.
"""

from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any

from django.db import connection, transaction

from alerts import silences, timeline
from alerts.models import EventKind, NoticeKind, Route
from alerts.notifications import enqueue
from alerts.notifications.routes import list_active_routes
from metrics.devices.group_membership import in_groups_sql

ENQUEUE_BATCH = 5000  # notices of one kind per run
_LOCK_KEY = 0x616C6572  # advisory lock: one process enqueues at a time
_NOTIFIED = "('waiting', 'sent', 'failed')"

# Unacknowledged alerts of the levels and device groups of a route that no silence covers.
_UNACKNOWLEDGED = f"""
alerts_alert a LEFT JOIN alerts_rule r ON r.id = a.rule_id CROSS JOIN unnest(%(channels)s::text[]) c (name)
WHERE a.status = 'active' AND NOT a.shadow AND NOT a.retroactive
    AND (%(levels)s::text[] = '{{}}' OR a.level = ANY(%(levels)s))
    AND (%(groups)s::text[] = '{{}}' OR {in_groups_sql("a.device_id", "%(groups)s")})
    AND NOT EXISTS (SELECT FROM alerts_silence s WHERE s.id = ANY(%(silences)s) AND {silences.COVERS_SQL})
"""
_UNSILENCED = f"""
SELECT DISTINCT ON (a.id, n.channel_name) a.id, n.channel_name, n.reason
FROM alerts_notice n JOIN alerts_alert a ON a.id = n.alert_id LEFT JOIN alerts_rule r ON r.id = a.rule_id
WHERE a.status = 'active' AND n.status = 'silenced'
    AND NOT EXISTS (SELECT FROM alerts_silence s WHERE s.id = ANY(%(silences)s) AND {silences.COVERS_SQL})
    AND NOT EXISTS (SELECT FROM alerts_notice t WHERE t.alert_id = a.id AND t.channel_name = n.channel_name
        AND t.status IN {_NOTIFIED})
ORDER BY a.id, n.channel_name, n.id DESC LIMIT %(limit)s
"""  # noqa: S608 - constants
_REPEATED = f"""
SELECT a.id, c.name FROM {_UNACKNOWLEDGED} AND (
    SELECT max(t.created_at) <= %(before)s AND bool_and(t.status <> 'waiting') FROM alerts_notice t
    WHERE t.alert_id = a.id AND t.channel_name = c.name AND t.kind <> 'resolved' AND t.status IN {_NOTIFIED})
ORDER BY a.id LIMIT %(limit)s
"""  # noqa: S608 - constants
_ESCALATED = f"""
SELECT a.id, c.name FROM {_UNACKNOWLEDGED} AND a.raised_at <= %(before)s AND NOT EXISTS (
    SELECT FROM alerts_notice t WHERE t.alert_id = a.id AND t.channel_name = c.name AND t.kind = 'escalated'
        AND starts_with(t.reason, %(step)s))
ORDER BY a.id LIMIT %(limit)s
"""  # noqa: S608 - constants


def enqueue_due(now: datetime) -> int:
    """Write the notifications that are due at this time. Returns their number."""
    active_silences = [silence.pk for silence in silences.list_active(now)]
    count = _enqueue(_UNSILENCED, NoticeKind.UNSILENCED, {"silences": active_silences}, now)
    for route in list_active_routes(now):
        for sql, kind, values in _list_queries(route, now):
            count += _enqueue(sql, kind, values | {"silences": active_silences}, now)
    return count


def _list_queries(route: Route, now: datetime) -> Iterator[tuple[str, NoticeKind, dict[str, Any]]]:
    """Yield (SQL, kind, parameters) of the repeats and of each escalation step of a route."""
    scope = {"levels": route.levels, "groups": route.device_groups}
    if route.repeat_minutes:
        before = now - timedelta(minutes=route.repeat_minutes)
        reason = f"{route.route_id}: repeated every {route.repeat_minutes} minutes until acknowledged"
        yield _REPEATED, NoticeKind.REPEATED, scope | {"channels": route.channels, "before": before, "reason": reason}
    for number, step in enumerate(route.escalation, 1):
        before = now - timedelta(minutes=step["after_minutes"])
        prefix = f"{route.route_id} step {number}:"  # stored notices are matched by it: do not change it
        reason = f"{prefix} not acknowledged within {step['after_minutes']} minutes"
        values = {"channels": step["channels"], "before": before, "step": prefix, "reason": reason}
        yield _ESCALATED, NoticeKind.ESCALATED, scope | values


@transaction.atomic
def _enqueue(sql: str, kind: NoticeKind, values: dict[str, Any], now: datetime) -> int:
    """Insert the notices that one query finds, in a transaction of its own, so that alerts are locked in order."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_try_advisory_xact_lock(%s)", [_LOCK_KEY])
        if not cursor.fetchone()[0]:
            return 0
        cursor.execute(sql, values | {"limit": ENQUEUE_BATCH})
        rows = cursor.fetchall()
    notices = [
        enqueue.PlannedNotice(row[0], row[1], now, values.get("reason") or f"silence ended: {row[2]}") for row in rows
    ]
    enqueue.insert_notices(notices, kind, {}, now)
    if kind == NoticeKind.ESCALATED:
        reasons = {row[0]: values["reason"] for row in rows}
        timeline.add_events(reasons, EventKind.ESCALATED, timeline.NOTIFICATION_AUTHOR, now)
    return len(notices)
