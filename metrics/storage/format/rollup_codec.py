"""Rollups of many series: the columns of statistics per interval. Pure: no database, no Django.

Each interval that has points has count, sum, minimum, maximum, first and last value. Counts, sums and extremes of
longer intervals follow from these exactly; percentiles and standard deviations do not.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from metrics.storage.format.codec import Columns, Ints, seal, unseal
from metrics.storage.format.compression import DENSE_COMPRESSION, pack, pack_texts, unpack, unpack_texts
from metrics.storage.format.contexts import read_context, write_context

STATS = ("count", "sum", "least", "greatest", "first", "last")
Bools = NDArray[np.bool_]


@dataclass(slots=True)
class RollupColumns:
    """Intervals of some series, in order of (series, time).

    ids      int64[s]      the series, ascending
    offsets  int64[s + 1]  the intervals of ids[i] are offsets[i] to offsets[i + 1]
    times    int64[n]      start of each interval, microseconds since 1970, UTC
    stats    the requested ones of STATS, by name: count int64[n], the others float64[n]
    units    context entry with the unit of every series' last point
    length   of the intervals, in microseconds
    """

    ids: Ints
    offsets: Ints
    times: Ints
    stats: dict[str, NDArray[Any]]
    units: list[bytes]
    length: int

    def __len__(self) -> int:
        return len(self.times)

    def select_series(self, series: Bools) -> "RollupColumns":
        """Return the series for which the mask bool[s] is true."""
        lengths = np.diff(self.offsets)
        selected = RollupColumns(
            self.ids[series], _offsets_of(lengths[series]), self.times, self.stats, self._units_of(series), self.length
        )
        return selected._cut(np.repeat(series, lengths))

    def select_time_range(self, low: int, high: int) -> "RollupColumns":
        """Return the intervals that are completely between two times; series without any are left out."""
        mask = (self.times >= low) & (self.times + self.length <= high)
        if mask.all():
            return self
        owner = np.repeat(np.arange(len(self.ids)), np.diff(self.offsets))[mask]
        lengths = np.bincount(owner, minlength=len(self.ids))
        kept = lengths > 0
        units = self._units_of(kept)
        return RollupColumns(
            self.ids[kept], _offsets_of(lengths[kept]), self.times, self.stats, units, self.length
        )._cut(mask)

    def split_rows(self, max_intervals: int) -> "list[RollupColumns]":
        """Split into consecutive series with at most `max_intervals` intervals, or a single series."""
        rows, first = [], 0
        while first < len(self.ids):
            last = max(
                int(np.searchsorted(self.offsets, self.offsets[first] + max_intervals, side="right")) - 1, first + 1
            )
            mask = np.zeros(len(self.ids), bool)
            mask[first:last] = True
            rows.append(self.select_series(mask))
            first = last
        return rows

    def statistic_points(self, name: str) -> Columns:
        """Return a statistic as points at the starts of the intervals."""
        return Columns(self.ids, self.offsets, self.times, self.stats[name].astype(np.float64, copy=False))

    def first_last_points(self) -> tuple[Columns, Ints]:
        """Return the first and last value of every interval as points, and how many points each represents."""
        return self._pairs(self.length - 1, "first", "last")

    def min_max_points(self) -> Columns:
        """Return the minimum and maximum of every interval as points; they draw the line of the raw points."""
        return self._pairs(self.length // 2, "least", "greatest")[0]

    def _pairs(self, distance: int, first_stat: str, second_stat: str) -> tuple[Columns, Ints]:
        counts = self.stats["count"]
        points_per_interval = np.where(counts > 1, 2, 1)
        interval = np.repeat(np.arange(len(self)), points_per_interval)
        is_second = np.append(False, interval[1:] == interval[:-1])
        values = np.where(is_second, self.stats[second_stat][interval], self.stats[first_stat][interval])
        weights = np.where(is_second, 1, counts[interval] - points_per_interval[interval] + 1)
        offsets = np.append(0, np.cumsum(points_per_interval))[self.offsets]
        return Columns(self.ids, offsets, self.times[interval] + np.where(is_second, distance, 0), values), weights

    def _cut(self, mask: Bools) -> "RollupColumns":
        self.times, self.stats = self.times[mask], {name: column[mask] for name, column in self.stats.items()}
        return self

    def _units_of(self, series: Bools) -> list[bytes]:
        return [self.units[at] for at in np.flatnonzero(series).tolist()]


def compute_rollup(columns: Columns, length: int) -> RollupColumns:
    """Compute the rollup of numeric points for intervals of a length (µs) that start at multiples of it."""
    begins = np.zeros(len(columns), bool)
    begins[columns.offsets[:-1]] = True
    intervals = columns.times // length
    begins[1:] |= intervals[1:] != intervals[:-1]
    starts = np.flatnonzero(begins)
    ends = np.append(starts, len(columns))[1:]
    values = columns.values
    stats = {
        "count": ends - starts,
        "sum": np.add.reduceat(values, starts),
        "least": np.minimum.reduceat(values, starts),
        "greatest": np.maximum.reduceat(values, starts),
        "first": values[starts],
        "last": values[ends - 1],
    }
    units = [b""] * len(columns.ids)
    if columns.contexts is not None:
        entries = [write_context(read_context(entry)[0], None, None) for entry in columns.dictionary]
        units = [entries[at] for at in columns.contexts[columns.offsets[1:] - 1].tolist()]
    return RollupColumns(
        columns.ids, np.searchsorted(starts, columns.offsets), intervals[starts] * length, stats, units, length
    )


def merge_rollups(parts: Sequence[RollupColumns]) -> RollupColumns:
    """Merge rollups; of a series in several of them the intervals are in the order of the parts."""
    if len(parts) == 1:
        return parts[0]
    ids = np.concatenate([part.ids for part in parts])
    order = np.argsort(ids, kind="stable")
    lengths = np.concatenate([np.diff(part.offsets) for part in parts])
    starts = _offsets_of(lengths)[:-1][order]
    ids, lengths = ids[order], lengths[order]
    offsets = _offsets_of(lengths)
    positions = np.arange(offsets[-1]) + np.repeat(starts - offsets[:-1], lengths)
    units = [unit for part in parts for unit in part.units]
    first = np.flatnonzero(np.append(True, ids[1:] != ids[:-1]))
    last = np.append(first[1:], len(ids)) - 1
    return RollupColumns(
        ids[first],
        np.append(offsets[first], offsets[-1]),
        np.concatenate([part.times for part in parts])[positions],
        {name: np.concatenate([part.stats[name] for part in parts])[positions] for name in parts[0].stats},
        [units[at] for at in order[last].tolist()],
        parts[0].length,
    )


class _EncodedRollup(msgspec.Struct, array_like=True):
    ids: bytes
    lengths: bytes
    times: bytes
    stats: list[bytes]
    units: bytes
    dictionary: bytes


_decoder = msgspec.msgpack.Decoder(_EncodedRollup)


def encode_rollup(rollup: RollupColumns) -> bytes:
    """Encode a rollup into a payload."""
    dictionary = sorted(set(rollup.units))
    positions = {entry: at for at, entry in enumerate(dictionary)}
    packed = _EncodedRollup(
        pack(rollup.ids, DENSE_COMPRESSION),
        pack(np.diff(rollup.offsets), DENSE_COMPRESSION),
        pack(rollup.times, DENSE_COMPRESSION),
        [pack(rollup.stats[name], DENSE_COMPRESSION) for name in STATS],
        pack(np.array([positions[entry] for entry in rollup.units], np.int64), DENSE_COMPRESSION),
        pack_texts(dictionary, DENSE_COMPRESSION),
    )
    return seal(msgspec.msgpack.encode(packed))


def decode_rollup(
    payload: bytes | memoryview, length: int, stat_names: Collection[str] = STATS, series: Ints | None = None
) -> RollupColumns:
    """Decode a payload of intervals of a length (µs). Raises DamagedPayload.

    Only the statistics in `stat_names` and the series in `series` (ascending; None for all) are returned.
    """
    packed = _decoder.decode(unseal(payload))
    ids, lengths = unpack(packed.ids, np.int64), unpack(packed.lengths, np.int64)
    entries, units = _decode_dictionary(packed.dictionary), unpack(packed.units, np.int64)
    positions: slice | Ints = slice(None)
    if series is not None:
        mask = series.take(series.searchsorted(ids), mode="clip") == ids
        positions = _interval_positions(mask, lengths)
        ids, lengths, units = ids[mask], lengths[mask], units[mask]
    stats = {
        name: unpack(data, np.int64 if name == "count" else np.float64)[positions]
        for name, data in zip(STATS, packed.stats, strict=True)
        if name in stat_names and len(ids)
    }
    times = unpack(packed.times, np.int64)[positions] if len(ids) else np.empty(0, np.int64)
    return RollupColumns(ids, _offsets_of(lengths), times, stats, [entries[at] for at in units.tolist()], length)


@lru_cache(256)
def _decode_dictionary(dictionary: bytes) -> list[bytes]:
    """Decode a dictionary of units. Cached, since nearly all rows have the same few units. Read-only."""
    return unpack_texts(dictionary)


def _interval_positions(mask: Bools, lengths: Ints) -> slice | Ints:
    """Return the positions of the intervals of selected series: a slice if they are contiguous."""
    selected = np.flatnonzero(mask)
    if not len(selected):
        return slice(0)
    first, last = int(selected[0]), int(selected[-1])
    if last - first + 1 > len(selected):
        return np.flatnonzero(np.repeat(mask, lengths))
    low = int(lengths[:first].sum())
    return slice(low, low + int(lengths[first : last + 1].sum()))


def _offsets_of(lengths: Ints) -> Ints:
    offsets = np.zeros(len(lengths) + 1, np.int64)
    np.cumsum(lengths, out=offsets[1:])
    return offsets
