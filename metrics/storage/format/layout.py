"""Layout of merged blocks: by bucket of series and by day, so that a read finds them by equality."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from metrics.storage.format.codec import NO_CONTEXT, Columns, Ints, concatenate
from metrics.storage.format.contexts import REMOVED
from metrics.storage.units import DAY

SERIES_PER_BUCKET = 256
MAX_ROW_POINTS = 16_384  # points of one row of merged blocks
UNMERGED, MERGED, COMMIT_GROUP = range(3)  # sources of decoded points
DAY_LEVEL = 100  # level of day blocks, the final rows of a day


def bucket_of(series: int) -> int:
    return series // SERIES_PER_BUCKET


def day_of(time: int) -> int:
    return time // DAY


def split_by_day(columns: Columns) -> Iterator[tuple[int, int, Columns]]:
    """Split columns into (bucket, day, columns of that bucket and day)."""
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
    """Return the points for which the mask is true, in the same order."""
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


def drop_removed(columns: Columns) -> Columns:
    """Return the points without removals, which only keep older blocks from showing replaced values."""
    if columns.contexts is None or REMOVED not in columns.dictionary:
        return columns
    removed = list(columns.dictionary).index(REMOVED)
    points = select_points(columns, columns.contexts != removed)
    points.dictionary = [*columns.dictionary[:removed], NO_CONTEXT, *columns.dictionary[removed + 1 :]]
    return points


def drop_removed_of_all(parts: Sequence[Columns]) -> list[Columns]:
    """Return the parts without removals, and without parts that have nothing else."""
    return [kept for part in parts if len(kept := drop_removed(part))]


def select_time_range(columns: Columns, start: int, end: int) -> Columns:
    """Return the points from `start` to before `end` (µs)."""
    series_count, length = len(columns.ids), int(columns.offsets[1])
    if len(columns) == series_count * length:  # series with the same timestamps are cut at the same index
        times = columns.times.reshape(series_count, length)
        low, high = times[0].searchsorted((start, end)).tolist()
        if (times == times[0]).all():
            return _select_rectangle(
                columns, np.s_[:, low:high], (series_count, length), np.full(series_count, high - low)
            )
    mask = (columns.times >= start) & (columns.times < end)
    return _select_rectangle(columns, mask, (-1,), np.add.reduceat(mask, columns.offsets[:-1], dtype=np.int64))


def _select_rectangle(columns: Columns, index: Any, shape: tuple[int, ...], lengths: Ints) -> Columns:
    """Select an index or mask of the columns reshaped to `shape`; `lengths` are the points left of each series."""
    kept = lengths > 0
    return Columns(
        columns.ids[kept],
        np.append(0, np.cumsum(lengths[kept])),
        columns.times.reshape(shape)[index].ravel(),
        columns.values.reshape(shape)[index].ravel(),
        None if columns.contexts is None else columns.contexts.reshape(shape)[index].ravel(),
        columns.dictionary,
    )


def select_series(columns: Columns, series: Ints) -> Columns:
    """Return the points of these series."""
    mask = np.isin(columns.ids, series)
    return columns if mask.all() else select_points(columns, np.repeat(mask, np.diff(columns.offsets)))


def split_rows(columns: Columns) -> Iterator[Columns]:
    """Split columns into rows of at most MAX_ROW_POINTS points, at the end of a series where one is near."""
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
    """Merge the numeric parts into one and all other parts into another; later parts replace earlier ones."""
    groups = ([part for part in parts if part.is_numeric], [part for part in parts if not part.is_numeric])
    return [concatenate(group) for group in groups if group]


def newest_points(columns: Columns) -> Columns:
    """Return the newest point of every series."""
    last: Ints = columns.offsets[1:] - 1
    return Columns(
        columns.ids,
        np.arange(len(columns.ids) + 1, dtype=np.int64),
        columns.times[last],
        columns.values[last],
        None if columns.contexts is None else columns.contexts[last],
        columns.dictionary,
    )
