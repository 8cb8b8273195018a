"""Local times to UTC, also in the nights in which clocks are set forward or back."""

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta, tzinfo
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np

from ingest.recordings.timestamps import DAY, Ints, TimeColumn

_EPOCH = datetime(1970, 1, 1)
_MICROSECOND = timedelta(microseconds=1)


@dataclass(slots=True)
class _RepeatedHour:
    """The last time of a series in an hour that occurs twice, and whether it is in the second of the two."""

    day: int
    local: int
    is_second: bool
    is_descending: bool = False  # the newest rows are first


@dataclass
class LocalTime:
    """Converts local times to UTC.

    A time in an hour that occurs twice is in the first of the two until the times of its series step back, as
    recorders write them; if the newest rows are first, it is in the second of the two until the times step forward. A
    time in the hour that clocks skip is an error.
    """

    zone: tzinfo
    ambiguous: int = 0
    _offsets: dict[int, int | None] = field(default_factory=dict)
    _repeated: dict[Hashable, _RepeatedHour] = field(default_factory=dict)

    def to_utc(self, column: TimeColumn, series: Callable[[], Sequence[Hashable] | None] = lambda: None) -> Ints:
        """Return all times in UTC and add skipped times to `column.errors`.

        `series` returns the series of each row, or None if all rows are of one series.
        """
        if not column.local.any():
            return column.times
        days = column.times // DAY
        utc = column.times.copy()
        for day in np.unique(days[column.local]).tolist():
            positions = np.flatnonzero(column.local & (days == day))
            offset = self._offset_of_day(day)
            if offset is not None:
                utc[positions] -= offset
                continue
            series_of_rows = series()
            directions = _Directions(column, series_of_rows)
            for position in positions.tolist():
                if position not in column.errors:
                    key = series_of_rows[position] if series_of_rows is not None else None
                    utc[position] = self._on_day_of_change(day, key, position, column, directions)
        return utc

    def _offset_of_day(self, day: int) -> int | None:
        """Return the offset from UTC in µs for a whole day; None if it changes on that day."""
        if day not in self._offsets:
            offsets = {self._offset(day * DAY + part * DAY // 8, fold) for part in range(9) for fold in (0, 1)}
            self._offsets[day] = offsets.pop() if len(offsets) == 1 else None
        return self._offsets[day]

    def _offset(self, local: int, fold: int) -> int:
        try:
            moment = (_EPOCH + timedelta(microseconds=local)).replace(tzinfo=self.zone, fold=fold)
            offset = moment.utcoffset()
        except OverflowError:
            return 0
        return (offset or timedelta()) // _MICROSECOND

    def _on_day_of_change(
        self, day: int, series: Hashable, position: int, column: TimeColumn, directions: "_Directions"
    ) -> int:
        local = int(column.times[position])
        first, second = self._offset(local, 0), self._offset(local, 1)
        if first == second:
            return local - first
        if first < second:  # clocks were set forward past this time
            column.errors[position] = f"this time does not exist in {self.zone}: clocks were set forward"
            return local - first
        self.ambiguous += 1
        hour = self._repeated.get(series)
        if hour is None or hour.day != day:
            is_descending = directions.is_descending(series)
            hour = self._repeated[series] = _RepeatedHour(day, local, is_descending, is_descending)
        if hour.is_descending:
            hour.is_second = hour.is_second and local <= hour.local
        else:
            hour.is_second = hour.is_second or local < hour.local
        hour.local = local
        return local - (second if hour.is_second else first)

    def state(self) -> list[Any]:
        """Return what `restore` needs to resume in the middle of a repeated hour."""
        return [
            [series, hour.day, hour.local, hour.is_second, hour.is_descending]
            for series, hour in self._repeated.items()
        ]

    def restore(self, state: Sequence[Any]) -> None:
        for series, *hour in state:
            key = tuple(series) if isinstance(series, list) else series
            self._repeated[key] = _RepeatedHour(*hour)


class _Directions:
    """Whether the rows of a block have the newest first: per series, else of the whole block."""

    def __init__(self, column: TimeColumn, series: Sequence[Hashable] | None) -> None:
        self._steps: dict[Hashable, int] = {}
        last: dict[Hashable, int] = {}
        for position, time in enumerate(column.times.tolist()):
            if position not in column.errors:
                key = series[position] if series is not None else None
                step = time - last.get(key, time)
                self._steps[key] = self._steps.get(key, 0) + (step > 0) - (step < 0)
                last[key] = time

    def is_descending(self, series: Hashable) -> bool:
        return (self._steps.get(series) or sum(self._steps.values())) < 0


def find_zone(name: str) -> ZoneInfo:
    """Return a zone of the tz database. Raises ValueError."""
    try:
        return ZoneInfo(name)
    except (ValueError, OSError, KeyError):
        raise ValueError(f"{name!r} is not a time zone: names like UTC or Europe/Berlin are accepted") from None
