"""Single columns to bytes and back: the first byte says how. Pure.

0  as they are                  few numbers, for which pcodec's own header is larger than what it saves
1  pcodec                       which finds steps, decimals and repetition by itself
2  the first, the step, how many  whole numbers with the same step everywhere, as the times of a steady sender
3  series by series             each packed by itself; what is the same as of the series before is not told again
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

MAX_RAW_LENGTH = 32  # numbers
FAST_COMPRESSION = ChunkConfig(compression_level=2)
DENSE_COMPRESSION = ChunkConfig(compression_level=8)
_RAW, _PCODEC, _CONSTANT_STEP, _PER_SERIES = range(4)


def pack(array: NDArray[Any], config: ChunkConfig) -> bytes:
    """A column of 8-byte numbers."""
    if len(array) < MAX_RAW_LENGTH:
        return bytes((_RAW,)) + array.tobytes()
    if array.dtype == np.int64 and (step := _constant_step(array)) is not None:
        return bytes((_CONSTANT_STEP,)) + np.array([array[0], step, len(array)], np.int64).tobytes()
    packed: bytes = standalone.simple_compress(np.ascontiguousarray(array), config)
    return bytes((_PCODEC,)) + packed


def unpack(data: bytes, dtype: type[np.generic]) -> NDArray[Any]:
    if data[0] == _RAW:
        return np.frombuffer(data, dtype, offset=1)
    if data[0] == _CONSTANT_STEP:
        return _expand_steps(*np.frombuffer(data, np.int64, offset=1).tolist())
    found: NDArray[Any] | None = standalone.simple_decompress(data[1:])
    assert found is not None
    return found


def pack_per_series(array: NDArray[Any], offsets: Ints, config: ChunkConfig) -> bytes:
    """A column cut at `offsets`, each series by itself: neighbours of other kinds would spoil each other."""
    bounds, packed = offsets.tolist(), [b""]
    last = array[:0]
    for low, high in zip(bounds[:-1], bounds[1:], strict=True):
        some = array[low:high]
        packed.append(b"" if np.array_equal(some, last) else pack(some, config))
        last = some
    ends = np.cumsum(np.fromiter(map(len, packed), np.int32, len(packed)), dtype=np.int32)
    return b"".join((bytes((_PER_SERIES,)), np.int32(len(packed)).tobytes(), ends.tobytes(), *packed))


def is_packed_per_series(data: bytes) -> bool:
    """Whether single series can be unpacked."""
    return data[0] == _PER_SERIES


def unpack_per_series(data: bytes, places: Sequence[int], offsets: Ints, dtype: type[np.generic]) -> NDArray[Any]:
    """The series at `places`, the points of the nth at offsets[n] to offsets[n + 1] of what is returned."""
    [many] = np.frombuffer(data, np.int32, 1, 1).tolist()
    begin = 5 + 4 * many
    ends = np.frombuffer(data, np.int32, many, 5)
    told = np.maximum.accumulate(np.where(ends[1:] > ends[:-1], np.arange(many - 1), 0)).tolist()
    limits, bounds = (ends + begin).tolist(), offsets.tolist()
    found = np.empty(bounds[-1], dtype)
    last, low = -1, 0
    for place, start, stop in zip(places, bounds[:-1], bounds[1:], strict=True):
        if told[place] == last:
            found[start:stop] = found[low : low + stop - start]
        else:
            last, low = told[place], start
            _unpack_into(data[limits[last] : limits[last + 1]], found[start:stop])
    return found


def _unpack_into(data: bytes, found: NDArray[Any]) -> None:
    if data[0] == _PCODEC:
        standalone.simple_decompress_into(data[1:], found)
    else:
        found[:] = unpack(data, found.dtype.type)


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
    """The step of a column that has the same everywhere, as the times of a steady sender have: they decode at once."""
    step = int(array[1]) - int(array[0])
    steady = int(array[2]) - int(array[1]) == step and bool((np.diff(array) == step).all())
    return step if steady else None


@lru_cache(16)
def _expand_steps(first: int, step: int, many: int) -> Ints:
    """A fleet that ticks together has the same times over and over. Not to be written to."""
    found = np.arange(many, dtype=np.int64)
    found *= step
    found += first
    found.flags.writeable = False
    return found
