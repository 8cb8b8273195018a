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
    response = admin.post("devices", PRESS)
    assert response.status == 201, response.raw
    return admin


def test_create_stores_every_field(press: ApiClient):
    response = press.get("devices/press-1")
    assert {name: response.json[name] for name in PRESS} == PRESS
    assert response.json["last_seen"] is None and response.json["created_at"] <= response.json["updated_at"]
    assert press.get("/api/v1/devices/press-1").json == response.json


def test_create_requires_only_the_id(admin: ApiClient):
    response = admin.post("devices", {"device_id": "bare"})
    assert response.status == 201
    assert response.json["tags"] == {} and response.json["groups"] == [] and response.json["latitude"] is None


def test_device_created_by_its_first_point_has_last_seen(admin: ApiClient):
    admin.post("bulk", {"hall/1/press": [point(seconds_ago=60), point("load", seconds_ago=5)]})
    response = admin.get("devices/hall/1/press")
    assert response.status == 200 and response.json["name"] == "" and response.json["tags"] == {}
    age = datetime.now(UTC) - datetime.fromisoformat(response.json["last_seen"])
    assert timedelta(seconds=4) < age < timedelta(seconds=40)


def test_concurrent_creates_of_one_id_succeed_once(admin: ApiClient):
    with ThreadPoolExecutor(6) as pool:
        responses = list(pool.map(lambda _: admin.post("devices", {"device_id": "one"}), range(6)))
    assert sorted(response.status for response in responses) == [201] + [400] * 5
    rejected = next(response for response in responses if response.status == 400)
    assert rejected.json["errors"] == [{"field": "device_id", "detail": "a device with this ID already exists"}]


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
    response = admin.post("devices", PRESS | change)
    is_whole = any(
        text in accepted for text in ("not a known field", "together", "requires", "greater than max", "_days")
    )
    assert response.status == (422 if is_whole else 400)
    assert any(error["field"] == field and accepted in error["detail"] for error in response.json["errors"]), (
        response.json
    )
    assert not Device.objects.exists()


@pytest.mark.parametrize("body", [b"[]", b"1", b"{", b"null"])
def test_body_other_than_object_is_rejected(press: ApiClient, body: bytes):
    assert press.post("devices", body).status == 400
    assert press.call("PATCH", "devices/press-1", body).status == 400


@pytest.mark.slow
def test_list_is_sorted_by_id_with_filters_and_pages(press: ApiClient):
    for number in range(5):
        kind = "oven" if number % 2 else "press"
        press.post(
            "devices",
            {"device_id": f"d{number}", "name": f"Oven {number}", "device_type": kind, "tags": {"n": str(number)}},
        )

    def list_ids(query: str) -> list[str]:
        return [device["device_id"] for device in press.get(f"devices?{query}").json["devices"]]

    page = press.get("devices?limit=2&offset=1").json
    assert [device["device_id"] for device in page["devices"]] == ["d1", "d2"]
    assert (page["count"], page["total"], page["limit"], page["offset"]) == (2, 6, 2, 1)
    assert page["filters"] == {"search": None, "group": None, "device_type": None, "tag": None}
    assert list_ids("search=D3") == ["d3"] and list_ids("search=oven%202") == ["d2"] and list_ids("search=ven") == []
    assert list_ids("search=%25") == []  # % is not a wildcard
    assert list_ids("device_type=oven") == ["d1", "d3"]
    assert list_ids("group=site%20a") == ["press-1"] and list_ids("group=nothing") == []
    assert list_ids("tag=line:2") == ["press-1"] and list_ids("tag=line:3") == []


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
    response = admin.get(f"devices?{query}")
    assert response.status == 400 and response.json["errors"][0]["field"] == field


def test_omitted_fields_keep_their_values(press: ApiClient):
    response = press.call("PATCH", "devices/press-1", {"name": "Press One", "latitude": None, "longitude": None})
    assert response.status == 200, response.raw
    expected = PRESS | {"name": "Press One", "latitude": None, "longitude": None}
    assert {name: response.json[name] for name in PRESS} == expected
    partial = press.call("PATCH", "devices/press-1", {"latitude": 5})
    assert partial.status == 422 and partial.json["errors"][0]["field"] == "longitude"


def test_changed_id_is_rejected(press: ApiClient):
    response = press.call("PATCH", "devices/press-1", {"device_id": "other"})
    assert response.status == 400 and "cannot be changed" in response.json["detail"]
    assert press.call("PATCH", "devices/press-1", {"device_id": "press-1", "name": "x"}).json["name"] == "x"


def test_change_with_outdated_etag_is_rejected_with_412(press: ApiClient):
    tag = press.get("devices/press-1").headers["ETag"]
    assert press.call("PATCH", "devices/press-1", {"name": "a"}, If_Match=tag).status == 200
    late = press.call("PATCH", "devices/press-1", {"name": "b"}, If_Match=tag)
    assert late.status == 412 and "read it again" in late.json["detail"]
    assert press.call("DELETE", "devices/press-1", If_Match=tag).status == 412
    tag = press.get("devices/press-1").headers["ETag"]
    other, _ = DeviceGroup.objects.get_or_create(name="site b")
    group_membership.add_devices(other, Device.objects.values_list("pk", flat=True))  # as the group form does
    assert press.call("PATCH", "devices/press-1", {"groups": []}, If_Match=tag).status == 412
    tag = press.get("devices/press-1").headers["ETag"]
    press.post("devices/press-1/telemetry", point())  # points do not change the ETag
    assert press.call("PATCH", "devices/press-1", {"groups": []}, If_Match=tag).json["groups"] == []


