"""The stream /ws/live over real sockets: channels, figures and data subscriptions on one connection."""

import itertools
import json
import threading
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.contrib.auth import get_user_model
from django.db import connection, transaction
from websockets.sync.client import ClientConnection

from alerts import alert_actions
from alerts.models import Resolution, Rule
from dashboard.streams import socket_writer
from dashboard.streams.live_consumer import MAX_SUBSCRIPTIONS
from ingest.models import ApiKey
from metrics.devices import group_membership
from metrics.events.definitions import DeviceBack, DeviceSilent, JobProgressed
from metrics.events.event import EventData
from metrics.events.outbox import record_event, record_events
from metrics.models import Device, DeviceGroup, MetricDefinition
from metrics.storage import series_registry
from tests.conftest import ApiClient, point
from tests.dashboard.factories import open_alert, queryset_of
from tests.dashboard.streams.stream_client import TIMEOUT, EventStream, closed_with, open_path, receive, values_of
from tests.telemetry_site.site_process import wait_until

EVENT_CHANNELS = ["alerts", "definitions", "devices", "jobs"]


def open_live(caller: ApiClient, **parameters: str) -> ClientConnection:
    return open_path(caller, "/ws/live", **parameters)


def send(socket: ClientConnection, **message: Any) -> None:
    socket.send(json.dumps(message))


def subscribe(socket: ClientConnection, *channels: str, **more: Any) -> dict[str, Any]:
    """Subscribe to channels and return the answer."""
    send(socket, type="subscribe", channels=list(channels), **more)
    return receive(socket, "subscribed")


def record(*events: EventData) -> None:
    with transaction.atomic():
        record_events(events)


def silent(device_id: str = "press") -> DeviceSilent:
    return DeviceSilent(device_id=device_id, last_seen=datetime(2026, 1, 1, tzinfo=UTC), offline_after_seconds=300)


def back(device_id: str = "press") -> DeviceBack:
    return DeviceBack(device_id=device_id, last_seen=datetime(2026, 1, 1, tzinfo=UTC))


def next_event(socket: ClientConnection, timeout: float = TIMEOUT) -> dict[str, Any]:
    return receive(socket, "event", timeout)["event"]


def subjects_until(socket: ClientConnection, last: str) -> list[str]:
    """Return the subjects of the events up to the one with subject `last`."""
    subjects = [next_event(socket)["subject"]]
    while subjects[-1] != last:
        subjects.append(next_event(socket)["subject"])
    return subjects


@pytest.fixture
def rule(site: None) -> Rule:
    return Rule.objects.create(name="Too warm", metric_name="temperature", level="warning")


@pytest.mark.slow
def test_message_of_the_alerting_document_works_unchanged(administrator: ApiClient, rule: Rule):
    with open_live(administrator) as socket:
        socket.send('{"type":"subscribe","channels":["alerts","dashboard"]}')
        assert receive(socket, "subscribed")["channels"] == ["alerts", "dashboard"]
        assert receive(socket, "dashboard")["figures"]["alerts"]["open"] == 0
        open_alert(rule, "press", "Too warm")
        assert next_event(socket)["type"] == "alert.triggered"
        frame = receive(socket, "dashboard", 2)
        assert frame["figures"]["alerts"]["open"] == 1 and set(frame) == {"type", "channel", "figures"}


@pytest.mark.slow
def test_frames_have_exactly_the_documented_fields(administrator: ApiClient, rule: Rule):
    with open_live(administrator) as socket:
        answer = subscribe(socket, "alerts")
        assert answer == {"type": "subscribed", "channels": ["alerts"], "position": answer["position"]}
        alert = open_alert(rule, "press", "Too warm", value=4.5)
        frame = receive(socket, "event")
        epoch, offset = frame["position"].split(".")
        assert len(epoch) == 8 and offset.isdigit()
        event = frame["event"]
        assert frame == {"type": "event", "channel": "alerts", "position": frame["position"], "event": event}
        assert set(event) == {"id", "type", "subject", "time", "data"}
        assert event["subject"] == f"alert/{alert.alert_id}" and event["time"].endswith("Z")
        assert datetime.now(UTC) - datetime.fromisoformat(event["time"]) < timedelta(seconds=TIMEOUT)
        data = event["data"]
        assert (data["status"], data["level"], data["value"]) == ("active", "warning", 4.5)
        assert data["device_id"] == "press" and data["message"] == "Too warm"


