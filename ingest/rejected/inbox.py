"""The rejected inbox of a process: rejections collect in memory and are written about once a second.

No request waits for it. Its size is limited: in memory by the constants below, in the database by those of
`ingest.rejected.retention`. All rejected points are counted; points beyond the limits are not kept.
"""

import logging
import threading
import time
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field

import psycopg

from ingest.models import MAX_SENDER_LENGTH
from ingest.rejected.point_packets import RejectedPoint, estimate_size
from ingest.rejected.retention import MAX_BYTES_OF_ROW, MAX_POINTS_OF_ROW, apply_retention
from ingest.rejected.write_rows import InboxRow, write_rows
from ingest.wire.batch import Batch, Group, RejectionCause, RejectionReason
from ingest.wire.validate import InvalidPoint, check_name
from metrics.storage.connection import Connection, connect

log = logging.getLogger(__name__)

FLUSH_INTERVAL = 1.0  # seconds
PAUSE_FACTOR = 9  # a flush is followed by a pause of this many times its duration, to limit the load on PostgreSQL
RETENTION_INTERVAL = 60.0  # seconds
MAX_PENDING_ROWS = 10_000  # distinct keys between two flushes
MAX_PENDING_POINTS = 5_000  # more in a second are only counted
MAX_PENDING_BYTES = 2 * 2**20


# Sender, device, metric and reason. Names are empty if they are invalid, or if there are too many distinct keys.
InboxKey = tuple[str, str, str, RejectionReason]


@dataclass(slots=True)
class PendingRow:
    """The rejections of one key since the last flush."""

    first_at: float  # seconds since 1970
    last_at: float
    is_replayable: bool
    count: int = 0
    detail: str = ""
    points: deque[RejectedPoint] = field(default_factory=deque)
    size: int = 0


