"""Late data: points that arrive late or out of order are noted, and evaluated as history some seconds later."""

from collections.abc import Iterator, Sequence

import numpy as np
from django.db import connection, transaction
from django.db.models import Q

from alerts import alert_actions
from alerts.evaluation.load_history import read_columns
from alerts.evaluation.rule_series_state import EvaluationResult, RuleSeriesState, TimeRange, WatchedRule
from alerts.evaluation.watched_series import WatchedSeries, read_watched_rules
from alerts.evaluation.write_alerts import build_alerts, render_templates
from alerts.models import Alert, LateRange, Resolution, Status
from metrics.storage.connection import read_connection
from metrics.storage.locks import lock_late_data
from metrics.storage.units import to_datetime

QUIET_PERIOD = 3 * 1_000_000  # µs without further points of a range before it is evaluated
MARGIN = 3600 * 1_000_000  # µs before and after a range in which an alert may have begun or ended
READ_PERIOD = 86_400 * 1_000_000  # µs per read
LATE_SERIES_BATCH = 200  # series per transaction
REPLAYED_KINDS = ("threshold", "trend", "forecast", "composite")  # whose result does not depend on the time of arrival

# In the order of series, in which the evaluator stores them.
_DELETE_RANGES = """
WITH locked AS (
    SELECT series FROM alerts_laterange l
    JOIN unnest(%s::bigint[], %s::timestamptz[]) evaluated(series, since) USING (series, since)
    ORDER BY series FOR UPDATE OF l
) DELETE FROM alerts_laterange l USING locked WHERE l.series = locked.series RETURNING locked.series
"""
_STORE_RANGES = """
INSERT INTO alerts_laterange (series, time_from, time_to, since)
SELECT series, time_from, time_to, now()
FROM unnest(%s::bigint[], %s::bigint[], %s::bigint[]) n(series, time_from, time_to) ORDER BY series
ON CONFLICT (series) DO UPDATE SET time_from = least(alerts_laterange.time_from, EXCLUDED.time_from),
    time_to = greatest(alerts_laterange.time_to, EXCLUDED.time_to), since = now()
"""


def store_late_points(results: Sequence[EvaluationResult]) -> None:
    """Store the time ranges of late points by series. The caller holds a transaction."""
    ranges: dict[int, TimeRange] = {}
    for result in results:
        for series, (first, last) in result.late.items():
            stored = ranges.get(series, (first, last))
            ranges[series] = min(stored[0], first), max(stored[1], last)
    store_late_ranges(ranges)


def store_late_ranges(ranges: dict[int, TimeRange]) -> None:
    """Store time ranges, by series, that have to be evaluated as history."""
    if ranges:
        with connection.cursor() as cursor:
            cursor.execute(_STORE_RANGES, (list(ranges), *map(list, zip(*ranges.values(), strict=True))))


def evaluate_late_ranges(now: int, limit: int = LATE_SERIES_BATCH) -> int:
    """Evaluate ranges without new points for QUIET_PERIOD before now (µs). Returns the number of series.

    Their alerts are retroactive: resolved from the start, without notification. A range is deleted in the transaction
    that stores its alerts, so a killed worker leaves it to the next run. While it is evaluated it is not locked, since
    the evaluator would wait for it with all other series; one that grows meanwhile is evaluated again.
    """
    with transaction.atomic():
        if not lock_late_data(connection.connection):
            return 0
        quiet = LateRange.objects.filter(since__lte=to_datetime(now - QUIET_PERIOD)).order_by("since")[:limit]
        found = {late.series: late for late in quiet}
        if not found:
            return 0
        ranges = {series: (late.time_from, late.time_to) for series, late in found.items()}
        rules = [watched for watched in read_watched_rules()[0] if watched.spec.kind in REPLAYED_KINDS]
        alerts = [(state, list(_find_alerts(state, late))) for state, late in _find_states(rules, ranges)]
        with connection.cursor() as cursor:
            cursor.execute(_DELETE_RANGES, (list(found), [late.since for late in found.values()]))
            finished = {series for (series,) in cursor.fetchall()}
        complete = [new for state, new in alerts if finished.issuperset(_late_series(state, ranges))]
        alert_actions.open_alerts(render_templates([alert for new in complete for alert in new]))
        return len(finished)


def _late_series(state: RuleSeriesState, ranges: dict[int, TimeRange]) -> list[int]:
    return [source.series for source in state.inputs.values() if source.series in ranges]


def _find_states(rules: list[WatchedRule], ranges: dict[int, TimeRange]) -> Iterator[tuple[RuleSeriesState, TimeRange]]:
    """Yield a new state for each rule on these series, with the time range to evaluate."""
    watched = WatchedSeries(rules)
    with read_connection() as reader:
        watched.rows(reader, np.array(sorted(ranges), np.int64))
        for state in list(watched.states.values()):
            late = [ranges[series] for series in _late_series(state, ranges)]
            if state.composite is not None:
                watched.add_all_inputs(reader, state)
            yield state, (min(first for first, _ in late), max(last for _, last in late))


def _find_alerts(state: RuleSeriesState, late: TimeRange) -> Iterator[Alert]:
    """Yield the alerts triggered within a time range that are not stored. Reads one day at a time."""
    start, end = late[0] - state.watched.spec.lookback - MARGIN, late[1] + MARGIN
    alert: Alert | None = None
    last = start
    for first in range(start, end, READ_PERIOD):
        series = [source.series for source in state.inputs.values()]
        columns = read_columns(series, first, min(first + READ_PERIOD, end))
        points = [
            (position, *source.read_points(columns[source.series]))
            for position, source in state.inputs.items()
            if source.series in columns
        ]
        _, signal, transitions, _ = state.evaluate(points, arrived=start)
        if signal is None:
            continue
        for opened, position in transitions:
            last = int(signal.times[position])
            if opened:
                alert = build_alerts([(state, signal, position)])[0] if late[0] <= last <= late[1] else None
            elif alert is not None:
                yield from _retroactive_alert(state, alert, last)
                alert = None
        last = int(signal.times[-1])
    if alert is not None:
        yield from _retroactive_alert(state, alert, last)


def _retroactive_alert(state: RuleSeriesState, alert: Alert, ended: int) -> Iterator[Alert]:
    """Yield the alert, resolved at a time (µs), unless an alert of that time is stored already."""
    rule, device, metric = state.key
    stored = Alert.objects.filter(
        rule_id=rule, device_id=device, metric_name=metric, triggered_at__lte=to_datetime(ended)
    )
    if not stored.filter(Q(resolved_at__gte=alert.triggered_at) | Q(resolved_at=None)).exists():
        alert.status, alert.retroactive, alert.resolution = Status.RESOLVED, True, Resolution.RETROACTIVE
        alert.resolved_at, alert.resolved_by = to_datetime(ended), alert_actions.EVALUATOR
        yield alert
