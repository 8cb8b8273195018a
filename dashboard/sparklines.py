"""What a metric did lately, as a line without axes: beside each number of a device, and in each row of the inbox."""

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

from alerts.models import Alert
from dashboard.alert_rows import drawn_limit, has_course
from dashboard.number_format import kind_of
from metrics.query.execute import execute_query
from metrics.query.query import Query
from metrics.query.result import QueryResult, ResultSeries
from metrics.storage.units import to_microseconds

HOUR = timedelta(hours=1)  # `static/dashboard/spark.js` draws as much
SOON = timedelta(minutes=5)  # the clock of a device may be ahead
POINTS = 60  # of an hour
LINES = 60  # of one answer

Window = tuple[datetime, datetime]


def numbers(answer: QueryResult) -> dict[tuple[str | None, str | None], ResultSeries]:
    """The series of numbers and truth values in an answer, by device and metric."""
    return {
        (group.label[0], group.label[1]): group
        for group in answer.series
        if all(isinstance(value, int | float) for value in group.values)
    }


def line(group: ResultSeries | None, window: Window | None = None) -> dict[str, Any]:
    """What a script draws of a series; with a window, what of it is within."""
    if group is None:
        return {"times": [], "values": []}
    first, last = (0, None) if window is None else (bisect_left(group.times, to_microseconds(at)) for at in window)
    shown = slice(first, last)
    return {
        "times": [round(time / 1000) for time in group.times[shown]],
        "values": [float(value) for value in group.values[shown]],
    }


def courses_of(alerts: Sequence[Alert], now: datetime) -> dict[str, Any]:
    """The course of each alert's metric, with the limit that it broke. Those of the same hour are read together."""
    together: dict[datetime, list[tuple[Alert, Window]]] = defaultdict(list)
    for alert in alerts:
        if has_course(alert):
            window = _around(alert, now)
            together[window[0].replace(minute=0, second=0, microsecond=0)].append((alert, window))
    found, missing = {}, []
    for some in together.values():
        answer = execute_query(_question(some))
        missing += answer.incomplete
        by_series = numbers(answer)
        for alert, window in some:
            found[alert.alert_id] = _course(alert, by_series.get((alert.device_name, alert.metric_name)), window)
    return {"alerts": found, "incomplete": list(dict.fromkeys(missing))}


def _around(alert: Alert, now: datetime) -> Window:
    """The hour up to now; of what is over the hour in the middle of which it began."""
    if alert.resolved_at is None:
        return now - HOUR, now + SOON
    return alert.triggered_at - HOUR / 2, alert.triggered_at + HOUR / 2


def _question(some: Sequence[tuple[Alert, Window]]) -> Query:
    pairs = tuple(dict.fromkeys((alert.device_name, alert.metric_name) for alert, _ in some))
    devices, metrics = (tuple(dict.fromkeys(names)) for names in zip(*pairs, strict=True))
    start, end = min(window[0] for _, window in some), max(window[1] for _, window in some)
    return Query(metrics, start, end, devices, pairs=pairs, max_points=2 * POINTS)


def _course(alert: Alert, group: ResultSeries | None, window: Window) -> dict[str, Any]:
    """`until`: where the line ends; null follows now."""
    until = None if alert.resolved_at is None else round(window[1].timestamp() * 1000)
    kind = kind_of(group.values[0]) if group else ""
    return line(group, window) | {"kind": kind, "limit": drawn_limit(alert), "until": until}