@pytest.mark.slow
def test_actions_on_an_alert_are_sent_in_their_order(administrator: ApiClient, rule: Rule):
    with open_live(administrator) as socket:
        subscribe(socket, "alerts")
        selected = queryset_of(open_alert(rule, "press", "Too warm"))
        alert_actions.acknowledge(selected, "user:mei", "on it")
        alert_actions.assign(selected, "user:kai", "user:mei")
        alert_actions.resolve(selected, Resolution.PERSON, "user:kai", "cooled")
        states = []
        while not states or states[-1][0] != "alert.resolved":
            event = next_event(socket)
            states.append((event["type"], event["data"]["status"], event["data"]["owner_name"]))
        assert [state for state in states if state[0] != "alert.updated"] == [
            ("alert.triggered", "active", ""),
            ("alert.acknowledged", "acknowledged", "user:mei"),
            ("alert.assigned", "acknowledged", "user:kai"),
            ("alert.resolved", "resolved", "user:kai"),
        ]


@pytest.mark.slow
def test_devices_definitions_and_own_jobs_are_sent(administrator: ApiClient, rule: Rule):
    user = get_user_model().objects.get()
    job = {"job_id": "e1", "format": "csv", "status": "running", "progress": 0.5, "rows": 10}
    with open_live(administrator) as socket:
        subscribe(socket, *EVENT_CHANNELS)
        Device.objects.create(device_id="press")
        MetricDefinition.objects.create(name="temperature", data_type="numeric")
        rule.enabled = False
        rule.save()
        record(silent(), back())
        record(JobProgressed(**job, user_id=user.pk + 1), JobProgressed(**job, user_id=user.pk))
        received = []
        while not received or received[-1][1] != "job.progressed":
            frame = receive(socket, "event")
            received.append((frame["channel"], frame["event"]["type"]))
        assert received == [
            ("devices", "device.created"),
            ("definitions", "metric.defined"),
            ("definitions", "alert.rule.updated"),
            ("devices", "device.silent"),
            ("devices", "device.back"),
            ("jobs", "job.progressed"),
        ]
        assert frame["event"]["data"]["user_id"] == user.pk


@pytest.mark.slow
def test_unsubscribed_channel_is_not_sent(administrator: ApiClient, rule: Rule):
    with open_live(administrator) as socket:
        subscribe(socket, "alerts", "devices")
        send(socket, type="unsubscribe", channels=["devices"])
        assert receive(socket, "subscribed")["channels"] == ["alerts"]
        record(silent())
        open_alert(rule, "press", "Too warm")
        assert next_event(socket)["type"] == "alert.triggered"
        send(socket, type="unsubscribe", channels=["alerts"])
        assert receive(socket, "subscribed")["channels"] == []
        subscribe(socket, "devices")
        record(back())
        assert next_event(socket)["type"] == "device.back"


@pytest.mark.slow
def test_event_of_a_late_transaction_is_sent_after_a_later_one(administrator: ApiClient):
    """A reader by id would lose it."""
    is_recorded, may_commit = threading.Event(), threading.Event()

    def commit_late() -> None:
        with transaction.atomic():
            record_event(silent("late"))
            is_recorded.set()
            assert may_commit.wait(TIMEOUT)
        connection.close()

    with open_live(administrator) as socket:
        position = subscribe(socket, "devices")["position"]
        late = threading.Thread(target=commit_late)
        late.start()
        assert is_recorded.wait(TIMEOUT)
        record(silent("early"))
        assert next_event(socket)["subject"] == "device/early"
        may_commit.set()
        assert next_event(socket)["subject"] == "device/late"
        late.join(TIMEOUT)
    with open_live(administrator) as socket:
        subscribe(socket, "devices", resume_from=position)
        assert subjects_until(socket, "device/early") == ["device/late", "device/early"]


# --- resuming ---------------------------------------------------------------------------------------


