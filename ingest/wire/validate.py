"""The verdict on one point of the site's JSON, and the strict reading of a document."""

import json
import math
import re
from typing import Any

from ingest.wire.batch import RequestRejected
from ingest.wire.times import parse_time

LARGEST_INTEGER = 2**53  # beyond it a float no longer holds every integer
DEEPEST = 32  # levels of a value
DEEPEST_DOCUMENT = 200  # levels that are read at all, so that a value too deep is judged like any other
LONGEST_NAME = 200
LONGEST_UNIT = 50
LONGEST_TEXT = 64 * 1024  # characters of one value
_STRINGS = re.compile(rb'"(?:[^"\\]|\\.)*"', re.DOTALL)
_BRACKETS = re.compile(rb"[\[\]{}]")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")


class BadPoint(ValueError):
    """Why a point cannot be kept."""

    def __init__(self, field: str, detail: str) -> None:
        super().__init__(detail)
        self.field, self.detail = field, detail


def parse_document(body: bytes) -> Any:
    """JSON with NaN, Infinity and huge numbers left in, for their points to be judged. Raises RequestRejected."""
    try:
        text = body.decode("utf-8")
    except UnicodeDecodeError as error:
        raise RequestRejected(f"the body is not UTF-8: byte {error.start} cannot be read") from None
    if _depth(body) > DEEPEST_DOCUMENT:
        raise RequestRejected(f"the body is nested too deep: values of at most {DEEPEST} levels are accepted")
    try:
        return json.loads(text, object_pairs_hook=_unique, parse_int=_integer)
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


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise RequestRejected(f"the name {twice!r:.80} stands twice in one object: each may stand once")
    return found


def _integer(digits: str) -> int | float:
    # 5,000 digits would raise ValueError from int(); infinity gets the verdict of a number too large.
    return int(digits) if len(digits) < 40 else math.inf


def check_name(name: Any, field: str) -> str:
    """A device id, metric name or batch id. Raises BadPoint."""
    if not isinstance(name, str):
        raise BadPoint(field, f"a text of 1 to {LONGEST_NAME} characters is accepted")
    if not 0 < len(name) <= LONGEST_NAME or name.isspace():
        raise BadPoint(field, f"{len(name)} characters: a text of 1 to {LONGEST_NAME} is accepted")
    if not name.isprintable() and _CONTROL.search(name):
        raise BadPoint(field, "control characters are not accepted")
    _check_text(name, field)
    return name


def judge(raw: Any) -> tuple[str, int, Any, str | None, dict[str, Any] | None, dict[str, Any] | None]:
    """(metric, time in µs, value, unit, tags, metadata) of a point. Raises BadPoint."""
    if not isinstance(raw, dict):
        raise BadPoint("data_points", "an object with timestamp, metric_name and value is accepted")
    for name in ("timestamp", "metric_name", "value"):
        if name not in raw:
            raise BadPoint(name, "the field is missing")
    timestamp = raw["timestamp"]
    try:
        time = parse_time(timestamp if isinstance(timestamp, str) else "")
    except ValueError as error:
        raise BadPoint("timestamp", str(error)) from None
    return (
        check_name(raw["metric_name"], "metric_name"),
        time,
        check_value(raw["value"]),
        check_unit(raw.get("unit")),
        _mapping(raw.get("tags"), "tags"),
        _mapping(raw.get("metadata"), "metadata"),
    )


def check_unit(unit: Any) -> str | None:
    """A unit, or None. Raises BadPoint."""
    if unit is None:
        return None
    if not isinstance(unit, str) or len(unit) > LONGEST_UNIT or _CONTROL.search(unit):
        raise BadPoint("unit", f"a text of at most {LONGEST_UNIT} characters is accepted")
    _check_text(unit, "unit")
    return unit


def check_value(value: Any) -> Any:
    """A value that can be kept: float, bool, str, dict or list. Raises BadPoint."""
    if value is None:
        raise BadPoint("value", "null is no measurement: a number, text, boolean, object or array is accepted")
    check_json(value, "value")
    if isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if isinstance(value, str) and len(value) > LONGEST_TEXT:
        raise BadPoint("value", f"{len(value)} characters: at most {LONGEST_TEXT} are accepted")
    return value


def _mapping(given: Any, field: str) -> dict[str, Any] | None:
    if given is None:
        return None
    if not isinstance(given, dict):
        raise BadPoint(field, "an object is accepted")
    check_json(given, field)
    return given


def check_json(value: Any, field: str, level: int = 0) -> None:
    """Refuse what JSON can carry and PostgreSQL, a float or a reader cannot. Raises BadPoint."""
    if isinstance(value, bool) or value is None:
        return
    if isinstance(value, float):
        if not math.isfinite(value):
            raise BadPoint(field, "NaN, Infinity and numbers beyond 1.8e308 are not accepted")
    elif isinstance(value, int):
        if abs(value) > LARGEST_INTEGER:
            raise BadPoint(field, "integers beyond 2^53 would be rounded: send them as text")
    elif isinstance(value, str):
        _check_text(value, field)
    elif level >= DEEPEST:
        raise BadPoint(field, f"nested too deep: at most {DEEPEST} levels are accepted")
    elif isinstance(value, dict):
        for name, inner in value.items():
            _check_text(name, field)
            check_json(inner, field, level + 1)
    else:
        for inner in value:
            check_json(inner, field, level + 1)


def _check_text(text: str, field: str) -> None:
    if "\0" in text:
        raise BadPoint(field, "the character NUL is not accepted")
    if not text.isascii() and any("\ud800" <= character <= "\udfff" for character in text):
        raise BadPoint(field, "half a surrogate pair is not a character")
