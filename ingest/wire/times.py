"""RFC 3339 texts to microseconds since 1970."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from itertools import groupby

import numpy as np
from numpy.typing import NDArray

ACCEPTED = "an RFC 3339 time with its offset is accepted, such as 2026-01-31T12:00:00Z"
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
FEW = 32  # changes of time up to which reading them one by one is fastest


@lru_cache(maxsize=4096)
def parse_time(text: str) -> int:
    """One time, remembered: a fleet sends the same one often. Raises ValueError: what is wrong, what is accepted."""
    try:
        # Shorter forms are ISO 8601 but not RFC 3339, and dates alone would be read as midnight.
        moment = datetime.fromisoformat(text) if len(text) >= 19 and text.isascii() else None
    except ValueError:
        moment = None
    if moment is None:
        raise ValueError(f"not a time: {ACCEPTED}")
    if moment.tzinfo is None:
        raise ValueError(f"the time has no offset: {ACCEPTED}")
    try:
        return (moment - _EPOCH) // _MICROSECOND
    except OverflowError:
        raise ValueError(f"not a time: {ACCEPTED}") from None


def parse_times(texts: Sequence[str]) -> NDArray[np.int64]:
    """Many times: int64[n]. Raises ValueError where any cannot be read."""
    # A collector sends many values of one moment one after the other: only where the time changes is it read.
    runs = [(text, len(list(same))) for text, same in groupby(texts)]
    if len(runs) > FEW and (column := _parse_fixed(texts)) is not None:
        return column
    moments = np.array([parse_time(text) for text, _ in runs], np.int64)
    return moments if len(runs) == len(texts) else np.repeat(moments, [count for _, count in runs])


def _parse_fixed(texts: Sequence[str]) -> NDArray[np.int64] | None:
    """Times all in the shape 2026-01-31T12:00:00[.123[456]]Z, read as a matrix of digits; None where one differs."""
    width = len(texts[0])
    joined = "".join(texts)
    if width not in (20, 24, 27) or len(joined) != width * len(texts) or not joined.isascii():
        return None
    cells = np.frombuffer(joined.encode(), np.uint8).reshape(-1, width)
    marks = {4: "-", 7: "-", 10: "T", 13: ":", 16: ":", width - 1: "Z"} | ({19: "."} if width > 20 else {})
    places = [place for place in range(width) if place not in marks]
    digits = cells[:, places] - 48  # unsigned: what is below "0" wraps far above 9
    if digits.max() > 9 or any((cells[:, place] != ord(mark)).any() for place, mark in marks.items()):
        return None
    number = digits.astype(np.int64)

    def whole(start: int, count: int) -> NDArray[np.int64]:
        return number[:, start : start + count] @ (10 ** np.arange(count - 1, -1, -1))

    year, month, day = whole(0, 4), whole(4, 2), whole(6, 2)
    hour, minute, second = whole(8, 2), whole(10, 2), whole(12, 2)
    first = np.array(((year - 1970) * 12 + month - 1), "M8[M]")
    last_day = ((first + 1).astype("M8[D]") - first.astype("M8[D]")).astype(np.int64)
    if ((year < 1) | (month < 1) | (month > 12) | (day < 1) | (day > last_day)).any() or (
        (hour > 23) | (minute > 59) | (second > 59)
    ).any():
        return None
    days = first.astype("M8[D]").astype(np.int64) + day - 1
    micro = whole(14, width - 21) * 10 ** (27 - width) if width > 20 else 0
    return (((days * 24 + hour) * 60 + minute) * 60 + second) * 1_000_000 + micro
