"""The outbox: events are written in the transaction of the change that they report."""

import os
import time
import uuid
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Any

import msgspec
from django.db import connection

from metrics.events.event import EventData
from metrics.storage.connection import Connection

_INSERT = """
INSERT INTO metrics_event (event_id, type, subject, device_id, owner_id, time, data)
SELECT * FROM unnest(%s::uuid[], %s::text[], %s::text[], %s::text[], %s::bigint[], %s::timestamptz[], %s::jsonb[])
"""


class OutsideTransaction(RuntimeError):
    """An event was recorded outside of a transaction, so it could not be stored together with its change."""


def record_event(event: EventData) -> None:
    """Write an event in the current transaction. Raises OutsideTransaction."""
    record_events([event])


def record_events(events: Iterable[EventData]) -> None:
    """Write events in the current transaction, in one statement. Raises OutsideTransaction."""
    rows = list(events)
    if not rows:
        return
    if not connection.in_atomic_block:
        raise OutsideTransaction(f"{rows[0].type} must be recorded in the transaction of its change")
    with connection.cursor() as cursor:
        cursor.execute(_INSERT, _columns(rows))


def write_events(connection: Connection, events: Sequence[EventData]) -> None:
    """Write events in the current transaction of a storage connection, in one statement."""
    if events:
        connection.execute(_INSERT, _columns(events))


def _columns(events: Sequence[EventData]) -> tuple[list[Any], ...]:
    """Return the parameters of _INSERT."""
    now = datetime.now(UTC)
    return (
        [new_event_id() for _ in events],
        [event.type for event in events],
        [event.subject for event in events],
        [event.visible_device for event in events],
        [event.owner for event in events],
        [now] * len(events),
        [msgspec.json.encode(event).decode() for event in events],
    )


def new_event_id() -> uuid.UUID:
    """Return a UUID of version 7: its first 48 bits are milliseconds since 1970, so ids sort by time (RFC 9562)."""
    milliseconds = time.time_ns() // 1_000_000
    number = (milliseconds << 80) | int.from_bytes(os.urandom(10), "big")
    number = (number & ~(0xF << 76)) | (7 << 76)
    return uuid.UUID(int=(number & ~(0b11 << 62)) | (0b10 << 62))
