"""Queries by device group return the points of its devices."""

import threading
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import numpy as np
import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from metrics.models import Device, DeviceGroup, Series
from metrics.query import latest
from metrics.query.execute import execute_query
from metrics.query.query import Query
from metrics.storage.connection import connect
from metrics.storage.format.codec import Kind
from metrics.storage.merge import schedule
from metrics.storage.read import block_cache
from metrics.storage.units import to_microseconds
from tests.conftest import point
from tests.metrics.test_storage import store_points

START = (datetime.now(UTC) - timedelta(days=3)).replace(hour=0, minute=0, second=0, microsecond=0)
LOW = to_microseconds(START)
DEVICES = [f"d{number}" for number in range(6)]
GROUPS = ["east", "north", "west"]
MINUTE = 60_000_000


def create_devices(devices: int) -> dict[str, int]:
    """Create devices with one series and ten points each, half of them merged; return the series by device."""
    rows = Device.objects.bulk_create(Device(device_id=f"d{number}") for number in range(devices))
    series = Series.objects.bulk_create(
        Series(device=series_row, metric_name="m", kind=Kind.NUMERIC) for series_row in rows
    )
    for half in (range(5), range(5, 10)):
        store_points(
            [
                (series_row.pk, LOW + tick * MINUTE, value_at(series_row.pk, tick), b"")
                for series_row in series
                for tick in half
            ]
        )
        if half.start == 0:
            with connect() as connection:
                schedule.merge_commits(connection, force=True)
    return {series_row.device.device_id: series_row.pk for series_row in series}


def value_at(series: int, tick: int) -> float:
    return float(series * 100 + tick)


def create_group(name: str, devices: list[str]) -> DeviceGroup:
    group = DeviceGroup.objects.create(name=name)
    group.devices.set(Device.objects.filter(device_id__in=devices))
    return group


def optional_names(names: list[str]):
    return st.one_of(st.none(), st.lists(st.sampled_from(names), unique=True))


def set_members(members: dict[str, set[str]]) -> dict[str, int]:
    """Set the members of the groups; return the series by device."""
    if not Device.objects.exists():
        create_devices(len(DEVICES))
    DeviceGroup.objects.all().delete()
    for name, device_ids in members.items():
        create_group(name, sorted(device_ids))
    return dict(Series.objects.values_list("device__device_id", "pk"))


