"""Parked messages: their page, their API, and who may use them."""

from typing import Any

import pytest
from django.contrib.auth import get_user_model
from django.test import Client

from metrics.models import AuditEntry, Device
from metrics.storage.connection import dedicated_connection
from telemetry_site.bus.models import Direction, ParkedMessage
from telemetry_site.bus.parked_messages import park
from tests.conftest import ApiClient

pytestmark = pytest.mark.usefixtures("site")


def park_message(payload: bytes = b'{"device_id": "boiler"}', **more: Any) -> ParkedMessage:
    with dedicated_connection() as connection:
        park(
            connection, Direction.INBOUND, "SERVICES", more.pop("message_id", "SERVICES:1"), "no reason", payload,
            subject="services.device.deleted", headers={"ce-id": "5"}, **more,
        )  # fmt: skip
    return ParkedMessage.objects.latest("pk")


def test_admin_lists_reads_and_deletes_parked_messages(admin: ApiClient) -> None:
    message = park_message(b"\xff\0{")

    page = admin.get("bus/parked?direction=inbound").json
    assert (page["total"], page["messages"][0]["payload"]) == (1, "��{")
    assert admin.get(f"bus/parked/{message.pk}").json["subject"] == "services.device.deleted"
    assert admin.get("bus/parked?direction=outbound").json["total"] == 0
    assert admin.get("bus/parked?direction=sideways").status == 400

    assert admin.call("DELETE", f"bus/parked/{message.pk}").status == 200
    assert admin.get(f"bus/parked/{message.pk}").status == 404
    assert AuditEntry.objects.filter(action="deleted", object_type="parked message").exists()


@pytest.mark.parametrize(
    "method_and_path", ["GET bus/parked", "GET bus/parked/{}", "DELETE bus/parked/{}", "POST bus/parked/{}/replay"]
)
def test_parked_messages_are_for_admins_only(
    method_and_path: str, reader: ApiClient, operator: ApiClient, gateway: ApiClient, anonymous: ApiClient
) -> None:
    message = park_message()
    method, path = method_and_path.format(message.pk).split()
    statuses = [client.call(method, path).status for client in (reader, operator, gateway, anonymous)]
    assert statuses == [403, 403, 403, 401]
    assert ParkedMessage.objects.count() == 1


def test_replay_that_fails_again_answers_409_and_keeps_the_message(admin: ApiClient) -> None:
    message = park_message(b'{"device_id": 7}')
    answer = admin.post(f"bus/parked/{message.pk}/replay", None)
    assert (answer.status, answer.json["detail"]) == (409, "device_id must be a text of 1 to 200 characters")
    assert ParkedMessage.objects.get().reason == answer.json["detail"]
    assert admin.post("bus/parked/999/replay", None).status == 404


def test_message_stored_in_part_cannot_be_replayed(admin: ApiClient) -> None:
    message = park_message(b'"' + b"x" * 300_000 + b'"')
    answer = admin.post(f"bus/parked/{message.pk}/replay", None)
    assert (answer.status, answer.json["detail"]) == (409, "only a part of its 300,002 bytes is stored")


def test_page_shows_messages_and_replays_the_selected_ones(client: Client) -> None:
    Device.objects.create(device_id="boiler")
    good, bad = park_message(), park_message(b"[]", message_id="SERVICES:2")
    client.force_login(get_user_model().objects.create_superuser("boss"))

    page = client.get("/admin/bus/parkedmessage/").content.decode()
    assert "Parked messages" in page
    assert "no reason" in page
    assert "boiler" in client.get(f"/admin/bus/parkedmessage/{good.pk}/change/").content.decode()
    answer = client.post(
        "/admin/bus/parkedmessage/", {"action": "replay", "_selected_action": [good.pk, bad.pk]}, follow=True
    ).content.decode()

    assert "1 messages were replayed" in answer
    assert f"Message {bad.pk} stays parked: the payload must be a JSON object" in answer
    assert list(ParkedMessage.objects.values_list("pk", flat=True)) == [bad.pk]
    assert not Device.objects.exists()


def test_page_is_for_admins_only(client: Client) -> None:
    client.force_login(get_user_model().objects.create_user("viewer"))
    assert client.get("/admin/bus/parkedmessage/").status_code == 302


def test_same_message_is_parked_once_with_the_newest_reason() -> None:
    park_message(attempts=1)
    park_message(attempts=6)
    assert ParkedMessage.objects.get().attempts == 6
