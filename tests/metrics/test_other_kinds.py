"""One value per device, metric and time: a value of another kind replaces the earlier value."""

import csv
import io
import itertools
import json
import random
from collections import Counter
from datetime import timedelta
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, settings
from hypothesis.stateful import run_state_machine_as_test

from metrics.query import latest as newest
from metrics.storage import series_registry
from metrics.storage.connection import connect
from metrics.storage.write.group_commit import JournalEntry, Writer, writer
from metrics.storage.write.incoming import IncomingPoints
from metrics.storage.write.other_kinds import SeriesOfOtherKinds
from tests.conftest import ApiClient
from tests.metrics.sample_day import END_TEXT, RANGE, START, START_TEXT, merge_all, point_at, send_points
from tests.metrics.stored_points import read_stored_parts
from tests.metrics.test_export import export
from tests.metrics.test_storage import DAY, EVERY_HOUR, SERIES, TODAY, StorageMachine, points_by_key, shards

__all__ = ["shards"]  # a fixture

BATCH = "devices/device_001/telemetry/batch"
VALUES: list[Any] = [1.0, "a", True, {"x": [1]}]
DAY_OF_RANGE = "start_time={start_time}&end_time={end_time}".format(
    **{name: text.replace("+", "%2B") for name, text in RANGE.items()}
)


def stored_values(caller: ApiClient) -> list[Any]:
    response = caller.get(f"devices/device_001/metrics/temperature/range?{DAY_OF_RANGE}")
    return [row["value"] for row in response.json["data_points"]] if response.status == 200 else []


def count_points(caller: ApiClient) -> int:
    return int(caller.get("devices/device_001/stats").json["data_points_count"])


def exported_values(caller: ApiClient) -> list[str]:
    rows = csv.DictReader(io.StringIO(export(caller).raw.decode(), newline=""))
    return [row["value"] for row in rows]


def check_last_value(caller: ApiClient, value: Any) -> None:
    assert stored_values(caller) == [value]
    assert caller.get("devices/device_001/metrics/temperature/latest?lookback=864000").json["value"] == value
    assert len(exported_values(caller)) == 1
    numbers = [value] if isinstance(value, float) else [float(value)] if isinstance(value, bool) else []
    body = {"devices": ["device_001"], "metrics": ["temperature"], **RANGE, "aggregation": "sum", "interval": 3600}
    response = caller.post("query", body)
    sums = [row["value"] for series in response.json.get("series", [response.json]) for row in series["data_points"]]
    assert [number for number in sums if number is not None] == numbers


@pytest.mark.slow
@pytest.mark.parametrize("values", list(itertools.permutations(VALUES, 3)), ids=str)
@pytest.mark.parametrize("merges", [0, 1, 2])
def test_last_kind_of_value_wins_over_several_requests(admin: ApiClient, values: tuple[Any, ...], merges: int) -> None:
    for value in values:
        send_points(admin, [point_at(5, value=value)])
        if merges == 2:
            merge_all()
    if merges == 1:
        merge_all()
    check_last_value(admin, values[-1])
    assert count_points(admin) == 1
    merge_all()
    check_last_value(admin, values[-1])
    assert count_points(admin) == 1


