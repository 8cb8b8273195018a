"""Aggregations, intervals, fills and time zones (with DST changes) against plain Python."""

import math
import statistics
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from metrics.query.accumulators import ACCUMULATORS, find_aggregation, parse_percentile
from metrics.query.gaps import fill_gaps
from metrics.query.time_buckets import bucket_edges, round_interval, split_by_bucket
from metrics.storage.format.codec import Columns, arrange_points, concatenate
from metrics.storage.units import SECOND

HOUR = 3600
ZONES = ["UTC", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "America/Havana", "Asia/Kathmandu"]
NIGHTS = [  # with a clock change in one of the zones
    datetime(2026, 3, 29, tzinfo=UTC),
    datetime(2026, 10, 25, tzinfo=UTC),
    datetime(2026, 3, 8, tzinfo=UTC),
    datetime(2026, 11, 1, tzinfo=UTC),
    datetime(2026, 4, 4, tzinfo=UTC),
    datetime(2026, 10, 3, tzinfo=UTC),
]
NAMES = [*ACCUMULATORS, "median", "p0", "p95", "p99", "p99.9", "p12.5", "p100"]

Point = tuple[int, int, float]  # series, time, value


def to_micro(moment: datetime) -> int:
    return int(moment.timestamp()) * SECOND


# --- expected values --------------------------------------------------------------------------------


def wall_clock_bucket(time: int, interval: int, zone: ZoneInfo) -> tuple[int, int]:
    """Return the key of a bucket: its number on the wall clock, and 1 in a repeated hour."""
    moment = datetime.fromtimestamp(time / SECOND, zone)
    wall_time = moment.replace(tzinfo=UTC, fold=0) - datetime(1970, 1, 5, tzinfo=UTC)
    overlap = moment.replace(fold=0).utcoffset() - moment.replace(fold=1).utcoffset()
    repetition = moment.fold == 1 and interval <= overlap // timedelta(microseconds=1)
    return wall_time // timedelta(microseconds=interval), int(repetition)


def percentile(values: list[float], percent: float) -> float:
    ordered = sorted(values)
    position = (len(ordered) - 1) * percent / 100
    low, high = math.floor(position), math.ceil(position)
    return ordered[low] + (ordered[high] - ordered[low]) * (position - low)


def expected_difference(points: list[Point], name: str, low: int, high: int) -> float | None:
    """Return the sum of the differences that end in a bucket."""
    total, has_difference = 0.0, False
    for series in {point[0] for point in points}:
        points_of_series = sorted((time, value) for number, time, value in points if number == series)
        difference, duration = 0.0, 0
        for (old_time, old_value), (time, value) in zip(points_of_series[:-1], points_of_series[1:], strict=True):
            if low <= time < high:
                difference += value if value < old_value and name != "delta" else value - old_value
                duration += time - old_time
        if duration:
            has_difference = True
            total += difference / (duration / SECOND) if name == "rate" else difference
    return total if has_difference else None


def expected_value(points: list[Point], name: str, low: int, high: int) -> float | None:
    inside = sorted((point for point in points if low <= point[1] < high), key=lambda point: (point[1], point[0]))
    values = [value for _, _, value in inside]
    if name in ("rate", "increase", "delta"):
        return expected_difference(points, name, low, high)
    if name == "count":
        return len(values) or None
    if not values:
        return None
    if (percent := parse_percentile(name)) is not None:
        return percentile(values, percent)
    functions = {
        "avg": statistics.fmean,
        "min": min,
        "max": max,
        "sum": math.fsum,
        "first": lambda ordered: ordered[0],
        "last": lambda ordered: ordered[-1],
        "stddev": statistics.pstdev,
    }
    return functions[name](values)


# --- intervals --------------------------------------------------------------------------------------


@pytest.mark.slow
@settings(max_examples=300, deadline=None)
@given(
    zone=st.sampled_from(ZONES),
    night=st.sampled_from(NIGHTS),
    interval=st.sampled_from([600, 1800, 2700, 3600, 7200, 18000, 21600, 43200, 86400, 172800, 604800]),
    before=st.integers(0, 40 * HOUR),
    length=st.integers(1, 20 * 24 * HOUR),
)
def test_bucket_edges_are_multiples_of_the_interval_on_the_wall_clock(zone, night, interval, before, length):
    start = to_micro(night) - before * SECOND
    end = start + length * SECOND
    edges = bucket_edges(start, end, interval * SECOND, ZoneInfo(zone))
    assert edges[0] <= start < edges[1] and edges[-2] < end <= edges[-1]
    assert (np.diff(edges) > 0).all()
    times = range(start, min(end, start + 4 * 24 * HOUR * SECOND), 900 * SECOND)
    buckets = np.searchsorted(edges, list(times), side="right").tolist()
    names = [wall_clock_bucket(time, interval * SECOND, ZoneInfo(zone)) for time in times]
    if interval != 2700:  # does not divide an hour, so a repeated hour splits a bucket
        assert [a == b for a, b in zip(buckets[:-1], buckets[1:], strict=True)] == [
            a == b for a, b in zip(names[:-1], names[1:], strict=True)
        ]


