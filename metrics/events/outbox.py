"""The outbox: events are written in the transaction of the change that they report."""

import os
import time
import uuid
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime

import msgspec
from django.db import connection

from metrics.events.event import EventData
from metrics.storage.connection import Connection

# One parameter: psycopg takes longer for lists of thousands of values than PostgreSQL for the rows.
_INSERT = """
INSERT INTO metrics_event (event_id, type, subject, device_id, owner_id, time, data)
SELECT event_id, type, subject, device_id, owner_id, %s, data FROM jsonb_to_recordset(%s::jsonb)
    AS e (event_id uuid, type text, subject text, device_id text, owner_id bigint, data jsonb)
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
        cursor.execute(_INSERT, _parameters(rows))


def write_events(connection: Connection, events: Sequence[EventData]) -> None:
    """Write events in the current transaction of a storage connection, in one statement."""
    if events:
        connection.execute(_INSERT, _parameters(events))


def _parameters(events: Sequence[EventData]) -> tuple[datetime, str]:
    """Return the parameters of _INSERT."""
    rows = [
        {
            "event_id": new_event_id(),
            "type": event.type,
            "subject": event.subject,
            "device_id": event.visible_device,
            "owner_id": event.owner,
            "data": event,
        }
        for event in events
    ]
    return datetime.now(UTC), msgspec.json.encode(rows).decode()


def new_event_id() -> uuid.UUID:
    """Return a UUID of version 7: its first 48 bits are milliseconds since 1970, so ids sort by time (RFC 9562)."""
    milliseconds = time.time_ns() // 1_000_000
    number = (milliseconds << 80) | int.from_bytes(os.urandom(10), "big")
    number = (number & ~(0xF << 76)) | (7 << 76)
    return uuid.UUID(int=(number & ~(0b11 << 62)) | (0b10 << 62))
