"""Actions on alerts: open, acknowledge, resolve, assign and comment.

Every action is one transaction. It locks rows in order, changes only alerts in the expected status, and writes the
events and notices of the change in the same transaction.
"""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

import msgspec
from django.db import connection, transaction
from django.db.models import F
from django.db.models.functions import Greatest
from django.utils import timezone

from alerts import timeline
from alerts.models import OPEN_STATUSES, Alert, EventKind, NoticeKind, Resolution, Rule, Status
from alerts.models.alerts import AlertQuerySet
from alerts.notifications.enqueue import enqueue_notifications

EVALUATOR = "evaluator"
_RESOLVED_AT = """
UPDATE alerts_alert a SET resolved_at = n.at FROM unnest(%s::bigint[], %s::timestamptz[]) n(id, at) WHERE a.id = n.id
"""
_COLUMNS = [field.attname for field in Alert._meta.concrete_fields if field.attname != "id"]
_INSERT = f"""
INSERT INTO alerts_alert ({", ".join(_COLUMNS)})
SELECT {", ".join(_COLUMNS)} FROM jsonb_populate_recordset(NULL::alerts_alert, %s::jsonb)
ON CONFLICT DO NOTHING RETURNING alert_id, id
"""  # noqa: S608 - names of columns


@transaction.atomic
def open_alerts(alerts: Sequence[Alert]) -> list[Alert]:
    """Insert alerts; those of a rule and series that already have an open alert are skipped. Returns the inserted ones.

    Alerts are sorted by rule and series, so that two processes that insert the same ones wait for each other instead of
    deadlocking.
    """
    opened = _insert(sorted(alerts, key=lambda alert: (alert.rule_id or 0, alert.device_id or 0, alert.metric_name)))
    _add_events(opened, EventKind.TRIGGERED, EVALUATOR)
    for rule, times in _group_times_by_rule(opened).items():
        Rule.objects.filter(pk=rule).update(
            total_triggers=F("total_triggers") + len(times), last_triggered=Greatest("last_triggered", max(times))
        )
    enqueue_notifications([alert for alert in opened if alert.status == Status.ACTIVE], NoticeKind.FIRED)
    return opened


@transaction.atomic
def acknowledge(queryset: AlertQuerySet, by: str, note: str = "") -> list[Alert]:
    """Acknowledge active alerts and make the caller their owner. Returns the acknowledged ones."""
    changes = {"acknowledged_by": by, "acknowledged_at": timezone.now(), "acknowledgement_note": note, "owner": by}
    acknowledged = _change(queryset, (Status.ACTIVE,), Status.ACKNOWLEDGED, changes)
    _add_events(acknowledged, EventKind.ACKNOWLEDGED, by, note)
    return acknowledged


@transaction.atomic
def resolve(
    queryset: AlertQuerySet, resolution: Resolution, by: str, note: str = "", at: Mapping[int, datetime] | None = None
) -> list[Alert]:
    """Resolve open alerts, at the times of `at` by primary key, by default now. Returns the resolved ones."""
    changes = {
        "resolution": resolution,
        "resolved_by": by,
        "resolved_at": timezone.now(),
        "resolution_note": note,
    }
    resolved = _change(queryset, OPEN_STATUSES, Status.RESOLVED, changes)
    if at is not None and resolved:
        for alert in resolved:
            alert.resolved_at = at[alert.pk]
        with connection.cursor() as cursor:
            cursor.execute(_RESOLVED_AT, ([alert.pk for alert in resolved], [alert.resolved_at for alert in resolved]))
    _add_events(resolved, EventKind.RESOLVED, by, note)
    enqueue_notifications(resolved, NoticeKind.RESOLVED)
    return resolved


@transaction.atomic
def assign(queryset: AlertQuerySet, owner: str, by: str) -> list[Alert]:
    """Assign open alerts to an owner; an empty name removes the owner. Returns the assigned ones."""
    assigned = _change(queryset, OPEN_STATUSES, None, {"owner": owner})
    _add_events(assigned, EventKind.ASSIGNED, by, owner)
    return assigned


@transaction.atomic
def comment(queryset: AlertQuerySet, by: str, note: str) -> list[Alert]:
    """Add a comment to alerts, open or resolved. Returns them."""
    commented = _change(queryset, tuple(Status), None, {})
    _add_events(commented, EventKind.COMMENTED, by, note)
    return commented


def _change(
    queryset: AlertQuerySet, statuses: Iterable[str], new_status: Status | None, changes: dict[str, Any]
) -> list[Alert]:
    """Change the alerts that have one of these statuses. Returns the changed ones."""
    locked = queryset.filter(status__in=list(statuses)).order_by("pk").select_for_update(of=("self",), no_key=True)
    changed = list(locked)
    if new_status is not None:
        changes = changes | {"status": new_status}
    changes = changes | {"updated_at": timezone.now()}
    Alert.objects.filter(pk__in=[alert.pk for alert in changed]).update(**changes)
    for alert in changed:
        for name, value in changes.items():
            setattr(alert, name, value)
    return changed


def _insert(alerts: Sequence[Alert]) -> list[Alert]:
    """Insert alerts as one JSON parameter: thousands of row parameters take seconds. Returns the inserted ones."""
    rows = [{column: getattr(alert, column) for column in _COLUMNS} for alert in alerts]
    with connection.cursor() as cursor:
        cursor.execute(_INSERT, [msgspec.json.encode(rows).decode()])
        pks: dict[str, int] = dict(cursor.fetchall())
    inserted = [alert for alert in alerts if alert.alert_id in pks]
    for alert in inserted:
        alert.pk, alert._state.adding = pks[alert.alert_id], False
    return inserted


def _add_events(alerts: Sequence[Alert], kind: EventKind, by: str, note: str = "") -> None:
    timeline.add_events({alert.pk: note for alert in alerts}, kind, by, timezone.now())


def _group_times_by_rule(alerts: Sequence[Alert]) -> dict[int, list[datetime]]:
    times: dict[int, list[datetime]] = {}
    for alert in alerts:
        if alert.rule_id is not None:
            times.setdefault(alert.rule_id, []).append(alert.triggered_at)
    return times
