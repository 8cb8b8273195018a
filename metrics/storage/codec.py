"""Columns of points to bytes and back. Pure: no database, no Django.

A payload is a checksum and a list of parts, one part for each encoding that occurs. In a part the points stand in
order of (series, time), each series once: ids, how many points each has, then the columns. Numbers (booleans among
them, as 0 and 1) go through pcodec, which finds steps, decimals and repetition by itself; everything else is one
zstd frame. Unit, tags and metadata are a dictionary of the part and an index per point, so a unit that never changes
costs nothing.
"""

import enum
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import msgspec
import numpy as np
import zstandard
from numpy.typing import NDArray
from pcodec import ChunkConfig, standalone

Ints = NDArray[np.int64]
Values = NDArray[Any]  # float64 for numbers, object (bytes) for everything else

NO_CONTEXT = b""
RAW_BELOW = 32  # points; under this pcodec's own header is larger than what it saves
_FAST = ChunkConfig(compression_level=2)
_DENSE = ChunkConfig(compression_level=8)
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
    def is_numbers(self) -> bool:
        return self.values.dtype != object

    def series(self) -> Ints:
        """The series of every point: int64[n]."""
        return np.repeat(self.ids, np.diff(self.offsets))

    def span(self, series: int) -> slice:
        """Where the points of one series stand; empty where it has none."""
        at = int(np.searchsorted(self.ids, series))
        if at == len(self.ids) or self.ids[at] != series:
            return slice(0, 0)
        return slice(int(self.offsets[at]), int(self.offsets[at + 1]))

    def part(self, first: int, last: int) -> "Columns":
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


def arrange(
    series: Ints,
    times: Ints,
    values: Values,
    contexts: NDArray[np.int32] | None = None,
    dictionary: Sequence[bytes] = (),
) -> Columns:
    """Points in order of arrival to Columns: sorted by (series, time), the last value of a key wins."""
    order = _order(series, times)
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


def _order(series: Ints, times: Ints) -> NDArray[np.intp] | None:
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
    contexts, dictionary = _joined_contexts(parts)
    return arrange(
        np.concatenate([part.series() for part in parts]),
        np.concatenate([part.times for part in parts]),
        np.concatenate([part.values for part in parts]),
        contexts,
        dictionary,
    )


def _joined_contexts(parts: Sequence[Columns]) -> tuple[NDArray[np.int32] | None, Sequence[bytes]]:
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
    return seal(msgspec.msgpack.encode([_encode_part(part, dense) for part in parts]))


def decode(payload: bytes | memoryview) -> list[Columns]:
    """A payload to its Columns. Raises DamagedPayload where the checksum differs."""
    return [_decode_part(part) for part in _PARTS.decode(unseal(payload))]


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


class _Part(msgspec.Struct, array_like=True):
    numbers: bool
    ids: bytes
    counts: bytes
    times: bytes
    values: bytes
    contexts: bytes = b""
    dictionary: bytes = b""


_PARTS = msgspec.msgpack.Decoder(list[_Part])


def _encode_part(columns: Columns, dense: bool) -> _Part:
    part = _Part(
        numbers=columns.is_numbers,
        ids=pack(columns.ids, dense),
        counts=pack(np.diff(columns.offsets), dense),
        times=pack(columns.times, dense),
        values=pack(columns.values, dense) if columns.is_numbers else pack_texts(columns.values.tolist(), dense),
    )
    if columns.contexts is not None:
        used, index = np.unique(columns.contexts, return_inverse=True)
        entries = [columns.dictionary[i] for i in used.tolist()]
        if entries != [NO_CONTEXT]:
            part.contexts = pack(index.astype(np.int64), dense)
            part.dictionary = pack_texts(entries, dense)
    return part


def _decode_part(part: _Part) -> Columns:
    ids = unpack(part.ids, np.int64)
    offsets = np.zeros(len(ids) + 1, np.int64)
    np.cumsum(unpack(part.counts, np.int64), out=offsets[1:])
    if part.numbers:
        values: Values = unpack(part.values, np.float64)
    else:
        values = np.empty(int(offsets[-1]), object)
        values[:] = unpack_texts(part.values)
    contexts = unpack(part.contexts, np.int64).astype(np.int32) if part.contexts else None
    dictionary = unpack_texts(part.dictionary) if part.dictionary else ()
    return Columns(ids, offsets, unpack(part.times, np.int64), values, contexts, dictionary)


def pack(array: NDArray[Any], dense: bool) -> bytes:
    """A column of 8-byte numbers: a byte that says how, then the numbers, or the first, the step and how many."""
    if len(array) < RAW_BELOW:
        return b"\0" + array.tobytes()
    if array.dtype == np.int64 and (steps := _steady(array)) is not None:
        return b"\2" + np.array([array[0], steps, len(array)], np.int64).tobytes()
    packed: bytes = standalone.simple_compress(np.ascontiguousarray(array), _DENSE if dense else _FAST)
    return b"\1" + packed


def _steady(array: NDArray[Any]) -> int | None:
    """The step of a column that has the same everywhere, as the times of a steady sender have: they decode at once."""
    step = int(array[1]) - int(array[0])
    steady = int(array[2]) - int(array[1]) == step and bool((np.diff(array) == step).all())
    return step if steady else None


@lru_cache(16)
def _steps(first: int, step: int, many: int) -> Ints:
    """A fleet that ticks together has the same times over and over. Not to be written to."""
    found = np.arange(many, dtype=np.int64)
    found *= step
    found += first
    found.flags.writeable = False
    return found


def unpack(data: bytes, dtype: type[np.generic]) -> NDArray[Any]:
    if data[0] == 0:
        return np.frombuffer(data, dtype, offset=1)
    if data[0] == 2:
        return _steps(*np.frombuffer(data, np.int64, offset=1).tolist())
    found: NDArray[Any] | None = standalone.simple_decompress(data[1:])
    assert found is not None
    return found


def pack_texts(texts: Sequence[bytes], dense: bool) -> bytes:
    lengths = pack(np.fromiter(map(len, texts), np.int64, len(texts)), dense)
    frame = zstandard.ZstdCompressor(level=9 if dense else 1).compress(b"".join(texts))
    return msgspec.msgpack.encode((lengths, frame))


def unpack_texts(data: bytes) -> list[bytes]:
    lengths, frame = msgspec.msgpack.decode(data, type=tuple[bytes, bytes])
    joined = zstandard.ZstdDecompressor().decompress(frame)
    ends = np.cumsum(unpack(lengths, np.int64)).tolist()
    return [joined[start:end] for start, end in zip([0, *ends[:-1]], ends, strict=True)]
