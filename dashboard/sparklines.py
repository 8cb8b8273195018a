"""Sparklines: the recent values of a metric, beside each value of a device and in each row of the inbox."""

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

from alerts.models import Alert
from dashboard.alert_rows import drawn_threshold, has_sparkline
from metrics.query.execute import execute_query
from metrics.query.query import CLOCK_TOLERANCE, Query
from metrics.query.result import QueryResult, ResultSeries
from metrics.storage.units import to_microseconds
from metrics.value_text import kind_of

SPAN = timedelta(hours=1)  # static/dashboard/sparkline.js draws the same span
MAX_POINTS = 60  # of one sparkline
MAX_SPARKLINES = 60  # of one response

Window = tuple[datetime, datetime]


def numeric_series(result: QueryResult) -> dict[tuple[str | None, str | None], ResultSeries]:
    """Return the series of numbers and truth values by device and metric."""
    return {
        (group.label[0], group.label[1]): group
        for group in result.series
        if all(isinstance(value, int | float) for value in group.values)
    }


def points_of(group: ResultSeries | None, window: Window | None = None) -> dict[str, Any]:
    """Return the points of a series, or those within a window, as the scripts draw them: times in milliseconds."""
    if group is None:
        return {"times": [], "values": []}
    first, last = (0, None) if window is None else (bisect_left(group.times, to_microseconds(at)) for at in window)
    shown = slice(first, last)
    return {
        "times": [round(time / 1000) for time in group.times[shown]],
        "values": [float(value) for value in group.values[shown]],
    }


def alert_sparklines(alerts: Sequence[Alert], now: datetime) -> dict[str, Any]:
    """Return the sparkline of each alert with its threshold. Alerts whose windows start in one hour share a query."""
    by_hour: dict[datetime, list[tuple[Alert, Window]]] = defaultdict(list)
    for alert in alerts:
        if has_sparkline(alert):
            window = _window(alert, now)
            by_hour[window[0].replace(minute=0, second=0, microsecond=0)].append((alert, window))
    sparklines, missing = {}, []
    for together in by_hour.values():
        answer = execute_query(_query(together))
        missing += answer.incomplete
        by_series = numeric_series(answer)
        for alert, window in together:
            group = by_series.get((alert.device_name, alert.metric_name))
            sparklines[alert.alert_id] = _sparkline(alert, group, window)
    return {"alerts": sparklines, "incomplete": list(dict.fromkeys(missing))}


def _window(alert: Alert, now: datetime) -> Window:
    """Return the last hour for an open alert, and the hour around its start for a resolved one."""
    if alert.resolved_at is None:
        return now - SPAN, now + CLOCK_TOLERANCE
    return alert.triggered_at - SPAN / 2, alert.triggered_at + SPAN / 2


def _query(alerts: Sequence[tuple[Alert, Window]]) -> Query:
    pairs = tuple(dict.fromkeys((alert.device_name, alert.metric_name) for alert, _ in alerts))
    devices, metrics = (tuple(dict.fromkeys(names)) for names in zip(*pairs, strict=True))
    start, end = min(window[0] for _, window in alerts), max(window[1] for _, window in alerts)
    return Query(metrics, start, end, devices, pairs=pairs, max_points=2 * MAX_POINTS)


def _sparkline(alert: Alert, group: ResultSeries | None, window: Window) -> dict[str, Any]:
    """Return a sparkline; `until` is where it ends in milliseconds, None where it ends now."""
    until = None if alert.resolved_at is None else round(window[1].timestamp() * 1000)
    kind = kind_of(group.values[0]) if group else ""
    return points_of(group, window) | {"kind": kind, "threshold": drawn_threshold(alert), "until": until}
