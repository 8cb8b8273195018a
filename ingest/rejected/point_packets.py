"""Rejected points as they are kept for replay: compressed packets, some kilobytes for a thousand points."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import msgspec
import zstandard


class RejectedPoint(NamedTuple):
    """A point as it was sent."""

    time: int  # µs since 1970, UTC
    value: Any  # a JSON value
    context: bytes  # unit, tags and metadata (metrics.storage.format.contexts)


_decoder = msgspec.msgpack.Decoder(list[RejectedPoint])
MAX_UNPACKED_SIZE = 64 * 2**20  # bytes, far more than any packet holds


def pack(points: Sequence[RejectedPoint]) -> bytes:
    """Return the payload of a packet; points are in order of arrival."""
    return zstandard.ZstdCompressor(level=3).compress(msgspec.msgpack.encode(points))


def unpack(payload: bytes) -> list[RejectedPoint]:
    """Return the points of a payload."""
    return _decoder.decode(zstandard.ZstdDecompressor().decompress(payload, max_output_size=MAX_UNPACKED_SIZE))


def estimate_size(value: Any, context: bytes) -> int:
    """Return about how many bytes a point takes before it is packed."""
    if isinstance(value, float | int):
        return 16 + len(context)
    text = len(value) if isinstance(value, str) else len(msgspec.json.encode(value))
    return 16 + len(context) + text
