"""Rollups match the points, are never stale, and outlive the points."""

from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from metrics.models import MetricDefinition
from metrics.query.execute import execute_query
from metrics.query.query import Query
from metrics.storage import series_registry
from metrics.storage.connection import connect
from metrics.storage.format.codec import Columns, DamagedPayload, arrange_points
from metrics.storage.format.rollup_codec import (
    STATS,
    RollupColumns,
    compute_rollup,
    decode_rollup,
    encode_rollup,
    merge_rollups,
)
from metrics.storage.merge import schedule
from metrics.storage.merge.apply_retention_policy import regroup_rows
from metrics.storage.merge.retention import delete_expired
from metrics.storage.merge.rollups import FIVE_MINUTES, ONE_HOUR
from metrics.storage.read import block_cache
from metrics.storage.units import SECOND, to_microseconds
from metrics.storage.write.group_commit import JournalEntry, writer
from metrics.storage.write.incoming import IncomingPoints

DAY = 86_400 * SECOND
FIVE_MINUTES_US = FIVE_MINUTES * SECOND

points = st.lists(
    st.tuples(st.integers(1, 5), st.integers(0, 4 * FIVE_MINUTES_US), st.integers(-9, 9)), min_size=1, max_size=60
)


def columns_of(rows: list[tuple[int, int, int]]) -> Columns:
    series, times, values = (np.array(column, np.int64) for column in zip(*rows, strict=True))
    units = np.arange(len(rows), dtype=np.int32) % 2
    return arrange_points(series, times, values.astype(np.float64), units, [b"", b'["V",{"a":1},{}]'])


def rollup_as_dict(rollup: RollupColumns) -> dict[tuple[int, int], tuple[float, ...]]:
    series = np.repeat(rollup.ids, np.diff(rollup.offsets)).tolist()
    stats = zip(*(rollup.stats[name].tolist() for name in STATS), strict=True)
    return dict(zip(zip(series, rollup.times.tolist(), strict=True), stats, strict=True))


def expected_rollup(columns: Columns) -> dict[tuple[int, int], tuple[float, ...]]:
    values_by_interval: dict[tuple[int, int], list[float]] = {}
    for series, time, value in zip(columns.series(), columns.times, columns.values, strict=True):
        values_by_interval.setdefault((int(series), int(time // FIVE_MINUTES_US * FIVE_MINUTES_US)), []).append(
            float(value)
        )
    return {
        key: (len(values), sum(values), min(values), max(values), values[0], values[-1])
        for key, values in values_by_interval.items()
    }


@pytest.mark.slow
@given(points)
def test_rollup_matches_the_model_and_is_restored_by_decoding(rows):
    columns = columns_of(rows)
    rollup = compute_rollup(columns, FIVE_MINUTES_US)
    assert rollup_as_dict(rollup) == expected_rollup(columns)
    decoded = decode_rollup(encode_rollup(rollup), FIVE_MINUTES_US)
    assert rollup_as_dict(decoded) == expected_rollup(columns) and decoded.units == rollup.units
    assert rollup_as_dict(merge_rollups(rollup.split_rows(2)[::-1])) == expected_rollup(columns)
    part = rollup.select_time_range(FIVE_MINUTES_US, 3 * FIVE_MINUTES_US)
    assert rollup_as_dict(part) == {
        key: stats for key, stats in expected_rollup(columns).items() if FIVE_MINUTES_US <= key[1] < 3 * FIVE_MINUTES_US
    }


def test_rollup_keeps_the_unit_of_the_last_point_without_its_tags():
    rollup = compute_rollup(columns_of([(1, 0, 1), (1, 1, 2), (2, 0, 3)]), FIVE_MINUTES_US)
    assert rollup.units == [b'["V"]', b""]


def test_damaged_rollup_payload_raises():
    payload = bytearray(encode_rollup(compute_rollup(columns_of([(1, 0, 1)]), FIVE_MINUTES_US)))
    payload[-1] ^= 255
    with pytest.raises(DamagedPayload):
        decode_rollup(bytes(payload), FIVE_MINUTES_US)


# --- in the database ----------------------------------------------------------------------------------

NOW = datetime.now(UTC)
TODAY = to_microseconds(NOW) // DAY * DAY


@pytest.fixture
def fleet(site):
    """A connection, and three devices with a metric whose points are kept for three days."""
    MetricDefinition.objects.create(name="m", data_type="numeric", retention_days=3, rollup_5m_days=5, rollup_1h_days=9)
    series_registry.refresh_registry()
    with connect() as connection:
        for number in (1, 2, 3):
            connection.execute(
                "INSERT INTO metrics_device (id, device_id, name, created_at) VALUES (%s, %s, '', now())",
                (number, f"d{number}"),
            )
            connection.execute("INSERT INTO metrics_series VALUES (%s, 'm', 0, %s)", (number, number))
        yield connection


def write_day(day: int, values: dict[int, float], series: int = 1) -> None:
    """Store values by second of the day that is so many days ago."""
    times = TODAY - day * DAY + np.array(list(values), np.int64) * SECOND
    numbers = np.array(list(values.values()), np.float64)
    writer().submit(
        [IncomingPoints(np.full(len(times), series, np.int64), times, numbers)], JournalEntry("test", 0.0, len(times))
    )


def merge_all(connection, at: datetime = NOW) -> None:
    schedule.merge_commits(connection, force=True)
    schedule.merge_days(connection, force=True, now=at.timestamp())


def expire(connection) -> None:
    regroup_rows(connection)
    delete_expired(connection)
    block_cache.clear_block_cache()


def query_values(
    aggregation: str | None, first: int, last: int, devices: tuple[str, ...] = ("d1",), **more
) -> list[tuple[float, float]]:
    """Query from one day ago to another; return (seconds since the start, value)."""
    start = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=TODAY - first * DAY)
    end = start + timedelta(days=first - last)
    result = execute_query(Query(("m",), start, end, devices, aggregation, **more))
    return [
        ((time - TODAY + first * DAY) / SECOND, value)
        for group in result.series
        for time, value in zip(group.times, group.values, strict=True)
    ]


def read_rollup_counts(first: int, last: int, **more) -> dict[str, int]:
    start = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=TODAY - first * DAY)
    result = execute_query(Query(("m",), start, start + timedelta(days=first - last), ("d1",), **more))
    return result.read["rollups_by_seconds"]