def test_paths_of_points_take_precedence_over_device_ids(press: ApiClient):
    press.post("devices/press-1/telemetry", point())
    assert press.get("devices/press-1/metrics").json == ["temperature"]
    assert press.get("devices/press-1/metrics/temperature/latest").json["value"] == 25.5
    assert press.get("devices/press-1/telemetry").status == 405
    press.post("devices", {"device_id": "devices.csv"})
    assert press.get("devices/devices.csv").json["device_id"] == "devices.csv"


def test_delete_returns_a_deletion_with_progress(press: ApiClient):
    response = press.call("DELETE", "devices/press-1")
    assert response.status == 202 and response.json["status"] == "queued" and response.json["device_id"] == "press-1"
    deletion_id = response.json["deletion_id"]
    assert press.get("devices/press-1").status == 404
    assert press.get("devices").json["total"] == 0
    assert press.call("DELETE", "devices/press-1").json["deletion_id"] == deletion_id
    assert press.get(f"deletions/{deletion_id}").json == response.json
    assert [deletion["deletion_id"] for deletion in press.get("deletions").json["deletions"]] == [deletion_id]
    Deletion.objects.update(status="done")
    assert press.call("DELETE", "devices/press-1").status == 404
    assert press.get("deletions/nothing").status == 404


@pytest.mark.parametrize("path", ["devices/nothing", "devices/press-1%20", "devices/press-1%2F"])
def test_unknown_device_returns_404_for_every_method(press: ApiClient, path: str):
    assert press.get(path).status == press.call("PATCH", path, {"name": "x"}).status == 404
    assert press.call("DELETE", path).status == 404
    assert Device.objects.count() == 1


@pytest.mark.slow
def test_device_of_another_group_returns_404(
    press: ApiClient, viewer: ApiClient, operator: ApiClient, stranger: ApiClient
):
    press.post("devices", {"device_id": "hidden"})
    assert [device["device_id"] for device in viewer.get("devices").json["devices"]] == ["press-1"]
    assert viewer.get("devices").json["total"] == 1
    assert stranger.get("devices").json["devices"] == [] and stranger.get("devices").json["total"] == 0
    for caller, path in ((viewer, "devices/hidden"), (stranger, "devices/press-1"), (operator, "devices/hidden")):
        variable_fields = {"detail": "", "request_id": ""}  # these always differ
        assert caller.get(path).json | variable_fields == caller.get("devices/nothing").json | variable_fields
    assert operator.call("PATCH", "devices/hidden", {"name": "x"}).status == 404
    assert viewer.get("devices?group=site%20b").json["devices"] == []


def test_invisible_groups_are_hidden_and_kept(press: ApiClient, operator: ApiClient):
    DeviceGroup.objects.get_or_create(name="site b")
    assert press.call("PATCH", "devices/press-1", {"groups": ["site a", "site b"]}).json["groups"] == [
        "site a",
        "site b",
    ]
    assert operator.get("devices/press-1").json["groups"] == ["site a"]
    rejected = operator.call("PATCH", "devices/press-1", {"groups": ["site b"]})
    assert rejected.status == 400 and "'site b' is not known" in rejected.json["detail"]
    assert operator.call("PATCH", "devices/press-1", {"groups": ["site a"]}).json["groups"] == ["site a"]
    assert press.get("devices/press-1").json["groups"] == ["site a", "site b"]
    assert (
        operator.call("PATCH", "devices/press-1", {"groups": []}).status == 200
    )  # the operator no longer sees the device
    assert press.get("devices/press-1").json["groups"] == ["site b"]


@pytest.mark.slow
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
    response = device.get("devices/device_001")
    assert response.status == 200 and response.json["groups"] == []
    assert device.get("devices/press-1").status == 403
    assert device.get("devices").status == 403
    assert device.call("PATCH", "devices/device_001", {"name": "x"}).status == 403


def count_statements(caller: Caller, path: str, view: Any, **arguments: str) -> int:
    from rest_framework.test import APIRequestFactory, force_authenticate

    request = APIRequestFactory().get(path)
    force_authenticate(request, caller)
    with CaptureQueriesContext(connections["default"]) as captured:
        assert view.as_view(LIST)(request, **arguments).status_code == 200
    return len(captured)


@pytest.mark.slow
def test_list_statements_do_not_grow_with_devices(site):
    from metrics.api.devices import DeviceResource
    from metrics.api.groups import GroupDeviceResource, GroupResource

    caller = Caller("user:viewer", Scope.READ, groups=("g0", "g1"))
    groups = [DeviceGroup.objects.create(name=f"g{number}") for number in range(2)]
    counts = []
    for low, high in ((0, 1), (1, 100)):
        devices = Device.objects.bulk_create(Device(device_id=f"d{number}") for number in range(low, high))
        for group in groups:
            group_membership.add_devices(group, [device.pk for device in devices])
        counts.append(
            (
                count_statements(caller, "/devices", DeviceResource),
                count_statements(caller, "/groups/g0/devices", GroupDeviceResource, name="g0"),
                count_statements(caller, "/groups", GroupResource),
            )
        )
    assert counts[0] == counts[1] == (4, 7, 4)
