"""Rejected points as they are kept for replay: packed, so that a thousand of them cost some kilobytes."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import msgspec
import zstandard


class KeptPoint(NamedTuple):
    """A point as it was sent."""

    time: int  # µs since 1970, UTC
    value: Any  # a JSON value
    context: bytes  # unit, tags and metadata (metrics.storage.format.contexts)


_decoder = msgspec.msgpack.Decoder(list[KeptPoint])
LARGEST = 64 * 2**20  # bytes of a payload when unpacked: far above what is ever packed


def pack(points: Sequence[KeptPoint]) -> bytes:
    """Points, oldest first, to the payload of a row."""
    return zstandard.ZstdCompressor(level=3).compress(msgspec.msgpack.encode(points))


def unpack(payload: bytes) -> list[KeptPoint]:
    """The points of a payload."""
    return _decoder.decode(zstandard.ZstdDecompressor().decompress(payload, max_output_size=LARGEST))


def size_of(value: Any, context: bytes) -> int:
    """About how many bytes a point takes while it waits to be packed."""
    if isinstance(value, float | int):
        return 16 + len(context)
    text = len(value) if isinstance(value, str) else len(msgspec.json.encode(value))
    return 16 + len(context) + text
