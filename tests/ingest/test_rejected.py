"""The rejected inbox: counts by sender, series and reason, and its list in the API."""

from typing import Any

import pytest

from ingest.models import RejectedPacket
from ingest.rejected.inbox import rejected_inbox
from metrics.models import Device, DeviceGroup
from tests.conftest import ApiClient, point
from tests.ingest.rejected_points import BATCH, define, redefine, rejected, values


@pytest.fixture(params=["fast lane", "views"])
def sender(request: pytest.FixtureRequest, site: None) -> ApiClient:
    return request.getfixturevalue("admin" if request.param == "fast lane" else "administrator")


def test_rejected_points_are_kept_by_sender_series_and_reason(sender: ApiClient, admin: ApiClient):
    define(min_value=0, max_value=100)
    points = [point("battery", value, ago) for ago, value in enumerate((50, -1, 101, 140))]
    assert sender.post(BATCH, {"data_points": points}).json["failed_count"] == 3
    (row,) = rejected(admin)
    assert row["sender"].startswith(("key:", "user:"))
    assert (row["device_id"], row["metric_name"], row["reason"]) == ("d", "battery", "out_of_bounds")
    assert (row["count"], row["kept"]) == (3, 3)
    assert row["detail"] == "140 is above the maximum 100 of battery"
    assert row["first_at"] <= row["last_at"]


def test_each_reason_has_its_code(sender: ApiClient, admin: ApiClient):
    define("battery", min_value=0)
    define("open", data_type="boolean")
    points = [
        point("battery", -1),
        point("open", "yes"),
        point("temperature", 1, seconds_ago=-3600),
        point("temperature", 1, seconds_ago=100 * 86400),
        point("temperature", None),
        point("temperature", 1),
    ]
    assert sender.post(BATCH, {"data_points": points}).json["failed_count"] == 5
    assert {(row["metric_name"], row["reason"], row["kept"]) for row in rejected(admin)} == {
        ("battery", "out_of_bounds", 1),
        ("open", "wrong_type", 1),
        ("temperature", "too_early", 1),
        ("temperature", "too_old", 1),
        ("", "unreadable", 0),
    }


def test_points_of_a_fully_rejected_batch_are_kept(sender: ApiClient, admin: ApiClient):
    define(max_value=100)
    assert sender.post("devices/d/telemetry", point("battery", 101)).status == 422
    assert [(row["device_id"], row["count"]) for row in rejected(admin)] == [("d", 1)]


def test_points_of_unknown_series_can_be_replayed_after_definition(sender: ApiClient, admin: ApiClient, settings: Any):
    settings.CREATE_ON_FIRST_SIGHT = False
    Device.objects.create(device_id="d")
    assert sender.post(BATCH, {"data_points": [point("battery", 50)]}).status == 422
    (row,) = rejected(admin)
    assert row["reason"] == "undefined"
    define()
    assert admin.post(f"rejected/{row['id']}/replay", {}).json["replayed"] == 1
    assert values(admin) == [50.0] and rejected(admin) == []


@pytest.mark.parametrize("body", [b"{", b"[1]", b'{"data_points": 5}', b"\xff", b'{"data_points": []}'])
def test_invalid_request_is_counted_but_not_kept(sender: ApiClient, admin: ApiClient, body: bytes):
    for _ in range(3):
        assert sender.post(BATCH, body).status in (400, 422)
    (row,) = rejected(admin)
    assert (row["device_id"], row["reason"], row["count"], row["kept"]) == ("d", "unreadable", 3, 0)
    assert not RejectedPacket.objects.exists()


def test_invalid_names_are_counted_under_an_empty_name(sender: ApiClient, admin: ApiClient):
    response = sender.post("bulk", {"a\0b": [point("m")], "d": [point("x\0y"), point("m")]})
    assert response.json["failed_count"] == 2
    assert {(row["device_id"], row["reason"], row["kept"]) for row in rejected(admin)} == {
        ("", "unreadable", 0),
        ("d", "unreadable", 0),
    }


def test_points_without_write_permission_are_counted_but_not_replayed(device: ApiClient, admin: ApiClient):
    response = device.post("bulk", {"device_001": [point("m")], "other": [point("m"), point("m")]})
    assert response.json["ingested_count"] == 1
    (row,) = rejected(admin)
    assert (row["device_id"], row["reason"], row["count"], row["kept"]) == ("other", "not_allowed", 2, 0)
    assert admin.post(f"rejected/{row['id']}/replay", {}).json["replayed"] == 0
    assert not Device.objects.filter(device_id="other").exists()


