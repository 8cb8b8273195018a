"""Devices over REST: what is known of them, who sees and who changes them."""

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.db import connections
from django.test.utils import CaptureQueriesContext

from metrics.devices import group_membership
from metrics.models import Deletion, Device, DeviceGroup
from rest.caller import Caller, Scope
from rest.resources import LIST
from tests.conftest import ApiClient, point

PRESS: dict[str, Any] = {
    "device_id": "press-1",
    "name": "Press 1",
    "device_type": "press",
    "description": "The old one",
    "location": "Hall 3",
    "latitude": 52.52,
    "longitude": -13.4,
    "expected_interval": 10,
    "tags": {"line": "2"},
    "metadata": {"bought": {"year": 1998}},
    "groups": ["site a"],
}


@pytest.fixture
def press(admin: ApiClient) -> ApiClient:
    """The device `press-1` in `site a`."""
    DeviceGroup.objects.get_or_create(name="site a")
    answer = admin.post("devices", PRESS)
    assert answer.status == 201, answer.raw
    return admin


def test_create_stores_every_field(press: ApiClient):
    answer = press.get("devices/press-1")
    assert {name: answer.json[name] for name in PRESS} == PRESS
    assert answer.json["last_seen"] is None and answer.json["created_at"] <= answer.json["updated_at"]
    assert press.get("/api/v1/devices/press-1").json == answer.json


def test_create_requires_only_the_id(admin: ApiClient):
    answer = admin.post("devices", {"device_id": "bare"})
    assert answer.status == 201
    assert answer.json["tags"] == {} and answer.json["groups"] == [] and answer.json["latitude"] is None


def test_device_created_by_its_first_point_has_last_seen(admin: ApiClient):
    admin.post("bulk", {"hall/1/press": [point(seconds_ago=60), point("load", seconds_ago=5)]})
    answer = admin.get("devices/hall/1/press")
    assert answer.status == 200 and answer.json["name"] == "" and answer.json["tags"] == {}
    age = datetime.now(UTC) - datetime.fromisoformat(answer.json["last_seen"])
    assert timedelta(seconds=4) < age < timedelta(seconds=40)


def test_concurrent_creates_of_one_id_succeed_once(admin: ApiClient):
    with ThreadPoolExecutor(6) as pool:
        answers = list(pool.map(lambda _: admin.post("devices", {"device_id": "one"}), range(6)))
    assert sorted(answer.status for answer in answers) == [201] + [400] * 5
    refused = next(answer for answer in answers if answer.status == 400)
    assert refused.json["errors"] == [{"field": "device_id", "detail": "a device with this ID already exists"}]


@pytest.mark.parametrize(
    ("change", "field", "accepted"),
    [
        ({"device_id": ""}, "device_id", "blank"),
        ({"device_id": "   "}, "device_id", "blank"),
        ({"device_id": "a\tb"}, "device_id", "control characters"),
        ({"device_id": "nul\0"}, "device_id", "control characters"),
        ({"device_id": "x" * 201}, "device_id", "200"),
        ({"device_id": ["a"]}, "device_id", "string"),
        ({"device_id": None}, "device_id", "null"),
        ({"name": "x" * 201}, "name", "200"),
        ({"name": "a\nb"}, "name", "control characters"),
        ({"device_type": ["a"]}, "device_type", "string"),
        ({"description": "\0"}, "description", "ull"),
        ({"location": {}}, "location", "string"),
        ({"latitude": 91}, "latitude", "90"),
        ({"latitude": "north"}, "latitude", "number"),
        ({"latitude": None}, "latitude", "together"),
        ({"longitude": -180.5}, "longitude", "-180"),
        ({"longitude": None}, "longitude", "together"),
        ({"expected_interval": 0}, "expected_interval", "1"),
        ({"expected_interval": 10**9}, "expected_interval", "31622400"),
        ({"expected_interval": "often"}, "expected_interval", "integer"),
        ({"tags": ["a"]}, "tags", "dictionary"),
        ({"tags": {"a": {}}}, "tags.a", "string"),
        ({"tags": {"a": "x\0"}}, "tags.a", "control characters"),
        ({"tags": {"a:b": "x"}}, "tags.a:b", "colon"),
        ({"tags": {"": "x"}}, "tags.", "1 to 200"),
        ({"tags": {str(n): "x" for n in range(101)}}, "tags", "100"),
        ({"metadata": "text"}, "metadata", "dictionary"),
        ({"metadata": {"a": ["\0"]}}, "metadata", "NUL"),
        ({"metadata": {"a": "x" * 20_000}}, "metadata", "16,384"),
        ({"groups": ["site b"]}, "groups", "'site b' is not known"),
        ({"groups": "site a"}, "groups", "list"),
        ({"colour": "red"}, "colour", "not a known field"),
    ],
)
def test_invalid_device_is_rejected_with_the_field_and_accepted_values(admin: ApiClient, change, field, accepted):
    DeviceGroup.objects.get_or_create(name="site a")
    answer = admin.post("devices", PRESS | change)
    assert answer.status == 400
    assert any(error["field"] == field and accepted in error["detail"] for error in answer.json["errors"]), answer.json
    assert not Device.objects.exists()


