"""A change is in force when it is answered: for the next request, however it was made."""

import threading
from collections.abc import Iterator
from typing import Any

import pytest
from django.contrib.auth import get_user_model
from django.db import connection, transaction
from django.test import Client

from ingest.identity import tokens
from ingest.models import ApiKey
from metrics.models import Device, DeviceGroup, MetricDefinition, Revision
from metrics.storage import series_registry
from rest.caller import Scope
from tests.conftest import ApiClient, point

ROUNDS = 5  # a change that applies only at the next refresh fails one of them
DAY = 86_400


def send(caller: ApiClient, value: Any = 1.0, seconds_ago: float = 0.0, device: str = "d", **headers: str) -> int:
    return caller.call("POST", f"devices/{device}/telemetry", point("m", value, seconds_ago), **headers).status


@pytest.fixture(params=["fast lane", "Django"])
def writer(request: pytest.FixtureRequest, gateway: ApiClient, administrator: ApiClient) -> ApiClient:
    """A caller whose points the fast lane stores, and one whose points Django stores."""
    return gateway if request.param == "fast lane" else administrator


@pytest.mark.slow
def test_changed_definition_applies_to_the_next_point(admin: ApiClient, writer: ApiClient):
    for number in range(ROUNDS):
        assert send(writer, 1e6) == send(writer, 1.0, 40 * DAY) == 200
        definition = {"name": "m", "data_type": "numeric", "max_value": 10, "retention_days": 30}
        assert admin.post("metrics", definition).status == 201
        assert (send(writer, 20), send(writer, 5), send(writer, True), send(writer, "x")) == (422, 200, 422, 422)
        assert send(writer, 5, 40 * DAY) == 422
        assert admin.call("PATCH", "metrics/m", {"max_value": 30, "retention_days": 60}).status == 200
        assert send(writer, 20, number) == send(writer, 20, 40 * DAY) == 200
        assert admin.call("DELETE", "metrics/m").status == 200


@pytest.mark.slow
def test_changed_unit_is_in_the_next_response(admin: ApiClient):
    assert admin.post("metrics", {"name": "m", "data_type": "numeric", "unit": "kW"}).status == 201
    assert send(admin) == 200
    for unit in ("MW", "W", "kW"):
        assert admin.call("PATCH", "metrics/m", {"unit": unit}).status == 200
        assert admin.get("devices/d/metrics/m/latest").json["unit"] == unit
        assert admin.get("devices/d/metrics/m/range?time_range=1h").json["data_points"][0]["unit"] == unit
        assert admin.post("latest", {"metrics": ["m"]}).json["series"][0]["unit"] == unit


@pytest.mark.slow
def test_key_is_valid_from_its_creation_until_its_revocation_or_deletion(admin: ApiClient):
    for action in ("revoke", "delete", "rotate"):
        created = admin.post("keys", {"name": "k", "scope": "admin"}).json
        caller = ApiClient(admin.port, {"X-Api-Key": created["key"]})
        assert send(caller) == caller.get("metrics").status == 200
        match action:
            case "revoke":
                answer = admin.post(f"keys/{created['id']}/revoke", None)
            case "delete":
                answer = admin.call("DELETE", f"keys/{created['id']}")
            case _:
                answer = admin.post(f"keys/{created['id']}/rotate", {"overlap_seconds": 0})
        assert answer.status in (200, 201), (action, answer.raw)
        assert (caller.get("metrics").status, send(caller)) == (401, 401), action


@pytest.mark.slow
def test_revoked_token_is_rejected_by_the_next_request(admin: ApiClient):
    issued = tokens.issue_for_user(get_user_model().objects.create_superuser("root", password="p"))
    caller = ApiClient(admin.port, {"Authorization": f"Bearer {issued.access_token}"})
    assert send(caller) == 200
    assert admin.post("auth/revoke", {"refresh_token": issued.refresh_token}).status == 200
    assert (send(caller), caller.get("metrics").status) == (401, 401)


@pytest.mark.slow
def test_deleted_device_is_created_again_by_its_next_point(admin: ApiClient, writer: ApiClient):
    for number in range(ROUNDS):
        assert send(writer, number) == 200
        pk = Device.objects.get(device_id="d").pk
        assert admin.call("DELETE", "devices/d").status in (200, 202)
        assert admin.get("devices/d/metrics/m/latest").status == 404
        assert send(writer, number) == 200
        assert Device.objects.get(device_id="d").pk != pk


@pytest.mark.slow
def test_membership_applies_to_the_next_request_of_a_key_of_the_group(admin: ApiClient):
    admin.post("groups", {"name": "g"})
    admin.post("devices", {"device_id": "d"})
    key = admin.post("keys", {"name": "k", "scope": "ingest", "group": "g"}).json["key"]
    caller = ApiClient(admin.port, {"X-Api-Key": key})
    for _ in range(ROUNDS):
        assert send(caller) == 403
        assert admin.post("groups/g/devices", {"device_ids": ["d"]}).status == 200
        assert send(caller) == 200
        assert admin.call("DELETE", "groups/g/devices", {"device_ids": ["d"]}).status == 200
        assert send(caller) == 403
        assert admin.call("PATCH", "devices/d", {"groups": ["g"]}).status == 200
        assert send(caller) == 200
        assert admin.call("PATCH", "devices/d", {"groups": []}).status == 200


