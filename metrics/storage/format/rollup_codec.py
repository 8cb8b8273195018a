"""What points of an interval amount to, for many series: the columns of a rollup. Pure: no database, no Django.

count, sum, least, greatest, first, last of every interval that has points. Counts, sums and extremes of longer
intervals follow from these exactly; what happened in between (percentiles, deviation) does not.
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
    times    int64[n]      where each begins, microseconds since 1970, UTC
    stats    those of STATS that are wanted, by name: count int64[n], the others float64[n]
    units    the unit's context entry of every series' last point
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
        """Only some of the series: bool[s]."""
        lengths = np.diff(self.offsets)
        kept = RollupColumns(
            self.ids[series], _offsets_of(lengths[series]), self.times, self.stats, self._units_of(series), self.length
        )
        return kept._cut(np.repeat(series, lengths))

    def select_time_range(self, low: int, high: int) -> "RollupColumns":
        """Only intervals that lie between two times; series without any are left out."""
        mask = (self.times >= low) & (self.times + self.length <= high)
        if mask.all():
            return self
        owner = np.repeat(np.arange(len(self.ids)), np.diff(self.offsets))[mask]
        lengths = np.bincount(owner, minlength=len(self.ids))
        some = lengths > 0
        units = self._units_of(some)
        return RollupColumns(
            self.ids[some], _offsets_of(lengths[some]), self.times, self.stats, units, self.length
        )._cut(mask)

    def split_rows(self, max_intervals: int) -> "list[RollupColumns]":
        """Cut into stretches of series with at most so many intervals, or one series."""
        found, first = [], 0
        while first < len(self.ids):
            last = max(
                int(np.searchsorted(self.offsets, self.offsets[first] + max_intervals, side="right")) - 1, first + 1
            )
            chosen = np.zeros(len(self.ids), bool)
            chosen[first:last] = True
            found.append(self.select_series(chosen))
            first = last
        return found

    def statistic_points(self, name: str) -> Columns:
        """A statistic as if it were points: at the beginnings of the intervals."""
        return Columns(self.ids, self.offsets, self.times, self.stats[name].astype(np.float64, copy=False))

    def first_last_points(self) -> tuple[Columns, Ints]:
        """The first and the last value of every interval as points, and how many points each stands for."""
        return self._pairs(self.length - 1, "first", "last")

    def min_max_points(self) -> Columns:
        """The least and the greatest value of every interval as points: they draw the line that was there."""
        return self._pairs(self.length // 2, "least", "greatest")[0]

    def _pairs(self, apart: int, one: str, other: str) -> tuple[Columns, Ints]:
        counts = self.stats["count"]
        twice = np.where(counts > 1, 2, 1)
        place = np.repeat(np.arange(len(self)), twice)
        second = np.append(False, place[1:] == place[:-1])
        values = np.where(second, self.stats[other][place], self.stats[one][place])
        weights = np.where(second, 1, counts[place] - twice[place] + 1)
        offsets = np.append(0, np.cumsum(twice))[self.offsets]
        return Columns(self.ids, offsets, self.times[place] + np.where(second, apart, 0), values), weights

    def _cut(self, mask: Bools) -> "RollupColumns":
        self.times, self.stats = self.times[mask], {name: column[mask] for name, column in self.stats.items()}
        return self

    def _units_of(self, series: Bools) -> list[bytes]:
        return [self.units[at] for at in np.flatnonzero(series).tolist()]


def compute_rollup(columns: Columns, length: int) -> RollupColumns:
    """Points (numbers) to intervals of a length (µs) that begin at whole multiples of it."""
    begins = np.zeros(len(columns), bool)
    begins[columns.offsets[:-1]] = True
    intervals = columns.times // length
    begins[1:] |= intervals[1:] != intervals[:-1]
    starts = np.flatnonzero(begins)
    ends = np.append(starts[1:], len(columns))
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
    """Summaries as one; of a series that is in several its intervals in the order of the parts."""
    if len(parts) == 1:
        return parts[0]
    ids = np.concatenate([part.ids for part in parts])
    order = np.argsort(ids, kind="stable")
    lengths = np.concatenate([np.diff(part.offsets) for part in parts])
    begins = _offsets_of(lengths)[:-1][order]
    ids, lengths = ids[order], lengths[order]
    offsets = _offsets_of(lengths)
    places = np.arange(offsets[-1]) + np.repeat(begins - offsets[:-1], lengths)
    units = [unit for part in parts for unit in part.units]
    first = np.flatnonzero(np.append(True, ids[1:] != ids[:-1]))
    last = np.append(first[1:], len(ids)) - 1
    return RollupColumns(
        ids[first],
        np.append(offsets[first], offsets[-1]),
        np.concatenate([part.times for part in parts])[places],
        {name: np.concatenate([part.stats[name] for part in parts])[places] for name in parts[0].stats},
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


def encode_rollup(summary: RollupColumns) -> bytes:
    """A summary to a payload."""
    dictionary = sorted(set(summary.units))
    places = {entry: at for at, entry in enumerate(dictionary)}
    packed = _EncodedRollup(
        pack(summary.ids, DENSE_COMPRESSION),
        pack(np.diff(summary.offsets), DENSE_COMPRESSION),
        pack(summary.times, DENSE_COMPRESSION),
        [pack(summary.stats[name], DENSE_COMPRESSION) for name in STATS],
        pack(np.array([places[entry] for entry in summary.units], np.int64), DENSE_COMPRESSION),
        pack_texts(dictionary, DENSE_COMPRESSION),
    )
    return seal(msgspec.msgpack.encode(packed))


def decode_rollup(
    payload: bytes | memoryview, length: int, wanted: Collection[str] = STATS, series: Ints | None = None
) -> RollupColumns:
    """A payload to its summary of intervals of a length (µs), with the statistics and of the series that are wanted
    (ascending; None: of all).

    Raises DamagedPayload.
    """
    packed = _decoder.decode(unseal(payload))
    ids, lengths = unpack(packed.ids, np.int64), unpack(packed.lengths, np.int64)
    entries, units = _decode_dictionary(packed.dictionary), unpack(packed.units, np.int64)
    kept: slice | Ints = slice(None)
    if series is not None:
        here = series.take(series.searchsorted(ids), mode="clip") == ids
        kept = _interval_positions(here, lengths)
        ids, lengths, units = ids[here], lengths[here], units[here]
    stats = {
        name: unpack(data, np.int64 if name == "count" else np.float64)[kept]
        for name, data in zip(STATS, packed.stats, strict=True)
        if name in wanted and len(ids)
    }
    times = unpack(packed.times, np.int64)[kept] if len(ids) else np.empty(0, np.int64)
    return RollupColumns(ids, _offsets_of(lengths), times, stats, [entries[at] for at in units.tolist()], length)


@lru_cache(256)
def _decode_dictionary(dictionary: bytes) -> list[bytes]:
    """Nearly all rows have the same few units, and zstd takes its time to begin. Not to be written to."""
    return unpack_texts(dictionary)


def _interval_positions(here: Bools, lengths: Ints) -> slice | Ints:
    """Where the intervals of some series stand: a slice where that is one stretch."""
    places = np.flatnonzero(here)
    if not len(places):
        return slice(0)
    first, last = int(places[0]), int(places[-1])
    if last - first + 1 > len(places):
        return np.flatnonzero(np.repeat(here, lengths))
    low = int(lengths[:first].sum())
    return slice(low, low + int(lengths[first : last + 1].sum()))


def _offsets_of(lengths: Ints) -> Ints:
    found = np.zeros(len(lengths) + 1, np.int64)
    np.cumsum(lengths, out=found[1:])
    return found
