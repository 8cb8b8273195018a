"""The clock on the wall of a place, to UTC: also in the night in which it is set forward or back."""

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta, tzinfo
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np

from ingest.recordings.timestamps import DAY, Ints, Moments

_EPOCH = datetime(1970, 1, 1)
_MICROSECOND = timedelta(microseconds=1)


@dataclass(slots=True)
class _Pass:
    """Where a series is in the hour that comes twice."""

    day: int
    local: int
    again: bool


@dataclass
class LocalTime:
    """Turns local times into UTC.

    An hour that comes twice is the first of the two until the times of the series step back, then the second: so
    recorders write it. An hour that is left out never was, and its rows are rejected.
    """

    zone: tzinfo
    ambiguous: int = 0
    _offsets: dict[int, int | None] = field(default_factory=dict)
    _passes: dict[Hashable, _Pass] = field(default_factory=dict)

    def to_utc(self, moments: Moments, series: Callable[[], Sequence[Hashable] | None] = lambda: None) -> Ints:
        """All times in UTC; those that never were are added to `moments.bad`. `series` tells whose each row is."""
        if not moments.local.any():
            return moments.times
        days = moments.times // DAY
        utc = moments.times.copy()
        for day in np.unique(days[moments.local]).tolist():
            places = np.flatnonzero(moments.local & (days == day))
            offset = self._offset_of(day)
            if offset is not None:
                utc[places] -= offset
                continue
            owners = series()
            for place in places.tolist():
                if place not in moments.bad:
                    whose = owners[place] if owners is not None else None
                    utc[place] = self._in_the_night(day, int(moments.times[place]), whose, place, moments)
        return utc

    def _offset_of(self, day: int) -> int | None:
        """µs that the clock is ahead of UTC for the whole of a day; None where it changes."""
        if day not in self._offsets:
            found = {self._ahead(day * DAY + part * DAY // 8, fold) for part in range(9) for fold in (0, 1)}
            self._offsets[day] = found.pop() if len(found) == 1 else None
        return self._offsets[day]

    def _ahead(self, local: int, fold: int) -> int:
        try:
            moment = (_EPOCH + timedelta(microseconds=local)).replace(tzinfo=self.zone, fold=fold)
            offset = moment.utcoffset()
        except OverflowError:
            return 0
        return (offset or timedelta()) // _MICROSECOND

    def _in_the_night(self, day: int, local: int, series: Hashable, place: int, moments: Moments) -> int:
        first, second = self._ahead(local, 0), self._ahead(local, 1)
        if first == second:
            return local - first
        if first < second:  # the clock was set forward over this time
            moments.bad[place] = f"there was no such time in {self.zone}: clocks went forward"
            return local - first
        self.ambiguous += 1
        passing = self._passes.get(series)
        if passing is None or passing.day != day:
            passing = self._passes[series] = _Pass(day, local, False)
        passing.again = passing.again or local < passing.local
        passing.local = local
        return local - (second if passing.again else first)

    def state(self) -> list[Any]:
        """What must be known to go on in the middle of a night."""
        return [[series, one.day, one.local, one.again] for series, one in self._passes.items()]

    def restore(self, state: Sequence[Any]) -> None:
        for series, day, local, again in state:
            self._passes[tuple(series) if isinstance(series, list) else series] = _Pass(day, local, again)


def zone_named(name: str) -> ZoneInfo:
    """A zone of the tz database. Raises ValueError."""
    try:
        return ZoneInfo(name)
    except (ValueError, OSError, KeyError):
        raise ValueError(f"{name!r} is not a time zone: names like UTC or Europe/Berlin are accepted") from None