@pytest.mark.slow
def test_missed_events_are_sent_after_a_resume(administrator: ApiClient):
    with open_live(administrator) as socket:
        subscribe(socket, "devices")
        record(silent("a"))
        position = receive(socket, "event")["position"]
    record(silent("b"))
    record(silent("c"))
    with open_live(administrator) as socket:
        answer = subscribe(socket, "devices", resume_from=position)
        assert answer["position"] == position
        frames = [receive(socket, "event")]
        while frames[-1]["event"]["subject"] != "device/c":
            frames.append(receive(socket, "event"))
        subjects = [frame["event"]["subject"] for frame in frames]
        assert subjects[-2:] == ["device/b", "device/c"] and set(subjects) <= {"device/a", "device/b", "device/c"}
        assert frames[-1]["position"] != position


def test_received_events_are_not_repeated_once_earlier_transactions_have_ended(administrator: ApiClient):
    with open_live(administrator) as socket:
        position = subscribe(socket, "devices")["position"]
    names = (f"press {number}" for number in itertools.count())

    def is_without_repeats() -> bool:
        nonlocal position
        name = next(names)
        record(silent(name))
        with open_live(administrator) as socket:
            subscribe(socket, "devices", resume_from=position)
            frames = [receive(socket, "event")]
            while frames[-1]["event"]["subject"] != f"device/{name}":
                frames.append(receive(socket, "event"))
        position = frames[-1]["position"]
        return name != "press 0" and len(frames) == 1

    wait_until(is_without_repeats, TIMEOUT, "only the new event")


@pytest.mark.slow
@pytest.mark.parametrize(("change", "reason"), [("epoch", "epoch"), ("future", "future"), ("old", "too_old")])
def test_resume_that_is_not_possible_is_answered_with_a_resync(administrator: ApiClient, change: str, reason: str):
    record(silent("a"), silent("b"))
    with open_live(administrator) as socket:
        epoch, offset = subscribe(socket, "devices")["position"].split(".")
        if change == "old":
            with connection.cursor() as cursor:  # as the task does that deletes old events
                cursor.execute("DELETE FROM metrics_event WHERE data ->> 'device_id' = 'a'")
        resume_from = {
            "epoch": f"00000000.{offset}",
            "future": f"{epoch}.{int(offset) + 1_000_000}",
            "old": f"{epoch}.3",
        }[change]
        subscribe(socket, "devices", resume_from=resume_from)
        assert receive(socket, "resync") == {"type": "resync", "channel": None, "reason": reason}
        record(silent("c"))
        assert next_event(socket)["subject"] == "device/c"


@pytest.mark.slow
def test_more_than_a_ring_of_missed_events_become_one_resync(administrator: ApiClient):
    with open_live(administrator) as socket:
        position = subscribe(socket, "devices")["position"]
    record(*(silent(str(number)) for number in range(socket_writer.MAX_EVENTS + 1)))
    with open_live(administrator) as socket:
        subscribe(socket, "devices", resume_from=position)
        assert receive(socket, "resync")["reason"] == "overflow"
        record(silent("next"))
        assert subjects_until(socket, "device/next")[-1] == "device/next"
    with open_live(administrator) as socket:  # events of other channels do not count
        subscribe(socket, "alerts", resume_from=position)
        subscribe(socket, "devices")
        record(silent("last"))
        assert receive(socket, "event")["event"]["subject"] == "device/last"


# --- rights -----------------------------------------------------------------------------------------


@pytest.fixture
def two_sites(gateway: ApiClient) -> DeviceGroup:
    """Devices `press` of `site a` and `oven` of no group."""
    assert gateway.post("bulk", {name: [point()] for name in ("oven", "press")}).status == 200
    group = DeviceGroup.objects.get_or_create(name="site a")[0]
    group_membership.add_devices(group, [Device.objects.get(device_id="press").pk])
    series_registry.refresh_registry()
    return group