@pytest.mark.parametrize("body", [b"[]", b"1", b"{", b"null"])
def test_body_other_than_object_is_rejected(press: ApiClient, body: bytes):
    assert press.post("devices", body).status == 400
    assert press.call("PATCH", "devices/press-1", body).status == 400


def test_list_is_sorted_by_id_with_filters_and_pages(press: ApiClient):
    for number in range(5):
        kind = "oven" if number % 2 else "press"
        press.post(
            "devices",
            {"device_id": f"d{number}", "name": f"Oven {number}", "device_type": kind, "tags": {"n": str(number)}},
        )

    def listed(query: str) -> list[str]:
        return [one["device_id"] for one in press.get(f"devices?{query}").json["devices"]]

    answer = press.get("devices?limit=2&offset=1").json
    assert [one["device_id"] for one in answer["devices"]] == ["d1", "d2"]
    assert (answer["count"], answer["total"], answer["limit"], answer["offset"]) == (2, 6, 2, 1)
    assert answer["filters"] == {"search": None, "group": None, "device_type": None, "tag": None}
    assert listed("search=D3") == ["d3"] and listed("search=oven%202") == ["d2"] and listed("search=ven") == []
    assert listed("search=%25") == []  # no pattern
    assert listed("device_type=oven") == ["d1", "d3"]
    assert listed("group=site%20a") == ["press-1"] and listed("group=nothing") == []
    assert listed("tag=line:2") == ["press-1"] and listed("tag=line:3") == []


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("limit=0", "limit"),
        ("offset=-1", "offset"),
        ("search=%00", "search"),
        ("tag=line", "tag"),
        ("group=%00", "group"),
    ],
)
def test_invalid_list_parameter_is_rejected(admin: ApiClient, query: str, field: str):
    answer = admin.get(f"devices?{query}")
    assert answer.status == 400 and answer.json["errors"][0]["field"] == field


def test_omitted_fields_keep_their_values(press: ApiClient):
    answer = press.call("PATCH", "devices/press-1", {"name": "Press One", "latitude": None, "longitude": None})
    assert answer.status == 200, answer.raw
    expected = PRESS | {"name": "Press One", "latitude": None, "longitude": None}
    assert {name: answer.json[name] for name in PRESS} == expected
    lonely = press.call("PATCH", "devices/press-1", {"latitude": 5})
    assert lonely.status == 400 and lonely.json["errors"][0]["field"] == "longitude"


def test_changed_id_is_rejected(press: ApiClient):
    answer = press.call("PATCH", "devices/press-1", {"device_id": "other"})
    assert answer.status == 400 and "cannot be changed" in answer.json["detail"]
    assert press.call("PATCH", "devices/press-1", {"device_id": "press-1", "name": "x"}).json["name"] == "x"


def test_change_with_outdated_etag_is_rejected_with_412(press: ApiClient):
    tag = press.get("devices/press-1").headers["ETag"]
    assert press.call("PATCH", "devices/press-1", {"name": "a"}, If_Match=tag).status == 200
    late = press.call("PATCH", "devices/press-1", {"name": "b"}, If_Match=tag)
    assert late.status == 412 and "read it again" in late.json["detail"]
    assert press.call("DELETE", "devices/press-1", If_Match=tag).status == 412
    tag = press.get("devices/press-1").headers["ETag"]
    other, _ = DeviceGroup.objects.get_or_create(name="site b")
    group_membership.add_devices(other, Device.objects.values_list("pk", flat=True))  # by the form of the group
    assert press.call("PATCH", "devices/press-1", {"groups": []}, If_Match=tag).status == 412
    tag = press.get("devices/press-1").headers["ETag"]
    press.post("devices/press-1/telemetry", point())  # what it sends is nothing that was set up
    assert press.call("PATCH", "devices/press-1", {"groups": []}, If_Match=tag).json["groups"] == []


def test_paths_of_points_take_precedence_over_device_ids(press: ApiClient):
    press.post("devices/press-1/telemetry", point())
    assert press.get("devices/press-1/metrics").json == ["temperature"]
    assert press.get("devices/press-1/metrics/temperature/latest").json["value"] == 25.5
    assert press.get("devices/press-1/telemetry").status == 405
    press.post("devices", {"device_id": "devices.csv"})
    assert press.get("devices/devices.csv").json["device_id"] == "devices.csv"


def test_delete_returns_a_deletion_with_progress(press: ApiClient):
    answer = press.call("DELETE", "devices/press-1")
    assert answer.status == 202 and answer.json["status"] == "queued" and answer.json["device_id"] == "press-1"
    number = answer.json["deletion_id"]
    assert press.get("devices/press-1").status == 404
    assert press.get("devices").json["total"] == 0
    assert press.call("DELETE", "devices/press-1").json["deletion_id"] == number
    assert press.get(f"deletions/{number}").json == answer.json
    assert [one["deletion_id"] for one in press.get("deletions").json["deletions"]] == [number]
    Deletion.objects.update(status="done")
    assert press.call("DELETE", "devices/press-1").status == 404
    assert press.get("deletions/nothing").status == 404


