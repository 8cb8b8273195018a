"""Dropping of the oldest snapshots over the limits of the queue, inside a transaction."""

from __future__ import annotations

import sqlite3

from ingest.agent.queue_rows import OVERHEAD, unpack
from ingest.agent.queue_state import QueueState


def oldest_queued(connection: sqlite3.Connection, state: QueueState) -> float | None:
    """Return the age clock at which the oldest snapshot was added; None if there is none or it is damaged."""
    row = connection.execute(
        "SELECT id, record FROM snapshots WHERE id >= ? ORDER BY id LIMIT 1", (state.first,)
    ).fetchone()
    record = unpack(*row) if row else None
    return record.queued if record else None


def drop_expired(connection: sqlite3.Connection, state: QueueState, max_age: float) -> None:
    while state.pending and (oldest := oldest_queued(connection, state)) is not None:
        if state.age - oldest <= max_age:
            return
        drop_oldest(connection, state, "age", 1)


def make_room(
    connection: sqlite3.Connection, state: QueueState, max_size: int, max_bytes: int, count: int, size: int
) -> None:
    """Drop the oldest until `count` snapshots of `size` bytes fit; the newest always fits."""
    while state.pending and (
        state.pending + count > max_size or (state.bytes + size > max_bytes and state.pending + count > 1)
    ):
        drop_oldest(connection, state, "size", 1)


def drop_oldest(connection: sqlite3.Connection, state: QueueState, reason: str, count: int) -> None:
    rows = connection.execute("SELECT id, length(record) FROM snapshots ORDER BY id LIMIT ?", (count,)).fetchall()
    if not rows:
        state.pending = state.bytes = 0
        return
    connection.execute("DELETE FROM snapshots WHERE id <= ?", (rows[-1][0],))
    subtract(state, len(rows), sum(size for _, size in rows))
    state.drop(reason, len(rows))
    update_first(connection, state)


def subtract(state: QueueState, count: int, record_sizes: int) -> None:
    """Subtract removed rows from the counters."""
    state.pending = max(0, state.pending - count)
    state.bytes = max(0, state.bytes - (record_sizes - OVERHEAD * count))


def update_first(connection: sqlite3.Connection, state: QueueState) -> None:
    row = connection.execute("SELECT min(id) FROM snapshots").fetchone()
    state.first = row[0] or state.written + 1