@pytest.mark.parametrize(("day", "hours"), [("2026-03-29", 23), ("2026-10-25", 25), ("2026-06-01", 24)])
def test_dst_days_have_23_or_25_hourly_buckets(day, hours):
    berlin = ZoneInfo("Europe/Berlin")
    start = datetime.fromisoformat(day).replace(tzinfo=berlin)
    next_day = (datetime.fromisoformat(day) + timedelta(days=1)).replace(tzinfo=berlin)
    assert len(bucket_edges(to_micro(start), to_micro(next_day), HOUR * SECOND, berlin)) - 1 == hours
    day_edges = bucket_edges(to_micro(start), to_micro(next_day) + 2 * HOUR * SECOND, 24 * HOUR * SECOND, berlin)
    assert day_edges.tolist()[:2] == [to_micro(start), to_micro(next_day)]
    quarter_edges = bucket_edges(to_micro(start), to_micro(next_day), 6 * HOUR * SECOND, berlin)
    edge_hours = [datetime.fromtimestamp(edge / SECOND, berlin).hour for edge in quarter_edges.tolist()]
    assert edge_hours == [0, 6, 12, 18, 0]


def test_missing_or_repeated_midnight_starts_one_daily_bucket():
    havana = ZoneInfo("America/Havana")  # 2026-03-08 begins at 01:00; 2026-11-01 has two midnights
    for month, night in ((3, 8), (11, 1)):
        start = to_micro(datetime(2026, month, night, tzinfo=havana) - timedelta(days=2))
        edges = bucket_edges(start, start + 6 * 24 * HOUR * SECOND, 24 * HOUR * SECOND, havana)
        days = [datetime.fromtimestamp(edge / SECOND, havana).date() for edge in edges.tolist()]
        assert days == sorted(set(days))
        assert all((b - a).days == 1 for a, b in zip(days[:-1], days[1:], strict=True))


@pytest.mark.parametrize(
    ("zone", "interval", "expected"),
    [
        ("UTC", HOUR, ["00:00+00:00", "01:00+00:00", "02:00+00:00"]),
        ("Asia/Kathmandu", HOUR, ["06:00+05:45", "07:00+05:45", "08:00+05:45"]),
        ("Europe/Berlin", 2 * HOUR, ["00:00+01:00", "02:00+01:00", "04:00+01:00"]),
    ],
)
def test_interval_as_long_as_the_range_or_longer_is_cut_at_multiples(zone, interval, expected):
    start = to_micro(datetime(2026, 1, 1, 0, 25, 41, tzinfo=UTC))
    edges = bucket_edges(start, start + HOUR * SECOND, interval * SECOND, ZoneInfo(zone)).tolist()
    assert edges == [to_micro(datetime.fromisoformat(f"2026-01-01T{text}")) for text in expected]


def test_weekly_buckets_start_on_monday():
    start = to_micro(datetime(2026, 5, 1, tzinfo=UTC))
    edges = bucket_edges(start, start + 30 * 24 * HOUR * SECOND, 7 * 24 * HOUR * SECOND)
    assert {datetime.fromtimestamp(edge / SECOND, UTC).strftime("%a %H") for edge in edges.tolist()} == {"Mon 00"}


