"""Compression of single columns; the first byte names the method. Pure.

0  raw            for few numbers, where the header of pcodec would be larger than what it saves
1  pcodec         detects steps, decimals and repetition by itself
2  constant step  first value, step and length of integers with equal distances, such as regular timestamps
3  per series     each series packed separately; a series equal to the one before takes no bytes
"""

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import msgspec
import numpy as np
import zstandard
from numpy.typing import NDArray
from pcodec import ChunkConfig, standalone

Ints = NDArray[np.int64]

MAX_RAW_LENGTH = 32  # shorter columns stay raw
FAST_COMPRESSION = ChunkConfig(compression_level=2)
DENSE_COMPRESSION = ChunkConfig(compression_level=8)
_RAW, _PCODEC, _CONSTANT_STEP, _PER_SERIES = range(4)


def pack(array: NDArray[Any], config: ChunkConfig) -> bytes:
    """Pack a column of 8-byte numbers."""
    if len(array) < MAX_RAW_LENGTH:
        return bytes((_RAW,)) + array.tobytes()
    if array.dtype == np.int64 and (step := _constant_step(array)) is not None:
        return bytes((_CONSTANT_STEP,)) + np.array([array[0], step, len(array)], np.int64).tobytes()
    packed: bytes = standalone.simple_compress(np.ascontiguousarray(array), config)
    return bytes((_PCODEC,)) + packed


def unpack(data: bytes, dtype: type[np.generic]) -> NDArray[Any]:
    """Unpack a column of this dtype."""
    if data[0] == _RAW:
        return np.frombuffer(data, dtype, offset=1)
    if data[0] == _CONSTANT_STEP:
        return _expand_steps(*np.frombuffer(data, np.int64, offset=1).tolist())
    array: NDArray[Any] | None = standalone.simple_decompress(data[1:])
    assert array is not None
    return array


def pack_per_series(array: NDArray[Any], offsets: Ints, config: ChunkConfig) -> bytes:
    """Pack a column that is cut at `offsets`, each series separately because unlike neighbours compress badly."""
    bounds, packed = offsets.tolist(), [b""]
    previous = array[:0]
    for low, high in zip(bounds[:-1], bounds[1:], strict=True):
        series = array[low:high]
        packed.append(b"" if np.array_equal(series, previous) else pack(series, config))
        previous = series
    ends = np.cumsum(np.fromiter(map(len, packed), np.int32, len(packed)), dtype=np.int32)
    return b"".join((bytes((_PER_SERIES,)), np.int32(len(packed)).tobytes(), ends.tobytes(), *packed))


def is_packed_per_series(data: bytes) -> bool:
    """Whether single series can be unpacked."""
    return data[0] == _PER_SERIES


def unpack_per_series(data: bytes, indices: Sequence[int], offsets: Ints, dtype: type[np.generic]) -> NDArray[Any]:
    """Unpack the series at these indices; the nth has offsets[n] to offsets[n + 1] of the result."""
    [entries] = np.frombuffer(data, np.int32, 1, 1).tolist()
    begin = 5 + 4 * entries
    ends = np.frombuffer(data, np.int32, entries, 5)
    sources = np.maximum.accumulate(np.where(ends[1:] > ends[:-1], np.arange(entries - 1), 0)).tolist()
    limits, bounds = (ends + begin).tolist(), offsets.tolist()
    values = np.empty(bounds[-1], dtype)
    unpacked, unpacked_from = -1, 0
    for index, start, stop in zip(indices, bounds[:-1], bounds[1:], strict=True):
        if sources[index] == unpacked:
            values[start:stop] = values[unpacked_from : unpacked_from + stop - start]
        else:
            unpacked, unpacked_from = sources[index], start
            _unpack_into(data[limits[unpacked] : limits[unpacked + 1]], values[start:stop])
    return values


def _unpack_into(data: bytes, target: NDArray[Any]) -> None:
    if data[0] == _PCODEC:
        standalone.simple_decompress_into(data[1:], target)
    else:
        target[:] = unpack(data, target.dtype.type)


def pack_texts(texts: Sequence[bytes], config: ChunkConfig) -> bytes:
    lengths = pack(np.fromiter(map(len, texts), np.int64, len(texts)), config)
    frame = zstandard.ZstdCompressor(level=9 if config is DENSE_COMPRESSION else 1).compress(b"".join(texts))
    return msgspec.msgpack.encode((lengths, frame))


def unpack_texts(data: bytes) -> list[bytes]:
    lengths, frame = msgspec.msgpack.decode(data, type=tuple[bytes, bytes])
    joined = zstandard.ZstdDecompressor().decompress(frame)
    ends = np.cumsum(unpack(lengths, np.int64)).tolist()
    return [joined[start:end] for start, end in zip([0, *ends[:-1]], ends, strict=True)]


def _constant_step(array: NDArray[Any]) -> int | None:
    """Return the step of a column with equal distances, as regular timestamps have; else None."""
    step = int(array[1]) - int(array[0])
    steady = int(array[2]) - int(array[1]) == step and bool((np.diff(array) == step).all())
    return step if steady else None


@lru_cache(16)
def _expand_steps(first: int, step: int, length: int) -> Ints:
    """Expand a column with a constant step. Cached, since devices with one interval share timestamps; read-only."""
    values = np.arange(length, dtype=np.int64)
    values *= step
    values += first
    values.flags.writeable = False
    return values
