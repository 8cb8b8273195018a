"""Aggregations, intervals, fills and time zones (with DST changes) against plain Python."""

import math
import statistics
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from metrics.query.accumulators import ACCUMULATORS, fill_gaps, find_aggregation, parse_percentile
from metrics.query.time_buckets import bucket_edges, round_interval, split_by_bucket
from metrics.storage.format.codec import Columns, arrange_points, concatenate
from metrics.storage.units import SECOND

HOUR = 3600
ZONES = ["UTC", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "America/Havana", "Asia/Kathmandu"]
NIGHTS = [  # around which clocks are moved somewhere
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
    """Return what identifies a bucket: the multiple that the wall clock shows, and its repetition."""
    moment = datetime.fromtimestamp(time / SECOND, zone)
    wall = moment.replace(tzinfo=UTC, fold=0) - datetime(1970, 1, 5, tzinfo=UTC)
    repeated = moment.replace(fold=0).utcoffset() - moment.replace(fold=1).utcoffset()
    again = moment.fold == 1 and interval <= repeated // timedelta(microseconds=1)
    return wall // timedelta(microseconds=interval), int(again)


def percentile(values: list[float], percent: float) -> float:
    ordered = sorted(values)
    at = (len(ordered) - 1) * percent / 100
    low, high = math.floor(at), math.ceil(at)
    return ordered[low] + (ordered[high] - ordered[low]) * (at - low)


def expected_difference(points: list[Point], name: str, low: int, high: int) -> float | None:
    """Return the sum of the differences that end in a bucket."""
    total, known = 0.0, False
    for series in {point[0] for point in points}:
        mine = sorted((time, value) for number, time, value in points if number == series)
        gained, took = 0.0, 0
        for (before, old), (time, value) in zip(mine[:-1], mine[1:], strict=True):
            if low <= time < high:
                gained += value if value < old and name != "delta" else value - old
                took += time - before
        if took:
            known = True
            total += gained / (took / SECOND) if name == "rate" else gained
    return total if known else None


def expected(points: list[Point], name: str, low: int, high: int) -> float | None:
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
    plain = {
        "avg": statistics.fmean,
        "min": min,
        "max": max,
        "sum": math.fsum,
        "first": lambda some: some[0],
        "last": lambda some: some[-1],
        "stddev": statistics.pstdev,
    }
    return plain[name](values)


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
    found = bucket_edges(start, end, interval * SECOND, ZoneInfo(zone))
    if interval >= length:
        assert found.tolist() == [start, end]
        return
    assert found[0] <= start < found[1] and found[-2] < end <= found[-1]
    assert (np.diff(found) > 0).all()
    times = range(start, min(end, start + 4 * 24 * HOUR * SECOND), 900 * SECOND)
    place = np.searchsorted(found, list(times), side="right").tolist()
    names = [wall_clock_bucket(time, interval * SECOND, ZoneInfo(zone)) for time in times]
    if interval != 2700:  # does not divide the hour, so a repeated hour cuts it in two
        assert [a == b for a, b in zip(place[:-1], place[1:], strict=True)] == [
            a == b for a, b in zip(names[:-1], names[1:], strict=True)
        ]


@pytest.mark.parametrize(("day", "hours"), [("2026-03-29", 23), ("2026-10-25", 25), ("2026-06-01", 24)])
def test_dst_days_have_23_or_25_hourly_buckets(day, hours):
    berlin = ZoneInfo("Europe/Berlin")
    start = datetime.fromisoformat(day).replace(tzinfo=berlin)
    following = (datetime.fromisoformat(day) + timedelta(days=1)).replace(tzinfo=berlin)
    assert len(bucket_edges(to_micro(start), to_micro(following), HOUR * SECOND, berlin)) - 1 == hours
    days = bucket_edges(to_micro(start), to_micro(following) + 2 * HOUR * SECOND, 24 * HOUR * SECOND, berlin)
    assert days.tolist()[:2] == [to_micro(start), to_micro(following)]
    quarters = bucket_edges(to_micro(start), to_micro(following), 6 * HOUR * SECOND, berlin)
    shown = [datetime.fromtimestamp(edge / SECOND, berlin).hour for edge in quarters.tolist()]
    assert shown == [0, 6, 12, 18, 0]


def test_missing_or_repeated_midnight_starts_one_daily_bucket():
    havana = ZoneInfo("America/Havana")  # 2026-03-08 begins at 01:00; 2026-11-01 has two midnights
    for month, night in ((3, 8), (11, 1)):
        start = to_micro(datetime(2026, month, night, tzinfo=havana) - timedelta(days=2))
        found = bucket_edges(start, start + 6 * 24 * HOUR * SECOND, 24 * HOUR * SECOND, havana)
        days = [datetime.fromtimestamp(edge / SECOND, havana).date() for edge in found.tolist()]
        assert days == sorted(set(days))
        assert all((b - a).days == 1 for a, b in zip(days[:-1], days[1:], strict=True))


def test_weekly_buckets_start_on_monday():
    start = to_micro(datetime(2026, 5, 1, tzinfo=UTC))
    found = bucket_edges(start, start + 30 * 24 * HOUR * SECOND, 7 * 24 * HOUR * SECOND)
    assert {datetime.fromtimestamp(edge / SECOND, UTC).strftime("%a %H") for edge in found.tolist()} == {"Mon 00"}


@given(st.integers(1, 4000 * 86400), st.integers(1, 10_000))
def test_round_interval_yields_at_most_max_buckets(length, most):
    assert -(-length * SECOND // round_interval(length * SECOND, most)) <= most


# --- accumulators -----------------------------------------------------------------------------------

START = to_micro(datetime(2026, 10, 24, 12, tzinfo=UTC))
point = st.tuples(
    st.integers(0, 3), st.integers(0, 48 * HOUR - 1), st.integers(-1000, 1000).map(lambda number: number / 10)
)


def split_into_pieces(points: list[Point], cuts: list[int]) -> list[Columns]:
    """Points in pieces by time, each in order of series and time."""
    found = []
    for low, high in zip([0, *cuts], [*cuts, 2**62], strict=True):
        some = [one for one in points if low <= one[1] < high]
        if some:
            series, times, values = zip(*some, strict=True)
            found.append(arrange_points(np.array(series), np.array(times), np.array(values, np.float64)))
    return found


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
    # `repeats` makes series long, so that they are cut series by series and not point by point
    rows = [
        (series, START + time * SECOND + again * 1000, drawn[2] + again % 7)
        for (series, time), drawn in points.items()
        for again in range(repeats)
    ]
    found = bucket_edges(START, START + 48 * HOUR * SECOND, interval * SECOND, ZoneInfo(zone))
    many, groups = len(found) - 1, np.zeros(4, np.int64) if pooled else np.arange(4)
    one = find_aggregation(name).create_accumulator(4 * many, 4)
    for piece in split_into_pieces(rows, sorted(START + cut_at * SECOND for cut_at in cuts)):
        one.add(piece, split_by_bucket(piece, found, piece.ids, groups[piece.ids]))
    values = one.values()
    for slot in range(4 * many):
        low, high = int(found[slot % many]), int(found[slot % many + 1])
        mine = [row for row in rows if groups[row[0]] == slot // many]
        if not mine or not any(low <= row[1] < high for row in mine):
            assert one.count[slot] == 0 and math.isnan(values[slot])
            continue
        want = expected(mine, name, low, high)
        assert one.count[slot] == sum(low <= row[1] < high for row in mine)
        if want is None:
            assert math.isnan(values[slot])
        else:
            assert values[slot] == pytest.approx(want, rel=1e-9, abs=1e-7)


def test_counter_reset_does_not_reduce_increase_or_rate():
    piece = arrange_points(
        np.zeros(5, np.int64), np.arange(5) * 10 * SECOND, np.array([100.0, 150.0, 20.0, 60.0, 60.0])
    )
    found = bucket_edges(0, 50 * SECOND, 50 * SECOND)
    answers = {}
    for name in ("increase", "rate", "delta"):
        one = find_aggregation(name).create_accumulator(1, 1)
        one.add(piece, split_by_bucket(piece, found, piece.ids, piece.ids))
        answers[name] = one.values().tolist()
    assert answers == {"increase": [110.0], "rate": [110.0 / 40], "delta": [-40.0]}


def test_stddev_of_large_values_is_exact():
    values = 1e9 + np.array([4.0, 7.0, 13.0, 16.0] * 100)
    piece = arrange_points(np.zeros(400, np.int64), np.arange(400) * SECOND, values)
    one = find_aggregation("stddev").create_accumulator(1, 1)
    for part in (piece.points(0, 150), piece.points(150, 400)):
        one.add(part, split_by_bucket(part, bucket_edges(0, 400 * SECOND, 400 * SECOND), part.ids, part.ids))
    assert one.values()[0] == pytest.approx(statistics.pstdev(values), rel=1e-9)


@pytest.mark.parametrize("name", ["", "mean", "p", "p101", "p-1", "pp", "p1e1", "p٩", "P95", "p100.1"])
def test_unknown_aggregation_has_no_percentile_and_no_accumulator(name):
    assert parse_percentile(name) is None and name not in ACCUMULATORS


# --- gaps -------------------------------------------------------------------------------------------


@given(
    st.lists(st.one_of(st.none(), st.integers(-100, 100)), min_size=1, max_size=20),
    st.sampled_from(["none", "null", "previous", "linear", 0, -2.5]),
)
def test_fill_gaps_matches_plain_python(values, how):
    times = np.arange(len(values)) * 60
    got = fill_gaps(np.array([np.nan if value is None else value for value in values], np.float64), times, how)
    for at, value in enumerate(values):
        if value is not None:
            want = value
        elif isinstance(how, int | float):
            want = how
        else:
            before = [index for index in range(at) if values[index] is not None]
            after = [index for index in range(at, len(values)) if values[index] is not None]
            want = None
            if how == "previous" and before:
                want = values[before[-1]]
            elif how == "linear" and before and after:
                low, high = before[-1], after[0]
                want = values[low] + (values[high] - values[low]) * (at - low) / (high - low)
        assert math.isnan(got[at]) if want is None else got[at] == pytest.approx(want)


def test_accumulating_pieces_equals_accumulating_all_points():
    rng = np.random.default_rng(1)
    series, times = np.repeat(np.arange(3), 500), np.tile(np.arange(500) * SECOND, 3)
    whole = arrange_points(series, times, rng.normal(size=1500))
    found = bucket_edges(0, 500 * SECOND, 7 * SECOND)
    parts = [concatenate([whole.slice_series(at, at + 1)]) for at in range(3)]
    for name in NAMES:
        one, other = (
            find_aggregation(name).create_accumulator(3 * (len(found) - 1), 3),
            find_aggregation(name).create_accumulator(3 * (len(found) - 1), 3),
        )
        one.add(whole, split_by_bucket(whole, found, whole.ids, whole.ids))
        for part in parts:
            other.add(part, split_by_bucket(part, found, part.ids, part.ids))
        np.testing.assert_allclose(one.values(), other.values(), rtol=1e-12)