@given(st.integers(1, 4000 * 86400), st.integers(1, 10_000))
def test_round_interval_yields_at_most_max_buckets(length, max_buckets):
    assert -(-length * SECOND // round_interval(length * SECOND, max_buckets)) <= max_buckets


# --- accumulators -----------------------------------------------------------------------------------

START = to_micro(datetime(2026, 10, 24, 12, tzinfo=UTC))
point = st.tuples(
    st.integers(0, 3), st.integers(0, 48 * HOUR - 1), st.integers(-1000, 1000).map(lambda number: number / 10)
)


def split_by_time(points: list[Point], cuts: list[int]) -> list[Columns]:
    """Split points by time into columns, each sorted by series and time."""
    parts = []
    for low, high in zip([0, *cuts], [*cuts, 2**62], strict=True):
        selected = [row for row in points if low <= row[1] < high]
        if selected:
            series, times, values = zip(*selected, strict=True)
            parts.append(arrange_points(np.array(series), np.array(times), np.array(values, np.float64)))
    return parts


@pytest.mark.slow
@settings(max_examples=400, deadline=None)
@given(
    points=st.dictionaries(st.tuples(point, st.just(0)).map(lambda pair: pair[0][:2]), point, min_size=1, max_size=60),
    cuts=st.lists(st.integers(0, 48 * HOUR), max_size=3, unique=True),
    name=st.sampled_from(NAMES),
    interval=st.sampled_from([60, 1800, 3600, 21600, 86400, 10**7]),
    zone=st.sampled_from(ZONES),
    pooled=st.booleans(),
    repeats=st.sampled_from([1, 40]),
)
def test_accumulators_match_plain_python(points, cuts, name, interval, zone, pooled, repeats):
    # `repeats` makes series long, so that they are split by series instead of by point
    rows = [
        (series, START + time * SECOND + repetition * 1000, values_drawn[2] + repetition % 7)
        for (series, time), values_drawn in points.items()
        for repetition in range(repeats)
    ]
    edges = bucket_edges(START, START + 48 * HOUR * SECOND, interval * SECOND, ZoneInfo(zone))
    buckets, groups = len(edges) - 1, np.zeros(4, np.int64) if pooled else np.arange(4)
    accumulator = find_aggregation(name).create_accumulator(4 * buckets, 4)
    for part in split_by_time(rows, sorted(START + cut_at * SECOND for cut_at in cuts)):
        accumulator.add(part, split_by_bucket(part, edges, part.ids, groups[part.ids]))
    values = accumulator.values()
    for index in range(4 * buckets):
        low, high = int(edges[index % buckets]), int(edges[index % buckets + 1])
        rows_of_group = [row for row in rows if groups[row[0]] == index // buckets]
        if not rows_of_group or not any(low <= row[1] < high for row in rows_of_group):
            assert accumulator.count[index] == 0 and math.isnan(values[index])
            continue
        wanted_value = expected_value(rows_of_group, name, low, high)
        assert accumulator.count[index] == sum(low <= row[1] < high for row in rows_of_group)
        if wanted_value is None:
            assert math.isnan(values[index])
        else:
            assert values[index] == pytest.approx(wanted_value, rel=1e-9, abs=1e-7)


def test_counter_reset_does_not_reduce_increase_or_rate():
    part = arrange_points(np.zeros(5, np.int64), np.arange(5) * 10 * SECOND, np.array([100.0, 150.0, 20.0, 60.0, 60.0]))
    edges = bucket_edges(0, 50 * SECOND, 50 * SECOND)
    values = {}
    for name in ("increase", "rate", "delta"):
        accumulator = find_aggregation(name).create_accumulator(1, 1)
        accumulator.add(part, split_by_bucket(part, edges, part.ids, part.ids))
        values[name] = accumulator.values().tolist()
    assert values == {"increase": [110.0], "rate": [110.0 / 40], "delta": [-40.0]}


def test_stddev_of_large_values_is_exact():
    values = 1e9 + np.array([4.0, 7.0, 13.0, 16.0] * 100)
    columns = arrange_points(np.zeros(400, np.int64), np.arange(400) * SECOND, values)
    accumulator = find_aggregation("stddev").create_accumulator(1, 1)
    for part in (columns.points(0, 150), columns.points(150, 400)):
        accumulator.add(part, split_by_bucket(part, bucket_edges(0, 400 * SECOND, 400 * SECOND), part.ids, part.ids))
    assert accumulator.values()[0] == pytest.approx(statistics.pstdev(values), rel=1e-9)


@pytest.mark.parametrize("name", ["", "mean", "p", "p101", "p-1", "pp", "p1e1", "p٩", "P95", "p100.1"])
def test_unknown_aggregation_has_no_percentile_and_no_accumulator(name):
    assert parse_percentile(name) is None and name not in ACCUMULATORS


# --- gaps -------------------------------------------------------------------------------------------


@pytest.mark.slow
@given(
    st.lists(st.one_of(st.none(), st.integers(-100, 100)), min_size=1, max_size=20),
    st.sampled_from(["none", "null", "previous", "linear", 0, -2.5]),
)
def test_fill_gaps_matches_plain_python(values, fill):
    times = np.arange(len(values)) * 60
    filled = fill_gaps(np.array([np.nan if value is None else value for value in values], np.float64), times, fill)
    for position, value in enumerate(values):
        if value is not None:
            expected_fill = value
        elif isinstance(fill, int | float):
            expected_fill = fill
        else:
            before = [index for index in range(position) if values[index] is not None]
            after = [index for index in range(position, len(values)) if values[index] is not None]
            expected_fill = None
            if fill == "previous" and before:
                expected_fill = values[before[-1]]
            elif fill == "linear" and before and after:
                low, high = before[-1], after[0]
                expected_fill = values[low] + (values[high] - values[low]) * (position - low) / (high - low)
        assert (
            math.isnan(filled[position]) if expected_fill is None else filled[position] == pytest.approx(expected_fill)
        )


def test_accumulating_pieces_equals_accumulating_all_points():
    rng = np.random.default_rng(1)
    series, times = np.repeat(np.arange(3), 500), np.tile(np.arange(500) * SECOND, 3)
    columns = arrange_points(series, times, rng.normal(size=1500))
    edges = bucket_edges(0, 500 * SECOND, 7 * SECOND)
    parts = [concatenate([columns.slice_series(at, at + 1)]) for at in range(3)]
    for name in NAMES:
        of_all, of_parts = (
            find_aggregation(name).create_accumulator(3 * (len(edges) - 1), 3),
            find_aggregation(name).create_accumulator(3 * (len(edges) - 1), 3),
        )
        of_all.add(columns, split_by_bucket(columns, edges, columns.ids, columns.ids))
        for part in parts:
            of_parts.add(part, split_by_bucket(part, edges, part.ids, part.ids))
        np.testing.assert_allclose(of_all.values(), of_parts.values(), rtol=1e-12)
