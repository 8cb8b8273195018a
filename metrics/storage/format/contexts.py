"""What may go with a point: unit, tags, metadata. Pure; one entry of a block's dictionary for each distinct triple."""

from typing import Any

import msgspec


def write_context(unit: str | None, tags: dict[str, Any] | None, metadata: dict[str, Any] | None) -> bytes:
    """An entry: empty where there is nothing, `[unit]`, or `[unit, tags, metadata]`."""
    if tags or metadata:
        return msgspec.json.encode([unit, tags or {}, metadata or {}])
    return msgspec.json.encode([unit]) if unit else b""


def read_context(entry: bytes) -> tuple[str | None, dict[str, Any], dict[str, Any]]:
    """An entry back to (unit, tags, metadata)."""
    if not entry:
        return None, {}, {}
    found = msgspec.json.decode(entry)
    return (found[0], {}, {}) if len(found) == 1 else (found[0], found[1], found[2])