@pytest.mark.slow
@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    members=st.fixed_dictionaries({name: st.sets(st.sampled_from(DEVICES)) for name in GROUPS}),
    devices=optional_names([*DEVICES, "nobody"]),
    groups=optional_names([*GROUPS, "nowhere"]),
    aggregation=st.sampled_from([None, "sum", "count"]),
)
def test_query_by_groups_and_devices_matches_plain_python(site, members, devices, groups, aggregation):
    series = set_members(members)
    selected = [
        device
        for device in DEVICES
        if (devices is None or device in devices)
        and (groups is None or any(device in members.get(name, ()) for name in groups))
    ]
    query = Query(
        metrics=("m",),
        start=START,
        end=START + timedelta(minutes=10),
        devices=None if devices is None else tuple(devices),
        groups=None if groups is None else tuple(groups),
        aggregation=aggregation,
        group_by="all" if aggregation else "series",
    )
    points = {(device, tick): value_at(series[device], tick) for device in selected for tick in range(10)}
    result = execute_query(query)
    if aggregation is None:
        returned = {
            (series_result.label[0], (time - LOW) // MINUTE): number
            for series_result in result.series
            for time, number in zip(series_result.times, series_result.values, strict=True)
        }
        assert returned == points
    else:
        expected = [sum(points.values()) if aggregation == "sum" else len(points)] if points else []
        assert [number for series_result in result.series for number in series_result.values] == expected
    newest = latest.read_latest_points(devices, ["m"], now=START + timedelta(hours=1), groups=groups).points
    assert {series_result.device_id: series_result.value for series_result in newest} == {
        device: points[device, 9] for device in selected
    }


@pytest.mark.slow
@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    members=st.fixed_dictionaries({name: st.sets(st.sampled_from(DEVICES)) for name in GROUPS}),
    devices=optional_names([*DEVICES, "nobody"]),
    groups=optional_names([*GROUPS, "nowhere"]),
    aggregation=st.sampled_from(["sum", "count", "max", "increase", "p50"]),
    limit=st.sampled_from([1, 10_000]),
)
def test_device_counts_in_each_of_its_groups(site, members, devices, groups, aggregation, limit):
    series = set_members(members)
    expected: dict[str | None, list[int]] = {}
    for device in DEVICES:
        device_groups = [name for name in GROUPS if device in members[name] and (groups is None or name in groups)]
        if (devices is None or device in devices) and (device_groups or groups is None):
            for name in device_groups or [None]:
                expected.setdefault(name, []).append(series[device])
    query = Query(
        ("m",), START, START + timedelta(minutes=10), None if devices is None else tuple(devices), aggregation,
        group_by="group", limit=limit, groups=None if groups is None else tuple(groups),
    )  # fmt: skip
    values_by_group = {}
    while True:
        page = execute_query(query)
        values_by_group |= {series_result.label[2]: series_result.values for series_result in page.series}
        if page.next_cursor is None:
            break
        query = replace(query, cursor=page.next_cursor)
    assert values_by_group == {
        name: [pytest.approx(expected_value(aggregation, series_ids))] for name, series_ids in expected.items()
    }
    assert list(values_by_group) == sorted(values_by_group, key=lambda name: (name is not None, name or ""))


def expected_value(aggregation: str, series: list[int]) -> float:
    values = [value_at(number, tick) for number in series for tick in range(10)]
    if aggregation == "p50":
        return float(np.percentile(values, 50))
    return {"sum": sum(values), "count": len(values), "max": max(values), "increase": 9 * len(series)}[aggregation]


# --- over HTTP ---------------------------------------------------------------------------------------

RANGE = {"start_time": START.isoformat(), "end_time": (START + timedelta(hours=1)).isoformat()}
COUNT_QUERY = {"metrics": ["m"], "aggregation": "count", "group_by": "all", **RANGE}


@pytest.fixture
def groups_east_and_west(admin):
    """Six devices: d0 and d1 in the group east, d1 and d2 in west."""
    create_devices(6)
    create_group("east", ["d0", "d1"])
    create_group("west", ["d1", "d2"])
    return admin


def total_value(response) -> int:
    assert response.status == 200, response.raw
    return sum(row["value"] for row in response.json["data_points"])


@pytest.mark.slow
@pytest.mark.parametrize("field", ["groups", "device_groups"])
def test_query_filter_accepts_groups_and_device_groups(groups_east_and_west, field):
    assert total_value(groups_east_and_west.post("query", COUNT_QUERY)) == 60
    assert total_value(groups_east_and_west.post("query", COUNT_QUERY | {"filters": {field: ["east"]}})) == 20
    assert (
        total_value(groups_east_and_west.post("query", COUNT_QUERY | {"filters": {field: ["east", "west", "nowhere"]}}))
        == 30
    )
    assert (
        total_value(
            groups_east_and_west.post("query", COUNT_QUERY | {"filters": {field: ["east"]}, "devices": ["d1", "d2"]})
        )
        == 10
    )
    assert total_value(groups_east_and_west.post("query", COUNT_QUERY | {"filters": {field: None}})) == 60


@pytest.mark.slow
def test_result_grouped_by_group_has_group_names(groups_east_and_west):
    body = groups_east_and_west.post("query", COUNT_QUERY | {"group_by": "group"}).json
    assert [(row["group"], row["data_points"][0]["value"]) for row in body["series"]] == [
        (None, 30), ("east", 20), ("west", 20),
    ]  # fmt: skip
    body = groups_east_and_west.post("query", COUNT_QUERY | {"group_by": "group", "filters": {"groups": ["west"]}}).json
    assert [(row["group"], row["device_id"], row["count"]) for row in body["series"]] == [("west", None, 1)]


