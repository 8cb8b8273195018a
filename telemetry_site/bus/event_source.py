"""Events of the outbox for one target, in the order in which its transactions depend on each other."""

import time
from collections.abc import Sequence

import msgspec
from django.conf import settings

from metrics.events.reader import Band, StoredEvent, read_band
from metrics.storage.connection import Connection
from telemetry_site.bus.cloud_event import CloudEvent, schema_of
from telemetry_site.bus.cursors import load_cursor, move_cursor
from telemetry_site.bus.targets.target import Stream

STORE_INTERVAL = 1.0  # seconds between stores of a position without events
SOURCE = "/telemetry"  # without TELEMETRY_SITE_URL


def event_source() -> str:
    """Return the `source` of the events of this installation."""
    return settings.SITE_URL or SOURCE


def to_cloud_event(stored: StoredEvent) -> CloudEvent:
    """Return an event of the outbox as CloudEvent."""
    envelope = stored.envelope()
    return CloudEvent(
        envelope["id"],
        event_source(),
        envelope["type"],
        envelope["subject"],
        envelope["time"],
        schema_of(envelope["type"]),
        msgspec.json.encode(envelope["data"]),
    )


class EventSource:
    """Reads the outbox from the stored position of a target."""

    stream = Stream.EVENTS
    pause_factor = 0.0

    def __init__(self, name: str) -> None:
        self._name = name
        self._band = self._stored = Band(0, 0)
        self._stored_at = 0.0
        self._read: list[StoredEvent] = []

    def load(self, connection: Connection, epoch: str) -> None:
        """Start at the stored position."""
        self._band = self._stored = load_cursor(connection, self._name, epoch)
        self._read = []

    def read(self, connection: Connection, limit: int) -> Sequence[CloudEvent]:
        """Return the next events; the same ones until `advance` is called. Raises CursorMoved."""
        if not self._read:
            self._band, self._read = read_band(connection, self._band, limit)
            if not self._read and time.monotonic() - self._stored_at > STORE_INTERVAL:
                self._store(connection)
        return [to_cloud_event(event) for event in self._read]

    def advance(self, connection: Connection, count: int) -> None:
        """Store that the first `count` events were delivered. Raises CursorMoved."""
        self._band = Band(self._band.low, self._band.high, self._read[count - 1].id)
        self._read = self._read[count:]
        self._store(connection)

    def _store(self, connection: Connection) -> None:
        """Store the position, also where nothing has changed: a replay is noticed by it."""
        move_cursor(connection, self._name, self._stored, self._band)
        self._stored, self._stored_at = self._band, time.monotonic()
