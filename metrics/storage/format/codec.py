"""Columns of points to bytes and back. Pure: no database, no Django.

A payload is a checksum and a list of parts, one part for each encoding that occurs. In a part the points stand in
order of (series, time), each series once: ids, how many points each has, then the columns. Numbers (booleans among
them, as 0 and 1) go through pcodec, which finds steps, decimals and repetition by itself; everything else is one
zstd frame. Where series are long each is encoded by itself, so that a counter does not spoil the temperature beside it
and a reader decodes the series that it wants. Unit, tags and metadata are a dictionary of the part and an index per
point, so a unit that never changes costs nothing.
"""

import enum
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray
from pcodec import ChunkConfig

from metrics.storage.format.compression import (
    DENSE_COMPRESSION,
    FAST_COMPRESSION,
    is_packed_per_series,
    pack,
    pack_per_series,
    pack_texts,
    unpack,
    unpack_per_series,
    unpack_texts,
)
from metrics.storage.format.compression import Ints as Ints

Values = NDArray[Any]  # float64 for numbers, object (bytes) for everything else

NO_CONTEXT = b""
PER_SERIES_MIN_POINTS = 256  # points of a series on average, from which on each is encoded by itself
_CHECKSUM_BYTES = 4


class Kind(enum.IntEnum):
    """What the values of a series are."""

    NUMERIC = 0
    BOOLEAN = 1
    STRING = 2
    JSON = 3
    GEOLOCATION = 4
    BINARY = 5

    @property
    def is_number(self) -> bool:
        """Whether the values are stored as numbers."""
        return self <= Kind.BOOLEAN


class DamagedPayload(Exception):
    """The bytes are not what was written."""


@dataclass(slots=True)
class Columns:
    """Points of some series, in order of (series, time), no two with the same series and time.

    ids      int64[s]      the series, ascending
    offsets  int64[s + 1]  the points of ids[i] are offsets[i] to offsets[i + 1]
    times    int64[n]      microseconds since 1970, UTC
    values   float64[n], or object[n] holding bytes
    contexts int32[n] indices into `dictionary`, or None where no point has a unit, tags or metadata
    """

    ids: Ints
    offsets: Ints
    times: Ints
    values: Values
    contexts: NDArray[np.int32] | None = None
    dictionary: Sequence[bytes] = ()

    def __len__(self) -> int:
        return len(self.times)

    @property
    def is_numeric(self) -> bool:
        return self.values.dtype != object

    def series(self) -> Ints:
        """The series of every point: int64[n]."""
        return np.repeat(self.ids, np.diff(self.offsets))

    def span(self, series: int) -> slice:
        """Where the points of one series stand; empty where it has none."""
        at = int(self.ids.searchsorted(series))
        if at == len(self.ids) or self.ids[at] != series:
            return slice(0, 0)
        return slice(int(self.offsets[at]), int(self.offsets[at + 1]))

    def slice_series(self, first: int, last: int) -> "Columns":
        """The columns of ids[first:last]."""
        low, high = int(self.offsets[first]), int(self.offsets[last])
        return Columns(
            self.ids[first:last],
            self.offsets[first : last + 1] - low,
            self.times[low:high],
            self.values[low:high],
            None if self.contexts is None else self.contexts[low:high],
            self.dictionary,
        )

    def points(self, low: int, high: int) -> "Columns":
        """The columns of the points low to high, which may begin and end within a series."""
        first = int(np.searchsorted(self.offsets, low, side="right")) - 1
        last = int(np.searchsorted(self.offsets, high, side="left"))
        offsets = np.clip(self.offsets[first : last + 1], low, high) - low
        return Columns(
            self.ids[first:last],
            offsets,
            self.times[low:high],
            self.values[low:high],
            None if self.contexts is None else self.contexts[low:high],
            self.dictionary,
        )


