"""PRD epic 5, criterion by criterion: live streams."""

import time
from datetime import timedelta

import pytest
from django.db.models import F

from dashboard.models import Subscription
from dashboard.streams import open_sessions, subscriptions
from tests.conftest import ApiClient, ApiResponse, point
from tests.dashboard.streams.stream_client import closed_with, open_stream, receive, subscribe, values_of
from tests.prd.conftest import within_once
from tests.telemetry_site.site_process import wait_until

BODY = {
    "device_ids": ["device_001", "device_002"],
    "metric_names": ["temperature", "humidity"],
    "tags": {},
    "max_frequency": 1000,
}


def send(sender: ApiClient, value: float, device: str = "device_001", metric: str = "temperature", **tags: str) -> None:
    sent = point(metric, value, tags=tags) if tags else point(metric, value)
    assert sender.post(f"devices/{device}/telemetry", sent).status == 200


# --- E5-US1: create a subscription ------------------------------------------------------------------


def test_e5_us1_ac1_the_endpoint_creates_a_subscription(sender: ApiClient) -> None:
    response = sender.post("subscribe", BODY)
    assert response.status == 201
    assert response.json["message"] == "Subscription created successfully"
    assert Subscription.objects.filter(pk=response.json["subscription_id"]).exists()


@pytest.mark.slow
@pytest.mark.parametrize(
    "filters", [{"device_ids": ["device_001"]}, {"metric_names": ["temperature"]}, {"tags": {"room": "1"}}]
)
def test_e5_us1_ac2_devices_metrics_and_tags_filter_the_values(sender: ApiClient, filters: dict[str, object]) -> None:
    with open_stream(sender, subscribe(sender, **filters)) as socket:
        receive(socket, "snapshot")
        send(sender, 2.0, "device_002", "humidity", room="2")
        send(sender, 1.0, room="1")
        assert values_of(receive(socket, "points")) == [("device_001", "temperature", 1.0)]


@pytest.mark.parametrize("max_frequency", [100, 1000, 10_000])
def test_e5_us1_ac3_max_frequency_is_accepted_from_100_to_10000(sender: ApiClient, max_frequency: int) -> None:
    assert sender.post("subscribe", BODY | {"max_frequency": max_frequency}).status == 201


@pytest.mark.parametrize("max_frequency", [99, 10_001, 0, -1, "fast", 1.5, None])
def test_e5_us1_ac3_another_max_frequency_is_rejected_by_name(sender: ApiClient, max_frequency: object) -> None:
    response = sender.post("subscribe", BODY | {"max_frequency": max_frequency})
    assert response.status in (400, 422)
    assert response.json["errors"][0]["field"] == "max_frequency"


def test_e5_us1_ac4_the_response_has_subscription_id_and_websocket_url(sender: ApiClient) -> None:
    body = sender.post("subscribe", BODY).json
    assert body["subscription_id"].startswith("sub_")
    assert body["websocket_url"] == f"/ws/telemetry/{body['subscription_id']}"


@pytest.mark.slow
def test_e5_us1_ac5_subscribing_takes_less_than_50_ms(sender: ApiClient) -> None:
    within_once(0.05, lambda: sender.post("subscribe", BODY))


@pytest.mark.slow
def test_ticket_takes_less_than_50_ms(sender: ApiClient) -> None:
    within_once(0.05, lambda: sender.post("tickets", {}))


# --- E5-US2: the stream -----------------------------------------------------------------------------


def test_e5_us2_ac1_the_websocket_accepts_connections(sender: ApiClient) -> None:
    with open_stream(sender, subscribe(sender)) as socket:
        assert receive(socket, "snapshot")["values"] == []


def test_e5_us2_ac2_values_are_pushed_as_json(sender: ApiClient) -> None:
    with open_stream(sender, subscribe(sender)) as socket:
        receive(socket, "snapshot")
        began = time.monotonic()
        send(sender, 21.5)
        frame = receive(socket, "points")
        assert time.monotonic() - began < 2
    [value] = frame["values"]
    assert (value["device_id"], value["metric_name"], value["value"]) == ("device_001", "temperature", 21.5)
    assert value["timestamp"].endswith("Z")


@pytest.mark.slow
def test_e5_us2_ac3_frames_are_not_closer_than_max_frequency(sender: ApiClient) -> None:
    with open_stream(sender, subscribe(sender, max_frequency=500)) as socket:
        receive(socket, "snapshot")
        times = []
        for number in range(12):
            send(sender, float(number))
            time.sleep(0.1)
        last = None
        while last != 11.0:
            frame = receive(socket, "points")
            times.append(time.monotonic())
            last = frame["values"][-1]["value"]
    assert len(times) <= 4  # 1.2 s of values


def test_e5_us2_ac4_an_invalid_subscription_is_closed_with_4004(sender: ApiClient) -> None:
    with open_stream(sender, "sub_unknown") as socket:
        assert closed_with(socket)["code"] == 4004


def test_e5_us2_ac5_disconnecting_ends_the_session_and_lets_the_subscription_expire(sender: ApiClient) -> None:
    identity = subscribe(sender)
    with open_stream(sender, identity) as socket:
        receive(socket, "snapshot")
        assert len(open_sessions.open_sessions()) == 1
    wait_until(lambda: not len(open_sessions.open_sessions()), 5, "the session has ended")
    Subscription.objects.update(expires_at=F("expires_at") - timedelta(minutes=3))  # as three minutes later
    assert subscriptions.delete_expired() == 1


# --- E5-US3: cancel a subscription ------------------------------------------------------------------


def test_e5_us3_ac1_delete_cancels_the_subscription(sender: ApiClient) -> None:
    identity = subscribe(sender)
    assert sender.call("DELETE", f"subscribe/{identity}").status == 200
    with open_stream(sender, identity) as socket:
        assert closed_with(socket)["code"] == 4004


@pytest.mark.slow
def test_e5_us3_ac2_delete_closes_the_websocket(sender: ApiClient) -> None:
    identity = subscribe(sender)
    with open_stream(sender, identity) as socket:
        receive(socket, "snapshot")
        sender.call("DELETE", f"subscribe/{identity}")
        assert closed_with(socket)["code"] == 4004


def test_e5_us3_ac3_an_unknown_subscription_is_not_found(sender: ApiClient) -> None:
    assert sender.call("DELETE", "subscribe/sub_unknown").status == 404


def test_e5_us3_ac4_delete_confirms(sender: ApiClient) -> None:
    response: ApiResponse = sender.call("DELETE", f"subscribe/{subscribe(sender)}")
    assert response.json["success"] is True
