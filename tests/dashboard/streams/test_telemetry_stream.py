"""`/ws/telemetry/{id}` and `/sse/telemetry/{id}`: snapshot, values, resuming, and who sees what."""

from typing import Any

import pytest
from django.contrib.auth import get_user_model

from dashboard.models import Subscription
from dashboard.streams import open_sessions
from ingest.models import ApiKey
from metrics.devices import group_membership
from metrics.models import Device, DeviceGroup
from metrics.storage import series_registry
from tests.conftest import ApiClient, person, point, stamp
from tests.dashboard.streams.stream_client import EventStream, closed_with, open_stream, receive, subscribe, values_of


def send(gateway: ApiClient, **values: Any) -> None:
    assert gateway.post("bulk", {name: [point(value=value)] for name, value in values.items()}).status == 200


def test_stream_sends_a_snapshot_and_then_new_values(reader: ApiClient, gateway: ApiClient):
    send(gateway, press=1.0, oven=2.0)
    with open_stream(reader, subscribe(reader, device_ids=["press"])) as socket:
        snapshot = receive(socket, "snapshot")
        assert values_of(snapshot) == [("press", "temperature", 1.0)]
        assert (snapshot["recovered"], snapshot["reason"], snapshot["more"]) == (None, None, False)
        send(gateway, oven=3.0, press=4.0)
        points = receive(socket, "points")
        assert values_of(points) == [("press", "temperature", 4.0)]
        assert set(points["values"][0]) == {"device_id", "metric_name", "timestamp", "value", "unit"}
        assert points["values"][0]["timestamp"].endswith("Z")


def test_metrics_and_tags_filter_the_stream(reader: ApiClient, gateway: ApiClient):
    identity = subscribe(reader, metric_names=["temperature"], tags={"line": "1"})
    with open_stream(reader, identity) as socket:
        receive(socket, "snapshot")
        for metric, tags in (
            ("humidity", {"line": "1"}),
            ("temperature", {"line": "2"}),
            ("temperature", {"line": "1"}),
        ):
            body = point(metric, 7.0 if tags["line"] == "1" else 8.0, tags=tags)
            assert gateway.post("devices/press/telemetry", body).status == 200
        assert values_of(receive(socket, "points")) == [("press", "temperature", 7.0)]


def test_resumed_stream_sends_every_missed_point(reader: ApiClient, gateway: ApiClient):
    identity = subscribe(reader)
    with open_stream(reader, identity) as socket:
        receive(socket, "snapshot")
        send(gateway, press=1.0)
        position = receive(socket, "points")["position"]
    for number in range(5):
        body = {"timestamp": stamp(-number), "metric_name": "temperature", "value": float(number)}
        assert gateway.post("devices/press/telemetry", body).status == 200
    with open_stream(reader, identity, resume_from=position) as socket:
        gap = receive(socket, "gap")
        assert gap["recovered"] is True
        assert [value["value"] for value in gap["values"]] == [0.0, 1.0, 2.0, 3.0, 4.0]
        with open_stream(reader, identity, resume_from=gap["position"]) as second:
            assert receive(second, "gap")["values"] == []


def test_position_of_another_epoch_or_the_future_gets_a_snapshot(reader: ApiClient, gateway: ApiClient):
    send(gateway, press=1.0)
    identity = subscribe(reader)
    with open_stream(reader, identity) as socket:
        position = receive(socket, "snapshot")["position"]
    epoch, _, offset = position.partition(".")
    for resume_from, reason in ((f"00000000.{offset}", "epoch"), (f"{epoch}.999999999", "future")):
        with open_stream(reader, identity, resume_from=resume_from) as socket:
            snapshot = receive(socket, "snapshot")
            assert (snapshot["recovered"], snapshot["reason"]) == (False, reason)
            assert values_of(snapshot) == [("press", "temperature", 1.0)]


@pytest.mark.parametrize("resume_from", ["x", "1", "zzzzzzzz.1", "00000000.-1", "00000000.1e9", "00000000.9" * 50])
def test_malformed_position_is_rejected_with_4013(reader: ApiClient, resume_from: str):
    with open_stream(reader, subscribe(reader), resume_from=resume_from) as socket:
        error = closed_with(socket)
        assert (error["code"], error["retry"]) == (4013, False)
        assert "resume_from" in error["detail"]


def test_unknown_parameter_is_rejected_by_name(reader: ApiClient):
    with open_stream(reader, subscribe(reader), token="x") as socket:
        error = closed_with(socket)
        assert error["code"] == 4013
        assert "token" in error["detail"]


