"""Conflation: the newest value per series of a period, the late ones, and the number of those in between. Pure."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from msgspec.structs import replace
from numpy.typing import NDArray

from metrics.storage.format.codec import Columns
from metrics.storage.format.contexts import tags_of
from metrics.streams.encoding import SeriesValue
from metrics.streams.series_points import SeriesPoints

MAX_LATE = 100  # late values per series and period; more are counted as skipped
_NEVER = -(2**63)


class _Waiting:
    """Values of a series that wait for the end of the period."""

    __slots__ = ("late", "newest", "skipped")

    def __init__(self) -> None:
        self.newest: SeriesValue | None = None
        self.late: list[SeriesValue] | None = None
        self.skipped = 0

    def keep_newest(self, value: SeriesValue) -> None:
        newest = self.newest
        if newest is None or value.timestamp == newest.timestamp:  # the later write of a point replaces it
            self.newest = value
            return
        self.skipped += 1
        if value.timestamp > newest.timestamp:
            self.newest = value

    def keep_late(self, value: SeriesValue) -> None:
        if self.late is None:
            self.late = []
        self.late.append(value)


class TagFilter:
    """Which points of a part have all tags of a subscription. A point's tags are in its context."""

    def __init__(self, tags: Iterable[tuple[str, Any]]) -> None:
        self._tags = dict(tags).items()
        self._part: Columns | None = None
        self._mask: NDArray[np.bool_] = np.empty(0, bool)

    def matches(self, tags: Mapping[str, Any]) -> bool:
        return self._tags <= tags.items()

    def positions(self, points: SeriesPoints) -> Sequence[int]:
        """Return the positions in the part of the points with the tags, ascending."""
        part = points.part
        if part.contexts is None:
            return ()
        if self._part is not part:  # once for all series of a part
            self._part = part
            self._mask = np.array([self.matches(tags_of(entry)) for entry in part.dictionary], bool)
        matching: list[int] = np.flatnonzero(self._mask[part.contexts[points.low : points.high]]).tolist()
        return [points.low + position for position in matching]


class Conflation:
    """Takes every point of the series of a feed and gives the values of a period.

    A value is late if a value that is as new or newer was sent. Late values do not replace the newest one: they are
    sent beside it, up to MAX_LATE per series and period. Every other point is counted in `skipped`.
    """

    def __init__(self, tags: Iterable[tuple[str, Any]] = ()) -> None:
        tags = tuple(tags)
        self._filter = TagFilter(tags) if tags else None
        self._sent: dict[int, int] = {}  # time of the newest sent value by series, µs
        self._waiting: dict[int, _Waiting] = {}

    def __bool__(self) -> bool:
        return bool(self._waiting)

    def add(self, points: SeriesPoints) -> None:
        """Take the points of a series in a commit."""
        positions: Sequence[int] = range(points.low, points.high)
        if self._filter is not None and not (positions := self._filter.positions(points)):
            return
        series_id, times = points.series.series_id, points.part.times
        waiting = self._waiting.get(series_id)
        if waiting is None:
            waiting = self._waiting[series_id] = _Waiting()
        sent = self._sent.get(series_id, _NEVER)
        if times[positions[0]] <= sent:
            positions = self._add_late(waiting, points, positions, sent)
        if positions:
            last = positions[-1]
            # Values in between are not made: only the last one can be the newest.
            waiting.skipped += len(positions) - 1
            waiting.keep_newest(points.newest if last == points.high - 1 else points.value_at(last))

    @staticmethod
    def _add_late(waiting: _Waiting, points: SeriesPoints, positions: Sequence[int], sent: int) -> Sequence[int]:
        """Take the points up to a time; return the positions of the others."""
        times = points.part.times[positions[0] : positions[-1] + 1]
        newer = positions[0] + int(times.searchsorted(sent, side="right"))
        late = [position for position in positions if position < newer]
        room = max(0, MAX_LATE - len(waiting.late or ()))
        for position in late[:room]:
            waiting.keep_late(points.value_at(position, late=True))
        waiting.skipped += len(late[room:])
        return positions[len(late) :]

    def take(self) -> list[SeriesValue]:
        """Return the values that wait: of each series the late ones and then the newest one."""
        waiting_series, self._waiting = self._waiting, {}
        values: list[SeriesValue] = []
        for series_id, waiting in waiting_series.items():
            if waiting.late is not None:
                values += waiting.late
            newest = waiting.newest
            if newest is not None:
                if newest.timestamp > self._sent.get(series_id, _NEVER):
                    self._sent[series_id] = newest.timestamp
                else:  # of mark_sent, while it waited
                    newest = replace(newest, late=True)
                values.append(newest)
            if waiting.skipped:
                values[-1] = replace(values[-1], skipped=waiting.skipped)
        return values

    def mark_sent(self, times: Mapping[int, int]) -> None:
        """Note the times up to which series were sent by other means, such as a snapshot."""
        for series_id, time in times.items():
            if time > self._sent.get(series_id, _NEVER):
                self._sent[series_id] = time

    def clear(self) -> None:
        """Discard the waiting values and the times of sent ones."""
        self._waiting, self._sent = {}, {}