def test_unknown_group_returns_empty_result(groups_east_and_west):
    assert total_value(groups_east_and_west.post("query", COUNT_QUERY | {"filters": {"groups": ["nowhere"]}})) == 0
    assert groups_east_and_west.post("latest", {"groups": ["nowhere"], "lookback": 10**8}).json == {"series": []}


@pytest.mark.slow
def test_aggregated_and_latest_accept_groups(groups_east_and_west):
    times = "&".join(f"{name}={text}".replace("+", "%2B") for name, text in RANGE.items())
    path = f"aggregated?metric_name=m&aggregation_type=count&interval=3600&{times}"
    assert total_value(groups_east_and_west.get(f"{path}&groups=east&groups=west")) == 30
    assert total_value(groups_east_and_west.get(f"{path}&groups=east&device_id=d1")) == 10
    groups_east_and_west.post("devices/d0/telemetry", point("level", 7.0))
    groups_east_and_west.post("devices/d5/telemetry", point("level", 8.0))
    newest = groups_east_and_west.post("latest", {"groups": ["east"], "metrics": ["level"]}).json["series"]
    assert [(row["device_id"], row["value"]) for row in newest] == [("d0", 7)]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("filters", "field"),
    [
        ({"groups": "east"}, "filters.groups"),
        ({"groups": [["east"]]}, "filters.groups.0"),
        ({"groups": ["a\0"]}, "filters.groups.0"),
        ({"groups": ["a" * 201]}, "filters.groups.0"),
        ({"device_groups": {"name": "east"}}, "filters.device_groups"),
        ({"groups": ["east"], "device_groups": ["west"]}, "filters.device_groups"),
    ],
)
def test_invalid_groups_are_rejected_with_their_field(groups_east_and_west, filters, field):
    response = groups_east_and_west.post("query", COUNT_QUERY | {"filters": filters})
    assert response.status == 400, response.raw
    assert [error["field"] for error in response.json["errors"]] == [field]


@pytest.mark.slow
def test_cursor_with_other_groups_is_rejected(groups_east_and_west):
    body = {"metrics": ["m"], "limit": 5, **RANGE}
    cursor = groups_east_and_west.post("query", body | {"filters": {"groups": ["east"]}}).json["next_cursor"]
    other = groups_east_and_west.post("query", body | {"filters": {"groups": ["west"]}, "cursor": cursor})
    assert (other.status, other.json["errors"][0]["field"]) == (422, "cursor")


@pytest.mark.slow
def test_group_query_statements_do_not_grow_with_devices(site, monkeypatch):
    statements = []
    execute = psycopg.Cursor.execute

    def counting_execute(cursor, statement, *args, **kwargs):
        if threading.current_thread() is threading.main_thread():  # a web process may read the revision meanwhile
            statements.append(statement)
        return execute(cursor, statement, *args, **kwargs)

    monkeypatch.setattr(psycopg.Cursor, "execute", counting_execute)
    create_devices(200)
    create_group("few", [f"d{number}" for number in range(5)])
    create_group("many", [f"d{number}" for number in range(200)])
    statement_counts = []
    for name in ("few", "few", "many"):  # the first opens connections
        block_cache.clear_block_cache()
        statements.clear()
        end = START + timedelta(hours=1)
        for group_by in ("device", "group"):
            assert execute_query(Query(("m",), START, end, groups=(name,), aggregation="avg", group_by=group_by)).series
        assert latest.read_latest_points(None, None, now=end, groups=[name]).points
        statement_counts.append(len(statements))
    assert statement_counts[1] == statement_counts[2] <= 16
