"""The persistent queue of snapshots that the site has not stored yet."""

from __future__ import annotations

import errno
import json
import sqlite3
import threading
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from ingest.agent.machine_clock import MachineClock, parse_rfc3339
from ingest.agent.queue_file import QueueFile
from ingest.agent.queue_limits import drop_expired, drop_oldest, make_room, oldest_queued, subtract, update_first
from ingest.agent.queue_repair import beside
from ingest.agent.queue_rows import Record, pack, unpack
from ingest.agent.queue_state import DROP_REASONS, QueueState
from ingest.agent.reserve import Reserve

DEFAULT_PATH = "/var/lib/telemetry-agent/queue.db"
MAX_SIZE = 1000  # snapshots
MAX_BYTES = 256 * 1024 * 1024
MAX_AGE = 7 * 86400.0  # seconds
OWN_CLOCK = 60.0  # seconds; a time further from now was not read from the machine's clock just before
MAX_SNAPSHOT = 1024 * 1024  # bytes
_FREED_ROWS = 32  # deleted at a time to make room
T = TypeVar("T")


class QueuedSnapshot(NamedTuple):
    """A snapshot with its id, the number of failed deliveries, and when it was measured (uptime of a boot)."""

    id: int
    payload: dict[str, Any]
    retry_count: int
    uptime: float
    boot: str


class DiskFull(OSError):
    """The snapshots could not be added, since the disk is full."""