def arrange_points(
    series: Ints,
    times: Ints,
    values: Values,
    contexts: NDArray[np.int32] | None = None,
    dictionary: Sequence[bytes] = (),
) -> Columns:
    """Points in order of arrival to Columns: sorted by (series, time), the last value of a key wins."""
    order = _sort_order(series, times)
    if order is not None:
        series, times, values = series[order], times[order], values[order]
        contexts = None if contexts is None else contexts[order]
    change = np.flatnonzero(series[1:] != series[:-1]) + 1
    same = (times[1:] == times[:-1]) & (series[1:] == series[:-1])
    if same.any():
        keep = np.append(~same, True)
        series, times, values = series[keep], times[keep], values[keep]
        contexts = None if contexts is None else contexts[keep]
        change = np.flatnonzero(series[1:] != series[:-1]) + 1
    starts = np.concatenate(([0], change)) if len(series) else np.empty(0, np.int64)
    offsets = np.append(starts, len(series)).astype(np.int64)
    return Columns(series[starts], offsets, times, values, contexts, dictionary)


def _sort_order(series: Ints, times: Ints) -> NDArray[np.intp] | None:
    """The stable order by (series, time); None where the points are in it already."""
    if len(series) < 2:
        return None
    step = series[1:] - series[:-1]
    if step.min() >= 0 and not ((step == 0) & (times[1:] < times[:-1])).any():
        return None
    low, high = int(times.min()), int(times.max())
    if low == high:
        return np.argsort(series, kind="stable")
    first, last = int(series.min()), int(series.max())
    if (last - first + 1) * (high - low + 1) < 2**62:  # one key sorts faster than two
        return np.argsort((series - first) * (high - low + 1) + (times - low), kind="stable")
    return np.lexsort((times, series))


def concatenate(parts: Sequence[Columns]) -> Columns:
    """Columns of one encoding as one, later parts over earlier ones."""
    if len(parts) == 1:
        return parts[0]
    contexts, dictionary = _join_contexts(parts)
    return arrange_points(
        np.concatenate([part.series() for part in parts]),
        np.concatenate([part.times for part in parts]),
        np.concatenate([part.values for part in parts]),
        contexts,
        dictionary,
    )


def _join_contexts(parts: Sequence[Columns]) -> tuple[NDArray[np.int32] | None, Sequence[bytes]]:
    if all(part.contexts is None for part in parts):
        return None, ()
    place: dict[bytes, int] = {NO_CONTEXT: 0}
    columns = []
    for part in parts:
        if part.contexts is None:
            columns.append(np.zeros(len(part), np.int32))
        else:
            known = np.array([place.setdefault(entry, len(place)) for entry in part.dictionary], np.int32)
            columns.append(known[part.contexts])
    return np.concatenate(columns), list(place)


def encode(parts: Sequence[Columns], dense: bool = False) -> bytes:
    """Columns to a payload. `dense` spends more time for fewer bytes: for blocks that stay."""
    config = DENSE_COMPRESSION if dense else FAST_COMPRESSION
    return seal(msgspec.msgpack.encode([_encode_part(part, config) for part in parts]))


def decode(payload: bytes | memoryview, wanted: Ints | None = None) -> list[Columns]:
    """A payload to its Columns. Raises DamagedPayload where the checksum differs.

    With `wanted` (series, ascending) what is of no other series; more than that where it comes at no cost.
    """
    parts = _parts_decoder.decode(unseal(payload))
    return [columns for part in parts if len(columns := _decode_part(part, wanted))]


def seal(body: bytes) -> bytes:
    """A body with its checksum in front."""
    return zlib.crc32(body).to_bytes(_CHECKSUM_BYTES, "little") + body


def unseal(payload: bytes | memoryview) -> memoryview:
    """The body of a payload. Raises DamagedPayload where the checksum differs."""
    view = memoryview(payload)
    body = view[_CHECKSUM_BYTES:]
    if not body or zlib.crc32(body) != int.from_bytes(view[:_CHECKSUM_BYTES], "little"):
        raise DamagedPayload("the checksum of a block differs")
    return body


