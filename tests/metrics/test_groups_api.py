"""Device groups over REST: who is in them, which devices are, and who may change that."""

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from django.contrib.auth import get_user_model

from metrics.models import Device, DeviceGroup, Revision
from tests.conftest import ApiClient

SITE: dict[str, Any] = {"name": "plant/7", "description": "By the river", "members": []}


@pytest.fixture
def plant(admin: ApiClient) -> ApiClient:
    assert admin.post("groups", SITE).status == 201
    return admin


def create_devices(count: int) -> list[str]:
    rows = Device.objects.bulk_create(Device(device_id=f"d{number:05}") for number in range(count))
    return [device.device_id for device in rows]


def test_group_is_created_read_changed_and_deleted(plant: ApiClient):
    response = plant.get("groups/plant/7")
    assert {name: response.json[name] for name in SITE} == SITE and response.json["devices"] == 0
    changed = plant.call("PATCH", "groups/plant/7", {"description": "By the sea"})
    assert changed.status == 200 and changed.json["description"] == "By the sea"
    assert plant.call("DELETE", "groups/plant/7").json["success"] is True
    assert plant.get("groups/plant/7").status == plant.call("DELETE", "groups/plant/7").status == 404


@pytest.mark.slow
def test_new_member_sees_devices_with_the_next_request(plant: ApiClient, stranger: ApiClient):
    create_devices(1)
    plant.post("groups/plant/7/devices", {"device_ids": ["d00000"]})
    assert stranger.get("devices/d00000").status == stranger.get("groups/plant/7").status == 404
    response = plant.call("PATCH", "groups/plant/7", {"members": ["stranger"]})
    assert response.json["members"] == ["stranger"]
    assert stranger.get("devices/d00000").status == stranger.get("groups/plant/7").status == 200
    assert [group["name"] for group in stranger.get("groups").json["groups"]] == ["plant/7"]
    plant.call("PATCH", "groups/plant/7", {"members": []})
    assert stranger.get("devices/d00000").status == 404


@pytest.mark.parametrize(
    ("change", "field", "accepted"),
    [
        ({"name": ""}, "name", "blank"),
        ({"name": "  "}, "name", "blank"),
        ({"name": "a\0"}, "name", "control characters"),
        ({"name": "x" * 201}, "name", "200"),
        ({"description": []}, "description", "string"),
        ({"members": ["nobody"]}, "members", "'nobody' is not a user name"),
        ({"members": "admin"}, "members", "list"),
        ({"members": ["\0"]}, "members.0", "ull"),
        ({"devices": ["d1"], "colour": "red"}, "colour", "not a known field"),
    ],
)
def test_invalid_group_is_rejected_with_the_field_and_accepted_values(admin: ApiClient, change, field, accepted):
    group_count = DeviceGroup.objects.count()
    response = admin.post("groups", SITE | change)
    is_whole = any(
        text in accepted for text in ("not a known field", "together", "requires", "greater than max", "_days")
    )
    assert response.status == (422 if is_whole else 400)
    assert any(error["field"] == field and accepted in error["detail"] for error in response.json["errors"]), (
        response.json
    )
    assert DeviceGroup.objects.count() == group_count


def test_name_is_unique_and_cannot_be_changed(admin: ApiClient):
    with ThreadPoolExecutor(6) as pool:
        responses = list(pool.map(lambda _: admin.post("groups", SITE), range(6)))
    assert sorted(response.status for response in responses) == [201] + [400] * 5
    response = admin.call("PATCH", "groups/plant/7", {"name": "other"})
    assert response.status == 400 and "cannot be changed" in response.json["detail"]


def test_change_with_outdated_etag_is_rejected_with_412(plant: ApiClient):
    tag = plant.get("groups/plant/7").headers["ETag"]
    assert plant.call("PATCH", "groups/plant/7", {"description": "a"}, If_Match=tag).status == 200
    assert plant.call("PATCH", "groups/plant/7", {"description": "b"}, If_Match=tag).status == 412
    assert plant.call("DELETE", "groups/plant/7", If_Match=tag).status == 412


