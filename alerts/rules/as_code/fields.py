"""What a field of a table takes from a file, and how it is written there."""

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

from django.contrib.postgres.fields import ArrayField
from django.db import models

_ACCEPTED: tuple[tuple[type[Any], tuple[type, ...], str], ...] = (
    (models.BooleanField, (bool,), "true or false is accepted"),
    (models.IntegerField, (int,), "a whole number is accepted"),
    (models.FloatField, (int, float), "a number is accepted"),
    (models.CharField, (str,), "a text is accepted; in quotes where it looks like something else"),
    (models.TextField, (str,), "a text is accepted; in quotes where it looks like something else"),
)


def wrong(field: Any, value: Any) -> Iterator[tuple[str, str]]:
    """(where in the value, what is accepted) of all that is not of the field's type."""
    if value is None:
        if not field.null:
            yield "", "null is not accepted; leave it out for what it is by itself"
    elif isinstance(field, ArrayField):
        if not isinstance(value, list):
            yield "", "a list is accepted"
        else:
            for number, one in enumerate(value):
                yield from ((f"[{number}]{where}", detail) for where, detail in wrong(field.base_field, one))
    elif isinstance(field, models.DateTimeField):
        if read_time(value) is None:
            yield "", "a time with its offset is accepted, such as 2026-11-21T08:00:00Z"
    else:
        yield from (
            ("", told)
            for kind, types, told in _ACCEPTED
            if isinstance(field, kind) and type(value) not in types  # a truth value is no number
        )


def read_time(value: Any) -> datetime | None:
    """A moment in UTC; None where it is none, or without its offset."""
    try:
        found = datetime.fromisoformat(value)
        return None if found.tzinfo is None else found.astimezone(UTC)
    except (TypeError, ValueError, OverflowError):
        return None


def as_kept(field: Any, value: Any) -> Any:
    """A value that nothing is wrong with as the table has it."""
    return read_time(value) if isinstance(field, models.DateTimeField) and value is not None else value


def as_written(value: Any) -> Any:
    """A value of the table as a file says it."""
    return value.astimezone(UTC).isoformat().replace("+00:00", "Z") if isinstance(value, datetime) else value
