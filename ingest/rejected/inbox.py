"""The rejected inbox as it fills: what a process rejects gathers in memory, and is written about once a second.

Nobody waits for it. Whatever a broken fleet sends, what it takes is bounded: in memory by the numbers below, in the
database by those of `ingest.rejected.retention`. Everything rejected is counted; of what is too much, not kept.
"""

import logging
import os
import threading
import time
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field

import psycopg

from ingest.models import LONGEST_SENDER
from ingest.rejected.points import KeptPoint, size_of
from ingest.rejected.retention import MOST_BYTES_OF_ROW, MOST_POINTS_OF_ROW, tidy
from ingest.rejected.rows import Line, write
from ingest.wire.batch import Batch, Group, Reason, Verdict
from ingest.wire.validate import BadPoint, check_name
from metrics.storage.connection import Connection, connect

log = logging.getLogger(__name__)

PERIOD = 1.0  # seconds between two flushes
SHARE = 9  # a flush is followed by a pause of so many times its length, so that a flood leaves PostgreSQL to others
TIDY_PERIOD = 60.0
MOST_KEYS = 10_000  # that are told apart between two flushes
MOST_POINTS = 5_000  # that wait to be written: more than that in a second is a flood, and counted alone
MOST_BYTES = 2 * 2**20


# Who, what and why: sender, device, metric, reason. Names are empty where they cannot be read, or where there are too
# many to tell apart.
Key = tuple[str, str, str, Reason]


@dataclass(slots=True)
class Gathered:
    """What gathered of a key since the last flush."""

    first_at: float  # seconds since 1970
    last_at: float
    can_be_mended: bool
    count: int = 0
    detail: str = ""
    points: deque[KeptPoint] = field(default_factory=deque)
    size: int = 0


