"""Execute a query in stages that return values: validate, resolve the series, plan, read and shape."""

import time
from dataclasses import replace

from metrics.query.aggregate import plan_aggregation, read_aggregates, shape_page
from metrics.query.latest import SELECT_SERIES
from metrics.query.plan import ReadReport
from metrics.query.query import MAX_SERIES, NON_NUMERIC_AGGREGATIONS, Query, ValidQuery
from metrics.query.raw_points import plan_raw_points, read_raw_points, shape_raw_points
from metrics.query.result import Page, QueryResult, ResolvedSeries
from metrics.storage.connection import read_connection
from metrics.storage.format.codec import Kind
from rest.errors import InvalidField

_GROUPS_OF_DEVICES = """
SELECT d.device_id, g.name FROM metrics_device_groups m JOIN metrics_device d ON d.id = m.device_id
JOIN metrics_devicegroup g ON g.id = m.devicegroup_id
WHERE d.device_id = ANY(%(devices)s) AND (%(groups)s::text[] IS NULL OR g.name = ANY(%(groups)s))
"""


def execute_query(query: Query) -> QueryResult:
    """Return the result of a query. Raises InvalidField, Overloaded or StorageUnavailable."""
    started = time.perf_counter()
    valid = query.validate()
    series = resolve_series(query)
    result = QueryResult(query, interval=None if valid.buckets is None else valid.buckets.interval)
    if series:
        page, report = _execute_stages(valid, series)
        result.series, result.incomplete, result.read = page.series, report.incomplete, report.counts
        result.next_cursor = None if page.last is None else query.encode_cursor(page.last)
    result.read["milliseconds"] = round((time.perf_counter() - started) * 1000, 3)
    return result


def _execute_stages(query: ValidQuery, series: list[ResolvedSeries]) -> tuple[Page, ReadReport]:
    """Plan, read within the limits, and shape."""
    if query.buckets is None:
        raw_plan = plan_raw_points(query, series)
        report = ReadReport(raw_plan.incomplete)
        return shape_raw_points(raw_plan, read_raw_points(raw_plan, report)), report
    plan = plan_aggregation(query, query.buckets, series)
    report = ReadReport()
    return shape_page(plan, read_aggregates(plan, report)), report


def resolve_series(query: Query) -> list[ResolvedSeries]:
    """Return the series of a query in the order of its devices and metrics; to group by groups, once per group.

    Raises InvalidField if there are too many, or if a metric is not numeric and the query needs numbers.
    """
    series = _select_series(query)
    if query.min_value is not None or query.max_value is not None:
        series = _numeric_series(series, "filters", "min_value and max_value are for numbers")
    elif query.aggregation is not None and query.aggregation not in NON_NUMERIC_AGGREGATIONS:
        accepted = ", ".join(NON_NUMERIC_AGGREGATIONS)
        series = _numeric_series(series, "aggregation", f"{query.aggregation} is for numbers; only {accepted} is not")
    return _repeat_by_group(query, series) if query.group_by == "group" else series


def _select_series(query: Query) -> list[ResolvedSeries]:
    names = {
        "devices": None if query.devices is None else list(query.devices),
        "metrics": list(query.metrics),
        "groups": None if query.groups is None else list(query.groups),
    }
    with read_connection() as connection:
        rows = connection.execute(f"{SELECT_SERIES} LIMIT {MAX_SERIES + 1}", names).fetchall()
    if len(rows) > MAX_SERIES:
        raise InvalidField("devices", f"match over {MAX_SERIES:,} series; name fewer devices")
    series = [ResolvedSeries(series_id, Kind(kind), device_id, metric) for series_id, kind, device_id, metric in rows]
    if query.pairs is not None:
        pairs = set(query.pairs)
        series = [row for row in series if (row.device_id, row.metric_name) in pairs]
    devices = {device_id: position for position, device_id in enumerate(query.devices or ())}
    metrics = {metric: position for position, metric in enumerate(query.metrics)}
    return sorted(series, key=lambda row: (devices.get(row.device_id, 0), metrics[row.metric_name]))


def _numeric_series(series: list[ResolvedSeries], field: str, detail: str) -> list[ResolvedSeries]:
    """Return the numeric series. Raises InvalidField if a metric has none."""
    numeric = [row for row in series if row.kind.is_number]
    numeric_metrics = {row.metric_name for row in numeric}
    for row in series:
        if row.metric_name not in numeric_metrics:
            raise InvalidField(field, f"{row.metric_name} is {row.kind.name.lower()}: {detail}")
    return numeric


def _repeat_by_group(query: Query, series: list[ResolvedSeries]) -> list[ResolvedSeries]:
    """Return each series once per group of its device among those of the query; series without a group come first."""
    names = {
        "devices": list({row.device_id for row in series}),
        "groups": None if query.groups is None else list(query.groups),
    }
    groups: dict[str, list[str | None]] = {}
    with read_connection() as connection:
        for device_id, name in connection.execute(_GROUPS_OF_DEVICES, names):
            groups.setdefault(device_id, []).append(name)
    repeated = [replace(row, group=name) for row in series for name in groups.get(row.device_id, [None])]
    if len(repeated) > MAX_SERIES:
        raise InvalidField("group_by", f"over {MAX_SERIES:,} series in all groups; name fewer groups")
    return sorted(repeated, key=lambda row: (row.group is not None, row.group or ""))