def read_point_counts(head: bytes) -> tuple[Ints, Ints] | None:
    """(series, how many points of each) from the beginning of a payload; None where there is more than one part.

    None too where the beginning is too short or no such thing: the checksum, which is of all of it, is not looked at.
    """
    try:
        if head[_CHECKSUM_BYTES] != _SINGLE_PART_MARKER:
            return None
        ids, at = _read_bytes(head, _CHECKSUM_BYTES + 3)  # past the list, the part, and whether it is of numbers
        counts, _ = _read_bytes(head, at)
        return unpack(ids, np.int64), unpack(counts, np.int64)
    except (IndexError, ValueError, RuntimeError, MemoryError):  # of a damaged one anything may be read
        return None


_SINGLE_PART_MARKER = 0x91  # MessagePack's array of one
_LENGTH_BYTES = {0xC4: 1, 0xC5: 2, 0xC6: 4}  # of MessagePack's byte strings


def _read_bytes(head: bytes, at: int) -> tuple[bytes, int]:
    """The byte string that begins there, and where it ends. Raises IndexError."""
    begin = at + 1 + _LENGTH_BYTES.get(head[at], len(head))
    end = begin + int.from_bytes(head[at + 1 : begin], "big")
    if end > len(head):
        raise IndexError("the beginning is too short")
    return head[begin:end], end


class _EncodedPart(msgspec.Struct, array_like=True):
    numbers: bool
    ids: bytes
    counts: bytes
    times: bytes
    values: bytes
    contexts: bytes = b""
    dictionary: bytes = b""


_parts_decoder = msgspec.msgpack.Decoder(list[_EncodedPart])


def _encode_part(columns: Columns, config: ChunkConfig) -> _EncodedPart:
    numbers, long = columns.is_numeric, len(columns) >= PER_SERIES_MIN_POINTS * len(columns.ids) > PER_SERIES_MIN_POINTS
    part = _EncodedPart(
        numbers=numbers,
        ids=pack(columns.ids, config),
        counts=pack(np.diff(columns.offsets), config),
        times=pack_per_series(columns.times, columns.offsets, config)
        if numbers and long
        else pack(columns.times, config),
        values=_encode_values(columns, long, config),
    )
    if columns.contexts is not None:
        used, index = np.unique(columns.contexts, return_inverse=True)
        entries = [columns.dictionary[i] for i in used.tolist()]
        if entries != [NO_CONTEXT]:
            part.contexts = pack(index.astype(np.int64), config)
            part.dictionary = pack_texts(entries, config)
    return part


def _encode_values(columns: Columns, long: bool, config: ChunkConfig) -> bytes:
    if not columns.is_numeric:
        return pack_texts(columns.values.tolist(), config)
    return pack_per_series(columns.values, columns.offsets, config) if long else pack(columns.values, config)


def _decode_part(part: _EncodedPart, wanted: Ints | None) -> Columns:
    ids, counts = unpack(part.ids, np.int64), unpack(part.counts, np.int64)
    contexts = unpack(part.contexts, np.int64).astype(np.int32) if part.contexts else None
    dictionary = unpack_texts(part.dictionary) if part.dictionary else ()
    apart = part.numbers and is_packed_per_series(part.values)
    places: Sequence[int] = range(len(ids))
    if apart and wanted is not None:
        here = wanted.take(wanted.searchsorted(ids), mode="clip") == ids
        contexts = None if contexts is None else contexts[np.repeat(here, counts)]
        ids, counts, places = ids[here], counts[here], np.flatnonzero(here).tolist()
    offsets = np.zeros(len(ids) + 1, np.int64)
    np.cumsum(counts, out=offsets[1:])
    if apart:
        times = unpack_per_series(part.times, places, offsets, np.int64)
        values: Values = unpack_per_series(part.values, places, offsets, np.float64)
    else:
        times = unpack(part.times, np.int64)
        values = unpack(part.values, np.float64) if part.numbers else np.empty(len(times), object)
        if not part.numbers:
            values[:] = unpack_texts(part.values)
    return Columns(ids, offsets, times, values, contexts, dictionary)