@pytest.fixture
def browser(site: None) -> Iterator[Client]:
    client = Client(raise_request_exception=True)
    client.force_login(get_user_model().objects.create_superuser("root"))
    yield client


def test_change_by_an_admin_page_applies_to_the_next_point(browser: Client, gateway: ApiClient):
    definition = MetricDefinition.objects.create(name="m", data_type="numeric", retention_days=30)
    assert send(gateway, 1.0, 40 * DAY) == 422
    action = {"action": "change_retention", "_selected_action": [definition.pk], "days": "60"}
    assert browser.post("/admin/metrics/metricdefinition/", action).status_code == 302
    assert send(gateway, 1.0, 40 * DAY) == 200
    selected = {"action": "delete_selected", "_selected_action": [definition.pk], "post": "yes"}
    assert browser.post("/admin/metrics/metricdefinition/", selected).status_code == 302
    assert send(gateway, 1.0, 80 * DAY) == 200
    key = ApiKey.objects.get(scope=Scope.INGEST)
    assert browser.post("/admin/ingest/apikey/", {"action": "revoke", "_selected_action": [key.pk]}).status_code == 302
    assert send(gateway) == 401


def test_deleted_group_invalidates_its_keys_for_the_next_point(admin: ApiClient):
    group = DeviceGroup.objects.create(name="g")
    group.devices.add(Device.objects.create(device_id="d"))
    _, key = ApiKey.issue("k", Scope.INGEST, group=group)
    caller = ApiClient(admin.port, {"X-Api-Key": key})
    assert send(caller) == 200
    assert admin.call("DELETE", "groups/g").status == 200
    assert send(caller) == 401


def test_rolled_back_change_is_not_waited_for(admin: ApiClient):
    before = Revision.objects.get().number
    with pytest.raises(ZeroDivisionError), transaction.atomic():
        MetricDefinition.objects.create(name="m", data_type="numeric", max_value=1)
        raise ZeroDivisionError
    assert series_registry._required_revision <= before
    assert send(admin, 5) == 200


def test_revision_of_a_database_restored_from_a_backup_is_accepted(admin: ApiClient):
    admin.post("metrics", {"name": "m", "data_type": "numeric", "max_value": 1})
    MetricDefinition.objects.update(max_value=3)
    Revision.objects.update(number=0)
    series_registry.refresh_registry()
    assert (send(admin, 2), send(admin, 4)) == (200, 422)


def test_responses_of_both_lanes_carry_the_revision(admin: ApiClient, administrator: ApiClient, anonymous: ApiClient):
    before = Revision.objects.get().number
    changed = admin.post("metrics", {"name": "m", "data_type": "numeric"})
    assert int(changed.headers["Telemetry-Revision"]) == Revision.objects.get().number == before + 1
    for caller in (admin, administrator):
        for response in (
            caller.post("devices/d/telemetry", point()),
            caller.post("devices/d/telemetry", {"invalid": 1}),
            caller.get("devices/d/metrics/temperature/latest"),
            caller.get("metrics"),
            caller.get("metrics/unknown"),
        ):
            assert response.headers.get_all("Telemetry-Revision") == [str(before + 1)]


@pytest.mark.slow
@pytest.mark.parametrize("lane", ["devices/d/telemetry", "metrics"])
def test_required_revision_is_applied_or_the_request_is_rejected(admin: ApiClient, lane: str):
    def request(revision: str) -> Any:
        method, body = ("GET", None) if lane == "metrics" else ("POST", point())
        return admin.call(method, lane, body, Telemetry_Min_Revision=revision)

    revision = Revision.objects.get().number
    assert request(str(revision)).status == request("0").status == 200
    unreached = request(str(revision + 1))
    assert (unreached.status, unreached.headers["Telemetry-Revision"]) == (412, str(revision))
    assert unreached.json["detail"] == f"Telemetry-Min-Revision: {revision + 1} is not reached, only {revision}"
    for invalid in ("", "-1", "1.5", "x", "9" * 30, "²"):
        response = request(invalid)
        assert response.status == 400, invalid
        assert response.json["errors"][0]["field"] == "Telemetry-Min-Revision"


@pytest.mark.slow
def test_request_waits_for_a_revision_that_another_process_commits_meanwhile(admin: ApiClient):
    revision = Revision.objects.get().number + 1

    def commit() -> None:
        Revision.objects.update(number=revision)
        connection.close()

    timer = threading.Timer(0.3, commit)
    timer.start()
    assert send(admin, Telemetry_Min_Revision=str(revision)) == 200
    timer.join()
