"""Feeds: the newest value per series and period, shared by all sockets with the same subscription."""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, NamedTuple, Protocol

from msgspec.structs import replace

from metrics.query.result import to_json_value
from metrics.storage.format.codec import Columns, Kind
from metrics.storage.format.contexts import tags_of, unit_of
from metrics.storage.series_registry import cached_registry
from metrics.streams.encoding import SeriesValue, encode_points

MAX_LATE = 100  # late values per series and period; more are counted as skipped


@dataclass(frozen=True)
class FeedKey:
    """What a subscription receives.

    devices           None: all; the caller's device groups are applied before
    tags              a point must have each of them
    max_frequency_ms  at most one frame in this time
    """

    devices: frozenset[str] | None
    metrics: frozenset[str] | None
    tags: frozenset[tuple[str, Any]] = frozenset()
    max_frequency_ms: int = 1000

    def matches(self, device_id: str, metric_name: str) -> bool:
        return (self.devices is None or device_id in self.devices) and (
            self.metrics is None or metric_name in self.metrics
        )

    def has_tags(self, context: bytes) -> bool:
        """Return whether a point with this context has every tag of the feed."""
        return not self.tags or self.tags <= _tag_items(tags_of(context))


def _tag_items(tags: Mapping[str, Any]) -> set[tuple[str, Any]]:
    return {(name, value) for name, value in tags.items() if not isinstance(value, list | dict)}


class SeriesPoints(NamedTuple):
    """The points of one series in a commit: those of `part` from `low` to before `high`."""

    series_id: int
    device_id: str
    metric_name: str
    kind: Kind
    part: Columns
    low: int
    high: int

    def value_at(self, position: int) -> SeriesValue:
        """Return the value at a position of the part."""
        return SeriesValue(
            self.series_id,
            self.device_id,
            self.metric_name,
            int(self.part.times[position]),
            to_json_value(self.part.values[position], self.kind),
            unit_of(self.context_at(position)) or cached_registry().unit(self.metric_name),
        )

    def context_at(self, position: int) -> bytes:
        return b"" if self.part.contexts is None else self.part.dictionary[self.part.contexts[position]]


class FeedBatch:
    """The values of one period; encoded at most once, for all sockets."""

    def __init__(self, position: str, values: list[SeriesValue]) -> None:
        self.position, self.values = position, values

    @cached_property
    def encoded(self) -> bytes:
        return encode_points(self.values, self.position)


class Sink(Protocol):
    """What receives the batches of a feed; neither method may wait."""

    def offer(self, batch: FeedBatch) -> None: ...

    def lost(self) -> None:
        """Note that commits were missed: a fresh snapshot must be sent."""


@dataclass(slots=True)
class _Waiting:
    """What waits of a series for the end of the period."""

    newest: SeriesValue | None = None
    late: list[SeriesValue] = field(default_factory=list)
    skipped: int = 0


class Feed:
    """Conflates the points of matching series and passes a batch to its sinks, at most once per period.

    Used in the event loop only.
    """

    def __init__(self, key: FeedKey, read_position: Callable[[], str]) -> None:
        self.key = key
        self._read_position = read_position
        self.sinks: set[Sink] = set()
        self.routed: set[int] = set()  # series that the follower passes to this feed
        self._sent: dict[int, int] = {}  # time of the newest sent value by series, µs
        self._waiting: dict[int, _Waiting] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._flushed_at = float("-inf")

    @property
    def position(self) -> str:
        """The position up to which this feed has taken commits."""
        return self._read_position()

    def attach(self, sink: Sink) -> None:
        self.sinks.add(sink)

    def detach(self, sink: Sink) -> None:
        self.sinks.discard(sink)

    def add(self, points: SeriesPoints, newest: SeriesValue) -> None:
        """Take the points of a series in a commit; `newest` is the value of its last one."""
        series = points.series_id
        waiting = self._waiting.get(series)
        if waiting is None:
            waiting = self._waiting[series] = _Waiting()
        if points.high - points.low == 1 and not self.key.tags:
            self._keep(waiting, newest)
            return
        sent = self._sent.get(series)
        for position in range(points.low, points.high):
            if not self.key.has_tags(points.context_at(position)):
                continue
            is_late = sent is not None and points.part.times[position] <= sent
            # Values in between are not made: only the last one can be the newest.
            if position < points.high - 1 and not self.key.tags and not is_late:
                waiting.skipped += 1
            else:
                self._keep(waiting, newest if position == points.high - 1 else points.value_at(position))

    def _keep(self, waiting: _Waiting, value: SeriesValue) -> None:
        sent = self._sent.get(value.series_id)
        if sent is not None and value.timestamp <= sent:
            if len(waiting.late) < MAX_LATE:
                waiting.late.append(replace(value, late=True))
            else:
                waiting.skipped += 1
        elif waiting.newest is None or value.timestamp == waiting.newest.timestamp:
            waiting.newest = value
        else:
            waiting.skipped += 1
            if value.timestamp > waiting.newest.timestamp:
                waiting.newest = value

    def schedule(self) -> None:
        """Send what waits as soon as the period allows; called after each read of commits."""
        if not self._waiting or self._timer is not None:
            return
        loop = asyncio.get_running_loop()
        due = self._flushed_at + self.key.max_frequency_ms / 1000
        if due <= loop.time():
            self.flush()
        else:
            self._timer = loop.call_at(due, self.flush)

    def flush(self) -> None:
        """Pass what waits to all sinks."""
        self.cancel()
        self._flushed_at = asyncio.get_running_loop().time()
        values: list[SeriesValue] = []
        for series, waiting in self._waiting.items():
            values += waiting.late
            if waiting.newest is not None:
                self._sent[series] = waiting.newest.timestamp
                values.append(replace(waiting.newest, skipped=waiting.skipped) if waiting.skipped else waiting.newest)
            elif waiting.skipped and waiting.late:
                values[-1] = replace(values[-1], skipped=waiting.skipped)
        self._waiting = {}
        if values:
            batch = FeedBatch(self.position, values)
            for sink in tuple(self.sinks):
                sink.offer(batch)

    def lose(self) -> None:
        """Discard what waits after missed commits, and tell the sinks."""
        self.cancel()
        self._waiting, self._sent = {}, {}
        for sink in tuple(self.sinks):
            sink.lost()

    def cancel(self) -> None:
        """Stop the timer of the period."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