def test_row_returns_its_points_as_sent(admin: ApiClient):
    define(max_value=100)
    sent = point("battery", 101.5, 60, unit="%", tags={"room": "1"}, metadata={"firmware": "2"})
    admin.post("devices/d/telemetry", sent)
    (row,) = rejected(admin)
    (returned,) = admin.get(f"rejected/{row['id']}").json["points"]
    assert returned.pop("timestamp")[:23] == sent["timestamp"][:23]
    assert returned == {"value": 101.5, "unit": "%", "tags": {"room": "1"}, "metadata": {"firmware": "2"}}


def test_dismissing_a_row_deletes_its_points(admin: ApiClient):
    define(max_value=100)
    admin.post("devices/d/telemetry", point("battery", 101))
    (row,) = rejected(admin)
    assert admin.call("DELETE", f"rejected/{row['id']}").json["success"]
    assert rejected(admin) == [] and not RejectedPacket.objects.exists()
    for method, path in (("GET", ""), ("DELETE", ""), ("POST", "/replay")):
        assert admin.call(method, f"rejected/{row['id']}{path}").status == 404


def test_rejected_list_is_filtered_and_paged(admin: ApiClient, gateway: ApiClient):
    define(max_value=100)
    define("open", data_type="boolean")
    admin.post("devices/a/telemetry", point("battery", 101))
    gateway.post("devices/b/telemetry", point("open", 5))
    rejected_inbox().flush()
    assert {row["device_id"] for row in rejected(admin)} == {"a", "b"}
    assert [row["device_id"] for row in rejected(admin, device_id="a")] == ["a"]
    assert [row["device_id"] for row in rejected(admin, metric_name="open")] == ["b"]
    (row,) = rejected(admin, reason="wrong_type")
    assert [match["id"] for match in rejected(admin, sender=row["sender"].replace(" ", "%20"))] == [row["id"]]
    page = admin.get("rejected?limit=1&offset=1").json
    assert (page["count"], page["total"]) == (1, 2)
    assert admin.get("rejected?reason=bad").status == 400


BAD = [
    ("GET", "rejected/99999999999999999999", None, 404),
    ("POST", "rejected/replay", {"after": -1}, 400),
    ("POST", "rejected/replay", {"device_id": 5.5, "x": 1}, 422),
    ("POST", "rejected/replay", [1], 400),
    ("POST", "rejected/replay", {"device_id": "a\0b"}, 400),
    ("GET", "rejected?device_id=%00", None, 400),
    ("GET", "rejected?limit=0", None, 400),
]


@pytest.mark.parametrize(("method", "path", "body", "status"), BAD)
def test_invalid_parameters_are_rejected_with_a_problem(
    admin: ApiClient, method: str, path: str, body: Any, status: int
):
    response = admin.call(method, path, body)
    assert response.status == status, response.raw
    assert response.headers["Content-Type"].startswith("application/problem+json")


@pytest.mark.slow
def test_users_see_rejected_points_of_their_devices_only(
    admin: ApiClient, viewer: ApiClient, operator: ApiClient, stranger: ApiClient, reader: ApiClient, gateway: ApiClient
):
    define(max_value=100)
    device = Device.objects.create(device_id="mine")
    device.groups.add(DeviceGroup.objects.get(name="site a"))
    for device_id in ("mine", "theirs"):
        admin.post(f"devices/{device_id}/telemetry", point("battery", 101))
    admin.post("devices/unborn/telemetry", b"{")
    own_row, other_row = (rejected(admin, device_id=name)[0]["id"] for name in ("mine", "theirs"))
    assert {row["device_id"] for row in rejected(reader)} == {"mine", "theirs", "unborn"}
    for person in (viewer, operator):
        assert [row["device_id"] for row in rejected(person)] == ["mine"]
        assert person.get(f"rejected/{other_row}").status == 404
    assert rejected(stranger) == [] and stranger.get(f"rejected/{own_row}").status == 404
    assert gateway.get("rejected").status == 403
    redefine(max_value=200)
    for caller in (viewer, stranger, reader, gateway):
        assert caller.post("rejected/replay", {}).status == 403
        assert caller.post(f"rejected/{own_row}/replay", {}).status == 403
        assert caller.call("DELETE", f"rejected/{own_row}").status == 403
    assert operator.post(f"rejected/{other_row}/replay", {}).status == 404
    assert operator.post("rejected/replay", {}).json["replayed"] == 1
    assert [row["device_id"] for row in rejected(admin, metric_name="battery")] == ["theirs"]