class Inbox(threading.Thread):
    """The gatherer of one process."""

    def __init__(self) -> None:
        super().__init__(name="rejected", daemon=True)
        self._gathered: dict[Key, Gathered] = {}
        self._points = self._bytes = 0
        self._has_room = True
        self._lock = threading.Lock()  # of what is gathered
        self._flushing = threading.Lock()  # of the connection
        self._connection: Connection | None = None
        self._tidied = float("-inf")
        self._ended = threading.Event()

    def note(self, sender: str, batch: Batch, verdicts: dict[int, Verdict]) -> None:
        """Take in what of a batch was rejected: by the pipeline, and before it while reading."""
        now = time.time()
        only = batch.groups[0].device_id if len(batch.groups) == 1 else ""
        with self._lock:
            for one in batch.rejected:
                key = (sender, one.device_id or only, "", Reason.UNREADABLE)
                self._count(key, now, f"{one.field}: {one.detail}")
            for device_id, position in _by_device(batch.groups, sorted(verdicts)):
                reason, _, detail = verdicts[position]
                found = self._count((sender, device_id, batch.metrics[position], reason), now, detail)
                if found.can_be_mended and self._has_room:
                    self._keep(found, _point(batch, position))

    def note_request(self, sender: str, device_id: str, detail: str) -> None:
        """Take in a request that could not be read at all."""
        with self._lock:
            self._count((sender, device_id, "", Reason.UNREADABLE), time.time(), detail)

    def _count(self, key: Key, now: float, detail: str, count: int = 1) -> Gathered:
        found = self._gathered.get(key) or self._told_apart(key, now)
        found.count += count
        found.last_at = now
        found.detail = detail
        return found

    def _told_apart(self, key: Key, now: float) -> Gathered:
        """Where a new key is counted: under names that PostgreSQL takes, and not too many of them."""
        sender, device_id, metric_name, reason = key
        key = (sender[:LONGEST_SENDER], _readable(device_id), _readable(metric_name), reason)
        if len(self._gathered) >= MOST_KEYS and key not in self._gathered:
            key = (sender[:LONGEST_SENDER] if len(self._gathered) < 2 * MOST_KEYS else "", "", "", reason)
        return self._gathered.setdefault(key, Gathered(now, now, reason.can_be_mended and key[1] != ""))

    def _keep(self, gathered: Gathered, point: KeptPoint) -> None:
        """The newest of a key; older ones make room."""
        size = size_of(point.value, point.context)
        if size > MOST_BYTES_OF_ROW:
            return
        gathered.points.append(point)
        self._grow(gathered, 1, size)
        while len(gathered.points) > MOST_POINTS_OF_ROW or gathered.size > MOST_BYTES_OF_ROW:
            oldest = gathered.points.popleft()
            self._grow(gathered, -1, -size_of(oldest.value, oldest.context))

    def _grow(self, gathered: Gathered, points: int, size: int) -> None:
        gathered.size += size
        self._points += points
        self._bytes += size
        self._has_room = self._points < MOST_POINTS and self._bytes < MOST_BYTES

    def run(self) -> None:
        pause = PERIOD
        while not self._ended.wait(pause):
            began = time.monotonic()
            self.flush()
            pause = max(PERIOD, SHARE * (time.monotonic() - began))
        self.flush()
        if self._connection is not None:
            self._connection.close()

    def stop(self) -> None:
        """Write what waits, then end."""
        self._ended.set()
        self.join(5)

    def flush(self) -> None:
        """Write what gathered; what cannot be written is kept for the next time, as far as it fits."""
        with self._flushing:
            with self._lock:
                taken, self._gathered = self._gathered, {}
                self._points, self._bytes, self._has_room = 0, 0, True
            if not taken:
                return
            try:
                self._write(taken)
            except psycopg.OperationalError as error:
                log.warning("rejected points wait for PostgreSQL: %s", str(error).strip().split("\n")[0])
                self._disconnect()
                self._give_back(taken)
            except Exception:
                log.exception("%d lines on rejected points could not be written", len(taken))
                self._disconnect()

    def _write(self, taken: dict[Key, Gathered]) -> None:
        if self._connection is None:
            self._connection = connect(statement_timeout="10s")
        # In one order in every process, so that no two wait for each other.
        lines = [
            Line(*key, one.first_at, one.last_at, one.count, one.detail, list(one.points))
            for key, one in sorted(taken.items())
        ]
        write(self._connection, lines)
        if time.monotonic() - self._tidied >= TIDY_PERIOD:
            self._tidied = time.monotonic()
            tidy(self._connection)

    def _disconnect(self) -> None:
        if self._connection is not None:
            self._connection.close()
        self._connection = None

    def _give_back(self, taken: dict[Key, Gathered]) -> None:
        with self._lock:
            newer, self._gathered = self._gathered, taken
            self._points = sum(len(one.points) for one in taken.values())
            self._bytes = sum(one.size for one in taken.values())
            self._has_room = self._points < MOST_POINTS and self._bytes < MOST_BYTES
            for key, one in newer.items():
                kept = self._count(key, one.last_at, one.detail, one.count)
                for point in one.points:
                    if self._has_room:
                        self._keep(kept, point)


def _by_device(groups: list[Group], positions: list[int]) -> Iterator[tuple[str, int]]:
    """(device, position) of positions in ascending order."""
    number = 0
    for position in positions:
        while position >= groups[number].stop:
            number += 1
        yield groups[number].device_id, position


def _point(batch: Batch, position: int) -> KeptPoint:
    value = batch.values[position] if isinstance(batch.values, list) else batch.values.item(position)
    context = b"" if batch.contexts is None else batch.dictionary[batch.contexts[position]]
    return KeptPoint(batch.times.item(position), value, context)


def _readable(name: str) -> str:
    """A name, or nothing where it is none that the site takes."""
    try:
        return check_name(name, "")
    except BadPoint:
        return ""


_inbox: Inbox | None = None
_inbox_lock = threading.Lock()


def _after_fork() -> None:
    """A child has its parent's memory and none of its threads."""
    global _inbox
    _inbox = None


os.register_at_fork(after_in_child=_after_fork)


def inbox() -> Inbox:
    """The inbox of this process, started when first asked for."""
    global _inbox
    if _inbox is not None:
        return _inbox
    with _inbox_lock:
        if _inbox is None:
            _inbox = Inbox()
            _inbox.start()
        return _inbox


def stop_inbox() -> None:
    """Write what waits and end the thread: for the end of a process, and between tests."""
    global _inbox
    with _inbox_lock:
        if _inbox is not None:
            _inbox.stop()
        _inbox = None
