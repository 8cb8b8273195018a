"""A JSON value to what is stored for it, as its metric's definition says or as it looks by itself."""

import base64
import binascii
from typing import Any

import msgspec

from ingest.wire.validate import BadPoint
from metrics.storage.format.codec import Kind

_NAMES = {
    Kind.NUMERIC: "a number",
    Kind.BOOLEAN: "true or false",
    Kind.STRING: "a text",
    Kind.JSON: "any JSON value",
    Kind.GEOLOCATION: 'an object like {"latitude": 54.3, "longitude": 10.1}',
    Kind.BINARY: "a text in base64",
}


def stored(value: Any, kind: Kind | None, metric: str) -> tuple[Kind, float | bytes]:
    """(kind, float for numbers and booleans, bytes for the rest). `kind` None: undefined, by its looks.

    Raises BadPoint where the definition asks for something else.
    """
    if kind is None or kind is Kind.NUMERIC or kind is Kind.BOOLEAN or kind is Kind.STRING:
        looks = _looks(value)
        if kind is not None and looks is not kind:
            raise BadPoint("value", f"{metric} is defined as {kind.name.lower()}: {_NAMES[kind]} is accepted")
        if looks.is_number:
            return looks, float(value)
        return looks, value.encode() if looks is Kind.STRING else msgspec.json.encode(value)
    if kind is Kind.BINARY:
        return kind, _binary(value, metric)
    if kind is Kind.GEOLOCATION:
        return kind, _place(value, metric)
    return kind, msgspec.json.encode(value)


def _looks(value: Any) -> Kind:
    if isinstance(value, bool):
        return Kind.BOOLEAN
    if isinstance(value, float | int):
        return Kind.NUMERIC
    return Kind.STRING if isinstance(value, str) else Kind.JSON


def _binary(value: Any, metric: str) -> bytes:
    try:
        return base64.b64decode(value, validate=True) if isinstance(value, str) else _fail(Kind.BINARY, metric)
    except (binascii.Error, ValueError):
        return _fail(Kind.BINARY, metric)


def _place(value: Any, metric: str) -> bytes:
    """Latitude, longitude and whatever else is in the object (altitude, accuracy), under their full names."""
    if not isinstance(value, dict):
        return _fail(Kind.GEOLOCATION, metric)
    place = dict(value)
    for name, shorts, limit in (("latitude", ("lat",), 90), ("longitude", ("lon", "lng"), 180)):
        for short in shorts:
            if short in place and name not in place:
                place[name] = place.pop(short)
        degrees = place.get(name)
        if isinstance(degrees, bool) or not isinstance(degrees, int | float) or abs(degrees) > limit:
            raise BadPoint("value", f"{metric}: {name} must be a number from -{limit} to {limit}")
    return msgspec.json.encode(place)


def _fail(kind: Kind, metric: str) -> bytes:
    raise BadPoint("value", f"{metric} is defined as {kind.name.lower()}: {_NAMES[kind]} is accepted")
