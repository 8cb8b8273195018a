"""Repair of a queue: sets a damaged file aside and puts what can be read of it into a new one.

The new file is complete before anything is renamed, so a crash at any point repeats or finishes the repair.
"""

from __future__ import annotations

import contextlib
import logging
import os
import sqlite3
import time
from itertools import islice
from pathlib import Path

from ingest.agent.queue_rows import APPLICATION_ID, OVERHEAD, PAGE_SIZE, SCHEMA, SCHEMA_VERSION, unpack
from ingest.agent.queue_state import QueueState, encode_state
from ingest.agent.salvage import salvage

log = logging.getLogger(__name__)
_ROWS = 500  # of one transaction
_STATE_SIZE = 2048


def beside(path: Path, suffix: str) -> Path:
    """Return the path with a suffix added to its name."""
    return path.with_name(path.name + suffix)


def create_file(path: Path, state: QueueState, source: Path | None = None) -> QueueState:
    """Create a queue file with the rows that can be read of `source`; return its state.

    `state` is the last known state of the queue.
    """
    path.unlink(missing_ok=True)
    connection = sqlite3.connect(str(path), isolation_level=None)
    try:
        connection.executescript(
            f"PRAGMA page_size = {PAGE_SIZE}; PRAGMA journal_mode = MEMORY; PRAGMA synchronous = OFF;"
            f"PRAGMA application_id = {APPLICATION_ID}; PRAGMA user_version = {SCHEMA_VERSION};"
            f"{SCHEMA['snapshots']}; {SCHEMA['state']};"
        )
        # Before the rows, so that it has its space when the disk is full.
        connection.execute("INSERT INTO state VALUES (1, ?)", (encode_state(state).ljust(_STATE_SIZE, b"\0"),))
        if source is not None:
            state = _copy_rows(connection, state, source)
        connection.execute("UPDATE state SET record = ? WHERE id = 1", (encode_state(state),))
    finally:
        connection.close()
    path.chmod(0o600)
    with open(path, "rb+") as file:
        os.fsync(file.fileno())
    return state


def _copy_rows(connection: sqlite3.Connection, state: QueueState, source: Path) -> QueueState:
    rows = ((row, data) for row, data in salvage(source, beside(source, "-wal")) if row >= state.first)
    full = False
    while not full and (batch := list(islice(rows, _ROWS))):
        try:
            connection.execute("BEGIN")
            connection.executemany("INSERT OR IGNORE INTO snapshots VALUES (?, 0, ?)", batch)
            connection.execute("COMMIT")
        except sqlite3.OperationalError as error:
            log.error("the salvage of the queue ends early: %s", error)
            full = True
            if connection.in_transaction:
                connection.execute("ROLLBACK")
    count, size, first, last = connection.execute(
        "SELECT count(*), coalesce(sum(length(record)), 0), min(id), max(id) FROM snapshots"
    ).fetchone()
    state = state.copy()
    expected = state.pending + max(0, (last or 0) - state.written)  # the last batch may be newer than the state
    state.revision += 1
    state.incidents += 1
    state.salvaged += count
    state.lost += max(0, expected - count)
    state.pending, state.bytes = count, size - OVERHEAD * count
    state.written = max(state.written, last or 0)
    state.first = first or state.written + 1
    if last and not state.age:  # the counters are lost: continue the age clock
        newest = unpack(last, connection.execute("SELECT record FROM snapshots WHERE id = ?", (last,)).fetchone()[0])
        state.age = newest.queued if newest else 0.0
    return state


def repair(path: Path, state: QueueState | None, problem: str) -> QueueState:
    """Replace a damaged queue file by a new one with its readable rows; return the state."""
    before = state or QueueState()
    after = create_file(beside(path, ".new"), before, path)
    beside(path, ".new").replace(beside(path, ".ready"))
    aside = finish_repair(path)
    log.error(
        "the queue %s cannot be used (%s): set aside as %s; %d snapshots salvaged, %d lost",
        *(path, problem, aside.name if aside else "nothing"),
        *(after.salvaged - before.salvaged, after.lost - before.lost),
    )
    return after


def finish_repair(path: Path) -> Path | None:
    """Set the damaged file aside and put the new one in its place, if a repair got that far; return the old file."""
    if not beside(path, ".ready").exists():
        return None
    aside = _free_name(path)
    # The log goes first: beside another file it would be replayed into that file.
    for suffix in ("-wal", "-shm"):
        with contextlib.suppress(FileNotFoundError):
            beside(path, suffix).replace(beside(aside, suffix))
    beside(aside, "-shm").unlink(missing_ok=True)
    with contextlib.suppress(FileNotFoundError):
        path.replace(aside)
    beside(path, ".ready").replace(path)
    for old in path.parent.glob(f"{path.name}.corrupt-*"):
        if not old.name.startswith(aside.name):  # one is kept for inspection; more would fill the disk
            old.unlink(missing_ok=True)
    return aside


def _free_name(path: Path) -> Path:
    name = f".corrupt-{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime())}"
    number, aside = 1, beside(path, name)
    while aside.exists():
        number += 1
        aside = beside(path, f"{name}-{number}")
    return aside
