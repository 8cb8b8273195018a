"""How merged blocks are laid out: by bucket of series and by day, so that a read finds them by equality."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from metrics.storage.format.codec import Columns, Ints, concatenate
from metrics.storage.units import DAY

SERIES_PER_BUCKET = 256  # series of one bucket
MAX_ROW_POINTS = 16_384  # points of one row, at the most
DAY_LEVEL = 100  # the level of a finished day


def bucket_of(series: int) -> int:
    return series // SERIES_PER_BUCKET


def day_of(time: int) -> int:
    return time // DAY


def split_by_day(columns: Columns) -> Iterator[tuple[int, int, Columns]]:
    """Columns cut into (bucket, day, Columns of that bucket and day)."""
    if not len(columns):
        return
    buckets = columns.ids // SERIES_PER_BUCKET
    edges = [0, *(np.flatnonzero(np.diff(buckets)) + 1).tolist(), len(buckets)]
    for first, last in zip(edges[:-1], edges[1:], strict=True):
        part = columns.slice_series(first, last)
        days = part.times // DAY
        low, high = int(days.min()), int(days.max())
        if low == high:
            yield int(buckets[first]), low, part
        else:
            for day in np.unique(days).tolist():
                yield int(buckets[first]), day, select_points(part, days == day)


def select_points(columns: Columns, mask: "np.ndarray[tuple[int], np.dtype[np.bool_]]") -> Columns:
    """The points where the mask holds, in the same order."""
    series = columns.series()[mask]
    starts = np.concatenate(([0], np.flatnonzero(np.diff(series)) + 1)) if len(series) else np.empty(0, np.int64)
    return Columns(
        series[starts],
        np.append(starts, len(series)).astype(np.int64),
        columns.times[mask],
        columns.values[mask],
        None if columns.contexts is None else columns.contexts[mask],
        columns.dictionary,
    )


def select_time_range(columns: Columns, start: int, end: int) -> Columns:
    """The points from one time to before another (µs)."""
    many, length = len(columns.ids), int(columns.offsets[1])
    if len(columns) == many * length:  # a fleet that ticks together is cut at one place
        times = columns.times.reshape(many, length)
        low, high = times[0].searchsorted((start, end)).tolist()
        if (times == times[0]).all():
            return _select_rectangle(columns, np.s_[:, low:high], (many, length), np.full(many, high - low))
    mask = (columns.times >= start) & (columns.times < end)
    return _select_rectangle(columns, mask, (-1,), np.add.reduceat(mask, columns.offsets[:-1], dtype=np.int64))


def _select_rectangle(columns: Columns, place: Any, shape: tuple[int, ...], lengths: Ints) -> Columns:
    """The points at a place of columns of a shape, so many of each series."""
    some = lengths > 0
    return Columns(
        columns.ids[some],
        np.append(0, np.cumsum(lengths[some])),
        columns.times.reshape(shape)[place].ravel(),
        columns.values.reshape(shape)[place].ravel(),
        None if columns.contexts is None else columns.contexts.reshape(shape)[place].ravel(),
        columns.dictionary,
    )


def select_series(columns: Columns, series: Ints) -> Columns:
    """The points of some series."""
    mask = np.isin(columns.ids, series)
    return columns if mask.all() else select_points(columns, np.repeat(mask, np.diff(columns.offsets)))


def split_rows(columns: Columns) -> Iterator[Columns]:
    """Columns cut into rows of at most ROW points, at the end of a series where one is near."""
    low, size = 0, len(columns)
    while low < size:
        high = min(low + MAX_ROW_POINTS, size)
        if high < size:
            end = int(columns.offsets[np.searchsorted(columns.offsets, high, side="right") - 1])
            if end - low > MAX_ROW_POINTS // 2:
                high = end
        yield columns.points(low, high)
        low = high


def merge_by_encoding(parts: Sequence[Columns]) -> list[Columns]:
    """Numbers as one, everything else as one, later parts over earlier ones."""
    split = ([part for part in parts if part.is_numeric], [part for part in parts if not part.is_numeric])
    return [concatenate(some) for some in split if some]


def newest_points(columns: Columns) -> Columns:
    """The newest point of every series."""
    last: Ints = columns.offsets[1:] - 1
    return Columns(
        columns.ids,
        np.arange(len(columns.ids) + 1, dtype=np.int64),
        columns.times[last],
        columns.values[last],
        None if columns.contexts is None else columns.contexts[last],
        columns.dictionary,
    )