@pytest.mark.slow
def test_limited_caller_gets_nothing_of_foreign_devices_rules_and_jobs(
    viewer: ApiClient, two_sites: DeviceGroup, rule: Rule
):
    viewer_pk = get_user_model().objects.get(username="viewer").pk
    job = {"job_id": "e1", "format": "csv", "status": "running", "progress": 0.5, "rows": 10}
    clients = [viewer, ApiClient(viewer.port, {"X-Api-Key": ApiKey.issue("wall", "read", group=two_sites)[1]})]
    with open_live(clients[0]) as by_session, open_live(clients[1]) as by_key:
        for socket in (by_session, by_key):
            subscribe(socket, *EVENT_CHANNELS, "dashboard")
            assert receive(socket, "dashboard")["figures"]["devices"]["total"] == 1
        foreign_rule = Rule.objects.create(name="Secret", metric_name="temperature", level="warning")
        open_alert(foreign_rule, "oven", "Foreign")
        record(JobProgressed(**job, user_id=viewer_pk + 1), JobProgressed(**job, user_id=0))
        record(silent("oven"), back("oven"), silent("unknown"))
        record(JobProgressed(**job, user_id=viewer_pk))
        own = open_alert(rule, "press", "Own")
        for socket, kinds in ((by_session, ["job.progressed"]), (by_key, [])):
            texts: list[str] = []
            while not texts or "alert.triggered" not in texts[-1]:
                texts.append(str(socket.recv(TIMEOUT)))
            frames = [json.loads(text) for text in texts]
            events = [frame["event"] for frame in frames if frame["type"] == "event"]
            assert [event["type"] for event in events] == [*kinds, "alert.triggered"]
            assert events[-1]["subject"] == f"alert/{own.alert_id}"
            assert not any(word in text for text in texts for word in ("oven", "Secret", "unknown", "Foreign"))
            # The list of rules has changed, in which the caller may see a part.
            assert {"type": "resync", "channel": "definitions", "reason": "changed"} in frames


@pytest.mark.slow
def test_device_bound_key_gets_events_of_its_device_only(device: ApiClient):
    with open_live(device) as socket:
        subscribe(socket, "devices")
        record(silent("other"), silent("device_001"))
        assert next_event(socket)["subject"] == "device/device_001"


@pytest.mark.slow
def test_changed_membership_applies_to_the_next_event(viewer: ApiClient, two_sites: DeviceGroup):
    inside, outside = (Device.objects.get(device_id=name) for name in ("press", "oven"))
    with open_live(viewer) as socket:
        subscribe(socket, "devices")
        for _ in range(4):
            with transaction.atomic():
                group_membership.remove_devices(two_sites, [inside.pk])
                group_membership.add_devices(two_sites, [outside.pk])
            inside, outside = outside, inside
            record(silent(outside.device_id), silent(inside.device_id))  # before this process knows of the change
            assert receive(socket, "resync") == {"type": "resync", "channel": None, "reason": "rights"}
            record(back(outside.device_id), back(inside.device_id))
            events = [next_event(socket)]
            while events[-1]["type"] != "device.back":
                events.append(next_event(socket))
            assert {event["subject"] for event in events} == {f"device/{inside.device_id}"}


@pytest.mark.slow
def test_stream_of_a_disabled_user_is_closed_with_4003(viewer: ApiClient):
    with open_live(viewer) as socket:
        subscribe(socket, "alerts")
        user = get_user_model().objects.get(username="viewer")
        user.is_active = False
        user.save()
        assert closed_with(socket)["code"] == 4003


# --- data subscriptions -----------------------------------------------------------------------------


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
def test_data_of_foreign_devices_is_not_sent(viewer: ApiClient, two_sites: DeviceGroup, gateway: ApiClient):
    with open_live(viewer) as socket:
        for filters in ({}, {"device_ids": ["oven", "press"]}, {"groups": ["site a", "site b"]}):
            send(socket, type="subscribe", subscription="x", max_frequency=100, **filters)
            assert values_of(receive(socket, "snapshot")) == [("press", "temperature", 25.5)]
        send(socket, type="subscribe", subscription="x", max_frequency=100)
        receive(socket, "snapshot")
        group_membership.remove_devices(two_sites, [Device.objects.get(device_id="press").pk])
        assert receive(socket, "snapshot")["values"] == []
        assert gateway.post("bulk", {name: [point(value=8)] for name in ("oven", "press")}).status == 200
        group_membership.add_devices(two_sites, [Device.objects.get(device_id="press").pk])
        assert values_of(receive(socket, "snapshot")) == [("press", "temperature", 8.0)]


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


# --- server-sent events -----------------------------------------------------------------------------


