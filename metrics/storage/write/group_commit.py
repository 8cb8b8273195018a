"""The writer: one thread per process that collects incoming points and commits them as one block.

While a commit runs, the next block collects; so a thousand devices cost PostgreSQL no more than one device.
"""

import asyncio
import logging
import queue
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import msgspec
import numpy as np
import psycopg

from metrics.storage import shards
from metrics.storage.connection import Connection, connect
from metrics.storage.disk_space import record_write, storage_error
from metrics.storage.errors import DeviceDeleted, ShardCountMismatch, StorageUnavailable, WriterOverloaded
from metrics.storage.format.codec import Ints
from metrics.storage.read.block_cache import cache_commit, clear_block_cache
from metrics.storage.write.audit_anchor import AuditAnchorReader
from metrics.storage.write.commit import (
    SeriesOutdated,
    SeriesRevisions,
    all_series_exist,
    commit,
    last_deletion_revision,
)
from metrics.storage.write.incoming import IncomingPoints, build_block
from metrics.storage.write.other_kinds import SeriesOfOtherKinds, read_series_of_other_kinds

log = logging.getLogger(__name__)

MAX_QUEUED_POINTS = 1_000_000  # of one process
MAX_COMMIT_POINTS = 50_000  # one commit takes requests until it has this many points
commit_listeners: set[Callable[[int], None]] = set()  # called with the number of points after each commit
NEVER_OUTDATED = 2**62  # series revision for points whose series cannot be deleted
_NODE_FAILED = "the node of the database that stores these series cannot be reached; try again"
WRITE_TIMEOUT = 8.0  # seconds; long enough for a restart of PostgreSQL


class JournalEntry(msgspec.Struct, omit_defaults=True):
    """The journal's record of one request."""

    sender: str
    at: float
    points: int
    rejected: int = 0
    device_id: str | None = None
    batch_id: str | None = None


class AnsweredBatch(msgspec.Struct):
    """A batch id, the digest of the batch's content in hexadecimal, and the answer that a retry gets."""

    device_id: str
    batch_id: str
    digest: str
    answer: dict[str, Any]


@dataclass(slots=True)
class _PendingWrite:
    arrivals: list[IncomingPoints]
    entry: JournalEntry
    batch: AnsweredBatch | None
    series_revision: int  # the revision at which its series were resolved
    deadline: float
    points: int
    done: Callable[[list["_PendingWrite"]], None]
    target: Any
    error: Exception | None = None