def test_event_stream_has_the_frames_of_the_websocket(reader: ApiClient, gateway: ApiClient):
    send(gateway, press=1.0)
    identity = subscribe(reader)
    with EventStream(reader, f"/sse/telemetry/{identity}") as stream:
        assert stream.response.getheader("Content-Type") == "text/event-stream; charset=utf-8"
        snapshot = stream.next()
        assert snapshot is not None
        assert values_of(snapshot) == [("press", "temperature", 1.0)]
        assert stream.fields["id"] == snapshot["position"]
        send(gateway, press=2.0)
        points = stream.next()
        assert points is not None
        assert values_of(points) == [("press", "temperature", 2.0)]
        assert stream.fields["id"] == points["position"]
    send(gateway, press=3.0)
    with EventStream(reader, f"/sse/telemetry/{identity}", Last_Event_ID=points["position"]) as stream:
        gap = stream.next()
        assert gap is not None
        assert (gap["type"], values_of(gap)) == ("gap", [("press", "temperature", 3.0)])


def test_error_of_an_event_stream_is_an_event_before_its_end(reader: ApiClient):
    with EventStream(reader, "/sse/telemetry/sub_unknown") as stream:
        error = stream.next()
        assert error is not None
        assert (error["type"], error["code"], error["retry"]) == ("error", 4004, False)
        assert stream.fields["event"] == "error"
        assert int(stream.fields["retry"]) >= 3_600_000  # a browser would connect again
        assert stream.next() is None


def test_other_methods_and_paths_of_event_streams_are_rejected(reader: ApiClient):
    assert reader.post(f"/sse/telemetry/{subscribe(reader)}", {}).status == 405
    assert reader.get("/sse/unknown").status == 404


@pytest.mark.slow
def test_limited_callers_receive_only_their_devices(gateway: ApiClient, device: ApiClient, viewer: ApiClient):
    send(gateway, device_001=1.0, press=2.0, oven=3.0)
    group = DeviceGroup.objects.get(name="site a")
    group_membership.add_devices(group, [Device.objects.get(device_id="press").pk])
    series_registry.refresh_registry()
    group_key = ApiClient(gateway.port, {"X-Api-Key": ApiKey.issue("wall", "read", group=group)[1]})
    for caller, expected in ((device, "device_001"), (group_key, "press"), (viewer, "press")):
        with open_stream(caller, subscribe(caller)) as socket:
            assert {name for name, *_ in values_of(receive(socket, "snapshot"))} == {expected}
            send(gateway, oven=4.0, press=5.0, device_001=6.0)
            assert {name for name, *_ in values_of(receive(socket, "points"))} == {expected}


def test_key_may_not_subscribe_to_a_device_of_another(device: ApiClient, gateway: ApiClient):
    assert device.post("subscribe", {"device_ids": ["press"]}).status == 403
    assert gateway.post("subscribe", {}).status == 403


@pytest.mark.slow
def test_device_that_leaves_the_group_leaves_the_stream(
    gateway: ApiClient, viewer: ApiClient, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(open_sessions, "TICK", 0.05)
    send(gateway, oven=1.0, press=2.0)
    oven, press = Device.objects.order_by("device_id")
    group, other = DeviceGroup.objects.get(name="site a"), DeviceGroup.objects.create(name="site b")
    group_membership.add_devices(group, [oven.pk, press.pk])
    with open_stream(viewer, subscribe(viewer, groups=["site a", "site b"])) as socket:
        assert {name for name, *_ in values_of(receive(socket, "snapshot"))} == {"oven", "press"}
        group_membership.remove_devices(group, [oven.pk])
        group_membership.add_devices(other, [oven.pk])
        assert {name for name, *_ in values_of(receive(socket, "snapshot"))} == {"press"}
        send(gateway, oven=3.0)
        send(gateway, press=4.0)
        assert values_of(receive(socket, "points")) == [("press", "temperature", 4.0)]
        other.members.add(get_user_model().objects.get(username="viewer"))
        assert {name for name, *_ in values_of(receive(socket, "snapshot"))} == {"oven", "press"}


def test_subscription_of_another_caller_is_unknown(reader: ApiClient, admin: ApiClient):
    with open_stream(admin, subscribe(reader)) as socket:
        assert closed_with(socket)["code"] == 4004


@pytest.mark.slow
def test_subscription_is_kept_while_a_stream_is_open(reader: ApiClient, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(open_sessions, "TICK", 0.02)
    identity = subscribe(reader)
    created = Subscription.objects.get(pk=identity).expires_at
    with open_stream(reader, identity) as socket:
        receive(socket, "snapshot")
        extended = Subscription.objects.get(pk=identity).expires_at
        assert extended > created
        receive(socket, "ping")
        receive(socket, "ping")
        assert Subscription.objects.get(pk=identity).expires_at > extended


def test_user_renamed_while_subscribed_keeps_the_subscription(site: None, web_port: int):
    user = get_user_model().objects.create_superuser("root")
    caller = person(web_port, user)
    identity = subscribe(caller)
    user.username = "renamed"
    user.save()
    with open_stream(caller, identity) as socket:
        receive(socket, "snapshot")
