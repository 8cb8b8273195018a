"""Convert values between model fields and a file, and validate the types of a file's values."""

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

from django.contrib.postgres.fields import ArrayField
from django.db import models

_TEXT = "a text is accepted; quote it if YAML reads it as another type"
_ACCEPTED: tuple[tuple[type[Any], tuple[type, ...], str], ...] = (
    (models.BooleanField, (bool,), "true or false is accepted"),
    (models.IntegerField, (int,), "a whole number is accepted"),
    (models.FloatField, (int, float), "a number is accepted"),
    (models.CharField, (str,), _TEXT),
    (models.TextField, (str,), _TEXT),
)


def find_type_errors(field: Any, value: Any) -> Iterator[tuple[str, str]]:
    """Yield (path within the value, accepted type) for each part of the wrong type."""
    if value is None:
        if not field.null:
            yield "", "null is not accepted; leave the field out for its default"
    elif isinstance(field, ArrayField):
        if not isinstance(value, list):
            yield "", "a list is accepted"
        else:
            for number, item in enumerate(value):
                for path, detail in find_type_errors(field.base_field, item):
                    yield f"[{number}]{path}", detail
    elif isinstance(field, models.DateTimeField):
        if parse_time(value) is None:
            yield "", "a time with UTC offset is accepted, such as 2026-11-21T08:00:00Z"
    else:
        for kind, types, detail in _ACCEPTED:
            if isinstance(field, kind) and type(value) not in types:  # not isinstance: a bool is no number
                yield "", detail


def parse_time(value: Any) -> datetime | None:
    """Return a time in UTC; None for anything else than an ISO 8601 time with UTC offset."""
    try:
        time = datetime.fromisoformat(value)
        return None if time.tzinfo is None else time.astimezone(UTC)
    except (TypeError, ValueError, OverflowError):
        return None


def to_field_value(field: Any, value: Any) -> Any:
    """Convert a valid value of a file to the value of a model field."""
    return parse_time(value) if isinstance(field, models.DateTimeField) and value is not None else value


def to_yaml_value(value: Any) -> Any:
    """Convert the value of a model field to its form in a file."""
    return value.astimezone(UTC).isoformat().replace("+00:00", "Z") if isinstance(value, datetime) else value
