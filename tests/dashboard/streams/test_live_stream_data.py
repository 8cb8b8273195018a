"""Data subscriptions on the stream /ws/live."""

from typing import Any

import pytest

from dashboard.streams.live_consumer import MAX_SUBSCRIPTIONS
from tests.conftest import ApiClient, point
from tests.dashboard.streams.live_stream_client import next_event, open_live, record, send, silent, subscribe
from tests.dashboard.streams.stream_client import closed_with, receive, values_of


@pytest.mark.slow
def test_channels_and_data_subscriptions_share_a_socket(administrator: ApiClient, gateway: ApiClient):
    assert gateway.post("bulk", {name: [point()] for name in ("a", "b")}).status == 200
    with open_live(administrator) as socket:
        subscribe(socket, "devices")
        for name in ("a", "b"):
            send(socket, type="subscribe", subscription=f"series {name}", device_ids=[name], max_frequency=100)
            frame = receive(socket, "snapshot")
            assert next(iter(frame)) == "subscription" and frame["subscription"] == f"series {name}"
            assert values_of(frame) == [(name, "temperature", 25.5)]
        assert gateway.post("bulk", {name: [point(value=7)] for name in ("a", "b")}).status == 200
        received = {(frame := receive(socket, "points"))["subscription"]: values_of(frame) for _ in range(2)}
        assert received == {"series a": [("a", "temperature", 7.0)], "series b": [("b", "temperature", 7.0)]}
        send(socket, type="unsubscribe", subscription="series a")
        send(socket, type="unsubscribe", subscription="never subscribed")
        record(silent())
        assert next_event(socket)["type"] == "device.silent"
        assert gateway.post("bulk", {name: [point(value=8)] for name in ("a", "b")}).status == 200
        assert receive(socket, "points")["subscription"] == "series b"


def test_data_subscription_resumes_with_every_missed_point(administrator: ApiClient, gateway: ApiClient):
    assert gateway.post("devices/a/telemetry", point(value=1)).status == 200
    with open_live(administrator) as socket:
        send(socket, type="subscribe", subscription="a", device_ids=["a"])
        position = receive(socket, "snapshot")["position"]
    for value in (2, 3, 4):
        assert gateway.post("devices/a/telemetry", point(value=value)).status == 200
    with open_live(administrator) as socket:
        send(socket, type="subscribe", subscription="a", device_ids=["a"], resume_from=position)
        frame = receive(socket, "gap")
        assert frame["recovered"] and [value["value"] for value in frame["values"]] == [2.0, 3.0, 4.0]


def test_equal_name_replaces_a_data_subscription(administrator: ApiClient, gateway: ApiClient):
    with open_live(administrator) as socket:
        for name in ("a", "b"):
            send(socket, type="subscribe", subscription="x", device_ids=[name], max_frequency=100)
            receive(socket, "snapshot")
        assert gateway.post("bulk", {name: [point(value=8)] for name in ("a", "b")}).status == 200
        assert values_of(receive(socket, "points")) == [("b", "temperature", 8.0)]


@pytest.mark.slow
def test_more_than_200_data_subscriptions_are_rejected_with_4009(administrator: ApiClient, monkeypatch: Any):
    monkeypatch.setattr("dashboard.streams.websocket.MAX_MESSAGES", 10 * MAX_SUBSCRIPTIONS)
    with open_live(administrator) as socket:
        for number in range(MAX_SUBSCRIPTIONS):
            send(socket, type="subscribe", subscription=str(number), device_ids=["a"])
            receive(socket, "snapshot")
        send(socket, type="subscribe", subscription="0", device_ids=["b"])  # replaces one
        receive(socket, "snapshot")
        send(socket, type="subscribe", subscription="one more", device_ids=["a"])
        assert closed_with(socket)["code"] == 4009
