"""Differences and filled gaps at the edges of a range: overlapping queries agree, and parts add up to the whole."""

import random
from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest

from metrics.query.execute import execute_query
from metrics.query.neighbours import LOOKBACK_DAYS
from metrics.query.query import Query
from metrics.storage.merge import schedule
from metrics.storage.units import SECOND, to_microseconds
from tests.conftest import point
from tests.metrics.sample_day import send_points
from tests.metrics.test_query_properties import LOW, SERIES, START, storage, write

__all__ = ["storage"]  # the fixture

RANGE = "devices/device_001/metrics/temperature/range"

HOUR, DAY = 3600, 86400
TICK = 7200  # seconds per unit of time of `write`


def query(low, high, aggregation, **more):
    """Return {(device, time): value} of a query from `low` to before `high`, in seconds after START."""
    begin, end = (START + timedelta(seconds=seconds) for seconds in (low, high))
    result = execute_query(Query(("m",), begin, end, aggregation=aggregation, **more))
    return {
        (group.label[0], (time - LOW) // SECOND): value
        for group in result.series
        for time, value in zip(group.times, group.values, strict=True)
    }


def counter(rows, name, low, high):
    """Return the increase, delta or rate of each device in plain Python; the first difference begins before `low`."""
    totals = {}
    for number, device in SERIES.items():
        points = sorted((tick * TICK, value) for series, tick, value in rows if series == number)
        gained = elapsed = 0
        for (before, old), (time, new) in pairwise(points):
            if low <= time < high:
                gained += new if new < old and name != "delta" else new - old
                elapsed += time - before
        if elapsed:
            totals[device] = gained / elapsed if name == "rate" else gained
    return totals


@pytest.fixture
def readings(storage, request):
    """Counters that reset now and then: of one device every 2 hours, of one daily, of one at random hours."""
    numbers = random.Random(7)
    rows, values = [], dict.fromkeys(SERIES, 0)
    for tick in range(20 * 12):
        for number in SERIES:
            if number == 1 or (number == 2 and tick % 12 == 3) or (number == 300 and numbers.random() < 0.2):
                values[number] = 0 if numbers.random() < 0.05 else values[number] + numbers.randrange(1, 9)
                rows.append((number, tick, values[number]))
    half = len(rows) // 2
    write(rows[:half])
    schedule.merge_commits(storage, force=True)
    schedule.merge_days(storage, force=True)
    write(rows[half:])
    if request.param == "merged":
        schedule.merge_commits(storage, force=True)
        schedule.merge_days(storage, force=True)
    return rows


@pytest.mark.slow
@pytest.mark.parametrize("readings", ["merged", "unmerged"], indirect=True)
@pytest.mark.parametrize("name", ["increase", "delta", "rate"])
def test_differences_of_any_range_match_plain_python_and_parts_add_up(readings, name):
    numbers = random.Random(name)
    for _ in range(40):
        low = numbers.randrange(0, 19 * DAY)
        high = low + numbers.choice([1, HOUR, 3 * HOUR, DAY, 5 * DAY])
        expected = counter(readings, name, low, high)
        for more in ({}, {"min_value": -1.0}):  # with a filter only points are read
            found = {device: value for (device, _), value in query(low, high, name, **more).items()}
            assert found == pytest.approx(expected), (low, high, more)
        if name != "rate":
            middle = numbers.randrange(low, high + 1)
            parts = [query(*part, name) for part in ((low, middle), (middle, high)) if part[0] < part[1]]
            summed = {}
            for (device, _), value in (entry for part in parts for entry in part.items()):
                summed[device] = summed.get(device, 0) + value
            assert summed == pytest.approx(expected)


@pytest.mark.slow
@pytest.mark.parametrize("readings", ["merged", "unmerged"], indirect=True)
@pytest.mark.parametrize("fill", ["none", "previous", "linear"])
@pytest.mark.parametrize("name", ["avg", "last", "increase", "rate", "count", "p95"])
def test_short_query_equals_the_same_hours_of_a_long_one(readings, name, fill):
    interval = 2 * HOUR
    whole = query(0, 20 * DAY, name, interval=interval, fill=fill)
    for day in range(1, 19):
        for length in (interval, 12 * HOUR):
            low = day * DAY + 6 * HOUR
            part = query(low, low + length, name, interval=interval, fill=fill)
            expected = {key: value for key, value in whole.items() if low <= key[1] < low + length}
            assert part == pytest.approx(expected, nan_ok=False), (day, length)


@pytest.mark.parametrize(("days", "increase"), [(1, 7), (34, 7), (LOOKBACK_DAYS + 1, None)])
def test_previous_point_counts_within_the_lookback(storage, days, increase):
    write([(1, 0, 10)])
    schedule.merge_commits(storage, force=True)
    schedule.merge_days(storage, force=True)
    write([(1, days * 12, 17)])
    found = query(days * DAY - HOUR, days * DAY + HOUR, "increase")
    assert list(found.values()) == ([] if increase is None else [increase])
    filled = query(days * DAY - HOUR, days * DAY, "avg", interval=HOUR, fill="previous")
    assert list(filled.values()) == ([] if increase is None else [10])


def test_rate_after_a_gap_uses_the_exact_time_of_the_previous_point(storage):
    write([(1, 1, 10), (1, 60, 82)])  # 5 days apart; the first point is found through an hourly rollup
    schedule.merge_commits(storage, force=True)
    schedule.merge_days(storage, force=True)
    assert query(60 * TICK, 60 * TICK + HOUR, "rate") == {("a", 60 * TICK): pytest.approx(72 / (59 * TICK))}


def test_late_point_before_the_range_is_the_previous_point(storage):
    write([(1, 0, 10)])
    schedule.merge_commits(storage, force=True)
    write([(1, 30, 40), (1, 40, 50)])  # not merged; the newest merged point is older
    assert query(40 * TICK, 40 * TICK + HOUR, "increase") == {("a", 40 * TICK): 10}


def test_interval_range_equals_no_interval_and_long_intervals_are_cut(storage):
    write([(1, tick, tick) for tick in range(12)])
    low, high = 25 * 60 + 41, 85 * 60 + 41 + 6 * HOUR
    assert query(low, high, "sum", interval="range") == query(low, high, "sum") == {("a", low): 1 + 2 + 3}
    assert query(low, high, "sum", interval=DAY) == {("a", 0): 1 + 2 + 3}
    assert query(low, high, "sum", interval=7 * HOUR, fill=0.0).keys() == {
        ("a", time) for time in week_edges(low, high)
    }


def week_edges(low, high):
    """Return the multiples of 7 hours since Monday that a range touches."""
    monday = (to_microseconds(datetime(2026, 3, 23, tzinfo=UTC)) - LOW) // SECOND
    edges = [monday + number * 7 * HOUR for number in range(60)]
    return [edge for edge in edges if edge + 7 * HOUR > low and edge < high]


# --- ranges that end now ------------------------------------------------------------------------------


@pytest.fixture
def minutes(admin):
    """130 points a minute apart, the newest 4.5 minutes ahead of now; yield the client and their times."""
    now = datetime.now(UTC)
    times = [now + timedelta(minutes=4, seconds=30) - timedelta(minutes=number) for number in range(130)]
    points = [
        point("temperature", float(number)) | {"timestamp": time.isoformat()} for number, time in enumerate(times)
    ]
    send_points(admin, points)
    return admin, times


def times_of(response):
    assert response.status == 200, response.raw
    return {datetime.fromisoformat(row["timestamp"]) for row in response.json["data_points"]}


def test_named_range_is_the_time_before_now_and_points_ahead_of_now(minutes):
    caller, times = minutes
    before = datetime.now(UTC)
    response = caller.get(f"{RANGE}?time_range=1h")
    after = datetime.now(UTC)
    start, end = (datetime.fromisoformat(response.json[name]) for name in ("start_time", "end_time"))
    assert before - timedelta(hours=1) <= start <= after - timedelta(hours=1)
    assert end - start == timedelta(hours=1, minutes=5)
    assert times_of(response) == {time for time in times if start <= time < end}
    assert response.json["count"] == 65
    ended = times[20].isoformat().replace("+", "%2B")
    assert caller.get(f"{RANGE}?time_range=1h&end_time={ended}").json["count"] == 60


@pytest.mark.parametrize(
    "parameters", ["time_range=1h", "start_time={start}", "time_range=1h&aggregation=avg&interval=60"]
)
def test_next_cursor_of_a_range_up_to_now_continues_with_the_same_parameters(minutes, parameters):
    caller, times = minutes
    query = parameters.format(start=(times[0] - timedelta(hours=1)).isoformat().replace("+", "%2B"))
    first = caller.get(f"{RANGE}?{query}&limit=20")
    pages, cursor = [first], first.json["next_cursor"]
    while cursor is not None:
        pages.append(caller.get(f"{RANGE}?{query}&limit=20&cursor={cursor}"))
        assert pages[-1].status == 200, pages[-1].raw
        cursor = pages[-1].json["next_cursor"]
    found = [row["timestamp"] for page in pages for row in page.json["data_points"]]
    assert len(found) == len(set(found)) and found == sorted(found) and 60 <= len(found) <= 66
    assert len({(page.json["start_time"], page.json["end_time"]) for page in pages}) == 1
    other = caller.get(f"{RANGE}?{query.replace('1h', '6h')}&limit=20&cursor={first.json['next_cursor']}&max_points=99")
    assert other.status == 422 and other.json["errors"][0]["field"] == "cursor"


def test_empty_response_repeats_the_interval(admin):
    times = {"start_time": "2026-01-01T00:00:00Z", "end_time": "2026-01-02T00:00:00Z"}
    body = {"metrics": ["nothing"], "aggregation": "avg", **times}
    assert admin.post("query", body | {"interval": 3600}).json["interval"] == 3600
    assert admin.post("query", body | {"interval": "auto"}).json["interval"] == 300
    query = "&".join(f"{name}={value}" for name, value in times.items())
    response = admin.get(f"aggregated?metric_name=nothing&aggregation_type=avg&interval=60&{query}")
    assert (response.json["interval"], response.json["data_points"]) == (60, [])


def test_interval_range_is_one_value_in_every_query(minutes):
    caller, times = minutes
    start, end = ((times[number] + timedelta(seconds=1)).isoformat() for number in (100, 40))
    values = [float(number) for number in range(40, 100)]
    expected = sum(values) / len(values)
    body = {"metrics": ["temperature"], "devices": ["device_001"], "start_time": start, "end_time": end}
    bodies = [body | {"aggregation": "avg"} | more for more in ({}, {"interval": "range"}, {"interval": None})]
    responses = [caller.post("query", body) for body in bodies]
    times = f"start_time={start}&end_time={end}&interval=range".replace("+", "%2B")
    responses.append(caller.get(f"aggregated?metric_name=temperature&aggregation_type=avg&{times}"))
    responses.append(caller.get(f"{RANGE}?aggregation=avg&{times}"))
    for response in responses:
        [row] = response.json["data_points"]
        assert (row["value"], row["count"], response.json["interval"]) == (pytest.approx(expected), 60, None)