class RejectedInbox(threading.Thread):
    """Collects the rejections of one process and writes them."""

    def __init__(self) -> None:
        super().__init__(name="rejected", daemon=True)
        self._pending: dict[InboxKey, PendingRow] = {}
        self._points = self._bytes = 0
        self._has_room = True
        self._lock = threading.Lock()  # of the pending rows
        self._flush_lock = threading.Lock()  # of the connection
        self._connection: Connection | None = None
        self._retention_ran = float("-inf")
        self._ended = threading.Event()

    def add_batch(self, sender: str, batch: Batch, causes: dict[int, RejectionCause]) -> None:
        """Add the rejected points of a batch: those of the decoder and, by position, those of the pipeline."""
        now = time.time()
        only_device = batch.groups[0].device_id if len(batch.groups) == 1 else ""
        with self._lock:
            for rejection in batch.rejected:
                device_id = only_device if rejection.device_id is None else rejection.device_id
                key = (sender, device_id, "", RejectionReason.UNREADABLE)
                self._count(key, now, f"{rejection.field}: {rejection.detail}")
            for device_id, position in _with_devices(batch.groups, sorted(causes)):
                reason, _, detail = causes[position]
                row = self._count((sender, device_id, batch.metrics[position], reason), now, detail)
                if row.is_replayable and self._has_room:
                    self._keep(row, _point(batch, position))

    def add_request(self, sender: str, device_id: str, detail: str) -> None:
        """Count a request that could not be decoded."""
        with self._lock:
            self._count((sender, device_id, "", RejectionReason.UNREADABLE), time.time(), detail)

    def _count(self, key: InboxKey, now: float, detail: str, count: int = 1) -> PendingRow:
        row = self._pending.get(key) or self._new_row(key, now)
        row.count += count
        row.last_at = now
        row.detail = detail
        return row

    def _new_row(self, key: InboxKey, now: float) -> PendingRow:
        """Return the row for a new key: with names that PostgreSQL accepts, and of a limited number of keys."""
        sender, device_id, metric_name, reason = key
        key = (sender[:MAX_SENDER_LENGTH], _valid_or_empty(device_id), _valid_or_empty(metric_name), reason)
        if len(self._pending) >= MAX_PENDING_ROWS and key not in self._pending:
            key = (sender[:MAX_SENDER_LENGTH] if len(self._pending) < 2 * MAX_PENDING_ROWS else "", "", "", reason)
        return self._pending.setdefault(key, PendingRow(now, now, reason.is_replayable and key[1] != ""))

    def _keep(self, row: PendingRow, point: RejectedPoint) -> None:
        """Keep a point for replay; the oldest points of a row make room for newer ones."""
        size = estimate_size(point.value, point.context)
        if size > MAX_BYTES_OF_ROW:
            return
        row.points.append(point)
        self._grow(row, 1, size)
        while len(row.points) > MAX_POINTS_OF_ROW or row.size > MAX_BYTES_OF_ROW:
            oldest = row.points.popleft()
            self._grow(row, -1, -estimate_size(oldest.value, oldest.context))

    def _grow(self, row: PendingRow, points: int, size: int) -> None:
        row.size += size
        self._points += points
        self._bytes += size
        self._has_room = self._points < MAX_PENDING_POINTS and self._bytes < MAX_PENDING_BYTES

    def run(self) -> None:
        pause = FLUSH_INTERVAL
        while not self._ended.wait(pause):
            started = time.monotonic()
            self.flush()
            pause = max(FLUSH_INTERVAL, PAUSE_FACTOR * (time.monotonic() - started))
        self.flush()
        if self._connection is not None:
            self._connection.close()

    def stop(self) -> None:
        """Write the pending rows and end the thread."""
        self._ended.set()
        self.join(5)

    def flush(self) -> None:
        """Write the pending rows. While PostgreSQL is unavailable they are kept, as far as they fit."""
        with self._flush_lock:
            with self._lock:
                pending, self._pending = self._pending, {}
                self._points, self._bytes, self._has_room = 0, 0, True
            if not pending:
                return
            try:
                self._write(pending)
            except psycopg.OperationalError as error:
                log.warning("rejected points wait for PostgreSQL: %s", str(error).strip().split("\n")[0])
                self._disconnect()
                self._restore(pending)
            except Exception:
                log.exception("%d rows of the rejected inbox could not be written", len(pending))
                self._disconnect()

    def _write(self, pending: dict[InboxKey, PendingRow]) -> None:
        if self._connection is None:
            self._connection = connect(statement_timeout="10s")
        # Sorted, so that no two processes wait for each other's row locks.
        rows = [
            InboxRow(*key, row.first_at, row.last_at, row.count, row.detail, list(row.points))
            for key, row in sorted(pending.items())
        ]
        write_rows(self._connection, rows)
        if time.monotonic() - self._retention_ran >= RETENTION_INTERVAL:
            self._retention_ran = time.monotonic()
            apply_retention(self._connection)

    def _disconnect(self) -> None:
        if self._connection is not None:
            self._connection.close()
        self._connection = None

    def _restore(self, pending: dict[InboxKey, PendingRow]) -> None:
        """Put unwritten rows before those that have been added since."""
        with self._lock:
            newer, self._pending = self._pending, pending
            self._points = sum(len(row.points) for row in pending.values())
            self._bytes = sum(row.size for row in pending.values())
            self._has_room = self._points < MAX_PENDING_POINTS and self._bytes < MAX_PENDING_BYTES
            for key, newer_row in newer.items():
                row = self._count(key, newer_row.last_at, newer_row.detail, newer_row.count)
                for point in newer_row.points:
                    if self._has_room:
                        self._keep(row, point)


def _with_devices(groups: list[Group], positions: list[int]) -> Iterator[tuple[str, int]]:
    """Yield (device, position) of positions in ascending order."""
    number = 0
    for position in positions:
        while position >= groups[number].stop:
            number += 1
        yield groups[number].device_id, position


def _point(batch: Batch, position: int) -> RejectedPoint:
    value = batch.values[position] if isinstance(batch.values, list) else batch.values.item(position)
    context = b"" if batch.contexts is None else batch.dictionary[batch.contexts[position]]
    return RejectedPoint(batch.times.item(position), value, context)


def _valid_or_empty(name: str) -> str:
    """Return a valid name, or an empty text."""
    try:
        return check_name(name, "")
    except InvalidPoint:
        return ""


_inbox: RejectedInbox | None = None
_inbox_lock = threading.Lock()


def reset_inbox() -> None:
    """Drop the inbox without stopping its thread, which does not exist in a forked child."""
    global _inbox, _inbox_lock
    _inbox, _inbox_lock = None, threading.Lock()


def rejected_inbox() -> RejectedInbox:
    """Return the inbox of this process and start it at the first call."""
    global _inbox
    if _inbox is not None:
        return _inbox
    with _inbox_lock:
        if _inbox is None:
            _inbox = RejectedInbox()
            _inbox.start()
        return _inbox


def stop_inbox() -> None:
    """Write the pending rows and end the thread of this process's inbox."""
    global _inbox
    with _inbox_lock:
        if _inbox is not None:
            _inbox.stop()
        _inbox = None
