"""Find the silences that cover alerts, with their authors and ends, for the pages and the API."""

from collections.abc import Iterable, Iterator
from datetime import datetime
from typing import NamedTuple

from django.db import connection
from django.db.models.expressions import RawSQL
from django.utils import timezone

from alerts import recurring_windows
from alerts.models import OPEN_STATUSES, Alert, Silence
from alerts.models.alerts import AlertQuerySet
from alerts.silences import COVERS_SQL, list_active

MAX_PAST_SILENCES = 50  # of one alert
MAX_COUNTED = 500  # open alerts, so that counting is fast in an alert storm
# Of several silences the first one in the list of parameters covers an alert.
_COVERING_SQL = f"""
SELECT DISTINCT ON (a.id) a.id, s.id
FROM alerts_alert a LEFT JOIN alerts_rule r ON r.id = a.rule_id
JOIN unnest(%s::bigint[]) WITH ORDINALITY active (id, position) ON true JOIN alerts_silence s ON s.id = active.id
WHERE a.id = ANY(%s) AND {COVERS_SQL} ORDER BY a.id, active.position
"""  # noqa: S608 - a constant
_COVERED_BY_SQL = f"""
SELECT a.id FROM alerts_alert a LEFT JOIN alerts_rule r ON r.id = a.rule_id
WHERE a.id = ANY(%s) AND EXISTS (SELECT FROM alerts_silence s WHERE s.id = ANY(%s) AND {COVERS_SQL})
"""  # noqa: S608 - a constant
_SILENCES_OF_SQL = f"""
SELECT s.id FROM alerts_alert a LEFT JOIN alerts_rule r ON r.id = a.rule_id JOIN alerts_silence s ON {COVERS_SQL}
WHERE a.id = %s AND s.ends_at > a.triggered_at AND s.starts_at < coalesce(a.resolved_at, now()) AND s.starts_at <= now()
"""  # noqa: S608 - a constant


class CoveringSilence(NamedTuple):
    """A silence that covers an alert now."""

    silence: Silence
    until: datetime | None  # None: until the alert is resolved


class SilencedPeriod(NamedTuple):
    """A time in which a silence covered an alert; it may end after the alert."""

    silence: Silence
    begin: datetime
    end: datetime


def covering_silences(alerts: Iterable[Alert], now: datetime | None = None) -> dict[int, CoveringSilence]:
    """Return the silence of each open alert that is silenced, by primary key: of several, the one that ends last."""
    now = now or timezone.now()
    open_alerts = [alert.pk for alert in alerts if alert.status in OPEN_STATUSES]
    active = [CoveringSilence(silence, _end_of(silence, now)) for silence in list_active(now)] if open_alerts else []
    if not active:
        return {}
    active.sort(key=lambda cover: (cover.until is not None, cover.until and -cover.until.timestamp()))
    covers = {cover.silence.pk: cover for cover in active}
    with connection.cursor() as cursor:
        cursor.execute(_COVERING_SQL, [list(covers), open_alerts])
        return {alert: covers[silence] for alert, silence in cursor.fetchall()}


def _end_of(silence: Silence, now: datetime) -> datetime | None:
    """Return when an active silence ends, at the latest with the occurrence of its recurring window."""
    if silence.alert_id:
        return None
    occurrences = recurring_windows.list_occurrences(silence.weekly, now, now) if silence.weekly else ()
    return min([silence.ends_at, *(end for begin, end in occurrences if begin <= now < end)])


def count_silenced(alerts: AlertQuerySet, active: Iterable[Silence]) -> int:
    """Return how many of the newest open alerts one of these active silences covers."""
    silences = [silence.pk for silence in active]
    if not silences:
        return 0
    newest = alerts.open().order_by("-triggered_at").values_list("pk", flat=True)[:MAX_COUNTED]
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT count(*) FROM ({_COVERED_BY_SQL}) covered", [list(newest), silences])  # noqa: S608
        return int(cursor.fetchone()[0])


def silenced_periods(alert: Alert, now: datetime) -> list[SilencedPeriod]:
    """Return when silences covered an alert while it was open, the newest period first."""
    covered = RawSQL(_SILENCES_OF_SQL, [alert.pk])  # noqa: S611 - bound parameters
    silences = Silence.objects.filter(pk__in=covered).order_by("-starts_at")[:MAX_PAST_SILENCES]
    until = alert.resolved_at or now
    periods = [period for silence in silences for period in _periods(silence, alert.triggered_at, until)]
    return sorted(periods, key=lambda period: period.begin, reverse=True)[:MAX_PAST_SILENCES]


def _periods(silence: Silence, since: datetime, until: datetime) -> Iterator[SilencedPeriod]:
    """Yield the periods of a silence in a time range; a recurring one has a period for each occurrence."""
    first, last = max(silence.starts_at, since), min(silence.ends_at, until)
    if silence.weekly is None:
        yield SilencedPeriod(silence, first, silence.ends_at)
        return
    for begin, end in recurring_windows.list_occurrences(silence.weekly, first, last):
        if begin < last:
            yield SilencedPeriod(silence, max(begin, first), min(end, silence.ends_at))
