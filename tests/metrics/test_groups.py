"""Device groups: what is asked of a group is what is asked of the devices in it."""

from datetime import UTC, datetime, timedelta

import psycopg
import pytest
from django.contrib.auth import get_user_model
from django.test import Client
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from metrics import query
from metrics.models import Device, DeviceGroup, Series
from metrics.questions.asking import ask
from metrics.questions.question import Question
from metrics.storage import merge, read
from metrics.storage.codec import Kind
from metrics.storage.connection import connect
from tests.conftest import point
from tests.metrics.test_storage import store

START = (datetime.now(UTC) - timedelta(days=3)).replace(hour=0, minute=0, second=0, microsecond=0)
LOW = query.microseconds(START)
DEVICES = [f"d{number}" for number in range(6)]
GROUPS = ["east", "north", "west"]
MINUTE = 60_000_000


def fleet(devices: int) -> dict[str, int]:
    """That many devices with a series and ten points each, half of them merged; device to series."""
    made = Device.objects.bulk_create(Device(device_id=f"d{number}") for number in range(devices))
    series = Series.objects.bulk_create(Series(device=one, metric_name="m", kind=Kind.NUMERIC) for one in made)
    for half in (range(5), range(5, 10)):
        store([(one.pk, LOW + tick * MINUTE, value(one.pk, tick), b"") for one in series for tick in half])
        if half.start == 0:
            with connect() as connection:
                merge.merge_young(connection, force=True)
    return {one.device.device_id: one.pk for one in series}


def value(series: int, tick: int) -> float:
    return float(series * 100 + tick)


def group(name: str, devices: list[str]) -> DeviceGroup:
    made = DeviceGroup.objects.create(name=name)
    made.devices.set(Device.objects.filter(device_id__in=devices))
    return made


