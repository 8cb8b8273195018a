"""Deletion of events that are old and read, and events of a restored database."""

from collections.abc import Iterator
from typing import Any

import pytest

from metrics.events.definitions import DeviceCreated
from metrics.events.outbox import write_events
from metrics.events.reader import Band, LiveReader, oldest_running_transaction, read_band
from metrics.events.trim import MIN_AGE, trim_events
from metrics.models import Event
from metrics.storage.connection import Connection, connect

_CURSOR = """
INSERT INTO metrics_eventcursor
    (name, epoch, low, high, last_id, checkpoint_xid, checkpoint_at, next_checkpoint_xid, seen_at)
VALUES ('target', 'e', 0, 0, 0, %s, now(), 0, now() - make_interval(secs => %s))
"""
_AGE = "UPDATE metrics_event SET time = now() - make_interval(secs => %s) WHERE device_id = ANY(%s)"


@pytest.fixture
def connection(site: None) -> Iterator[Connection]:
    with connect() as opened:
        yield opened


def _write(connection: Connection, *devices: str, age: float = MIN_AGE + 1) -> int:
    """Write events of one transaction and return its id."""
    with connection.transaction():
        write_events(connection, [DeviceCreated(device_id=device) for device in devices])
        connection.execute(_AGE, (age, list(devices)))
        row = connection.execute("SELECT pg_current_xact_id()::text::bigint").fetchone()
    assert row is not None
    xid: int = row[0]
    return xid


def _kept() -> list[Any]:
    return list(Event.objects.order_by("id").values_list("device_id", flat=True))


def test_old_events_are_deleted_and_the_newest_transaction_remains(connection: Connection) -> None:
    _write(connection, "a", "b")
    _write(connection, "c")
    _write(connection, "d", "e")
    assert trim_events(connection) == 3
    assert _kept() == ["d", "e"]


def test_events_after_one_that_is_too_young_remain_in_whole_transactions(connection: Connection) -> None:
    _write(connection, "old")
    _write(connection, "young", age=MIN_AGE - 60)
    _write(connection, "old too")
    _write(connection, "newest")
    trim_events(connection)
    assert _kept() == ["young", "old too", "newest"]


def test_events_that_a_target_has_not_passed_remain(connection: Connection) -> None:
    _write(connection, "passed")
    checkpoint = _write(connection, "next")
    _write(connection, "later")
    connection.execute(_CURSOR, (checkpoint, 6 * 86_400))
    trim_events(connection)
    assert _kept() == ["next", "later"]


def test_target_that_was_not_seen_for_a_week_keeps_no_events(connection: Connection) -> None:
    checkpoint = _write(connection, "next")
    _write(connection, "later")
    connection.execute(_CURSOR, (checkpoint, 8 * 86_400))
    trim_events(connection)
    assert _kept() == ["later"]


def test_more_events_than_one_batch_are_deleted_by_one_call(
    connection: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("metrics.events.trim.DELETE_BATCH", 2)
    _write(connection, *"abcde")
    _write(connection, "newest")
    assert trim_events(connection) == 5


def test_empty_outbox_is_left_alone(connection: Connection) -> None:
    assert trim_events(connection) == 0


def test_events_of_a_restored_database_with_later_transactions_reach_both_readers(connection: Connection) -> None:
    """A cluster that has assigned fewer transaction ids than the one of the dump."""
    _write(connection, "restored", age=0)
    connection.execute("UPDATE metrics_event SET xid = (xid::text::bigint + 1000000)::text::xid8")
    start = oldest_running_transaction(connection)
    band, events = read_band(connection, Band(start, start), 10)
    assert events == []  # it waits for a transaction that this cluster will not have for a long time
    trim_events(connection)
    live = LiveReader(start)
    assert [event.device_id for event in live.read(connection)] == ["restored"]
    assert live.read(connection) == []
    _, events = read_band(connection, band, 10)
    assert [event.device_id for event in events] == ["restored"]