SAMPLE = {second: float(second % 7) for second in range(0, 86_400, 10)}


def test_finished_day_is_read_from_rollups(fleet):
    write_day(1, SAMPLE)
    merge_all(fleet)
    assert read_rollup_counts(1, 0, aggregation="avg", interval=3600) == {"3600": 1}
    assert read_rollup_counts(1, 0, aggregation="avg", interval=900) == {"300": 1}
    assert read_rollup_counts(1, 0, aggregation="avg", interval=250) == {}
    hours = query_values("sum", 1, 0, interval=3600)
    assert hours == [
        (hour, sum(value for second, value in SAMPLE.items() if hour <= second < hour + 3600))
        for hour in range(0, 86_400, 3600)
    ]


@pytest.mark.parametrize("name", ["p95", "stddev", "rate", "first"])
def test_aggregations_without_rollup_support_read_points(fleet, name):
    write_day(1, SAMPLE)
    merge_all(fleet)
    assert read_rollup_counts(1, 0, aggregation=name, interval=3600).get("3600", 0) == 0
    assert len(query_values(name, 1, 0, interval=3600)) == 24


def test_queries_with_value_filters_read_points(fleet):
    write_day(1, SAMPLE)
    merge_all(fleet)
    assert read_rollup_counts(1, 0, aggregation="count", interval=3600, min_value=3.0) == {}
    assert query_values("count", 1, 0, min_value=3.0)[0][1] == sum(value >= 3 for value in SAMPLE.values())


def test_late_points_appear_at_once_and_in_rollups_after_the_merge(fleet):
    write_day(1, SAMPLE)
    merge_all(fleet)
    write_day(1, {55: 100.0})
    for merge in (lambda: None, lambda: schedule.merge_commits(fleet, force=True), lambda: merge_all(fleet)):
        merge()
        assert query_values("max", 1, 0, interval=3600)[0] == (0.0, 100.0)
        assert query_values("count", 1, 0) == [(0.0, float(len(SAMPLE) + 1))]
    assert read_rollup_counts(1, 0, aggregation="max", interval=3600) == {"3600": 1}


