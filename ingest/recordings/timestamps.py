"""The time column of a recording: texts of many formats to microseconds since 1970."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]
Mask = NDArray[np.bool_]

SECOND = 1_000_000
DAY = 86_400 * SECOND
ACCEPTED = "a time like 2026-01-31 12:00:00 or 2026-01-31T12:00:00Z, or seconds or milliseconds since 1970, is accepted"
_EPOCH = datetime(1970, 1, 1)
_MIN_NUMBER = 1e8  # 1973 in seconds; smaller numbers are dates like 20140401
_MAX_NUMBER = 1e20
_UNITS = ((1e11, SECOND), (1e14, 1000), (1e17, 1))  # numbers below are seconds, milliseconds, microseconds
_END_OF_TIME = 253_402_300_800 * SECOND  # the start of the year 10000

# Length of the text: digits of the fraction; "Z", "+" for an offset like +01:00, or "" without an offset.
_LAYOUTS = {
    19: (0, ""), 20: (0, "Z"), 25: (0, "+"),
    23: (3, ""), 24: (3, "Z"), 29: (3, "+"),
    26: (6, ""), 27: (6, "Z"), 32: (6, "+"),
}  # fmt: skip


@dataclass(slots=True)
class TimeColumn:
    """The parsed times of a column; `local` marks those without an offset from UTC."""

    times: Ints
    local: Mask
    errors: dict[int, str] = field(default_factory=dict)  # by position


def parse_time_column(texts: Sequence[str]) -> TimeColumn:
    """Parse the times of a column; texts that are not a time become errors."""
    count = len(texts)
    column = TimeColumn(np.zeros(count, np.int64), np.zeros(count, bool))
    widths = np.fromiter(map(len, texts), np.int64, count)
    pending = np.ones(count, bool)
    for width in np.unique(widths).tolist():
        if width not in _LAYOUTS:
            continue
        positions = np.flatnonzero(widths == width)
        selected = texts if len(positions) == count else [texts[position] for position in positions.tolist()]
        times, valid = _parse_fixed_width(selected, width)
        column.times[positions] = times
        column.local[positions] = _LAYOUTS[width][1] == ""
        pending[positions[valid]] = False
    rest = np.flatnonzero(pending)
    if len(rest) and not _parse_numbers(texts, rest, column):
        _parse_each(texts, rest, column)
    return column


def _parse_fixed_width(texts: Sequence[str], width: int) -> tuple[Ints, Mask]:
    """Parse times of one length as a matrix of characters; return (µs, whether each is valid)."""
    joined = "".join(texts)
    if not joined.isascii():
        return np.zeros(len(texts), np.int64), np.zeros(len(texts), bool)
    cells = np.frombuffer(joined.encode(), np.uint8).reshape(-1, width)
    fraction, zone = _LAYOUTS[width]
    valid = (cells[:, 10] == ord(" ")) | (cells[:, 10] == ord("T"))
    marks = {4: "-", 7: "-", 13: ":", 16: ":"}
    if fraction:
        marks[19] = "."
    if zone == "Z":
        marks[width - 1] = "Z"
    if zone == "+":
        marks[width - 3] = ":"
        valid &= (cells[:, width - 6] == ord("+")) | (cells[:, width - 6] == ord("-"))
    for position, mark in marks.items():
        valid &= cells[:, position] == ord(mark)

    def number(start: int, digits: int) -> Ints:
        value = np.zeros(len(cells), np.int64)
        for position in range(start, start + digits):
            digit = cells[:, position] - 48  # unsigned: characters below "0" wrap to far above 9
            np.logical_and(valid, digit <= 9, out=valid)
            value = value * 10 + digit
        return value

    times, exists = _calendar(number(0, 4), number(5, 2), number(8, 2), number(11, 2), number(14, 2), number(17, 2))
    if fraction:
        times += number(20, fraction) * 10 ** (6 - fraction)
    if zone == "+":
        hours, minutes = number(width - 5, 2), number(width - 2, 2)
        exists &= (hours < 24) & (minutes < 60)
        ahead = (hours * 60 + minutes) * 60 * SECOND
        times -= np.where(cells[:, width - 6] == ord("-"), -ahead, ahead)
    return times, valid & exists


def _calendar(year: Ints, month: Ints, day: Ints, hour: Ints, minute: Ints, second: Ints) -> tuple[Ints, Mask]:
    """Return (µs since 1970, whether the date and the time exist)."""
    valid = (year >= 1) & (month >= 1) & (month <= 12)
    first = ((year - 1970) * 12 + np.where(valid, month, 1) - 1).view("M8[M]")
    start = first.astype("M8[D]")
    length = ((first + 1).astype("M8[D]") - start).astype(np.int64)
    valid &= (day >= 1) & (day <= length) & (hour < 24) & (minute < 60) & (second < 60)
    days = start.astype(np.int64) + day - 1
    return (((days * 24 + hour) * 60 + minute) * 60 + second) * SECOND, valid


def _parse_numbers(texts: Sequence[str], positions: NDArray[np.intp], column: TimeColumn) -> bool:
    """Parse seconds, milliseconds, microseconds or nanoseconds since 1970, by size; return False if any is invalid."""
    try:
        values = np.array([float(texts[position]) for position in positions.tolist()])
    except ValueError:
        return False
    if not (np.isfinite(values) & (values >= _MIN_NUMBER) & (values < _MAX_NUMBER)).all():
        return False
    column.times[positions] = _scaled(values)
    column.local[positions] = False
    return True


def _scaled(values: NDArray[np.float64]) -> Ints:
    times = values / 1000  # nanoseconds
    for below, factor in reversed(_UNITS):
        times = np.where(values < below, values * factor, times)
    return np.rint(times).astype(np.int64)


def _parse_each(texts: Sequence[str], positions: NDArray[np.intp], column: TimeColumn) -> None:
    for position in positions.tolist():
        text = texts[position].strip()
        try:
            column.times[position], column.local[position] = _parse_any_format(text)
        except (ValueError, OverflowError):
            shown = text if len(text) <= 40 else text[:40] + "…"
            column.errors[position] = f"{shown!r} is not a time: {ACCEPTED}" if text else "the cell is empty"


def _parse_any_format(text: str) -> tuple[int, bool]:
    """Return (µs, whether the time is local). Raises ValueError and OverflowError."""
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        number = float(text)
        if not _MIN_NUMBER <= number < _MAX_NUMBER:
            raise
        return int(_scaled(np.array([number]))[0]), False
    local = moment.tzinfo is None
    naive = moment if local else moment.astimezone(UTC).replace(tzinfo=None)
    time = (naive - _EPOCH) // timedelta(microseconds=1)
    if time >= _END_OF_TIME:
        raise OverflowError
    return time, local