@pytest.mark.slow
def test_server_sent_events_carry_the_same_frames(administrator: ApiClient, gateway: ApiClient):
    assert gateway.post("devices/a/telemetry", point()).status == 200
    with EventStream(administrator, "/sse/live?channels=devices,dashboard&device_ids=a&max_frequency=100") as stream:
        frames = [stream.next() for _ in range(3)]
        assert {frame["type"] for frame in frames if frame} == {"subscribed", "snapshot", "dashboard"}
        record(silent())
        while (frame := stream.next()) is not None and frame["type"] != "event":
            continue
        assert frame is not None and frame["event"]["type"] == "device.silent"
        last_id = stream.fields["id"]
        assert last_id == frame["position"]
    record(back())
    with EventStream(administrator, "/sse/live?channels=devices", Last_Event_ID=last_id) as stream:
        types = []
        while not types or types[-1] != "device.back":
            frame = stream.next()
            assert frame is not None
            types.append(frame["event"]["type"] if frame["type"] == "event" else frame["type"])
        assert types[0] == "subscribed"


@pytest.mark.slow
def test_id_of_server_sent_events_is_the_position_of_events_only(administrator: ApiClient, gateway: ApiClient):
    """A position of values in `Last-Event-ID` could be ahead of events that were not sent."""
    assert gateway.post("devices/a/telemetry", point()).status == 200
    path = "/sse/live?channels=devices&device_ids=a&max_frequency=100"
    with EventStream(administrator, path) as stream:
        ids = {}
        while "points" not in ids:
            frame = stream.next()
            assert frame is not None
            ids[frame["type"]] = stream.fields.get("id"), frame.get("position")
            if frame["type"] == "snapshot":
                assert gateway.post("devices/a/telemetry", point(value=1)).status == 200
        assert ids["subscribed"][0] == ids["subscribed"][1] and ids["snapshot"][0] is ids["points"][0] is None
    record(silent())
    with EventStream(administrator, path, Last_Event_ID=str(ids["subscribed"][0])) as stream:
        while (frame := stream.next()) is not None and frame["type"] != "event":
            assert frame["type"] in ("subscribed", "snapshot")
        assert frame is not None and frame["event"]["type"] == "device.silent"


# --- bad input --------------------------------------------------------------------------------------

INVALID_MESSAGES = {
    "no type": ("{}", "type must be"),
    "unknown type": ('{"type": "delete"}', "type must be"),
    "type of another type": ('{"type": ["subscribe"]}', "type must be"),
    "neither channels nor subscription": ('{"type": "subscribe"}', "either channels or subscription"),
    "both": ('{"type": "subscribe", "channels": ["alerts"], "subscription": "a"}', "either channels or subscription"),
    "channels no list": ('{"type": "subscribe", "channels": "alerts"}', "channels must be a list"),
    "channels empty": ('{"type": "unsubscribe", "channels": []}', "channels must be a list"),
    "channels null": ('{"type": "subscribe", "channels": null}', "channels must be a list"),
    "unknown channel": ('{"type": "subscribe", "channels": ["alarms"]}', "channels must only have"),
    "channel no text": ('{"type": "subscribe", "channels": [{"a": 1}]}', "channels must only have"),
    "unknown field": ('{"type": "subscribe", "channels": ["alerts"], "devices": []}', "devices is not a field"),
    "field of data": ('{"type": "subscribe", "channels": ["alerts"], "tags": {}}', "tags is not a field"),
    "unsubscribe with filter": ('{"type": "unsubscribe", "subscription": "a", "tags": {}}', "tags is not a field"),
    "subscription no text": ('{"type": "subscribe", "subscription": 1}', "subscription must be a text"),
    "subscription empty": ('{"type": "subscribe", "subscription": ""}', "subscription must be a text"),
    "subscription too long": (json.dumps({"type": "subscribe", "subscription": "x" * 101}), "subscription must be"),
    "devices no list": ('{"type": "subscribe", "subscription": "a", "device_ids": "a"}', "device_ids must be a list"),
    "device no text": ('{"type": "subscribe", "subscription": "a", "device_ids": [1]}', "device_ids must have names"),
    "device with NUL": ('{"type": "subscribe", "subscription": "a", "device_ids": ["\\u0000"]}', "device_ids must"),
    "too many metrics": (
        json.dumps({"type": "subscribe", "subscription": "a", "metric_names": ["m"] * 501}),
        "metric_names must be a list of at most 500",
    ),
    "long group": (
        json.dumps({"type": "subscribe", "subscription": "a", "groups": ["x" * 201]}),
        "groups must have names",
    ),
    "tags no object": ('{"type": "subscribe", "subscription": "a", "tags": ["a"]}', "tags must be an object"),
    "tag value an object": ('{"type": "subscribe", "subscription": "a", "tags": {"a": {}}}', "tags must have texts"),
    "frequency too high": ('{"type": "subscribe", "subscription": "a", "max_frequency": 99}', "max_frequency must"),
    "frequency boolean": ('{"type": "subscribe", "subscription": "a", "max_frequency": true}', "max_frequency must"),
    "frequency null": ('{"type": "subscribe", "subscription": "a", "max_frequency": null}', "max_frequency must"),
    "frequency text": ('{"type": "subscribe", "subscription": "a", "max_frequency": "1"}', "max_frequency must"),
    "position a number": ('{"type": "subscribe", "channels": ["alerts"], "resume_from": 1}', "resume_from must"),
    "position a word": ('{"type": "subscribe", "channels": ["alerts"], "resume_from": "x"}', "resume_from"),
    "position of several shards": (
        '{"type": "subscribe", "channels": ["alerts"], "resume_from": "00000000.1-2"}',
        "resume_from must",
    ),
    "position negative": ('{"type": "subscribe", "subscription": "a", "resume_from": "00000000.-1"}', "resume_from"),
    "duplicate name": (
        '{"type": "subscribe", "channels": ["alerts"], "channels": ["jobs"]}',
        "'channels' occurs twice",
    ),
    "duplicate tag": ('{"type": "subscribe", "subscription": "a", "tags": {"x": 1, "x": 2}}', "'x' occurs twice"),
}