def test_late_points_of_one_series_keep_the_rollups_of_another(fleet):
    write_day(1, SAMPLE)
    write_day(1, {0: 5.0}, series=2)
    merge_all(fleet)
    write_day(1, {10: 7.0}, series=2)
    merge_all(fleet)
    assert query_values("count", 1, 0) == [(0.0, float(len(SAMPLE)))]
    assert query_values("sum", 1, 0) == [(0.0, sum(SAMPLE.values()))]


def test_series_of_several_rows_keeps_its_rollups_when_another_series_is_late(fleet):
    """The points of the series are in two rows, of which the late point of the other series changes one."""
    values = dict.fromkeys(range(0, 80000, 4), 1.0)
    write_day(1, values)
    write_day(1, {0: 5.0}, series=2)
    merge_all(fleet)
    assert fleet.execute("SELECT count(*) FROM metrics_block").fetchone() == (2,)
    write_day(1, {10: 7.0}, series=2)
    merge_all(fleet)
    assert read_rollup_counts(1, 0, aggregation="count", interval=86_400) == {"3600": 1}
    assert query_values("count", 1, 0, interval=86_400) == [(0.0, float(len(values)))]


def test_day_without_rollups_gets_rollups_of_all_its_series(fleet):
    write_day(1, {0: 5.0}, series=2)
    merge_all(fleet)
    fleet.execute("DELETE FROM metrics_rollup")
    for series in (1, 3):
        write_day(1, SAMPLE, series)
    merge_all(fleet)
    assert query_values("count", 1, 0, ("d2",), interval=86_400) == [(0.0, 1.0)]


def test_queries_read_rollups_after_points_expired(fleet, monkeypatch):
    """Retention is three days for points, five for five-minute rollups, nine for hourly rollups."""
    monkeypatch.setattr("metrics.storage.merge.rollups.MIN_POINTS_PER_5M", 1)
    for day in (8, 5, 2):
        write_day(day, {0: 1.0, 10: 4.0, 3599: 2.0, 7200: 8.0})
        merge_all(fleet, NOW - timedelta(days=day - 1))
    expire(fleet)
    assert fleet.execute("SELECT count(DISTINCT day) FROM metrics_block").fetchone() == (1,)
    results = {
        name: query_values(name, 9, 0, interval=86_400)
        for name in ("count", "sum", "avg", "min", "max", "first", "last", "delta", "increase")
    }
    days = (86_400.0, 4 * 86_400.0, 7 * 86_400.0)
    assert results["count"] == [(day, 4) for day in days]
    assert results["sum"] == [(day, 15.0) for day in days]
    assert results["avg"] == [(day, 3.75) for day in days]
    assert results["min"] == [(day, 1.0) for day in days]
    assert results["max"] == [(day, 8.0) for day in days]
    assert results["first"] == [(day, 1.0) for day in days]
    assert results["last"] == [(day, 8.0) for day in days]
    assert [value for _, value in results["delta"]] == [7.0, 0.0, 0.0]
    assert results["increase"][0][1] == 7.0
    assert [value for _, value in query_values("max", 6, 4, interval=300)] == [4.0, 2.0, 8.0]


def test_expired_points_are_reported_if_rollups_do_not_suffice(fleet):
    write_day(8, SAMPLE)
    merge_all(fleet, NOW - timedelta(days=7))
    expire(fleet)
    start = NOW - timedelta(days=9)
    for aggregation in ("p95", None):
        result = execute_query(Query(("m",), start, NOW, ("d1",), aggregation))
        assert result.count == 0 and "points from before" in result.incomplete[0]
    assert execute_query(Query(("m",), start, NOW, ("d1",), "avg")).incomplete == []
    assert execute_query(Query(("m",), NOW - timedelta(days=1), NOW, ("d1",), "p95")).incomplete == []


def test_slow_metric_has_only_hourly_rollups_and_its_chart_shows_them(fleet):
    write_day(4, {second: float(second) for second in range(0, 86_400, 60)})
    merge_all(fleet, NOW - timedelta(days=3))
    assert fleet.execute("SELECT DISTINCT resolution FROM metrics_rollup").fetchall() == [(ONE_HOUR,)]
    expire(fleet)
    points_shown = query_values(None, 4, 3, max_points=1000)
    assert points_shown[:2] == [(0.0, 0.0), (1800.0, 3540.0)] and len(points_shown) == 48


