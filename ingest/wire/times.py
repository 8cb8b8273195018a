"""RFC 3339 texts to microseconds since 1970."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from itertools import groupby

import numpy as np
from numpy.typing import NDArray

ACCEPTED = "an RFC 3339 time with an offset is accepted, such as 2026-01-31T12:00:00Z"
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
MAX_SINGLE_TIMES = 32  # distinct times up to which parsing each is fastest


@lru_cache(maxsize=4096)
def parse_time(text: str) -> int:
    """Return µs since 1970. Cached, since devices often send the same time. Raises ValueError with the reason."""
    try:
        # Shorter forms are ISO 8601 but not RFC 3339, and a date alone would mean midnight.
        moment = datetime.fromisoformat(text) if len(text) >= 19 and text.isascii() else None
    except ValueError:
        moment = None
    if moment is None:
        raise ValueError("not a time")
    if moment.tzinfo is None:
        raise ValueError("the time has no offset")
    try:
        return (moment - _EPOCH) // _MICROSECOND
    except OverflowError:
        raise ValueError("not a time") from None


def parse_times(texts: Sequence[str]) -> NDArray[np.int64]:
    """Return many times as int64[n]. Raises ValueError if any is invalid."""
    # A collector sends many values of the same time in a row: each run of equal texts is parsed once.
    runs = [(text, len(list(same))) for text, same in groupby(texts)]
    if len(runs) > MAX_SINGLE_TIMES and (column := _parse_fixed(texts)) is not None:
        return column
    moments = np.array([parse_time(text) for text, _ in runs], np.int64)
    return moments if len(runs) == len(texts) else np.repeat(moments, [count for _, count in runs])


def _parse_fixed(texts: Sequence[str]) -> NDArray[np.int64] | None:
    """Parse times that all look like 2026-01-31T12:00:00[.123[456]]Z as a matrix; return None if one differs."""
    width = len(texts[0])
    joined = "".join(texts)
    if width not in (20, 24, 27) or len(joined) != width * len(texts) or not joined.isascii():
        return None
    cells = np.frombuffer(joined.encode(), np.uint8).reshape(-1, width)
    marks = {4: "-", 7: "-", 10: "T", 13: ":", 16: ":", width - 1: "Z"} | ({19: "."} if width > 20 else {})
    columns = [column for column in range(width) if column not in marks]
    digits = cells[:, columns] - 48  # unsigned: characters below "0" wrap to far above 9
    if digits.max() > 9 or any((cells[:, column] != ord(mark)).any() for column, mark in marks.items()):
        return None
    matrix = digits.astype(np.int64)

    def number(start: int, count: int) -> NDArray[np.int64]:
        return matrix[:, start : start + count] @ (10 ** np.arange(count - 1, -1, -1))

    year, month, day = number(0, 4), number(4, 2), number(6, 2)
    hour, minute, second = number(8, 2), number(10, 2), number(12, 2)
    first = np.array(((year - 1970) * 12 + month - 1), "M8[M]")
    last_day = ((first + 1).astype("M8[D]") - first.astype("M8[D]")).astype(np.int64)
    if ((year < 1) | (month < 1) | (month > 12) | (day < 1) | (day > last_day)).any() or (
        (hour > 23) | (minute > 59) | (second > 59)
    ).any():
        return None
    days = first.astype("M8[D]").astype(np.int64) + day - 1
    micro = number(14, width - 21) * 10 ** (27 - width) if width > 20 else 0
    return (((days * 24 + hour) * 60 + minute) * 60 + second) * 1_000_000 + micro
