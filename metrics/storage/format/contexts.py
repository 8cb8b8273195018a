"""Context of a point: unit, tags and metadata. Pure; a block's dictionary has one entry for each distinct context."""

from functools import lru_cache
from typing import Any

import msgspec

REMOVED = b"removed"  # of a point that another kind of value has replaced


def write_context(unit: str | None, tags: dict[str, Any] | None, metadata: dict[str, Any] | None) -> bytes:
    """Encode a context: empty if it has no fields, `[unit]`, or `[unit, tags, metadata]`."""
    if tags or metadata:
        return msgspec.json.encode([unit, tags or {}, metadata or {}])
    return msgspec.json.encode([unit]) if unit else b""


def read_context(entry: bytes) -> tuple[str | None, dict[str, Any], dict[str, Any]]:
    """Decode an entry into (unit, tags, metadata)."""
    if not entry:
        return None, {}, {}
    fields = msgspec.json.decode(entry)
    return (fields[0], {}, {}) if len(fields) == 1 else (fields[0], fields[1], fields[2])


@lru_cache(10_000)
def unit_of(context: bytes) -> str | None:
    return read_context(context)[0]


@lru_cache(10_000)
def tags_of(context: bytes) -> dict[str, Any]:
    return read_context(context)[1]