class TelemetryQueue:
    """First in, first out, with an fsync for each call that changes it. Threads and processes may share it.

    The oldest snapshots are dropped over `max_size` snapshots, `max_bytes` or `max_age` seconds; nothing else gives
    up. Every drop is counted by reason. Rows, counters and damage: see queue_rows, queue_state and queue_repair.
    """

    def __init__(
        self,
        db_path: str | Path = DEFAULT_PATH,
        max_size: int = MAX_SIZE,
        max_bytes: int = MAX_BYTES,
        max_age: float = MAX_AGE,
        clock: MachineClock | None = None,
    ) -> None:
        for name, value in (("max_size", max_size), ("max_bytes", max_bytes), ("max_age", max_age)):
            if not value > 0:
                raise ValueError(f"{name} is {value}: more than 0 is accepted")
        self.max_size, self.max_bytes, self.max_age = max_size, max_bytes, float(max_age)
        self._clock = clock or MachineClock()
        self._lock = threading.RLock()
        self._reserve = Reserve(beside(Path(db_path), ".reserve"))
        self._file = self._open(Path(db_path))
        self._reserve.restore()
        self._dropped_on_full_disk = 0  # not stored yet

    def _open(self, path: Path) -> QueueFile:
        try:
            return QueueFile(path, self._clock)
        except (sqlite3.OperationalError, OSError) as error:
            if not is_disk_full(error) or not self._reserve.release():
                raise
        return QueueFile(path, self._clock)

    def enqueue(self, payload: dict[str, Any]) -> int:
        """Add a snapshot; return its id. Raises ValueError for one that cannot be sent, and DiskFull."""
        return self.enqueue_many([payload])[0]

    def enqueue_many(self, payloads: Sequence[dict[str, Any]]) -> list[int]:
        """Add snapshots in one transaction; return their ids."""
        encoded = [self._encode(payload) for payload in payloads]
        with self._lock:
            try:
                ids = self._changed(lambda: self._insert(encoded))
            except DiskFull:
                self._dropped_on_full_disk += len(encoded)
                raise
        self._restore_reserve()
        return ids

    def _encode(self, payload: dict[str, Any]) -> Record:
        """Return the record of a snapshot; one with a time of the machine's clock gets the uptime of that time."""
        data = encode_payload(payload)
        now, measured = self._clock.time(), parse_rfc3339(payload.get("timestamp"))
        if measured is None or abs(now - measured) > OWN_CLOCK:
            return Record(0.0, 0.0, b"", data)
        return Record(0.0, self._clock.uptime() - (now - measured), bytes.fromhex(self._clock.boot), data)

    def _insert(self, records: Sequence[Record]) -> list[int]:
        with self._file.transaction() as (connection, state):
            drop_expired(connection, state, self.max_age)
            size = sum(len(record.payload) for record in records)
            make_room(connection, state, self.max_size, self.max_bytes, len(records), size)
            state.written += self._dropped_on_full_disk
            state.drop("disk", self._dropped_on_full_disk)
            first = state.written + 1
            for record in records:
                state.written += 1
                data = pack(state.written, record._replace(queued=state.age))
                connection.execute("INSERT INTO snapshots VALUES (?, 0, ?)", (state.written, data))
                state.bytes += len(record.payload)
            if not state.pending:
                state.first = first
            state.pending += len(records)
            make_room(connection, state, self.max_size, self.max_bytes, 0, 0)  # more than max_size at once
        self._dropped_on_full_disk = 0
        return list(range(first, first + len(records)))

    def dequeue(self, limit: int = 10, max_bytes: int = MAX_SNAPSHOT) -> list[QueuedSnapshot]:
        """Return the oldest snapshots, at most `limit` and `max_bytes` but at least one. They stay in the queue.

        Expired and damaged snapshots are dropped.
        """
        with self._lock:
            return self._guarded(lambda: self._dequeue(limit, max_bytes))

    def _dequeue(self, limit: int, max_bytes: int) -> list[QueuedSnapshot]:
        state = self._file.read_state()
        oldest = oldest_queued(self._file.connection, state)
        if oldest is not None and self._file.age(state) - oldest > self.max_age:
            self._with_space(self._expire_now)
        snapshots: list[QueuedSnapshot] = []
        damaged: list[int] = []
        size = 0
        rows = self._file.connection.execute(
            "SELECT id, attempts, record FROM snapshots WHERE id >= ? ORDER BY id", (state.first,)
        )
        for row_id, attempts, data in rows:
            record = unpack(row_id, data)
            if record is None:
                damaged.append(row_id)
                if len(damaged) >= 1000:
                    break
                continue
            size += len(record.payload)
            if len(snapshots) >= limit or (snapshots and size > max_bytes):
                break
            payload = json.loads(record.payload)
            snapshots.append(QueuedSnapshot(row_id, payload, attempts, record.uptime, record.boot.hex()))
        rows.close()
        if damaged:
            self._with_space(lambda: self._remove(damaged, "damaged"))
            return snapshots or self._dequeue(limit, max_bytes)
        return snapshots

    def mark_sent(self, snapshot_id: int | Iterable[int]) -> None:
        """Remove a snapshot, or several, that the site has stored."""
        self._finish(snapshot_id, "")

    def mark_rejected(self, snapshot_id: int | Iterable[int]) -> None:
        """Remove a snapshot, or several, that the site will never accept."""
        self._finish(snapshot_id, "rejected")

    def _finish(self, snapshot_id: int | Iterable[int], reason: str) -> None:
        ids = _ids(snapshot_id)
        if ids:
            with self._lock:
                self._changed(lambda: self._remove(ids, reason))
            self._restore_reserve()

    def _remove(self, ids: Sequence[int], reason: str) -> None:
        with self._file.transaction() as (connection, state):
            removed = 0
            for row_id in ids:
                row = connection.execute("SELECT length(record) FROM snapshots WHERE id = ?", (row_id,)).fetchone()
                if row is not None:
                    connection.execute("DELETE FROM snapshots WHERE id = ?", (row_id,))
                    subtract(state, 1, row[0])
                    removed += 1
            if reason:
                state.drop(reason, removed)
            else:
                state.sent += removed
            update_first(connection, state)

    def mark_failed(self, snapshot_id: int | Iterable[int], max_retries: int | None = None) -> None:
        """Count a failed delivery. With `max_retries`, drop what has failed that many times; else it is kept."""
        ids = _ids(snapshot_id)
        with self._lock:
            self._changed(lambda: self._count_failure(ids, max_retries))

    def _count_failure(self, ids: Sequence[int], max_retries: int | None) -> None:
        with self._file.transaction() as (connection, _):
            connection.executemany("UPDATE snapshots SET attempts = attempts + 1 WHERE id = ?", [(row,) for row in ids])
        if max_retries is None:
            return
        query = "SELECT attempts FROM snapshots WHERE id = ?"
        attempts = {row_id: self._file.connection.execute(query, (row_id,)).fetchone() for row_id in ids}
        given_up = [row_id for row_id, row in attempts.items() if row is not None and row[0] >= max_retries]
        if given_up:
            self._remove(given_up, "retries")

    def count_rejected_points(self, count: int) -> None:
        """Count values that the site rejected of snapshots that it stored."""

        def add() -> None:
            with self._file.transaction() as (_, state):
                state.points_rejected += count

        with self._lock:
            self._changed(add)

    def read_clock(self) -> dict[str, Any]:
        """Return what `store_clock` stored last."""
        with self._lock:
            return self._guarded(lambda: self._file.read_state().clock)

    def store_clock(self, clock: dict[str, Any]) -> None:
        """Store the learned clock offset, so that a repeated snapshot gets the same time after a restart."""

        def store() -> None:
            with self._file.transaction() as (_, state):
                state.clock = clock

        with self._lock:
            self._changed(store)

    def get_queue_size(self) -> int:
        """Return the number of snapshots in the queue."""
        with self._lock:
            return self._guarded(lambda: self._file.read_state().pending)

    def get_stats(self) -> dict[str, Any]:
        """Return sizes and limits, the age of the oldest snapshot in seconds, and counters since the first start."""
        with self._lock:
            state, oldest, age = self._guarded(self._read_stats)
        dropped = {reason: state.dropped.get(reason, 0) for reason in DROP_REASONS}
        dropped["disk"] += self._dropped_on_full_disk
        return {
            "queue_size": state.pending,
            "max_size": self.max_size,
            "bytes": state.bytes,
            "max_bytes": self.max_bytes,
            "max_age": self.max_age,
            "oldest_unsent_seconds": 0.0 if oldest is None else max(0.0, age - oldest),
            "written": state.written,
            "sent": state.sent,
            "dropped": dropped,
            "dropped_total": sum(dropped.values()),
            "points_rejected": state.points_rejected,
            "salvaged": state.salvaged,
            "lost": state.lost,
        }

    def _read_stats(self) -> tuple[QueueState, float | None, float]:
        state = self._file.read_state()
        return state, oldest_queued(self._file.connection, state), self._file.age(state)

    def _expire_now(self) -> None:
        with self._file.transaction() as (connection, state):
            drop_expired(connection, state, self.max_age)

    def _changed(self, change: Callable[[], T]) -> T:
        """Run a change with repair and with space."""
        return self._guarded(lambda: self._with_space(change))

    def _with_space(self, change: Callable[[], T]) -> T:
        """Run a change; on a full disk free the reserve, then drop the oldest snapshots. Raises DiskFull."""
        for attempt in range(4):
            try:
                return change()
            except sqlite3.OperationalError as error:
                if not is_disk_full(error):
                    raise
                full = error
                self._reserve.release()
            try:
                self._file.checkpoint()
                self._file.limit_growth(True)
                if attempt:
                    with self._file.transaction() as (connection, state):
                        drop_oldest(connection, state, "disk", _FREED_ROWS)
            except sqlite3.OperationalError:
                continue
        raise DiskFull(f"the queue {self._file.path} cannot be written: {full}")

    def _restore_reserve(self) -> None:
        if self._reserve.restore():
            with self._lock:
                self._file.limit_growth(False)

    def _guarded(self, operation: Callable[[], T]) -> T:
        """Run an operation; repair the queue and run it again if the file turns out to be damaged."""
        try:
            return operation()
        except sqlite3.DatabaseError as error:
            if not _is_damage(error):
                raise
            self._file.recover(error)
            return operation()

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._file.close()


def encode_payload(payload: dict[str, Any]) -> bytes:
    """Return the JSON of a snapshot. Raises ValueError for one that cannot be sent."""
    if not isinstance(payload, dict):
        raise ValueError(f"a snapshot is a {type(payload).__name__}: an object is accepted")
    try:
        data = json.dumps(payload, allow_nan=False, separators=(",", ":")).encode()
    except (TypeError, ValueError) as error:
        raise ValueError(f"a snapshot cannot be written as JSON: {error}") from None
    if len(data) > MAX_SNAPSHOT:
        raise ValueError(f"a snapshot has {len(data)} bytes: at most {MAX_SNAPSHOT} are accepted")
    return data


def _ids(snapshot_id: int | Iterable[int]) -> list[int]:
    return [snapshot_id] if isinstance(snapshot_id, int) else list(snapshot_id)


def is_disk_full(error: Exception) -> bool:
    """Return whether an error of SQLite or of the system says that the disk is full."""
    text = str(error)
    return "disk is full" in text or "disk I/O error" in text or getattr(error, "errno", None) == errno.ENOSPC


def _is_damage(error: sqlite3.Error) -> bool:
    return not isinstance(error, (sqlite3.OperationalError, sqlite3.ProgrammingError)) or "malformed" in str(error)
