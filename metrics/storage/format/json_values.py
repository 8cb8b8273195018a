"""Stored values as JSON shows them. Pure."""

import base64
from typing import Any

import msgspec

from metrics.storage.format.codec import Kind


def to_json_value(value: Any, kind: Kind) -> Any:
    """Return a stored value as JSON shows it."""
    if kind is Kind.NUMERIC:
        return float(value)
    if kind is Kind.BOOLEAN:
        return bool(value)
    if kind is Kind.STRING:
        return value.decode()
    return base64.b64encode(value).decode() if kind is Kind.BINARY else msgspec.json.decode(value)
