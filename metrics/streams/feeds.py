"""Feeds: the newest value per series and period, shared by all sockets with the same subscription."""

import asyncio
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Protocol

from msgspec.structs import replace

from metrics.streams.conflation import Conflation
from metrics.streams.encoding import MAX_VALUES, SeriesValue, encode_points
from metrics.streams.series_points import SeriesPoints

MAX_PAUSE = 0.02  # seconds between the frames of one period, in which sockets send the one before


@dataclass(frozen=True)
class FeedKey:
    """Series and frequency of a subscription.

    devices           None: all; the caller's device groups are applied before
    tags              a point must have each of them, as in a query: the tags are those of the point, not of its device
    max_frequency_ms  at most one set of values in this time
    """

    devices: frozenset[str] | None
    metrics: frozenset[str] | None
    tags: frozenset[tuple[str, Any]] = frozenset()
    max_frequency_ms: int = 1000

    def matches(self, device_id: str, metric_name: str) -> bool:
        return (self.devices is None or device_id in self.devices) and (
            self.metrics is None or metric_name in self.metrics
        )


class FeedBatch:
    """At most MAX_VALUES values of one period; encoded at most once, for all sockets.

    position  up to which everything was sent with this batch; None if more of the period follows
    """

    def __init__(self, position: str | None, values: list[SeriesValue]) -> None:
        self.position, self.values = position, values

    @cached_property
    def encoded(self) -> bytes:
        return encode_points(self.values, self.position)


class Sink(Protocol):
    """Receiver of the batches of a feed; neither method may wait."""

    def offer(self, batch: FeedBatch) -> None: ...

    def lost(self) -> None:
        """Take note that commits were missed: the client needs a fresh snapshot."""


@dataclass(slots=True)
class _Joining:
    """A sink whose client got values from storage that the feed has not passed yet.

    known  the newest of these values by series
    since  when they were read; batches may repeat them until the feed has passed the commits of this time
    """

    since: float
    known: dict[int, SeriesValue] = field(default_factory=dict)


def newest_by_series(values: Iterable[SeriesValue]) -> dict[int, SeriesValue]:
    """Return the newest of these values by series; of two of one time the later in the order."""
    newest: dict[int, SeriesValue] = {}
    for value in values:
        other = newest.get(value.series_id)
        if other is None or value.timestamp >= other.timestamp:
            newest[value.series_id] = value
    return newest


def without_known(values: Iterable[SeriesValue], known: Mapping[int, SeriesValue]) -> list[SeriesValue]:
    """Return values for a client that has others: without those that it has, and with older ones marked as late.

    Older ones are not left out, since they may have been written after the client's values were read.
    """
    kept = []
    for value in values:
        other = known.get(value.series_id)
        if other is None or value.late or value.timestamp > other.timestamp:
            kept.append(value)
        elif value.skipped or value.timestamp < other.timestamp or value.value != other.value:
            kept.append(replace(value, late=True))
    return kept


