"""The event follower of a process: reads each committed event once and passes it to its listeners.

It reads from PostgreSQL, so events arrive without Redis, a worker or a broker. Without listeners nothing is read.
"""

import asyncio
import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple, Protocol

from metrics.events.reader import LiveReader, StoredEvent, oldest_running_transaction
from metrics.storage.connection import Connection, read_connection
from metrics.storage.errors import StorageError
from metrics.streams.positions import Epoch, Position, read_epoch

log = logging.getLogger(__name__)

POLL_INTERVAL = 0.2  # seconds
RETRY_INTERVAL = 1.0  # seconds after a failed read
EPOCH_PERIOD = 5.0  # seconds between checks for another database at the same address
MAX_OUTAGE = 300.0  # seconds without a read; later, events may have been deleted before they were read
READ_LIMIT = 1000  # events per read
MAX_MISSED = 10_000  # events of all channels that are searched for those that a client missed

_REVISION = "SELECT number FROM metrics_revision"
# Events are deleted in the order of transactions: one that is older than a position proves that none after it is gone.
_IS_COMPLETE = """
SELECT EXISTS (SELECT FROM metrics_event WHERE xid < %s::text::xid8)
    OR coalesce((SELECT min(id) = 1 FROM metrics_event), (SELECT NOT is_called FROM metrics_event_id_seq))
"""

LostReason = Literal["epoch", "future", "too_old", "overflow"]


class EventBatch(NamedTuple):
    """Events that were read together.

    position  from which a client that resumes gets them again
    revision  of keys, memberships and devices, not older than the events: whoever receives them must have applied it
    """

    events: Sequence[StoredEvent]
    position: str
    revision: int


class EventListener(Protocol):
    """Receiver of events, in the event loop of the follower."""

    async def deliver(self, batch: EventBatch) -> None:
        """Take events in their order."""

    def lost(self, reason: LostReason) -> None:
        """Note that events were missed: clients must read their data again."""


@dataclass(slots=True)
class _State:
    """Where the follower is, and when it last read events and checked the epoch (monotonic clock)."""

    epoch: Epoch
    reader: LiveReader
    read_at: float
    checked_at: float

    @property
    def position(self) -> str:
        return event_position(self.epoch, self.reader.threshold)


def event_position(epoch: Epoch, threshold: int) -> str:
    """Return the position of events: all of earlier transactions than the threshold have been read."""
    return str(Position(epoch, (threshold,)))


class EventFollower:
    """Passes events to the listeners in the event loop of one process."""

    def __init__(self) -> None:
        self._listeners: set[EventListener] = set()
        self._state: _State | None = None
        self._task: asyncio.Task[None] | None = None
        self._ready = asyncio.Event()
        self.decoded_events = 0  # each event counts once, however many listeners there are

    async def attach(self, listener: EventListener) -> None:
        """Pass on the events that are committed from now on. Returns once the follower has a position."""
        self._listeners.add(listener)
        if self._task is None or self._task.done():
            self._state, self._ready = None, asyncio.Event()
            self._task = asyncio.get_running_loop().create_task(self._run())
        try:
            await self._ready.wait()
        except BaseException:
            self.detach(listener)
            raise

    def detach(self, listener: EventListener) -> None:
        self._listeners.discard(listener)

    @property
    def position(self) -> str:
        """The position from which no event that was not passed on yet is missed."""
        if self._state is None:
            raise RuntimeError("the event follower has not read the database yet")
        return self._state.position

    async def _run(self) -> None:
        while self._listeners:
            wait = POLL_INTERVAL
            try:
                if await self._step():
                    wait = 0.0
            except StorageError as error:
                log.warning("live events are delayed, the database is unavailable: %s", str(error).split("\n")[0])
                wait = RETRY_INTERVAL
            except Exception:  # the follower must go on for its listeners
                log.exception("reading live events failed")
                wait = RETRY_INTERVAL
            await asyncio.sleep(wait)

    async def _step(self) -> bool:
        """Read and pass on the next events; return whether there may be more."""
        if self._state is None:
            self._state = await asyncio.to_thread(_start)
            self._ready.set()
        reason, batch = await asyncio.to_thread(_read, self._state)
        if reason is not None:
            log.warning("live events start again: %s", reason)
            self._state = await asyncio.to_thread(_start)
            for listener in tuple(self._listeners):
                listener.lost(reason)
        if batch.events:
            self.decoded_events += len(batch.events)
            for listener in tuple(self._listeners):
                try:
                    await listener.deliver(batch)
                except Exception:  # the other listeners must get the events
                    log.exception("a listener of live events failed")
        return len(batch.events) == READ_LIMIT


def _start() -> _State:
    with read_connection() as connection:
        now = time.monotonic()
        reader = LiveReader.from_now(connection)
        while len(reader.read(connection, READ_LIMIT)) == READ_LIMIT:
            continue  # committed before, by transactions above the threshold
        return _State(read_epoch(connection), reader, now, now)


def _read(state: _State) -> tuple[LostReason | None, EventBatch]:
    """Read the next events of a state, which moves on. Returns why events were missed, if they were."""
    now, nothing = time.monotonic(), EventBatch((), "", 0)
    with read_connection() as connection:
        if now - state.checked_at > EPOCH_PERIOD:
            if read_epoch(connection) != state.epoch or oldest_running_transaction(connection) < state.reader.threshold:
                return "epoch", nothing
            state.checked_at = now
        if now - state.read_at > MAX_OUTAGE:
            return "too_old", nothing
        position = state.position
        events = state.reader.read(connection, READ_LIMIT)
        state.read_at = now
        # Read after the events: every change of rights that precedes one of them is included.
        revision = _read_revision(connection) if events else 0
    return None, EventBatch(events, position, revision)


def _read_revision(connection: Connection) -> int:
    row = connection.execute(_REVISION).fetchone()
    return row[0] if row else 0


@dataclass(frozen=True, slots=True)
class MissedEvents:
    """The events after a position; `lost` says why they are unknown.

    position  the position after them
    """

    events: Sequence[StoredEvent] = ()
    position: str = ""
    revision: int = 0
    lost: LostReason | None = None


def read_missed_events(position: Position) -> MissedEvents:
    """Return the events that a client may have missed since a position, in their order; it may have some of them.

    Raises StorageUnavailable.
    """
    threshold = position.offsets[0]
    with read_connection() as connection:
        if position.epoch != (epoch := read_epoch(connection)):
            return MissedEvents(lost="epoch")
        if len(position.offsets) != 1 or threshold > oldest_running_transaction(connection):
            return MissedEvents(lost="future")
        reader = LiveReader(threshold)
        events = reader.read(connection, MAX_MISSED)
        if len(events) == MAX_MISSED:
            return MissedEvents(lost="overflow")
        [is_complete] = connection.execute(_IS_COMPLETE, (threshold,)).fetchone() or (False,)
        if not is_complete:  # checked after the read: none of its events was deleted before
            return MissedEvents(lost="too_old")
        return MissedEvents(events, event_position(epoch, reader.threshold), _read_revision(connection))


_follower: EventFollower | None = None


def event_follower() -> EventFollower:
    """Return the event follower of this process."""
    global _follower
    if _follower is None:
        _follower = EventFollower()
    return _follower


def reset_event_follower() -> None:
    """Discard the event follower; the next listener starts a new one."""
    global _follower
    _follower = None
