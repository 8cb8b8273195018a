"""Cutting a range of time into intervals, by the wall clock of a zone. Pure.

One rule for every interval: an edge is where the wall clock of the zone shows a whole multiple of the interval,
counted from a Monday's midnight. So hours begin on the hour, days at local midnight and weeks on Monday. On the
night the clocks go forward an hour is missing and an interval that would begin in it begins where the gap ends; on
the night they go back, intervals no longer than the repeated hour occur twice, and longer ones last longer.
An interval that is as long as the range or longer is not cut at all: it is the range.
"""

from datetime import UTC, datetime, tzinfo
from zoneinfo import ZoneInfo

import numpy as np
from numpy.typing import NDArray

from metrics.storage.units import DAY, SECOND

Ints = NDArray[np.int64]

MONDAY = 4 * DAY  # 1970-01-05
_AROUND = 2 * DAY  # more than any zone's distance from UTC
_STEPS = (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 10800, 21600, 43200, 86400, 172800, 604800)


def edges(start: int, end: int, interval: int, zone: tzinfo = UTC) -> Ints:
    """The n + 1 edges (µs) of the n intervals that the range `start` to before `end` touches."""
    if interval >= end - start:
        return np.array([start, end], np.int64)
    low, high = start - interval - _AROUND, end + interval + _AROUND
    found = np.concatenate([_of_stretch(stretch, interval) for stretch in _stretches(zone, low, high)])
    first = int(np.searchsorted(found, start, side="right")) - 1
    last = int(np.searchsorted(found, end, side="left"))
    return found[first : last + 1]


def fitting(length: int, most: int) -> int:
    """The shortest round interval (µs) that cuts a range of this length into at most `most` pieces."""
    for step in _STEPS:
        if step * SECOND * most >= length:
            return step * SECOND
    weeks = -(-length // (_STEPS[-1] * SECOND * most))
    return weeks * _STEPS[-1] * SECOND


class _Stretch:
    """A time during which the clock of a zone is not moved: from `low` to before `high`."""

    def __init__(self, low: int, high: int, offset: int, offset_before: int) -> None:
        self.low = low
        self.high = high
        self.offset = offset
        self.offset_before = offset_before


def _of_stretch(stretch: _Stretch, interval: int) -> Ints:
    shift = stretch.offset - stretch.offset_before
    begin = stretch.low + stretch.offset - MONDAY  # the wall clock where the stretch begins
    if shift < 0 and interval > -shift:
        begin -= shift  # what the clock shows for the second time is no new interval
    whole = -(-begin // interval) * interval
    many = max(-(-(stretch.high + stretch.offset - MONDAY - whole) // interval), 0)
    found = np.arange(many, dtype=np.int64) * interval + (whole + MONDAY - stretch.offset)
    if shift > 0 and whole > begin and begin // interval > (begin - shift - 1) // interval:
        return np.concatenate((np.array([stretch.low], np.int64), found))  # an edge lies in the gap
    return found


def _stretches(zone: tzinfo, low: int, high: int) -> list[_Stretch]:
    offset = _offset(zone, low)
    found, before = [], offset
    begin = at = low
    while at < high:
        following = min(at + DAY, high)
        if _offset(zone, following) != offset:
            moved = _moved(zone, at, following)
            found.append(_Stretch(begin, moved, offset, before))
            before, offset, begin = offset, _offset(zone, following), moved
        at = following
    found.append(_Stretch(begin, high, offset, before))
    return found


def _moved(zone: tzinfo, low: int, high: int) -> int:
    """The second at which the clock was moved between two times."""
    offset = _offset(zone, low)
    low, high = low // SECOND, -(-high // SECOND)
    while high - low > 1:
        middle = (low + high) // 2
        if _offset(zone, middle * SECOND) == offset:
            low = middle
        else:
            high = middle
    return high * SECOND


def _offset(zone: tzinfo, time: int) -> int:
    if not isinstance(zone, ZoneInfo):
        return 0
    shown = datetime.fromtimestamp(time // SECOND, zone).utcoffset()
    return 0 if shown is None else int(shown.total_seconds()) * SECOND