@pytest.mark.slow
def test_ten_thousand_devices_are_added_and_removed_in_one_request(plant: ApiClient):
    ids = create_devices(10_000)
    revision = Revision.objects.get().number
    response = plant.post("groups/plant/7/devices", {"device_ids": ids})
    assert response.json == {"changed": 10_000, "devices": 10_000}
    assert Revision.objects.get().number > revision  # live pages are notified
    repeated = plant.post("groups/plant/7/devices", {"device_ids": ids[:5] * 2})
    assert repeated.json == {"changed": 0, "devices": 10_000}
    page = plant.get("groups/plant/7/devices?limit=2&offset=9998").json
    assert [device["device_id"] for device in page["devices"]] == ids[-2:] and page["total"] == 10_000
    removed = plant.call("DELETE", "groups/plant/7/devices", {"device_ids": ids[1:]})
    assert removed.json == {"changed": 9_999, "devices": 1}


def test_unknown_device_rejects_the_whole_request(plant: ApiClient):
    create_devices(3)
    for method in ("POST", "DELETE"):
        response = plant.call(method, "groups/plant/7/devices", {"device_ids": ["d00000", "nothing", "d00001"]})
        assert response.status == 400
        assert response.json["errors"] == [{"field": "device_ids.1", "detail": "'nothing' is not known"}]
    assert plant.get("groups/plant/7").json["devices"] == 0


@pytest.mark.parametrize(
    "body", [{}, {"device_ids": []}, {"device_ids": "d"}, {"device_ids": ["d"] * 10_001}, {"device_ids": ["a\0"]}, []]
)
def test_invalid_device_ids_are_rejected(plant: ApiClient, body: Any):
    assert plant.post("groups/plant/7/devices", body).status == 400


def test_list_is_sorted_by_name_with_device_counts(plant: ApiClient):
    for name in ("b", "a"):
        plant.post("groups", {"name": name, "description": f"about {name}"})
    create_devices(3)
    plant.post("groups/a/devices", {"device_ids": ["d00000", "d00001"]})
    rows = plant.get("groups?search=about").json
    assert [(group["name"], group["devices"]) for group in rows["groups"]] == [("a", 2), ("b", 0)] and rows[
        "total"
    ] == 2
    assert plant.get("groups?search=%00").status == plant.get("groups?limit=0").status == 400


@pytest.mark.slow
def test_operator_changes_only_visible_groups_and_devices(plant: ApiClient, operator: ApiClient):
    create_devices(2)
    plant.post("groups/site%20a/devices", {"device_ids": ["d00000"]})
    assert operator.post("groups/plant/7/devices", {"device_ids": ["d00000"]}).status == 404
    plant.call("PATCH", "groups/plant/7", {"members": ["operator"]})
    assert operator.post("groups/plant/7/devices", {"device_ids": ["d00000"]}).json["changed"] == 1
    hidden = operator.post("groups/plant/7/devices", {"device_ids": ["d00001"]})
    assert hidden.status == 400 and "'d00001' is not known" in hidden.json["detail"]
    assert operator.call("DELETE", "groups/site%20a/devices", {"device_ids": ["d00000"]}).json["changed"] == 1


@pytest.mark.slow
def test_reading_adding_and_creating_need_their_scopes(
    plant: ApiClient,
    reader: ApiClient,
    gateway: ApiClient,
    device: ApiClient,
    anonymous: ApiClient,
    operator: ApiClient,
    viewer: ApiClient,
):
    assert reader.get("groups/plant/7").status == reader.get("groups/plant/7/devices").status == 200
    assert viewer.get("groups/plant/7").status == 404
    assert gateway.get("groups").status == device.get("groups").status == 403
    body = {"device_ids": ["device_001"]}
    for caller, status in ((reader, 403), (gateway, 403), (device, 403), (anonymous, 401), (viewer, 403)):
        assert caller.post("groups/site%20a/devices", body).status == status
        assert caller.call("DELETE", "groups/site%20a/devices", body).status == status
    for caller, status in ((reader, 403), (gateway, 403), (anonymous, 401), (viewer, 403), (operator, 403)):
        assert caller.post("groups", {"name": "x"}).status == status
        assert caller.call("PATCH", "groups/site%20a", {"members": []}).status == status
        assert caller.call("DELETE", "groups/site%20a").status == status
    assert get_user_model().objects.get(username="viewer").device_groups.exists()