@pytest.mark.parametrize(("message", "detail"), INVALID_MESSAGES.values(), ids=INVALID_MESSAGES)
def test_invalid_message_gets_an_error_that_names_the_field(
    administrator: ApiClient, caplog: pytest.LogCaptureFixture, message: str, detail: str
):
    with open_live(administrator) as socket:
        socket.send(message)
        frame = receive(socket, "error")
        assert detail in frame["detail"]
        assert frame == {
            "type": "error", "code": None, "detail": frame["detail"], "retry": False, "retry_after_ms": None
        }  # fmt: skip
        subscribe(socket, "devices")  # the stream goes on
    assert not [record for record in caplog.records if record.name.startswith("dashboard")]


FATAL_MESSAGES = {
    "no JSON": "x",
    "empty": "",
    "a list": "[]",
    "a number": "1",
    "deep": "[" * 30_000,
    "deep in a field": '{"type": "subscribe", "tags": ' + '{"a":' * 10_000 + "1" + "}" * 10_001,
    "binary": b'{"type": "pong"}',
    "lone surrogate": '{"type": "\\ud800"}',
    "NaN": '{"type": NaN}',
}


@pytest.mark.parametrize("message", FATAL_MESSAGES.values(), ids=FATAL_MESSAGES)
def test_message_that_is_no_json_object_closes_the_stream_with_4013(
    administrator: ApiClient, caplog: pytest.LogCaptureFixture, message: str | bytes
):
    with open_live(administrator) as socket:
        socket.send(message)
        error = closed_with(socket)
        assert error["code"] == 4013 and not error["retry"]
    assert not [record for record in caplog.records if record.name.startswith("dashboard")]


@pytest.mark.slow
def test_largest_message_is_answered_and_a_larger_one_closes_the_stream(administrator: ApiClient):
    message = '{"type": "subscribe", "channels": ["alerts"]}'
    with open_live(administrator) as socket:
        socket.send(message + " " * (64 * 1024 - len(message)))
        receive(socket, "subscribed")
        socket.send(message + " " * (64 * 1024 + 1 - len(message)))
        assert closed_with(socket)["code"] == 4013


def test_ten_invalid_messages_close_the_stream(administrator: ApiClient):
    with open_live(administrator) as socket:
        for _ in range(10):
            socket.send("{}")
        assert closed_with(socket)["code"] == 4013


@pytest.mark.parametrize("query", ["channels=alarms", "devices=a", "max_frequency=1", "channels=alerts&resume_from=x"])
def test_invalid_parameter_closes_the_stream_with_4013(administrator: ApiClient, query: str):
    name, _, value = query.rpartition("&")[2].partition("=")
    with open_path(administrator, f"/ws/live?{query}") as socket:
        error = closed_with(socket)
        assert error["code"] == 4013 and (name in error["detail"] or value in error["detail"])
