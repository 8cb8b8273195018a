"""Messages, events and subscriptions of the stream /ws/live, for tests."""

import json
from datetime import UTC, datetime
from typing import Any

from django.db import transaction
from websockets.sync.client import ClientConnection

from metrics.events.definitions import DeviceBack, DeviceSilent
from metrics.events.event import EventData
from metrics.events.outbox import record_events
from tests.conftest import ApiClient
from tests.dashboard.streams.stream_client import TIMEOUT, open_path, receive

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