@pytest.mark.parametrize("path", ["devices/nothing", "devices/a%00b", "devices/press-1%00"])
def test_unknown_device_returns_404_for_every_method(press: ApiClient, path: str):
    assert press.get(path).status == press.call("PATCH", path, {"name": "x"}).status == 404
    assert press.call("DELETE", path).status == 404
    assert Device.objects.count() == 1


def test_device_of_another_group_returns_404(
    press: ApiClient, viewer: ApiClient, operator: ApiClient, stranger: ApiClient
):
    press.post("devices", {"device_id": "hidden"})
    assert [one["device_id"] for one in viewer.get("devices").json["devices"]] == ["press-1"]
    assert viewer.get("devices").json["total"] == 1
    assert stranger.get("devices").json["devices"] == [] and stranger.get("devices").json["total"] == 0
    for caller, path in ((viewer, "devices/hidden"), (stranger, "devices/press-1"), (operator, "devices/hidden")):
        told = {"detail": "", "request_id": ""}  # which differ in any case
        assert caller.get(path).json | told == caller.get("devices/nothing").json | told
    assert operator.call("PATCH", "devices/hidden", {"name": "x"}).status == 404
    assert viewer.get("devices?group=site%20b").json["devices"] == []


def test_invisible_groups_are_hidden_and_kept(press: ApiClient, operator: ApiClient):
    DeviceGroup.objects.get_or_create(name="site b")
    assert press.call("PATCH", "devices/press-1", {"groups": ["site a", "site b"]}).json["groups"] == [
        "site a",
        "site b",
    ]
    assert operator.get("devices/press-1").json["groups"] == ["site a"]
    refused = operator.call("PATCH", "devices/press-1", {"groups": ["site b"]})
    assert refused.status == 400 and "'site b' is not known" in refused.json["detail"]
    assert operator.call("PATCH", "devices/press-1", {"groups": ["site a"]}).json["groups"] == ["site a"]
    assert press.get("devices/press-1").json["groups"] == ["site a", "site b"]
    assert operator.call("PATCH", "devices/press-1", {"groups": []}).status == 200  # and with that out of sight
    assert press.get("devices/press-1").json["groups"] == ["site b"]


def test_reading_changing_and_creating_need_their_scopes(
    press: ApiClient,
    reader: ApiClient,
    gateway: ApiClient,
    anonymous: ApiClient,
    operator: ApiClient,
    viewer: ApiClient,
):
    assert reader.get("devices").status == reader.get("devices/press-1").status == 200
    assert gateway.get("devices").status == gateway.get("devices/press-1").status == 403
    assert operator.call("PATCH", "devices/press-1", {"name": "x"}).status == 200
    for caller, status in ((reader, 403), (gateway, 403), (anonymous, 401), (viewer, 403)):
        assert caller.call("PATCH", "devices/press-1", {"name": "x"}).status == status
    for caller, status in ((reader, 403), (gateway, 403), (anonymous, 401), (viewer, 403), (operator, 403)):
        assert caller.post("devices", {"device_id": "x"}).status == status
        assert caller.call("DELETE", "devices/press-1").status == status


def test_device_key_reads_only_its_device(device: ApiClient, press: ApiClient):
    answer = device.get("devices/device_001")
    assert answer.status == 200 and answer.json["groups"] == []
    assert device.get("devices/press-1").status == 403
    assert device.get("devices").status == 403
    assert device.call("PATCH", "devices/device_001", {"name": "x"}).status == 403


def statements(caller: Caller, path: str, view: Any, **named: str) -> int:
    from rest_framework.test import APIRequestFactory, force_authenticate

    request = APIRequestFactory().get(path)
    force_authenticate(request, caller)
    with CaptureQueriesContext(connections["default"]) as found:
        assert view.as_view(LIST)(request, **named).status_code == 200
    return len(found)


def test_list_statements_do_not_grow_with_devices(site):
    from metrics.api.devices import DeviceResource
    from metrics.api.groups import GroupDeviceResource, GroupResource

    caller = Caller("user:viewer", Scope.READ, groups=("g0", "g1"))
    groups = [DeviceGroup.objects.create(name=f"g{number}") for number in range(2)]
    counts = []
    for low, high in ((0, 1), (1, 100)):
        made = Device.objects.bulk_create(Device(device_id=f"d{number}") for number in range(low, high))
        for group in groups:
            group_membership.add_devices(group, [device.pk for device in made])
        counts.append(
            (
                statements(caller, "/devices", DeviceResource),
                statements(caller, "/groups/g0/devices", GroupDeviceResource, name="g0"),
                statements(caller, "/groups", GroupResource),
            )
        )
    assert counts[0] == counts[1] == (4, 7, 4)