class Feed:
    """Conflates the points of matching series and passes them to its sinks, at most once per period.

    The values of a period are passed in batches of at most MAX_VALUES. Used in the event loop only.
    """

    def __init__(self, key: FeedKey, read_position: Callable[[], str]) -> None:
        self.key = key
        self.is_routed = False  # whether the follower has looked up its series
        self._read_position = read_position
        self._conflation = Conflation(key.tags)
        self._sinks: dict[Sink, None] = {}  # ordered
        self._joining: dict[Sink, _Joining] = {}
        self._outgoing: deque[FeedBatch] = deque()
        self._timer: asyncio.TimerHandle | None = None
        self._flushed_at = float("-inf")
        # Commits up to these times were passed to the feed, and will be sent with what is outgoing.
        self._passed_until = self._outgoing_until = float("-inf")

    @property
    def position(self) -> str:
        """The position up to which this feed has taken commits."""
        return self._read_position()

    @property
    def is_sending(self) -> bool:
        """Whether values wait for their period or are being sent."""
        return bool(self._conflation or self._outgoing)

    def attach(self, sink: Sink) -> None:
        """Pass batches to a sink from now on.

        Read the snapshot or gap of its client afterwards, and tell the feed with `mark_sent`. Until the feed has passed
        what they contain, batches have no position: the client has a later one.
        """
        self._sinks[sink] = None
        self._joining[sink] = _Joining(_now())

    def detach(self, sink: Sink) -> None:
        self._sinks.pop(sink, None)
        self._joining.pop(sink, None)

    def mark_sent(self, sink: Sink, values: Iterable[SeriesValue]) -> None:
        """Note the values that the client of a sink got from storage: they are not sent again, older ones are late."""
        if sink not in self._sinks:
            return
        self._joining[sink] = _Joining(_now(), newest_by_series(values))

    def add(self, points: SeriesPoints) -> None:
        """Take the points of a series in a commit."""
        self._conflation.add(points)

    def passed(self, until: float | None) -> None:
        """Send what waits as soon as the period allows; called after each read of commits.

        `until` is a time (of the event loop) before which all commits were passed; None if there are more.
        """
        if until is not None:
            self._passed_until = until
        if self._timer is not None:
            return
        if not self._conflation:
            self._end_joining(self._passed_until)
            return
        due = self._flushed_at + self.key.max_frequency_ms / 1000
        if due <= _now():
            self._flush()
        else:
            self._timer = asyncio.get_running_loop().call_at(due, self._flush)

    def _flush(self) -> None:
        """Begin to pass what waits to the sinks."""
        self.cancel()
        self._flushed_at, self._outgoing_until = _now(), self._passed_until
        values, position = self._conflation.take(), self.position
        last = max(len(values) - 1, 0) // MAX_VALUES * MAX_VALUES
        for start in range(0, last, MAX_VALUES):
            self._outgoing.append(FeedBatch(None, values[start : start + MAX_VALUES]))
        self._outgoing.append(FeedBatch(position, values[last:]))
        self._pass_next()

    def _pass_next(self) -> None:
        """Pass a batch, and the next one a little later: a sink whose client keeps up is free again by then."""
        self._timer = None
        batch = self._outgoing.popleft()
        for sink in tuple(self._sinks):
            joining = self._joining.get(sink)
            if joining is None:
                sink.offer(batch)
            else:
                self._offer_joining(sink, joining, batch)
        if self._outgoing:
            pause = min(MAX_PAUSE, self.key.max_frequency_ms / 2000 / len(self._outgoing))
            self._timer = asyncio.get_running_loop().call_later(pause, self._pass_next)
        else:
            self._end_joining(self._outgoing_until)
            if self._conflation:
                self.passed(None)

    def _offer_joining(self, sink: Sink, joining: _Joining, batch: FeedBatch) -> None:
        is_reached = joining.since < self._outgoing_until
        if is_reached and not joining.known:
            sink.offer(batch)
        elif values := without_known(batch.values, joining.known):
            sink.offer(FeedBatch(batch.position if is_reached else None, values))

    def _end_joining(self, until: float) -> None:
        """Treat sinks as all others once the feed has passed what their clients got from storage."""
        for sink in [sink for sink, joining in self._joining.items() if joining.since < until]:
            known = self._joining.pop(sink).known
            self._conflation.mark_sent({series_id: value.timestamp for series_id, value in known.items()})

    def lose(self) -> None:
        """Discard the waiting values after missed commits, and notify the sinks."""
        self.cancel()
        self._conflation.clear()
        for sink in tuple(self._sinks):
            self._joining[sink] = _Joining(_now())
            sink.lost()

    def cancel(self) -> None:
        """Stop the timer, and discard what is outgoing."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._outgoing.clear()


def _now() -> float:
    return asyncio.get_running_loop().time()