class Writer(threading.Thread):
    """The writer thread of a process. `submit` and `submit_async` return after COMMIT, or raise.

    `series_revision` is the revision at which the series of the submitted points were resolved.
    """

    def __init__(self) -> None:
        super().__init__(name="writer", daemon=True)
        self._queue: queue.SimpleQueue[_PendingWrite | None] = queue.SimpleQueue()
        self._queued_points = 0
        self._disconnected = False
        self._count_lock = threading.Lock()
        self._connection: Connection | None = None
        self._anchor_reader = AuditAnchorReader()
        self._last_deletion = 0  # revision of the last known deletion
        self._other_kinds = SeriesOfOtherKinds()
        self._after_commit: list[Callable[[], None]] = []

    def submit(
        self,
        arrivals: list[IncomingPoints],
        entry: JournalEntry,
        batch: AnsweredBatch | None = None,
        series_revision: int = NEVER_OUTDATED,
    ) -> None:
        """Store points; return after COMMIT. Raises DeviceDeleted, WriterOverloaded or StorageUnavailable."""
        finished = threading.Event()
        pending = self._enqueue(arrivals, entry, batch, series_revision, lambda _: finished.set(), None)
        finished.wait()
        if pending.error is not None:
            raise pending.error

    def submit_async(
        self,
        arrivals: list[IncomingPoints],
        entry: JournalEntry,
        batch: AnsweredBatch | None = None,
        series_revision: int = NEVER_OUTDATED,
    ) -> "asyncio.Future[None]":
        """Store points like `submit`, for a coroutine of the running loop."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[None] = loop.create_future()
        self._enqueue(arrivals, entry, batch, series_revision, _FutureResolver(loop), future)
        return future

    def call_after_commit(self, callback: Callable[[], None]) -> None:
        """Call `callback` after every commit of this process, in the writer's thread."""
        if callback not in self._after_commit:
            self._after_commit.append(callback)

    @property
    def queued_points(self) -> int:
        """The number of points that wait to be committed."""
        return self._queued_points

    @property
    def is_disconnected(self) -> bool:
        """Whether the connection to PostgreSQL was lost and is not restored yet."""
        return self._disconnected

    def stop(self) -> None:
        """Commit everything in the queue, then end."""
        self._queue.put(None)
        self.join(WRITE_TIMEOUT + 2)

    def _enqueue(
        self,
        arrivals: list[IncomingPoints],
        entry: JournalEntry,
        batch: AnsweredBatch | None,
        series_revision: int,
        done: Callable[[list[_PendingWrite]], None],
        target: Any,
    ) -> _PendingWrite:
        points = sum(len(incoming.times) for incoming in arrivals)
        with self._count_lock:
            if self._queued_points + points > MAX_QUEUED_POINTS:
                raise WriterOverloaded("more points wait to be written than may wait; try again in a second")
            self._queued_points += points
        pending = _PendingWrite(
            arrivals, entry, batch, series_revision, time.monotonic() + WRITE_TIMEOUT, points, done, target
        )
        self._queue.put(pending)
        return pending

    def run(self) -> None:
        while (pending := self._queue.get()) is not None:
            batch, points = [pending], pending.points
            while points < MAX_COMMIT_POINTS:
                try:
                    pending = self._queue.get_nowait()
                except queue.Empty:
                    break
                if pending is None:
                    self._queue.put(None)
                    break
                batch.append(pending)
                points += pending.points
            self._store(batch)
        if self._connection is not None:
            self._connection.close()

    def _store(self, pending: list[_PendingWrite]) -> None:
        pending = self._reject_unreachable(pending)
        if not pending:
            return
        try:
            self._commit(pending)
        except psycopg.errors.DiskFull as error:
            self._finish(pending, storage_error(error, ""))
        except psycopg.OperationalError as error:
            if self._connection is not None and shards.is_node_failure(self._connection, error):
                return self._store_on_other_nodes(self._connection, pending, error)
            self._disconnected = True
            log.warning("the writer lost PostgreSQL: %s", str(error).strip().split("\n")[0])
            if self._reconnect(min(write.deadline for write in pending)):
                return self._store(pending)
            self._finish(pending, storage_error(error, "the database cannot be reached; try again"))
        except ShardCountMismatch as error:
            log.error("nothing is stored: %s", error)
            self._finish(pending, error)
        except Exception as error:
            if len(pending) > 1:  # only the request that causes the error fails
                for write in pending:
                    self._store([write])
                return
            if not isinstance(error, DeviceDeleted):
                log.exception("a block could not be stored")
            self._finish(pending, error)
        else:
            self._finish(pending, None)

    def _store_on_other_nodes(
        self, connection: Connection, pending: list[_PendingWrite], error: psycopg.OperationalError
    ) -> None:
        """Store the writes that need no shard of a failed node, after the commit failed; the others fail."""
        try:
            shards.find_unreachable(connection)
        except psycopg.OperationalError:  # no node, or the connection too
            return self._finish(pending, storage_error(error, "the database cannot be reached; try again"))
        others = self._reject_unreachable(pending)
        if len(others) < len(pending):
            self._store(others)
        elif len(pending) > 1:
            for write in pending:
                self._store([write])
        elif time.monotonic() < pending[0].deadline:  # the node restarted
            time.sleep(0.2)
            self._store(pending)
        else:
            self._finish(pending, storage_error(error, _NODE_FAILED))

    def _reject_unreachable(self, pending: list[_PendingWrite]) -> list[_PendingWrite]:
        """Fail the writes that need a shard of a failed node; return the others."""
        unreachable = list(shards.unreachable_shards())
        if not unreachable:
            return pending
        is_lost = [bool(np.isin(self._shards_of(write), unreachable).any()) for write in pending]
        lost = [write for write, lost in zip(pending, is_lost, strict=True) if lost]
        if lost:
            self._finish(lost, StorageUnavailable(_NODE_FAILED))
        return [write for write, lost in zip(pending, is_lost, strict=True) if not lost]

    def _shards_of(self, write: _PendingWrite) -> Ints:
        arrivals = self._other_kinds.remove_replaced(write.arrivals)
        return shards.shards_of_series(np.concatenate([np.asarray(points.series, np.int64) for points in arrivals]))

    def _commit(self, pending: list[_PendingWrite]) -> None:
        if self._connection is None:
            self._connection = self._connect()
            self._disconnected = False
        self._check_series_exist(self._connection, pending)
        arrivals = [incoming for write in pending for incoming in write.arrivals]
        parts = build_block(self._other_kinds.remove_replaced(arrivals))
        anchors = self._anchor_reader.read_new(self._connection)
        entries = msgspec.json.encode([*anchors, *(write.entry for write in pending)])
        batches = msgspec.json.encode([write.batch for write in pending if write.batch])
        try:
            revisions = SeriesRevisions(min(write.series_revision for write in pending), self._other_kinds.revision)
            stored = commit(self._connection, parts, entries, batches, revisions)
        except SeriesOutdated:
            self._last_deletion = last_deletion_revision(self._connection)
            self._other_kinds = read_series_of_other_kinds(self._connection)
            return self._commit(pending)
        for number, parts in stored:
            cache_commit(number, parts)

    def _check_series_exist(self, connection: Connection, pending: list[_PendingWrite]) -> None:
        """Raise DeviceDeleted if a series was resolved before the last deletion and no longer exists."""
        outdated = [write for write in pending if write.series_revision < self._last_deletion]
        if not outdated:
            return
        checked_revision = self._last_deletion
        series = np.unique(np.concatenate([incoming.series for write in outdated for incoming in write.arrivals]))
        if not all_series_exist(connection, series):
            raise DeviceDeleted("a device was deleted while its points were on their way; send them again")
        for write in outdated:
            write.series_revision = checked_revision

    def _connect(self) -> Connection:
        connection = connect(statement_timeout="10s")
        try:
            shards.verify_shard_count(connection)
            self._other_kinds = read_series_of_other_kinds(connection)
        except BaseException:
            connection.close()
            raise
        self._anchor_reader = AuditAnchorReader()  # its last anchor may not be committed
        return connection

    def _reconnect(self, deadline: float) -> bool:
        """Reconnect before the deadline; return False if that fails."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None
        clear_block_cache()  # a restored server may reuse sequence numbers
        pause = 0.05
        while time.monotonic() < deadline:
            try:
                self._connection = self._connect()
                self._disconnected = False
                return True
            except (psycopg.OperationalError, ShardCountMismatch):
                time.sleep(pause)
                pause = min(pause * 2, 1.0)
        return False

    def _finish(self, pending: list[_PendingWrite], error: Exception | None) -> None:
        with self._count_lock:
            self._queued_points -= sum(write.points for write in pending)
        answers: dict[Callable[[list[_PendingWrite]], None], list[_PendingWrite]] = {}
        for write in pending:
            write.error = error
            answers.setdefault(write.done, []).append(write)
        for done, group in answers.items():
            done(group)
        if error is None:
            record_write()
            points = sum(write.points for write in pending)
            for listener in commit_listeners:
                listener(points)
            for callback in self._after_commit:
                callback()


@dataclass(frozen=True)
class _FutureResolver:
    """Resolves the futures of one event loop, all futures of a commit with one wake-up."""

    loop: asyncio.AbstractEventLoop = field(hash=True)

    def __call__(self, group: list[_PendingWrite]) -> None:
        self.loop.call_soon_threadsafe(self._resolve, group)

    @staticmethod
    def _resolve(group: list[_PendingWrite]) -> None:
        for write in group:
            if write.target.done():
                continue  # the request was cancelled
            if write.error is None:
                write.target.set_result(None)
            else:
                write.target.set_exception(write.error)


_writer: Writer | None = None
_writer_lock = threading.Lock()


def reset_writer() -> None:
    """Drop the writer without stopping its thread, which does not exist in a forked child."""
    global _writer, _writer_lock
    _writer, _writer_lock = None, threading.Lock()


def writer() -> Writer:
    """Return the writer of this process, started at the first call."""
    global _writer
    if _writer is not None:
        return _writer
    with _writer_lock:
        if _writer is None:
            _writer = Writer()
            _writer.start()
        return _writer


def running_writer() -> Writer | None:
    """Return the writer of this process if it was started."""
    return _writer


def stop_writer() -> None:
    """Commit everything in the queue and end the writer, at the end of a process."""
    global _writer
    with _writer_lock:
        if _writer is not None:
            _writer.stop()
        _writer = None
