"""Subscriptions of live streams: creation, list, cancellation, and close code 4004."""

import json
from typing import Any

import pytest
from django.contrib.auth import get_user_model
from django.db import connection
from django.utils import timezone

from dashboard.models import Subscription
from tests.conftest import ApiClient
from tests.dashboard.streams.stream_client import closed_with, open_path, open_stream, receive, subscribe

pytestmark = pytest.mark.usefixtures("fast_close")


# --- 4004 -------------------------------------------------------------------------------------------


def test_unknown_address_subscription_and_expired_subscription_are_closed_with_4004(reader: ApiClient):
    for path in ("/ws/unknown", "/ws/telemetry/", "/ws/telemetry/sub_unknown", "/ws/telemetry/%00"):
        with open_path(reader, path) as socket:
            assert closed_with(socket)["code"] == 4004
    identity = subscribe(reader)
    Subscription.objects.update(expires_at=timezone.now())
    with open_stream(reader, identity) as socket:
        assert closed_with(socket)["code"] == 4004


@pytest.mark.slow
def test_cancelled_subscription_closes_its_streams_with_4004(reader: ApiClient):
    identity, other = subscribe(reader), subscribe(reader)
    with open_stream(reader, identity) as socket, open_stream(reader, other) as other_socket:
        receive(socket, "snapshot")
        receive(other_socket, "snapshot")
        response = reader.call("DELETE", f"subscribe/{identity}")
        assert (response.status, response.json["success"]) == (200, True)
        error = closed_with(socket)
        assert (error["code"], error["retry"]) == (4004, False)
        assert reader.call("DELETE", f"subscribe/{identity}").status == 404
        assert other_socket.state.name == "OPEN"


def test_subscription_cancelled_in_another_process_closes_its_streams(reader: ApiClient, fast_checks: None):
    identity = subscribe(reader)
    with open_stream(reader, identity) as socket:
        receive(socket, "snapshot")
        Subscription.objects.filter(pk=identity).delete()  # without a word to this process
        assert closed_with(socket)["code"] == 4004


# --- subscriptions ----------------------------------------------------------------------------------


def test_subscription_has_the_documented_fields(reader: ApiClient):
    response = reader.post(
        "subscribe", {"device_ids": ["device_001"], "metric_names": ["temperature"], "tags": {}, "max_frequency": 1000}
    )
    assert response.status == 201
    body = response.json
    identity = body["subscription_id"]
    assert identity.startswith("sub_")
    assert body["websocket_url"] == f"/ws/telemetry/{identity}"
    assert body["sse_url"] == f"/sse/telemetry/{identity}"
    assert set(body) == {"subscription_id", "message", "websocket_url", "sse_url", "expires_at"}


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"max_frequency": 99}, "max_frequency"),
        ({"max_frequency": 10_001}, "max_frequency"),
        ({"max_frequency": "fast"}, "max_frequency"),
        ({"device_ids": "a"}, "device_ids"),
        ({"device_ids": []}, "device_ids"),
        ({"device_ids": [1, {}]}, "device_ids"),
        ({"metric_names": ["x" * 201]}, "metric_names"),
        ({"groups": ["a\nb"]}, "groups"),
        ({"tags": []}, "tags"),
        ({"tags": {"a": [1]}}, "tags"),
        ({"devices": ["a"]}, "devices"),
    ],
)
def test_invalid_subscription_is_rejected_by_field(reader: ApiClient, body: dict[str, Any], field: str):
    response = reader.post("subscribe", body)
    assert response.status in (400, 422)
    assert any(error["field"].startswith(field) for error in response.json["errors"])


def test_caller_lists_and_cancels_only_its_own_subscriptions(reader: ApiClient, admin: ApiClient):
    identity = subscribe(reader, device_ids=["press"])
    [row] = reader.get("subscribe").json["subscriptions"]
    assert (row["subscription_id"], row["device_ids"], row["max_frequency"]) == (identity, ["press"], 100)
    assert admin.get("subscribe").json["subscriptions"] == []
    assert admin.call("DELETE", f"subscribe/{identity}").status == 404


def test_repeated_request_with_an_idempotency_key_creates_one_subscription(reader: ApiClient):
    answers = {reader.post("subscribe", {}, Idempotency_Key="once").json["subscription_id"] for _ in range(2)}
    assert len(answers) == 1
    assert Subscription.objects.count() == 1


def test_creation_and_cancellation_are_events_of_the_user(viewer: ApiClient):
    identity = subscribe(viewer, device_ids=["press"])
    viewer.call("DELETE", f"subscribe/{identity}")
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT type, subject, owner_id, data FROM metrics_event WHERE type LIKE 'subscription.%' ORDER BY id"
        )
        rows = cursor.fetchall()
    user = get_user_model().objects.get(username="viewer").pk
    assert [row[:3] for row in rows] == [
        (f"subscription.{what}", f"subscription/{identity}", user) for what in ("created", "cancelled")
    ]
    assert json.loads(rows[0][3])["device_ids"] == ["press"]
