"""Check of a queue file before it is used. It only reads, so that a damaged file stays as it is for the salvage."""

from __future__ import annotations

import sqlite3
import time
from pathlib import Path
from typing import NamedTuple
from urllib.parse import quote

from ingest.agent.queue_rows import APPLICATION_ID, PAGE_SIZE, SCHEMA, SCHEMA_VERSION
from ingest.agent.queue_state import QueueState, decode_state

CHECK_TIME = 2.0  # seconds
# Before SQLite 3.41 a check cannot be interrupted, so only small files are checked.
INTERRUPTIBLE = sqlite3.sqlite_version_info >= (3, 41)
MAX_UNINTERRUPTED = 32 * 1024 * 1024
_PROGRESS_STEPS = 10_000
_HEADER_SIZE = 100
# Bytes of the header that every queue has; SQLite opens a file with some others, but read-only or wrongly.
_HEADER = (
    (0, b"SQLite format 3\0" + PAGE_SIZE.to_bytes(2, "big")),
    (20, bytes([0, 64, 32, 32])),
    (44, bytes([0, 0, 0, 4])),
    (56, bytes([0, 0, 0, 1])),
)
_FORMATS = {b"\x01\x01", b"\x02\x02"}  # rollback journal, write-ahead log


class CheckResult(NamedTuple):
    """The problem of a queue file, empty if there is none, and its state if that is readable."""

    problem: str
    state: QueueState | None


def check_file(path: Path, copy: QueueState | None) -> CheckResult:
    """Check a queue file. `copy` is the state in the file beside it."""
    if path.stat().st_size == 0 and copy is None:
        return CheckResult("the file is empty", None)
    with open(path, "rb") as file:
        header = file.read(_HEADER_SIZE)
    if any(not header.startswith(expected, place) for place, expected in _HEADER) or header[18:20] not in _FORMATS:
        return CheckResult("not a database of this agent, or its header is damaged", None)
    try:
        connection = sqlite3.connect(f"file:{quote(str(path))}?mode=ro", uri=True, timeout=5, isolation_level=None)
        try:
            return _check(connection, path, copy)
        finally:
            connection.close()
    except sqlite3.Error as error:
        return CheckResult(str(error), None)
    except (UnicodeDecodeError, OverflowError, ValueError) as error:  # of damaged texts and numbers
        return CheckResult(f"unreadable value: {error}", None)


def _check(connection: sqlite3.Connection, path: Path, copy: QueueState | None) -> CheckResult:
    if _pragma(connection, "application_id") != APPLICATION_ID:
        return CheckResult("not a queue of this agent", None)
    version = _pragma(connection, "user_version")
    if version != SCHEMA_VERSION:
        return CheckResult(f"schema version {version}: version {SCHEMA_VERSION} is read", None)
    if dict(connection.execute("SELECT name, sql FROM sqlite_master")) != SCHEMA:
        return CheckResult("the schema is damaged", None)
    if _pragma(connection, "page_size") != PAGE_SIZE:
        return CheckResult("the page size is damaged", None)
    row = connection.execute("SELECT record FROM state WHERE id = 1").fetchone()
    state = decode_state(row[0]) if row else None
    if state is None:
        return CheckResult("the counters are damaged", None)
    if copy is not None and state.revision < copy.revision:
        return CheckResult(f"{copy.revision - state.revision} of the last transactions are missing", state)
    return CheckResult(_quick_check(connection, path), state)


def _pragma(connection: sqlite3.Connection, name: str) -> object:
    return connection.execute(f"PRAGMA {name}").fetchone()[0]


def _quick_check(connection: sqlite3.Connection, path: Path) -> str:
    if not INTERRUPTIBLE and path.stat().st_size > MAX_UNINTERRUPTED:
        return ""  # damage is found when the rows are read
    deadline = time.monotonic() + CHECK_TIME
    connection.set_progress_handler(lambda: int(time.monotonic() > deadline), _PROGRESS_STEPS)
    try:
        result = connection.execute("PRAGMA quick_check(1)").fetchone()[0]
    except sqlite3.OperationalError as error:
        if "interrupted" in str(error):
            return ""
        raise
    return "" if result == "ok" else str(result).replace("\n", " ")
