"""The relay to NATS JetStream, with a real server."""

import uuid
from collections.abc import Callable
from datetime import datetime

import pytest

from telemetry_site.bus.models import BusTarget, ParkedMessage
from telemetry_site.bus.relay import TargetRelay
from telemetry_site.bus.targets.target import Target
from tests.private_nats import PrivateNats, Session
from tests.telemetry_site.bus.conftest import nats_target, write_events
from tests.telemetry_site.site_process import wait_until

pytestmark = pytest.mark.slow
RunRelay = Callable[[Target], TargetRelay]


def stored_devices(nats: PrivateNats) -> list[str]:
    return [data["device_id"] for _, _, data in nats.messages("EVENTS")]


def wait_for_events(nats: PrivateNats, count: int, timeout: float = 20.0) -> None:
    """Wait until the stream EVENTS has this many messages."""
    with Session(nats.url) as session:

        def has_all() -> bool:
            from nats.js.errors import NotFoundError

            try:
                info = session.run(session.jetstream.stream_info("EVENTS"))
            except NotFoundError:
                return False
            return bool(info.state.messages >= count)

        wait_until(has_all, timeout, f"{count} events are stored")


def test_event_arrives_as_binary_cloud_event_with_all_attributes(nats: PrivateNats, run_relay: RunRelay) -> None:
    run_relay(nats_target(nats))
    [device] = write_events(1, 'pump "7" ä%')
    wait_for_events(nats, 1)

    [(subject, headers, data)] = nats.messages("EVENTS")

    assert subject == "telemetry.events.device.created"
    assert data["device_id"] == device
    assert headers["Nats-Msg-Id"] == headers["ce-id"]
    assert uuid.UUID(headers["ce-id"]).version == 7
    assert datetime.fromisoformat(headers["ce-time"]).utcoffset() is not None
    assert headers["ce-subject"] == "device/pump%20%227%22%20%C3%A4%25%200"
    assert {name: headers[f"ce-{name}"] for name in ("specversion", "source", "type", "datacontenttype")} == {
        "specversion": "1.0",
        "source": "/telemetry",
        "type": "device.created",
        "datacontenttype": "application/json",
    }
    assert headers["ce-dataschema"] == "urn:telemetry:event:device.created:1"


def test_streams_are_created_with_their_limits(nats: PrivateNats, run_relay: RunRelay) -> None:
    run_relay(nats_target(nats))
    write_events(1)
    wait_for_events(nats, 1)

    with Session(nats.url) as session:
        events = session.run(session.jetstream.stream_info("EVENTS")).config
        data = session.run(session.jetstream.stream_info("DATA")).config

    assert (events.subjects, events.discard, events.max_age) == (["telemetry.events.>"], "new", 30 * 86_400)
    assert (data.subjects, data.discard, data.max_age, data.max_bytes) == (
        ["telemetry.data.>"], "old", 86_400, 1024**3,
    )  # fmt: skip
    assert events.duplicate_window == data.duplicate_window == 3600


def test_events_before_and_after_the_start_arrive_once_in_order(nats: PrivateNats, run_relay: RunRelay) -> None:
    before = write_events(600, "before")
    relay = run_relay(nats_target(nats))
    wait_for_events(nats, 600)
    after = write_events(3, "after")
    wait_for_events(nats, 603)
    relay.request_stop()
    relay.join(10)

    assert stored_devices(nats) == before + after
    assert BusTarget.objects.get(name="nats").delivered == 603


def test_event_larger_than_the_server_accepts_is_parked_and_the_next_ones_arrive(
    nats: PrivateNats, run_relay: RunRelay, monkeypatch: pytest.MonkeyPatch
) -> None:
    from metrics.events import event as event_module

    class LongNote(event_module.EventData, frozen=True, kw_only=True):
        type = "test.note"
        text: str

        @property
        def subject(self) -> str:
            return "note/1"

    monkeypatch.delitem(event_module._definitions, "test.note")
    from django.db import transaction

    from metrics.events.outbox import record_event

    first = write_events(2, "first")
    with transaction.atomic():
        record_event(LongNote(text="x" * 1_100_000))
    last = write_events(2, "last")
    run_relay(nats_target(nats))
    wait_for_events(nats, 4)

    assert stored_devices(nats) == first + last
    parked = ParkedMessage.objects.get()
    assert (parked.type, parked.peer, parked.is_complete) == ("test.note", "nats", False)
    assert "the NATS server accepts 1,048,576" in parked.reason