def named(names: list[str]):
    return st.one_of(st.none(), st.lists(st.sampled_from(names), unique=True))


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    members=st.fixed_dictionaries({name: st.sets(st.sampled_from(DEVICES)) for name in GROUPS}),
    devices=named([*DEVICES, "nobody"]),
    groups=named([*GROUPS, "nowhere"]),
    aggregation=st.sampled_from([None, "sum", "count"]),
)
def test_any_question_of_groups_and_devices_equals_plain_python(site, members, devices, groups, aggregation):
    if not Device.objects.exists():
        fleet(len(DEVICES))
    series = dict(Series.objects.values_list("device__device_id", "pk"))
    DeviceGroup.objects.all().delete()
    for name, some in members.items():
        group(name, sorted(some))
    wanted = [
        device
        for device in DEVICES
        if (devices is None or device in devices)
        and (groups is None or any(device in members.get(name, ()) for name in groups))
    ]
    asked = Question(
        metrics=("m",),
        start=START,
        end=START + timedelta(minutes=10),
        devices=None if devices is None else tuple(devices),
        groups=None if groups is None else tuple(groups),
        aggregation=aggregation,
        group_by="all" if aggregation else "series",
    )
    points = {(device, tick): value(series[device], tick) for device in wanted for tick in range(10)}
    answer = ask(asked)
    if aggregation is None:
        found = {
            (one.label[0], (time - LOW) // MINUTE): number
            for one in answer.groups
            for time, number in zip(one.times, one.values, strict=True)
        }
        assert found == points
    else:
        expected = [sum(points.values()) if aggregation == "sum" else len(points)] if points else []
        assert [number for one in answer.groups for number in one.values] == expected
    newest = query.latest(devices, ["m"], now=START + timedelta(hours=1), groups=groups)
    assert {one.device_id: one.value for one in newest} == {device: points[device, 9] for device in wanted}


# --- over HTTP ---------------------------------------------------------------------------------------

RANGE = {"start_time": START.isoformat(), "end_time": (START + timedelta(hours=1)).isoformat()}
ASKED = {"metrics": ["m"], "aggregation": "count", "group_by": "all", **RANGE}


@pytest.fixture
def grouped(admin):
    """Six devices, the first two of them east, the second and third west."""
    fleet(6)
    group("east", ["d0", "d1"])
    group("west", ["d1", "d2"])
    return admin


def counted(answer) -> int:
    assert answer.status == 200, answer.raw
    return sum(one["value"] for one in answer.json["data_points"])


@pytest.mark.parametrize("word", ["groups", "device_groups"])
def test_a_query_is_filtered_by_group_under_either_name(grouped, word):
    assert counted(grouped.post("query", ASKED)) == 60
    assert counted(grouped.post("query", ASKED | {"filters": {word: ["east"]}})) == 20
    assert counted(grouped.post("query", ASKED | {"filters": {word: ["east", "west", "nowhere"]}})) == 30
    assert counted(grouped.post("query", ASKED | {"filters": {word: ["east"]}, "devices": ["d1", "d2"]})) == 10
    assert counted(grouped.post("query", ASKED | {"filters": {word: None}})) == 60


def test_an_unknown_group_gives_an_empty_answer(grouped):
    assert counted(grouped.post("query", ASKED | {"filters": {"groups": ["nowhere"]}})) == 0
    assert grouped.post("latest", {"groups": ["nowhere"], "lookback": 10**8}).json == {"series": []}


def test_aggregated_and_latest_take_groups_too(grouped):
    times = "&".join(f"{name}={text}".replace("+", "%2B") for name, text in RANGE.items())
    asked = f"aggregated?metric_name=m&aggregation_type=count&interval=3600&{times}"
    assert counted(grouped.get(f"{asked}&groups=east&groups=west")) == 30
    assert counted(grouped.get(f"{asked}&groups=east&device_id=d1")) == 10
    grouped.post("devices/d0/telemetry", point("level", 7.0))
    grouped.post("devices/d5/telemetry", point("level", 8.0))
    newest = grouped.post("latest", {"groups": ["east"], "metrics": ["level"]}).json["series"]
    assert [(one["device_id"], one["value"]) for one in newest] == [("d0", 7)]


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
def test_groups_that_are_no_names_are_refused_with_the_field(grouped, filters, field):
    answer = grouped.post("query", ASKED | {"filters": filters})
    assert answer.status == 400, answer.raw
    assert [one["field"] for one in answer.json["errors"]] == [field]


def test_a_cursor_belongs_to_its_groups(grouped):
    asked = {"metrics": ["m"], "limit": 5, **RANGE}
    cursor = grouped.post("query", asked | {"filters": {"groups": ["east"]}}).json["next_cursor"]
    other = grouped.post("query", asked | {"filters": {"groups": ["west"]}, "cursor": cursor})
    assert (other.status, other.json["errors"][0]["field"]) == (422, "cursor")


def test_a_group_costs_as_many_statements_with_five_devices_as_with_two_hundred(site, monkeypatch):
    statements = []
    execute = psycopg.Cursor.execute

    def counting(cursor, statement, *given, **how):
        statements.append(statement)
        return execute(cursor, statement, *given, **how)

    monkeypatch.setattr(psycopg.Cursor, "execute", counting)
    fleet(200)
    group("few", [f"d{number}" for number in range(5)])
    group("many", [f"d{number}" for number in range(200)])
    costs = []
    for name in ("few", "many"):
        read.forget()
        statements.clear()
        end = START + timedelta(hours=1)
        assert ask(Question(("m",), START, end, groups=(name,), aggregation="avg", group_by="device")).groups
        assert query.latest(None, None, now=end, groups=[name])
        costs.append(len(statements))
    assert costs[0] == costs[1] <= 12


# --- in the admin ------------------------------------------------------------------------------------


@pytest.fixture
def browser(site) -> Client:
    client = Client()
    client.force_login(get_user_model().objects.create_superuser("boss"))
    return client


def test_selected_devices_are_added_to_a_group_and_found_by_it(browser):
    Device.objects.bulk_create(Device(device_id=f"d{number}") for number in range(150))
    made = group("east", ["d3"])
    everything = {"action": "add_to_group", "select_across": "1", "group": made.pk, "_selected_action": ["1"]}
    page = browser.post("/admin/metrics/device/?q=d1", everything, follow=True).content.decode()
    assert "61 devices are in east now" in page
    assert made.devices.count() == 62
    again = browser.post("/admin/metrics/device/?q=d1", everything, follow=True)
    assert again.status_code == 200 and made.devices.count() == 62
    listed = browser.get(f"/admin/metrics/device/?groups__id__exact={made.pk}").context["cl"]
    assert listed.result_count == 62


def test_without_a_group_nothing_is_added(browser):
    made = Device.objects.create(device_id="d")
    sent = {"action": "add_to_group", "_selected_action": [made.pk]}
    assert "Choose the group" in browser.post("/admin/metrics/device/", sent, follow=True).content.decode()


def test_the_list_of_groups_counts_devices_with_as_many_statements_for_one_group_as_for_twenty(
    browser, django_assert_max_num_queries
):
    Device.objects.bulk_create(Device(device_id=f"d{number}") for number in range(30))
    for number in range(20):
        group(f"g{number:02}", [f"d{one}" for one in range(number)])
    with django_assert_max_num_queries(6):
        listed = browser.get("/admin/metrics/devicegroup/?q=g").context["cl"]
    assert [one.counted for one in listed.result_list] == list(range(20))


def test_deleting_a_group_asks_about_the_group_alone_and_leaves_the_devices(browser, django_assert_max_num_queries):
    Device.objects.bulk_create(Device(device_id=f"d{number}") for number in range(300))
    made = group("east", [f"d{number}" for number in range(300)])
    with django_assert_max_num_queries(6):
        page = browser.get(f"/admin/metrics/devicegroup/{made.pk}/delete/").content
    assert len(page) < 12_000
    browser.post(f"/admin/metrics/devicegroup/{made.pk}/delete/", {"post": "yes"})
    assert not DeviceGroup.objects.exists() and Device.objects.count() == 300


def test_a_device_is_put_into_groups_on_its_own_page(browser):
    made = Device.objects.create(device_id="d")
    east = group("east", [])
    browser.post(f"/admin/metrics/device/{made.pk}/change/", {"name": "", "groups": [east.pk]})
    assert list(made.groups.all()) == [east]
    assert browser.get("/admin/metrics/devicegroup/add/").status_code == 200
