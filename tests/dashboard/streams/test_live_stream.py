"""The channels of the stream /ws/live over real sockets: frames, order of events, and rights."""

import json
import threading
from datetime import UTC, datetime, timedelta

import pytest
from django.contrib.auth import get_user_model
from django.db import connection, transaction

from alerts import alert_actions
from alerts.models import Resolution, Rule
from ingest.models import ApiKey
from metrics.devices import group_membership
from metrics.events.definitions import JobProgressed
from metrics.events.outbox import record_event
from metrics.models import Device, DeviceGroup, MetricDefinition
from metrics.storage import series_registry
from tests.conftest import ApiClient, point
from tests.dashboard.factories import open_alert, queryset_of
from tests.dashboard.streams.live_stream_client import (
    EVENT_CHANNELS,
    back,
    next_event,
    open_live,
    record,
    send,
    silent,
    subjects_until,
    subscribe,
)
from tests.dashboard.streams.stream_client import TIMEOUT, closed_with, receive, values_of


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
