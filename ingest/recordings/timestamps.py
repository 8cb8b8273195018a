"""The time column of a recording: texts in many shapes to microseconds since 1970, with a reason where that fails."""

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
_EARLIEST_NUMBER = 1e8  # 1973 in seconds; smaller numbers are rather dates like 20140401
_UNITS = ((1e11, SECOND), (1e14, 1000), (1e17, 1))  # below this it counts seconds, milliseconds, microseconds
_LATEST = 253_402_300_800 * SECOND  # the year 10000

# Width of the text: digits of the fraction, and "Z", "+" for an offset like +01:00, "" for none.
_LAYOUTS = {
    19: (0, ""), 20: (0, "Z"), 25: (0, "+"),
    23: (3, ""), 24: (3, "Z"), 29: (3, "+"),
    26: (6, ""), 27: (6, "Z"), 32: (6, "+"),
}  # fmt: skip


@dataclass(slots=True)
class Moments:
    """Times as they are written. Those without an offset are local, of whatever place."""

    times: Ints
    local: Mask
    bad: dict[int, str] = field(default_factory=dict)  # position: why


def read_moments(texts: Sequence[str]) -> Moments:
    """The times of a column."""
    count = len(texts)
    found = Moments(np.zeros(count, np.int64), np.zeros(count, bool))
    widths = np.fromiter(map(len, texts), np.int64, count)
    left = np.ones(count, bool)
    for width in np.unique(widths).tolist():
        if width not in _LAYOUTS:
            continue
        places = np.flatnonzero(widths == width)
        chosen = texts if len(places) == count else [texts[place] for place in places.tolist()]
        times, good = _fixed(chosen, width)
        found.times[places] = times
        found.local[places] = _LAYOUTS[width][1] == ""
        left[places[good]] = False
    rest = np.flatnonzero(left)
    if len(rest) and not _numbers(texts, rest, found):
        _one_by_one(texts, rest, found)
    return found


def _fixed(texts: Sequence[str], width: int) -> tuple[Ints, Mask]:
    """Times of one width, read as a matrix of characters: (µs, whether each can be read so)."""
    joined = "".join(texts)
    if not joined.isascii():
        return np.zeros(len(texts), np.int64), np.zeros(len(texts), bool)
    cells = np.frombuffer(joined.encode(), np.uint8).reshape(-1, width)
    fraction, zone = _LAYOUTS[width]
    good = (cells[:, 10] == ord(" ")) | (cells[:, 10] == ord("T"))
    marks = {4: "-", 7: "-", 13: ":", 16: ":"}
    if fraction:
        marks[19] = "."
    if zone == "Z":
        marks[width - 1] = "Z"
    if zone == "+":
        marks[width - 3] = ":"
        good &= (cells[:, width - 6] == ord("+")) | (cells[:, width - 6] == ord("-"))
    for place, mark in marks.items():
        good &= cells[:, place] == ord(mark)

    def whole(start: int, digits: int) -> Ints:
        value = np.zeros(len(cells), np.int64)
        for place in range(start, start + digits):
            digit = cells[:, place] - 48  # unsigned: what is below "0" wraps far above 9
            np.logical_and(good, digit <= 9, out=good)
            value = value * 10 + digit
        return value

    times, possible = _calendar(whole(0, 4), whole(5, 2), whole(8, 2), whole(11, 2), whole(14, 2), whole(17, 2))
    if fraction:
        times += whole(20, fraction) * 10 ** (6 - fraction)
    if zone == "+":
        hours, minutes = whole(width - 5, 2), whole(width - 2, 2)
        possible &= (hours < 24) & (minutes < 60)
        ahead = (hours * 60 + minutes) * 60 * SECOND
        times -= np.where(cells[:, width - 6] == ord("-"), -ahead, ahead)
    return times, good & possible


def _calendar(year: Ints, month: Ints, day: Ints, hour: Ints, minute: Ints, second: Ints) -> tuple[Ints, Mask]:
    """(µs since 1970, whether there is such a moment)."""
    good = (year >= 1) & (month >= 1) & (month <= 12)
    first = ((year - 1970) * 12 + np.where(good, month, 1) - 1).view("M8[M]")
    start = first.astype("M8[D]")
    length = ((first + 1).astype("M8[D]") - start).astype(np.int64)
    good &= (day >= 1) & (day <= length) & (hour < 24) & (minute < 60) & (second < 60)
    days = start.astype(np.int64) + day - 1
    return (((days * 24 + hour) * 60 + minute) * 60 + second) * SECOND, good


def _numbers(texts: Sequence[str], places: NDArray[np.intp], found: Moments) -> bool:
    """Seconds, milliseconds, microseconds or nanoseconds since 1970, by their size; False where any is none of them."""
    try:
        values = np.array([float(texts[place]) for place in places.tolist()])
    except ValueError:
        return False
    if not (np.isfinite(values) & (values >= _EARLIEST_NUMBER) & (values < 1e20)).all():
        return False
    found.times[places] = _scaled(values)
    found.local[places] = False
    return True


def _scaled(values: NDArray[np.float64]) -> Ints:
    times = values / 1000  # nanoseconds
    for below, factor in reversed(_UNITS):
        times = np.where(values < below, values * factor, times)
    return np.rint(times).astype(np.int64)


def _one_by_one(texts: Sequence[str], places: NDArray[np.intp], found: Moments) -> None:
    for place in places.tolist():
        text = texts[place].strip()
        try:
            found.times[place], found.local[place] = _any_shape(text)
        except (ValueError, OverflowError):
            shown = text if len(text) <= 40 else text[:40] + "…"
            found.bad[place] = f"{shown!r} is not a time: {ACCEPTED}" if text else "the cell is empty"


def _any_shape(text: str) -> tuple[int, bool]:
    """(µs, whether it is local)."""
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        number = float(text)
        if not _EARLIEST_NUMBER <= number < 1e20:
            raise
        return int(_scaled(np.array([number]))[0]), False
    local = moment.tzinfo is None
    naive = moment if local else moment.astimezone(UTC).replace(tzinfo=None)
    time = (naive - _EPOCH) // timedelta(microseconds=1)
    if time >= _LATEST:
        raise OverflowError
    return time, local
