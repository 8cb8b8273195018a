"""Queries after any order of writes, rewrites, late points and merges, against a dictionary."""

import math
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from zoneinfo import ZoneInfo

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from metrics.models import MetricDefinition
from metrics.query.execute import execute_query
from metrics.query.query import Query
from metrics.query.raw_points import RawPoints, downsample
from metrics.query.time_buckets import bucket_edges
from metrics.storage import series_registry
from metrics.storage.connection import connect
from metrics.storage.format.codec import Kind
from metrics.storage.merge import schedule
from metrics.storage.read import block_cache, plan, scan
from metrics.storage.read.plan import snapshot
from metrics.storage.units import SECOND, to_microseconds
from metrics.storage.write.group_commit import JournalEntry, writer
from metrics.storage.write.incoming import IncomingPoints
from tests.metrics.test_aggregation import NAMES, expected_value

START = datetime(2026, 3, 28, tzinfo=UTC)  # Berlin's clocks go forward on the second day
LOW = to_microseconds(START)
SPAN = 3 * 24 * 3600  # seconds
TICK = 7200  # seconds; few times, so that writes overlap
SERIES = {1: "a", 2: "b", 300: "c"}  # in two buckets

written = st.lists(
    st.tuples(st.sampled_from(sorted(SERIES)), st.integers(0, SPAN // TICK - 1), st.integers(-50, 50)),
    min_size=1,
    max_size=40,
)


@pytest.fixture
def storage(site):
    """Create three devices with one series each; yield a connection."""
    MetricDefinition.objects.create(name="m", data_type="numeric", retention_days=3650)
    series_registry.refresh_registry()
    with connect() as connection:
        for number, device in SERIES.items():
            connection.execute(
                "INSERT INTO metrics_device (id, device_id, name, created_at) VALUES (%s, %s, '', now())",
                (number, device),
            )
            connection.execute(
                "INSERT INTO metrics_series (id, device_id, metric_name, kind) VALUES (%s, %s, 'm', %s)",
                (number, number, Kind.NUMERIC),
            )
        yield connection


def empty_storage(connection):
    connection.execute(
        "TRUNCATE metrics_young, metrics_block, metrics_rollup, metrics_latest, metrics_journal, metrics_count;"
        "UPDATE metrics_head SET seq = 0, checksum = ''; UPDATE metrics_merged SET seq = 0",
        prepare=False,
    )
    block_cache.clear_block_cache()


def write(rows):
    series, ticks, values = zip(*rows, strict=True)
    times = LOW + np.array(ticks, np.int64) * TICK * SECOND
    writer().submit(
        [IncomingPoints(np.array(series, np.int64), times, np.array(values, np.float64))],
        JournalEntry("test", 0.0, len(rows)),
    )
    return {
        (number, int(time)): float(value) for number, time, value in zip(series, times.tolist(), values, strict=True)
    }


@pytest.mark.slow
@settings(max_examples=120, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    commits=st.lists(st.tuples(written, st.sampled_from(["", "young", "everything"])), min_size=1, max_size=4),
    name=st.sampled_from([None, *NAMES]),
    interval=st.sampled_from([None, "range", 1800, 21600, 86400, 7 * 86400]),
    fill=st.sampled_from(["none", "null", "previous", "linear"]),
    zone=st.sampled_from(["UTC", "Europe/Berlin", "Asia/Kathmandu"]),
    group_by=st.sampled_from(["series", "all"]),
    window=st.one_of(st.just((0, SPAN)), st.tuples(st.integers(0, SPAN - 1), st.integers(1, SPAN))),
    limit=st.sampled_from([3, 10_000]),
)
def test_query_after_any_writes_and_merges_matches_plain_python(
    storage, commits, name, interval, fill, zone, group_by, window, limit
):
    empty_storage(storage)
    model: dict[tuple[int, int], float] = {}
    for rows, merged in commits:
        model |= write(rows)
        if merged:
            schedule.merge_commits(storage, force=True)
        if merged == "everything":
            schedule.merge_days(storage, force=True)
    start, end = START + timedelta(seconds=window[0]), START + timedelta(seconds=window[0] + window[1])
    query = Query(
        ("m",), start, end, None, name, interval if name else None, group_by=group_by if name else "series",
        limit=limit, timezone=zone, fill=fill if name else "none",
    )  # fmt: skip
    points = [(number, time, value) for (number, time), value in sorted(model.items())]
    rows_read = read_all_pages(query)
    rows_expected = expected_result(query, points)
    assert [row[:2] for row in rows_read] == [row[:2] for row in rows_expected]
    for row, expected in zip(rows_read, rows_expected, strict=True):
        assert row[2] == (None if expected[2] is None else pytest.approx(expected[2], rel=1e-9, abs=1e-9)), row


def read_all_pages(query):
    """Return (device, time, value) of all pages."""
    rows, cursor = [], None
    while True:
        page = execute_query(Query(**{name: getattr(query, name) for name in query.__slots__} | {"cursor": cursor}))
        assert page.count <= query.limit
        for group in page.series:
            rows += [(group.label[0], *point) for point in zip(group.times, group.values, strict=True)]
        cursor = page.next_cursor
        if cursor is None:
            return rows


def expected_result(query, points):
    """Return (device, time, value) in plain Python, from all points of all times."""
    start, end = to_microseconds(query.start), to_microseconds(query.end)
    if query.aggregation is None:
        return [(SERIES[number], time, value) for number, time, value in points if start <= time < end]
    rows = []
    for device in [None] if query.group_by == "all" else list(SERIES.values()):
        points_of_group = [point for point in points if device in (None, SERIES[point[0]])]
        rows += [(device, time, value) for time, value in expected_buckets(query, points_of_group, start, end)]
    return rows


def bucket_value(query, points, low, high):
    if not any(low <= time < high for _, time, _ in points):
        return None
    return expected_value(points, query.aggregation, low, high)


def expected_buckets(query, points, start, end):
    zone = ZoneInfo(query.timezone)
    is_whole_range = query.interval in (None, "range")
    bounds = [start, end] if is_whole_range else bucket_edges(start, end, query.interval * SECOND, zone).tolist()
    buckets = {low: bucket_value(query, points, max(low, start), min(high, end)) for low, high in pairwise(bounds)}
    if query.fill == "none":
        return [(time, value) for time, value in buckets.items() if value is not None]
    known = {time: value for time, value in buckets.items() if value is not None}
    has_points = any(start <= time < end for _, time, _ in points)
    first, last = min(buckets), max(buckets)
    before = after = None
    if query.fill in ("previous", "linear") and not is_whole_range and buckets[first] is None:
        before = outside_bucket(query, points, max((time for _, time, _ in points if time < start), default=None))
    if query.fill == "linear" and not is_whole_range and buckets[last] is None:
        after = outside_bucket(query, points, min((time for _, time, _ in points if time >= end), default=None))
    filled = []
    for time, value in buckets.items():
        earlier = max((entry for entry in known.items() if entry[0] <= time), default=before)
        later = min((entry for entry in known.items() if entry[0] >= time), default=after)
        if value is None and query.fill == "previous":
            value = earlier and earlier[1]
        elif value is None and query.fill == "linear" and earlier and later:
            share = (time - earlier[0]) / (later[0] - earlier[0]) if later[0] > earlier[0] else 0
            value = earlier[1] + (later[1] - earlier[1]) * share
        filled.append((time, value))
    return filled if has_points or any(value is not None for _, value in filled) else []


def outside_bucket(query, points, time):
    """Return the start and the value of the bucket of a point outside of the range, without its part in the range."""
    if time is None:
        return None
    start, end = to_microseconds(query.start), to_microseconds(query.end)
    low, high = bucket_edges(time, time + 1, query.interval * SECOND, ZoneInfo(query.timezone)).tolist()
    part = (max(low, end), high) if time >= end else (low, min(high, start))
    value = bucket_value(query, points, *part)
    return None if value is None else (low, value)


def test_read_sees_one_snapshot_while_blocks_are_merged(storage, monkeypatch):
    monkeypatch.setattr(scan, "FETCH_POINTS", 1)
    write([(number, tick, tick) for number in SERIES for tick in range(36)])
    schedule.merge_commits(storage, force=True)
    write([(number, tick, -1) for number in SERIES for tick in range(10)])
    with snapshot() as connection:
        read_plan = plan.plan_read(connection, np.array(sorted(SERIES)), LOW, LOW + SPAN * SECOND)
        remaining_parts = scan.read_points(connection, read_plan)
        parts = [next(remaining_parts)]
        schedule.merge_commits(storage, force=True)
        schedule.merge_days(storage, force=True)
        parts += remaining_parts
    values_by_key = {}
    for part in parts:
        keys = list(zip(part.series().tolist(), part.times.tolist(), strict=True))
        assert not values_by_key.keys() & keys  # no point is returned twice
        values_by_key |= dict(zip(keys, part.values.tolist(), strict=True))
    assert len(values_by_key) == 3 * 36
    assert sum(value == -1 for value in values_by_key.values()) == 30


def test_only_series_in_overlapping_blocks_are_merged(storage):
    write([(1, tick, tick) for tick in range(10)] + [(2, tick, tick) for tick in range(10)])
    schedule.merge_commits(storage, force=True)
    write([(2, 5, -1)])
    with snapshot() as connection:
        read_plan = plan.plan_read(connection, np.array([1, 2]), LOW, LOW + SPAN * SECOND)
        parts = list(scan.read_points(connection, read_plan))
    assert [part.ids.tolist() for part in parts] == [[1], [2]]
    assert parts[1].values[5] == -1


def test_increase_with_late_points_is_computed_in_time_order(storage):
    write([(1, tick, 10 * tick) for tick in range(6, 12)])
    schedule.merge_commits(storage, force=True)
    write([(1, tick, 10 * tick) for tick in range(6)])
    query = Query(("m",), START, START + timedelta(days=1), aggregation="increase", interval=6 * 3600)
    assert [group.values for group in execute_query(query).series] == [[20, 30, 30, 30]]


@pytest.mark.slow
@given(st.lists(st.integers(-20, 20), min_size=3, max_size=200), st.integers(2, 50))
def test_downsampled_series_keeps_minimum_and_maximum(values, max_points):
    points = RawPoints(np.arange(len(values)) * SECOND, np.array(values, np.float64), [Kind.NUMERIC], None, ())
    downsampled = downsample(points, max_points)
    assert len(downsampled) <= 2 * max(max_points // 2, 1) + 2
    assert (downsampled.times[0], downsampled.times[-1]) == (points.times[0], points.times[-1])
    assert (downsampled.values.min(), downsampled.values.max()) == (min(values), max(values))
    assert all(
        values[time // SECOND] == value
        for time, value in zip(downsampled.times.tolist(), downsampled.values, strict=True)
    )
    width = (len(values) - 1) * SECOND / max(max_points // 2, 1)
    for position, value in enumerate(values):  # omitted points are close to the points that are kept
        neighbours = downsampled.values[abs(downsampled.times - position * SECOND) <= width + SECOND]
        assert neighbours.min() <= value <= neighbours.max()


def test_rate_of_a_single_point_is_null(storage):
    write([(1, 0, 5)])
    result = execute_query(
        Query(("m",), START, START + timedelta(days=1), aggregation="rate", interval=3600, fill="null")
    )
    assert result.count == 24 and all(value is None or math.isnan(value) for value in result.series[0].values)