@pytest.mark.slow
@pytest.mark.parametrize("values", list(itertools.permutations(VALUES, 3)), ids=str)
def test_last_kind_of_value_wins_within_a_request(admin: ApiClient, values: tuple[Any, ...]) -> None:
    for _ in range(2):  # the second request finds the series of all kinds
        send_points(admin, [point_at(5, value=value) for value in values])
        check_last_value(admin, values[-1])
        assert count_points(admin) == 1


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(4))
def test_any_order_of_kinds_and_merges_equals_a_dictionary(admin: ApiClient, seed: int) -> None:
    rng = random.Random(seed)
    oracle: dict[int, Any] = {}
    for _ in range(25):
        points = [(rng.randrange(12) * 600, rng.choice([*VALUES, 2.5, False, "b"])) for _ in range(rng.randrange(1, 9))]
        send_points(admin, [point_at(second, value=value) for second, value in points])
        oracle |= dict(points)
        if rng.random() < 0.3:
            merge_all()
            assert count_points(admin) == len(oracle)
        expected = [oracle[second] for second in sorted(oracle)]
        assert stored_values(admin) == expected
        assert admin.get("devices/device_001/metrics/temperature/latest?lookback=864000").json["value"] == expected[-1]
        cells = [
            json.dumps(value, separators=(",", ":")) if not isinstance(value, str) else value for value in expected
        ]
        assert exported_values(admin) == cells
        by_hour: dict[str, list[float]] = {}
        counts: Counter[str] = Counter()  # of values of any kind
        for second, value in oracle.items():
            hour = (START + timedelta(seconds=second // 3600 * 3600)).isoformat().replace("+00:00", "Z")
            counts[hour] += 1
            if isinstance(value, float | bool):
                by_hour.setdefault(hour, []).append(float(value))
        if not by_hour:
            continue
        for aggregation, function in (("sum", sum), ("count", len), ("max", max), ("median", np.median)):
            body = {"devices": ["device_001"], "metrics": ["temperature"], "start_time": START_TEXT}
            response = admin.post("query", body | {"end_time": END_TEXT, "aggregation": aggregation, "interval": 3600})
            rows = (response.json.get("series") or [response.json])[0]["data_points"]
            expected_rows = counts if function is len else {hour: function(values) for hour, values in by_hour.items()}
            assert {row["timestamp"]: row["value"] for row in rows if row["value"] is not None} == expected_rows


def test_writer_that_does_not_know_a_new_kind_replaces_its_values(admin: ApiClient) -> None:
    send_points(admin, [point_at(5, value=1.0)])
    other_process = Writer()
    other_process.start()
    try:
        [[number]] = series_of_kinds()
        time = int((START + timedelta(seconds=5)).timestamp() * 1_000_000)

        def write_number(value: float) -> None:
            incoming = IncomingPoints([number], [time], [value])
            other_process.submit([incoming], JournalEntry("other", 0.0, 1), series_revision=revision)

        revision = series_registry.cached_registry().revision
        write_number(2.0)
        send_points(admin, [point_at(5, value="a")])  # creates the series of texts
        assert stored_values(admin) == ["a"]
        write_number(3.0)
        assert stored_values(admin) == [3.0]
        send_points(admin, [point_at(5, value="b")])
        assert stored_values(admin) == ["b"]
    finally:
        other_process.stop()


def series_of_kinds() -> list[tuple[int, ...]]:
    with connect() as connection:
        return connection.execute("SELECT id FROM metrics_series ORDER BY kind").fetchall()


def test_points_without_other_kinds_stay_as_they_are() -> None:
    known = SeriesOfOtherKinds(1, [(1, "m", 10, 0), (1, "m", 11, 2)])
    arrivals = [IncomingPoints([1, 2], [5, 5], [1.0, 2.0])]
    assert known.remove_replaced(arrivals)[0] is arrivals[0]
    assert SeriesOfOtherKinds().remove_replaced(arrivals) is arrivals


# --- the storage state machine with a metric of three kinds -----------------------------------------

NUMBER, SWITCH, TEXT, OTHER = SERIES[0], SERIES[1], SERIES[3], SERIES[2]
KINDS = {NUMBER: 0, SWITCH: 1, TEXT: 2}


def as_answered(series: int, value: Any) -> Any:
    """Return a stored value as the API answers it: the state machine also writes other numbers to the booleans."""
    if series == SWITCH:
        return bool(value)
    return value.decode() if isinstance(value, bytes) else value


class KindsMachine(StorageMachine):
    """Three of the series are kinds of value of one metric: each write replaces the others at its time."""

    def __init__(self) -> None:
        super().__init__()
        self.connection.execute("INSERT INTO metrics_device VALUES (1, 'd', '', NULL, now()) ON CONFLICT DO NOTHING")
        for series, kind in [*KINDS.items(), (OTHER, 0)]:
            metric = "m" if series in KINDS else "other"
            self.connection.execute(
                "INSERT INTO metrics_series (id, metric_name, kind, device_id, has_other_kinds)"
                " VALUES (%s, %s, %s, 1, %s) ON CONFLICT DO NOTHING",
                (series, metric, kind, series in KINDS),
            )
        self.connection.execute("UPDATE metrics_head SET other_kinds_revision = other_kinds_revision + 1")

    def _write(self, rows: list[tuple[int, int, float, bytes]]) -> None:
        arrivals = []
        for series, time, value, entry in rows:
            content: Any = np.array([value])
            if series == TEXT:
                content = np.array([repr(value).encode()], object)
            contexts = np.ones(1, np.int32)
            arrivals.append(IncomingPoints(np.array([series]), np.array([time]), content, contexts, [b"", entry]))
            if series in KINDS:
                for other in KINDS:
                    self.model.pop((other, time), None)
            self.model[series, time] = (content[0], entry)
        writer().submit(arrivals, JournalEntry("test", 0.0, len(rows)))

    def check(self) -> None:
        assert points_by_key(read_stored_parts(SERIES, TODAY - 4 * DAY, TODAY + 3 * DAY)) == self.model
        points = {row.metric_name: row for row in newest.read_latest_points(["d"], None, newest.MAX_LOOKBACK).points}
        expected: dict[str, tuple[int, object]] = {}
        for (series, time), (value, _) in self.model.items():
            metric = "m" if series in KINDS else "other"
            if metric not in expected or expected[metric][0] < time:
                expected[metric] = (time, as_answered(series, value))
        assert {
            name: (round(row.timestamp.timestamp() * 1_000_000), row.value) for name, row in points.items()
        } == expected


@pytest.mark.slow
def test_reads_counts_and_latest_match_the_model_with_several_kinds(
    shards: int, site: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("metrics.storage.merge.point_counts.HOURLY_RETENTION", EVERY_HOUR)
    run_state_machine_as_test(
        KindsMachine,
        settings=settings(
            max_examples=12, stateful_step_count=20, deadline=None, suppress_health_check=list(HealthCheck)
        ),
    )
