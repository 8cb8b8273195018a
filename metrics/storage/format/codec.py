"""Codec between columns of points and bytes. Pure: no database, no Django.

A payload is a checksum and a list of parts, one part per encoding that occurs. In a part the points are in order of
(series, time), each series once: ids, the number of points of each series, then the columns. Numbers (including
booleans as 0 and 1) are compressed by pcodec, which detects steps, decimals and repetition; everything else is one
zstd frame. Long series are encoded one by one, so that a counter does not worsen the compression of the temperature
beside it and a reader decodes only the series that it needs. Unit, tags and metadata are a dictionary of the part
and an index per point, so a constant unit costs nothing.
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
PER_SERIES_MIN_POINTS = 256  # average points per series from which each series is encoded separately
_CHECKSUM_BYTES = 4


class Kind(enum.IntEnum):
    """The type of a series' values."""

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
    """The checksum of a payload differs."""


@dataclass(slots=True)
class Columns:
    """Points of some series, in order of (series, time), with unique (series, time).

    ids      int64[s]      the series, ascending
    offsets  int64[s + 1]  the points of ids[i] are offsets[i] to offsets[i + 1]
    times    int64[n]      microseconds since 1970, UTC
    values   float64[n], or object[n] of bytes
    contexts int32[n] indices into `dictionary`, or None if no point has a unit, tags or metadata
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
        """Return the series of every point: int64[n]."""
        return np.repeat(self.ids, np.diff(self.offsets))

    def span(self, series: int) -> slice:
        """Return the slice of the points of one series; empty if it has none."""
        index = int(self.ids.searchsorted(series))
        if index == len(self.ids) or self.ids[index] != series:
            return slice(0, 0)
        return slice(int(self.offsets[index]), int(self.offsets[index + 1]))

    def slice_series(self, first: int, last: int) -> "Columns":
        """Return the columns of ids[first:last]."""
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
        """Return the columns of the points low to high, which may begin and end within a series."""
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
    """Build Columns from points in order of arrival: sorted by (series, time), the last value of a key wins."""
    order = _sort_order(series, times)
    if order is not None:
        series, times, values = series[order], times[order], values[order]
        contexts = None if contexts is None else contexts[order]
    change = np.flatnonzero(series[1:] != series[:-1]) + 1
    duplicate = (times[1:] == times[:-1]) & (series[1:] == series[:-1])
    if duplicate.any():
        kept = np.append(~duplicate, True)
        series, times, values = series[kept], times[kept], values[kept]
        contexts = None if contexts is None else contexts[kept]
        change = np.flatnonzero(series[1:] != series[:-1]) + 1
    starts = np.concatenate(([0], change)) if len(series) else np.empty(0, np.int64)
    offsets = np.append(starts, len(series)).astype(np.int64)
    return Columns(series[starts], offsets, times, values, contexts, dictionary)


def _sort_order(series: Ints, times: Ints) -> NDArray[np.intp] | None:
    """Return the stable order by (series, time); None if the points are sorted already."""
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
    """Concatenate columns of one encoding; later parts replace earlier ones."""
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
    positions: dict[bytes, int] = {NO_CONTEXT: 0}
    columns = []
    for part in parts:
        if part.contexts is None:
            columns.append(np.zeros(len(part), np.int32))
        else:
            new_positions = np.array(
                [positions.setdefault(entry, len(positions)) for entry in part.dictionary], np.int32
            )
            columns.append(new_positions[part.contexts])
    return np.concatenate(columns), list(positions)


def encode(parts: Sequence[Columns], dense: bool = False) -> bytes:
    """Encode columns into a payload; `dense` spends more time for fewer bytes, for blocks that stay."""
    config = DENSE_COMPRESSION if dense else FAST_COMPRESSION
    return seal(msgspec.msgpack.encode([_encode_part(part, config) for part in parts]))


def decode(payload: bytes | memoryview, series: Ints | None = None) -> list[Columns]:
    """Decode a payload into its columns. Raises DamagedPayload.

    With `series` (ids, ascending) series outside of it are skipped where that saves time, and may be returned.
    """
    parts = _parts_decoder.decode(unseal(payload))
    return [columns for part in parts if len(columns := _decode_part(part, series))]


def seal(body: bytes) -> bytes:
    """Prepend the checksum to a body."""
    return zlib.crc32(body).to_bytes(_CHECKSUM_BYTES, "little") + body


def unseal(payload: bytes | memoryview) -> memoryview:
    """Return the body of a payload. Raises DamagedPayload if the checksum differs."""
    view = memoryview(payload)
    body = view[_CHECKSUM_BYTES:]
    if not body or zlib.crc32(body) != int.from_bytes(view[:_CHECKSUM_BYTES], "little"):
        raise DamagedPayload("the checksum differs")
    return body


def read_point_counts(head: bytes) -> tuple[Ints, Ints] | None:
    """Read (series, points of each) from the beginning of a payload; None if it has more than one part.

    Also None if `head` is too short or malformed: the checksum, which covers the whole payload, is not verified.
    """
    try:
        if head[_CHECKSUM_BYTES] != _SINGLE_PART_MARKER:
            return None
        ids, position = _read_bytes(head, _CHECKSUM_BYTES + 3)  # skips the list, the part and its `numbers` flag
        counts, _ = _read_bytes(head, position)
        return unpack(ids, np.int64), unpack(counts, np.int64)
    except (IndexError, ValueError, RuntimeError, MemoryError):  # a damaged payload may raise any of these
        return None


_SINGLE_PART_MARKER = 0x91  # MessagePack array of length 1
_LENGTH_BYTES = {0xC4: 1, 0xC5: 2, 0xC6: 4}  # by the type byte of a MessagePack byte string


def _read_bytes(head: bytes, at: int) -> tuple[bytes, int]:
    """Return the byte string at a position and the position after it. Raises IndexError."""
    begin = at + 1 + _LENGTH_BYTES.get(head[at], len(head))
    end = begin + int.from_bytes(head[at + 1 : begin], "big")
    if end > len(head):
        raise IndexError("the payload head is too short")
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
    numbers = columns.is_numeric
    per_series = len(columns) >= PER_SERIES_MIN_POINTS * len(columns.ids) > PER_SERIES_MIN_POINTS
    part = _EncodedPart(
        numbers=numbers,
        ids=pack(columns.ids, config),
        counts=pack(np.diff(columns.offsets), config),
        times=pack_per_series(columns.times, columns.offsets, config)
        if numbers and per_series
        else pack(columns.times, config),
        values=_encode_values(columns, per_series, config),
    )
    if columns.contexts is not None:
        used, index = np.unique(columns.contexts, return_inverse=True)
        entries = [columns.dictionary[i] for i in used.tolist()]
        if entries != [NO_CONTEXT]:
            part.contexts = pack(index.astype(np.int64), config)
            part.dictionary = pack_texts(entries, config)
    return part


def _encode_values(columns: Columns, per_series: bool, config: ChunkConfig) -> bytes:
    if not columns.is_numeric:
        return pack_texts(columns.values.tolist(), config)
    return pack_per_series(columns.values, columns.offsets, config) if per_series else pack(columns.values, config)


def _decode_part(part: _EncodedPart, series: Ints | None) -> Columns:
    ids, counts = unpack(part.ids, np.int64), unpack(part.counts, np.int64)
    contexts = unpack(part.contexts, np.int64).astype(np.int32) if part.contexts else None
    dictionary = unpack_texts(part.dictionary) if part.dictionary else ()
    per_series = part.numbers and is_packed_per_series(part.values)
    indices: Sequence[int] = range(len(ids))
    if per_series and series is not None:
        mask = series.take(series.searchsorted(ids), mode="clip") == ids
        contexts = None if contexts is None else contexts[np.repeat(mask, counts)]
        ids, counts, indices = ids[mask], counts[mask], np.flatnonzero(mask).tolist()
    offsets = np.zeros(len(ids) + 1, np.int64)
    np.cumsum(counts, out=offsets[1:])
    if per_series:
        times = unpack_per_series(part.times, indices, offsets, np.int64)
        values: Values = unpack_per_series(part.values, indices, offsets, np.float64)
    else:
        times = unpack(part.times, np.int64)
        values = unpack(part.values, np.float64) if part.numbers else np.empty(len(times), object)
        if not part.numbers:
            values[:] = unpack_texts(part.values)
    return Columns(ids, offsets, times, values, contexts, dictionary)
