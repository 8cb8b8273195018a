"""Encoding of JSON values for storage, by the data type of the metric definition or of the value."""

import base64
import binascii
from typing import Any

import msgspec

from ingest.wire.validate import InvalidPoint
from metrics.storage.format.codec import Kind

_NAMES = {
    Kind.NUMERIC: "a number",
    Kind.BOOLEAN: "true or false",
    Kind.STRING: "a text",
    Kind.JSON: "any JSON value",
    Kind.GEOLOCATION: 'an object like {"latitude": 54.3, "longitude": 10.1}',
    Kind.BINARY: "a text in base64",
}


def encode_value(value: Any, kind: Kind | None, metric: str) -> tuple[Kind, float | bytes]:
    """Return (kind, float for numbers and booleans, bytes for others). Without a `kind`, that of the value is used.

    Raises InvalidPoint if the value does not match the definition.
    """
    if kind is None or kind is Kind.NUMERIC or kind is Kind.BOOLEAN or kind is Kind.STRING:
        kind_of_value = _kind_of(value)
        if kind is not None and kind_of_value is not kind:
            raise _wrong_type(kind, metric)
        if kind_of_value.is_number:
            return kind_of_value, float(value)
        return kind_of_value, value.encode() if kind_of_value is Kind.STRING else msgspec.json.encode(value)
    if kind is Kind.BINARY:
        return kind, _encode_binary(value, metric)
    if kind is Kind.GEOLOCATION:
        return kind, _encode_location(value, metric)
    return kind, msgspec.json.encode(value)


def _kind_of(value: Any) -> Kind:
    if isinstance(value, bool):
        return Kind.BOOLEAN
    if isinstance(value, float | int):
        return Kind.NUMERIC
    return Kind.STRING if isinstance(value, str) else Kind.JSON


def _encode_binary(value: Any, metric: str) -> bytes:
    if not isinstance(value, str):
        raise _wrong_type(Kind.BINARY, metric)
    try:
        return base64.b64decode(value, validate=True)
    except (binascii.Error, ValueError):
        raise _wrong_type(Kind.BINARY, metric) from None


def _encode_location(value: Any, metric: str) -> bytes:
    """Return an object with latitude, longitude and all other fields, under their full names."""
    if not isinstance(value, dict):
        raise _wrong_type(Kind.GEOLOCATION, metric)
    location = dict(value)
    for name, short_names, limit in (("latitude", ("lat",), 90), ("longitude", ("lon", "lng"), 180)):
        for short_name in short_names:
            if short_name in location and name not in location:
                location[name] = location.pop(short_name)
        degrees = location.get(name)
        if isinstance(degrees, bool) or not isinstance(degrees, int | float) or abs(degrees) > limit:
            raise InvalidPoint("value", f"{metric}: {name} must be a number from -{limit} to {limit}")
    return msgspec.json.encode(location)


def _wrong_type(kind: Kind, metric: str) -> InvalidPoint:
    return InvalidPoint("value", f"{metric} is defined as {kind.name.lower()}: {_NAMES[kind]} is accepted")
