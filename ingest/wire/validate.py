"""Validation of names, timestamps, units and values, and strict parsing of a JSON document."""

import json
import math
import re
from typing import Any

from ingest.wire.batch import RequestRejected
from ingest.wire.times import ACCEPTED, parse_time
from rest.json_names import DuplicateName, unique_names

MAX_INTEGER = 2**53  # a float does not hold every integer above
MAX_DEPTH = 32  # levels of a value
MAX_DOCUMENT_DEPTH = 200  # levels that are parsed, so that a value nested too deeply is rejected by itself
MAX_NAME_LENGTH = 200
MAX_UNIT_LENGTH = 50
MAX_TEXT_LENGTH = 64 * 1024  # characters of one value
_STRINGS = re.compile(rb'"(?:[^"\\]|\\.)*"', re.DOTALL)
_BRACKETS = re.compile(rb"[\[\]{}]")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")


class InvalidPoint(ValueError):
    """A field of a point is invalid."""

    def __init__(self, field: str, detail: str) -> None:
        super().__init__(detail)
        self.field, self.detail = field, detail


def parse_document(body: bytes) -> Any:
    """Parse JSON, including NaN, Infinity and huge numbers, which are rejected later, point by point.

    Raises RequestRejected.
    """
    try:
        text = body.decode("utf-8")
    except UnicodeDecodeError as error:
        raise RequestRejected(f"the body is not UTF-8: invalid byte at position {error.start}") from None
    if _depth(body) > MAX_DOCUMENT_DEPTH:
        raise RequestRejected(f"the body is nested too deeply: values of at most {MAX_DEPTH} levels are accepted")
    try:
        return json.loads(text, object_pairs_hook=unique_names, parse_int=_integer)
    except DuplicateName as error:
        raise RequestRejected(str(error)) from None
    except json.JSONDecodeError as error:
        raise RequestRejected(
            f"the body is not JSON: {error.msg} at line {error.lineno}, column {error.colno}"
        ) from None


def _depth(body: bytes) -> int:
    deepest = depth = 0
    for mark in _BRACKETS.findall(_STRINGS.sub(b"", body)):
        depth += 1 if mark in b"[{" else -1
        deepest = max(deepest, depth)
    return deepest


def _integer(digits: str) -> int | float:
    # int() raises ValueError for 5,000 digits; infinity is rejected as a number that is too large.
    return int(digits) if len(digits) < 40 else math.inf


def check_name(name: Any, field: str) -> str:
    """Return a device id, metric name or batch id. Raises InvalidPoint."""
    if not isinstance(name, str):
        raise InvalidPoint(field, f"a text of 1 to {MAX_NAME_LENGTH} characters is accepted")
    if not 0 < len(name) <= MAX_NAME_LENGTH or name.isspace():
        raise InvalidPoint(field, f"{len(name)} characters: a text of 1 to {MAX_NAME_LENGTH} is accepted")
    if not name.isprintable() and _CONTROL.search(name):
        raise InvalidPoint(field, "control characters are not accepted")
    _check_text(name, field)
    return name


def validate_point(raw: Any) -> tuple[str, int, Any, str | None, dict[str, Any] | None, dict[str, Any] | None]:
    """Return (metric, time in µs, value, unit, tags, metadata) of a point. Raises InvalidPoint."""
    if not isinstance(raw, dict):
        raise InvalidPoint("data_points", "an object with timestamp, metric_name and value is accepted")
    for name in ("timestamp", "metric_name", "value"):
        if name not in raw:
            raise InvalidPoint(name, "the field is missing")
    time = check_timestamp(raw["timestamp"])
    return (
        check_name(raw["metric_name"], "metric_name"),
        time,
        check_value(raw["value"]),
        check_unit(raw.get("unit")),
        _check_object(raw.get("tags"), "tags"),
        _check_object(raw.get("metadata"), "metadata"),
    )


def check_timestamp(timestamp: Any, accepted: str = ACCEPTED) -> int:
    """Return µs since 1970 of an RFC 3339 time. Raises InvalidPoint with the `accepted` formats."""
    try:
        return parse_time(timestamp if isinstance(timestamp, str) else "")
    except ValueError as error:
        raise InvalidPoint("timestamp", f"{error}: {accepted}") from None


def check_unit(unit: Any) -> str | None:
    """Return a unit, or None. Raises InvalidPoint."""
    if unit is None:
        return None
    if not isinstance(unit, str) or len(unit) > MAX_UNIT_LENGTH or _CONTROL.search(unit):
        raise InvalidPoint("unit", f"a text of at most {MAX_UNIT_LENGTH} characters is accepted")
    _check_text(unit, "unit")
    return unit


def check_value(value: Any) -> Any:
    """Return a value that can be stored: float, bool, str, dict or list. Raises InvalidPoint."""
    if value is None:
        raise InvalidPoint("value", "null is not accepted: it must be a number, text, boolean, object or array")
    check_json(value, "value")
    if isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if isinstance(value, str) and len(value) > MAX_TEXT_LENGTH:
        raise InvalidPoint("value", f"{len(value)} characters: at most {MAX_TEXT_LENGTH} are accepted")
    return value


def _check_object(value: Any, field: str) -> dict[str, Any] | None:
    if value is None:
        return None
    if not isinstance(value, dict):
        raise InvalidPoint(field, "an object is accepted")
    check_json(value, field)
    return value


def check_json(value: Any, field: str, level: int = 0) -> None:
    """Reject JSON that PostgreSQL or a float cannot hold. Raises InvalidPoint."""
    if isinstance(value, bool) or value is None:
        return
    if isinstance(value, float):
        if not math.isfinite(value):
            raise InvalidPoint(field, "NaN, Infinity and numbers beyond 1.8e308 are not accepted")
    elif isinstance(value, int):
        if abs(value) > MAX_INTEGER:
            raise InvalidPoint(field, "integers beyond 2^53 would be rounded: send them as text")
    elif isinstance(value, str):
        _check_text(value, field)
    elif level >= MAX_DEPTH:
        raise InvalidPoint(field, f"nested too deeply: at most {MAX_DEPTH} levels are accepted")
    elif isinstance(value, dict):
        for name, inner in value.items():
            _check_text(name, field)
            check_json(inner, field, level + 1)
    else:
        for inner in value:
            check_json(inner, field, level + 1)


def _check_text(text: str, field: str) -> None:
    if "\0" in text:
        raise InvalidPoint(field, "the character NUL is not accepted")
    if not text.isascii() and any("\ud800" <= character <= "\udfff" for character in text):
        raise InvalidPoint(field, "an unpaired surrogate is not accepted")
