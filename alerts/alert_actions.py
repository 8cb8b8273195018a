"""The life of an alert: raised, acknowledged, resolved, and what people add to it.

Every verb is one transaction, in which rows are locked in order and only those change that are still in the state
that the verb begins with; what happened stands in the timeline, and who is to be told in the outbox, within the same.
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
from alerts.models import OPEN, Alert, EventKind, NoticeKind, Resolution, Rule, Status
from alerts.models.alerts import AlertQuerySet
from alerts.notifications.enqueue import announce

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
def raise_alerts(found: Sequence[Alert]) -> list[Alert]:
    """Insert alerts that were found, but those of which one is open already; returns those that are new.

    In one order of rules and series, whoever raises them: two who raise the same ones wait for each other's.
    """
    made = _insert(sorted(found, key=lambda alert: (alert.rule_id or 0, alert.device_id or 0, alert.metric_name)))
    _tell(made, EventKind.TRIGGERED, EVALUATOR)
    for rule, times in _times_of(made).items():
        Rule.objects.filter(pk=rule).update(
            total_triggers=F("total_triggers") + len(times), last_triggered=Greatest("last_triggered", max(times))
        )
    announce([alert for alert in made if alert.status == Status.ACTIVE], NoticeKind.FIRED)
    return made


@transaction.atomic
def acknowledge(among: AlertQuerySet, by: str, note: str = "") -> list[Alert]:
    """Somebody has these in hand, until they are well again. Returns those that were active until now."""
    changes = {"acknowledged_by": by, "acknowledged_at": timezone.now(), "acknowledgement_note": note, "owner": by}
    return _move(among, (Status.ACTIVE,), Status.ACKNOWLEDGED, changes, (EventKind.ACKNOWLEDGED, by, note))


@transaction.atomic
def resolve(
    among: AlertQuerySet, resolution: Resolution, by: str, note: str = "", at: Mapping[int, datetime] | None = None
) -> list[Alert]:
    """Close alerts, each as of the time that `at` has for its primary key (now). Returns those that were open."""
    changes = {
        "resolution": resolution,
        "resolved_by": by,
        "resolved_at": timezone.now(),
        "resolution_note": note,
    }
    resolved = _move(among, OPEN, Status.RESOLVED, changes, (EventKind.RESOLVED, by, note))
    if at is not None and resolved:
        for alert in resolved:
            alert.resolved_at = at[alert.pk]
        with connection.cursor() as cursor:
            cursor.execute(_RESOLVED_AT, ([alert.pk for alert in resolved], [alert.resolved_at for alert in resolved]))
    announce(resolved, NoticeKind.RESOLVED)
    return resolved


@transaction.atomic
def assign(among: AlertQuerySet, owner: str, by: str) -> list[Alert]:
    """Give open alerts to somebody; nobody with an empty name. Returns those."""
    return _move(among, OPEN, None, {"owner": owner}, (EventKind.ASSIGNED, by, owner))


@transaction.atomic
def comment(among: AlertQuerySet, by: str, note: str) -> list[Alert]:
    """Add a line to the timelines of alerts, open or not. Returns those."""
    return _move(among, tuple(Status), None, {}, (EventKind.COMMENTED, by, note))


def _move(
    among: AlertQuerySet,
    before: Iterable[str],
    after: Status | None,
    changes: dict[str, Any],
    event: tuple[EventKind, str, str],
) -> list[Alert]:
    """Those of these alerts that were in a state before, changed."""
    locked = among.filter(status__in=list(before)).order_by("pk").select_for_update(of=("self",), no_key=True)
    moved = list(locked)
    if after is not None:
        changes = changes | {"status": after}
    changes = changes | {"updated_at": timezone.now()}
    Alert.objects.filter(pk__in=[alert.pk for alert in moved]).update(**changes)
    for alert in moved:
        for name, value in changes.items():
            setattr(alert, name, value)
    _tell(moved, *event)
    return moved


def _insert(alerts: Sequence[Alert]) -> list[Alert]:
    """Those of these alerts that are stored now. As one parameter: of a storm, rows as such would take seconds."""
    rows = [{column: getattr(alert, column) for column in _COLUMNS} for alert in alerts]
    with connection.cursor() as cursor:
        cursor.execute(_INSERT, [msgspec.json.encode(rows).decode()])
        numbers: dict[str, int] = dict(cursor.fetchall())
    made = [alert for alert in alerts if alert.alert_id in numbers]
    for alert in made:
        alert.pk, alert._state.adding = numbers[alert.alert_id], False
    return made


def _tell(alerts: Sequence[Alert], kind: EventKind, by: str, note: str = "") -> None:
    timeline.tell({alert.pk: note for alert in alerts}, kind, by, timezone.now())


def _times_of(alerts: Sequence[Alert]) -> dict[int, list[datetime]]:
    found: dict[int, list[datetime]] = {}
    for alert in alerts:
        if alert.rule_id is not None:
            found.setdefault(alert.rule_id, []).append(alert.triggered_at)
    return found