def test_chart_uses_hourly_rollups_where_only_other_series_have_finer_ones(fleet):
    MetricDefinition.objects.create(name="n", data_type="numeric", retention_days=3, rollup_5m_days=9, rollup_1h_days=9)
    series_registry.refresh_registry()
    fleet.execute("INSERT INTO metrics_device (id, device_id, name, created_at) VALUES (4, 'd4', '', now())")
    for series, metric, device in ((10, "n", 1), (15, "m", 4), (20, "n", 2)):
        fleet.execute("INSERT INTO metrics_series VALUES (%s, %s, 0, %s)", (series, metric, device))
        write_day(4, SAMPLE, series)
    merge_all(fleet, NOW - timedelta(days=3))
    assert {time % 300 for time, _ in query_values(None, 4, 3, ("d4",), max_points=1000)} == {0, 150}
    fleet.execute("UPDATE metrics_rollup SET day = day - 3")
    fleet.execute("UPDATE metrics_block SET day = day - 3")
    expire(fleet)
    rollup_rows = fleet.execute(
        "SELECT resolution, series_from, series_to FROM metrics_rollup ORDER BY 1, 2"
    ).fetchall()
    assert rollup_rows == [(300, 10, 20), (3600, 10, 20)]  # the metric in between has only hourly rollups
    fleet.execute("UPDATE metrics_rollup SET day = day + 3")
    points_shown = query_values(None, 4, 3, ("d4",), max_points=1000)
    assert {time % 3600 for time, _ in points_shown} == {0, 1800} and len(points_shown) == 48


def test_interval_finer_than_the_kept_rollups_is_reported(fleet):
    write_day(4, {second: float(second) for second in range(0, 86_400, 60)})
    merge_all(fleet, NOW - timedelta(days=3))
    expire(fleet)
    start = NOW - timedelta(days=5)
    result = execute_query(Query(("m",), start, NOW, ("d1",), "avg", 900))
    assert result.count == 0 and "only hourly rollups" in result.incomplete[0]
    assert execute_query(Query(("m",), start, NOW, ("d1",), "avg", 3600)).incomplete == []


def test_rollups_are_kept_at_least_as_long_as_points(fleet):
    MetricDefinition.objects.create(name="n", data_type="numeric", rollup_5m_days=1, rollup_1h_days=1)
    series_registry.refresh_registry()
    fleet.execute("UPDATE metrics_series SET metric_name = 'n' WHERE id = 2")
    for series in (1, 2, 3):
        write_day(2, SAMPLE, series)
    merge_all(fleet, NOW - timedelta(days=1))
    expire(fleet)
    start = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=TODAY - 2 * DAY)
    result = execute_query(Query(("n",), start, start + timedelta(days=1), ("d2",), "count"))
    assert result.series[0].values == [len(SAMPLE)]


def test_chart_of_few_points_shows_raw_points(fleet):
    write_day(1, {second: float(second) for second in range(7, 86_400, 300)})
    merge_all(fleet)
    assert query_values(None, 1, 0, max_points=300) == [
        (float(second), float(second)) for second in range(7, 86_400, 300)
    ]


def test_chart_of_expired_points_shows_hourly_minimum_and_maximum(fleet):
    write_day(8, {0: 1.0, 10: 9.0, 20: -3.0, 4000: 2.0})
    merge_all(fleet, NOW - timedelta(days=7))
    expire(fleet)
    points_shown = query_values(None, 9, 0, max_points=100)
    assert [value for _, value in points_shown] == [-3.0, 9.0, 2.0]


def test_expired_late_points_do_not_overwrite_rollups(fleet):
    write_day(8, SAMPLE)
    merge_all(fleet, NOW - timedelta(days=7))
    expire(fleet)
    write_day(8, {50: 100.0})
    merge_all(fleet)
    expire(fleet)
    assert query_values("count", 9, 0) == [(0.0, float(len(SAMPLE)))]


def test_damaged_rollup_is_reported_as_missing(fleet):
    write_day(1, SAMPLE)
    merge_all(fleet)
    fleet.execute("UPDATE metrics_rollup SET payload = set_byte(payload, 20, get_byte(payload, 20) # 255)")
    start = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=TODAY - DAY)
    result = execute_query(Query(("m",), start, start + timedelta(days=1), ("d1",), "avg", ONE_HOUR))
    assert "rollup" in result.incomplete[0] and "damaged" in result.incomplete[0]
