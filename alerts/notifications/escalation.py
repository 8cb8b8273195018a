"""What time alone makes due: alerts that nobody acknowledged, and those whose silence is over.

A sweep finds what is due now and was not written yet, so it may run as often as one likes, and miss any number.
"""

from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any, Final

from django.db import connection, transaction

from alerts import silences, timeline
from alerts.models import EventKind, NoticeKind, Route
from alerts.notifications import enqueue
from alerts.notifications.routes import open_routes

MOST: Final = 5000  # notices of one kind at once
_LOCK: Final = 0x616C6572  # one sweeper at a time
_TOLD: Final = "('waiting', 'sent', 'failed')"

# Alerts that nobody has in hand and no silence covers, of the levels and groups of a route.
_UNHEARD: Final = f"""
alerts_alert a LEFT JOIN alerts_rule r ON r.id = a.rule_id CROSS JOIN unnest(%(channels)s::text[]) c (name)
WHERE a.status = 'active' AND NOT a.shadow AND NOT a.retroactive
    AND (%(levels)s::text[] = '{{}}' OR a.level = ANY(%(levels)s))
    AND (%(groups)s::text[] = '{{}}' OR EXISTS (
        SELECT FROM metrics_device_groups m JOIN metrics_devicegroup g ON g.id = m.devicegroup_id
        WHERE m.device_id = a.device_id AND g.name = ANY(%(groups)s)))
    AND NOT EXISTS (SELECT FROM alerts_silence s WHERE s.id = ANY(%(silences)s) AND {silences.COVERS})
"""  # noqa: S608 - constants
_UNSILENCED: Final = f"""
SELECT DISTINCT ON (a.id, n.channel_name) a.id, n.channel_name, n.reason
FROM alerts_notice n JOIN alerts_alert a ON a.id = n.alert_id LEFT JOIN alerts_rule r ON r.id = a.rule_id
WHERE a.status = 'active' AND n.status = 'silenced'
    AND NOT EXISTS (SELECT FROM alerts_silence s WHERE s.id = ANY(%(silences)s) AND {silences.COVERS})
    AND NOT EXISTS (SELECT FROM alerts_notice t WHERE t.alert_id = a.id AND t.channel_name = n.channel_name
        AND t.status IN {_TOLD})
ORDER BY a.id, n.channel_name, n.id DESC LIMIT %(most)s
"""  # noqa: S608 - constants
_REPEATED: Final = f"""
SELECT a.id, c.name FROM {_UNHEARD} AND (
    SELECT max(t.created_at) <= %(before)s AND bool_and(t.status <> 'waiting') FROM alerts_notice t
    WHERE t.alert_id = a.id AND t.channel_name = c.name AND t.kind <> 'resolved' AND t.status IN {_TOLD})
ORDER BY a.id LIMIT %(most)s
"""  # noqa: S608 - constants
_ESCALATED: Final = f"""
SELECT a.id, c.name FROM {_UNHEARD} AND a.raised_at <= %(before)s AND NOT EXISTS (
    SELECT FROM alerts_notice t WHERE t.alert_id = a.id AND t.channel_name = c.name AND t.kind = 'escalated'
        AND starts_with(t.reason, %(step)s))
ORDER BY a.id LIMIT %(most)s
"""  # noqa: S608 - constants


def sweep(now: datetime) -> int:
    """Write the notices that are due by this moment. Returns how many there are."""
    silent = [silence.pk for silence in silences.active(now)]
    found = _write(_UNSILENCED, NoticeKind.UNSILENCED, {"silences": silent}, now)
    for route in open_routes(now):
        for sql, kind, values in _asked(route, now):
            found += _write(sql, kind, values | {"silences": silent}, now)
    return found


def _asked(route: Route, now: datetime) -> Iterator[tuple[str, NoticeKind, dict[str, Any]]]:
    """What a route asks for, step by step."""
    scope = {"levels": route.levels, "groups": route.device_groups}
    if route.repeat_minutes:
        before = now - timedelta(minutes=route.repeat_minutes)
        reason = f"{route.route_id}: again every {route.repeat_minutes} minutes"
        yield _REPEATED, NoticeKind.REPEATED, scope | {"channels": route.channels, "before": before, "reason": reason}
    for number, step in enumerate(route.escalation, 1):
        before = now - timedelta(minutes=step["after_minutes"])
        name = f"{route.route_id} step {number}:"
        reason = f"{name} nobody acknowledged it within {step['after_minutes']} minutes"
        values = {"channels": step["channels"], "before": before, "step": name, "reason": reason}
        yield _ESCALATED, NoticeKind.ESCALATED, scope | values


@transaction.atomic
def _write(sql: str, kind: NoticeKind, values: dict[str, Any], now: datetime) -> int:
    """One statement finds, another writes; alerts are locked in order, in a transaction of their own."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_try_advisory_xact_lock(%s)", [_LOCK])
        if not cursor.fetchone()[0]:
            return 0
        cursor.execute(sql, values | {"most": MOST})
        rows = cursor.fetchall()
    notices = [enqueue.Planned(row[0], row[1], now, values.get("reason") or f"over: {row[2]}") for row in rows]
    enqueue.write(notices, kind, {}, now)
    if kind == NoticeKind.ESCALATED:
        timeline.tell({row[0]: values["reason"] for row in rows}, EventKind.ESCALATED, enqueue.BY, now)
    return len(notices)
