"""The writer of one stream: sends frames one after the other, and holds a bounded amount for a client that is slow.

While the client keeps up, it gets the bytes that all clients of a feed share. While a send is running, the values that
arrive are merged into a map with the newest value per series, and events wait in a ring that becomes one `resync` frame
when it overflows. So a slow client misses values in between, never the newest, and memory does not grow.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from msgspec.structs import replace

from dashboard.streams import frames
from dashboard.streams.close_codes import FAILED, TOO_SLOW, CloseReason
from metrics.streams.encoding import SeriesValue, to_value
from metrics.streams.feeds import FeedBatch, without_known

log = logging.getLogger(__name__)

SEND_TIMEOUT = 5.0  # seconds in which the client must take a frame
MAX_DRAIN_TIME = 30.0  # seconds in which the client must take everything that was waiting
MAX_EVENTS = 1_000
MAX_REPLIES = 100

Frame = tuple[bytes, str | None]  # the bytes, and the position of the stream after them


class StreamTransport(Protocol):
    """The connection that a stream writes to: a WebSocket or a response with server-sent events."""

    async def send(self, frame: bytes, position: str | None) -> None:
        """Send a frame; waits while the client does not read. Raises OSError when the connection is lost."""

    async def close(self, reason: CloseReason) -> None:
        """Send the error frame and close the connection; neither waits for the client."""


class Closed(Exception):
    """The stream is closed."""


@dataclass(slots=True)
class _Pending:
    """The newest waiting value of a series, and the number of earlier values that it replaces."""

    value: SeriesValue
    skipped: int

    def merge(self, value: SeriesValue) -> None:
        self.skipped += 1 + value.skipped
        # A late value is older than one that was sent or waits; the newest is the one that must arrive.
        if self.value.late or not value.late:
            self.value = value


@dataclass(slots=True, eq=False)
class SubscriptionSink:
    """Values that wait for the client in one data subscription of its stream; the sink of a feed.

    on_lost     called when the feed missed commits, so that a snapshot is needed
    prefix      replaces the first byte of each data frame; None: frames stay as they are
    is_loading  whether the snapshot is still being read, before which no values are sent
    """

    writer: "SocketWriter"
    on_lost: Callable[[], None]
    prefix: bytes | None = None
    is_loading: bool = False
    _shared: FeedBatch | None = None
    _position: str | None = None
    _pending: dict[int, _Pending] = field(default_factory=dict)

    def offer(self, batch: FeedBatch) -> None:
        """Take new values of the feed; called in the event loop, never waits."""
        if self._shared is None and not self._pending and not self.is_loading:
            self._shared = batch
        else:
            if self._shared is not None:
                self._merge(self._shared)
                self._shared = None
            self._merge(batch)
        self.writer.wake()

    def lost(self) -> None:
        """Note that the feed missed commits."""
        self.clear()
        self.on_lost()

    def start(self, known: Mapping[int, SeriesValue]) -> None:
        """Send the values that arrived while the snapshot was read, except those that it contains.

        `known` has the newest value in the snapshot by series id; older ones are sent as late.
        """
        waiting, self._pending = self._pending, {}
        for pending in waiting.values():
            for value in without_known([replace(pending.value, skipped=pending.skipped)], known):
                self._pending[value.series_id] = _Pending(value, pending.skipped)
        self.is_loading = False
        self.writer.wake()

    def clear(self) -> None:
        """Discard what waits, before another snapshot."""
        self._shared, self._pending, self.is_loading = None, {}, True

    def _merge(self, batch: FeedBatch) -> None:
        self._position = batch.position
        for value in batch.values:
            pending = self._pending.get(value.series_id)
            if pending is None:
                self._pending[value.series_id] = _Pending(value, value.skipped)
            else:
                pending.merge(value)

    def take(self) -> Iterator[Frame]:
        """Remove what waits and yield its frames."""
        if self.is_loading:
            return
        if self._shared is not None:
            shared, self._shared = self._shared, None
            yield self.named(shared.encoded, shared.position)
        if self._pending:
            pending, self._pending, position = self._pending, {}, self._position
            values = (to_value(entry.value, entry.skipped) for entry in pending.values())
            for frame in frames.points(values, position):
                yield self.named(frame, position)

    @property
    def has_frames(self) -> bool:
        return not self.is_loading and (self._shared is not None or bool(self._pending))

    @property
    def pending_count(self) -> int:
        """Number of series whose newest value waits."""
        return len(self._pending)

    def named(self, frame: bytes, position: str | None) -> Frame:
        """Return a data frame that names the subscription.

        The position of a stream of several subscriptions is that of its events; theirs are only inside their frames.
        """
        return (frame, position) if self.prefix is None else (self.prefix + frame[1:], None)


class SocketWriter:
    """Sends the frames of one stream. `end` is called once with the reason when the client is too slow or gone (None).

    There is a task only while something waits, so that an idle stream needs little memory.
    """

    def __init__(self, transport: StreamTransport, end: Callable[[CloseReason | None], None]) -> None:
        self._transport, self._end = transport, end
        self._lock = asyncio.Lock()
        self._draining: asyncio.Task[None] | None = None
        self._is_closed = False
        self._sinks: dict[str | None, SubscriptionSink] = {}
        self._replies: deque[Frame] | None = None
        self._ring: deque[Frame] | None = None
        self._has_overflow = False
        self._figures: bytes | None = None
        self._ping: bytes | None = None

    # --- what is offered; never waits ---------------------------------------------------------------

    def add_sink(self, on_lost: Callable[[], None], subscription: str | None = None) -> SubscriptionSink:
        """Return the sink of a new data subscription, which waits for its snapshot.

        `subscription` is the client's name of it; None on a stream of one subscription.
        """
        prefix = None if subscription is None else frames.subscription_prefix(subscription)
        sink = self._sinks[subscription] = SubscriptionSink(self, on_lost, prefix, is_loading=True)
        return sink

    def remove_sink(self, subscription: str | None = None) -> None:
        """Remove a data subscription and its waiting values."""
        self._sinks.pop(subscription, None)

    def offer_event(self, frame: bytes, position: str | None = None) -> None:
        """Take an event, which is never merged with others; too many become one `resync` frame."""
        if self._ring is None:
            self._ring = deque(maxlen=MAX_EVENTS)
        if len(self._ring) == MAX_EVENTS:
            self._ring.clear()
            self._has_overflow = True
        self._ring.append((frame, position))
        self.wake()

    def offer_dashboard(self, frame: bytes) -> None:
        """Take figures; they replace figures that wait."""
        self._figures = frame
        self.wake()

    def offer_ping(self, frame: bytes) -> None:
        self._ping = frame
        self.wake()

    def reply(self, frame: bytes, position: str | None = None) -> None:
        """Take an answer to a message of the client."""
        if self._replies is None:
            self._replies = deque()
        if len(self._replies) >= MAX_REPLIES:
            self._fail(TOO_SLOW)
            return
        self._replies.append((frame, position))
        self.wake()

    def wake(self) -> None:
        """Start to send what waits."""
        if self._draining is None and not self._is_closed:
            self._draining = asyncio.get_running_loop().create_task(self.run())

    # --- sending ------------------------------------------------------------------------------------

    async def send(self, sent: Iterable[Frame]) -> None:
        """Send frames that were made for this client alone, such as a snapshot. Raises Closed.

        Offered frames wait meanwhile.
        """
        async with self._lock:
            await self._send(sent)
        if self._is_closed:
            raise Closed

    async def run(self) -> None:
        """Send what waits, until nothing does."""
        try:
            while not self._is_closed and self._has_frames():
                async with self._lock:
                    await self._send(self._take())
        finally:
            self._draining = None

    async def close(self, reason: CloseReason | None) -> None:
        """Stop sending and close the connection; None: it is closed already."""
        self._is_closed = True
        self._sinks.clear()
        self._ring = self._replies = self._figures = None
        if self._draining is not None:
            self._draining.cancel()
        if reason is not None:
            try:
                await self._transport.close(reason)
            except OSError:
                return  # the client is gone

    async def _send(self, sent: Iterable[Frame]) -> None:
        clock = asyncio.get_running_loop().time
        began = clock()
        try:
            for frame, position in sent:
                if self._is_closed:
                    return
                async with asyncio.timeout(SEND_TIMEOUT):
                    await self._transport.send(frame, position)
                if clock() - began > MAX_DRAIN_TIME:
                    raise TimeoutError
        except TimeoutError:
            self._fail(TOO_SLOW)
        except OSError:  # the connection is lost
            self._fail(None)
        except Exception:
            log.exception("a frame of a live stream cannot be sent")
            self._fail(FAILED)

    def _fail(self, reason: CloseReason | None) -> None:
        if not self._is_closed:
            self._is_closed = True
            self._end(reason)

    def _has_frames(self) -> bool:
        others = self._replies or self._ring or self._has_overflow or self._figures or self._ping
        return bool(others) or any(sink.has_frames for sink in self._sinks.values())

    def _take(self) -> Iterator[Frame]:
        """Remove everything that waits now and yield its frames."""
        replies, self._replies = self._replies, None
        yield from replies or ()
        if self._ping is not None:
            frame, self._ping = self._ping, None
            yield frame, None
        if self._has_overflow:
            self._has_overflow = False
            yield frames.resync("overflow"), None
        ring, self._ring = self._ring, None
        yield from ring or ()
        if self._figures is not None:
            frame, self._figures = self._figures, None
            yield frame, None
        for sink in list(self._sinks.values()):
            yield from sink.take()
