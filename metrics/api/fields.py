"""Serializer fields of query parameters."""

import re
from collections.abc import Callable, Mapping
from typing import Any

from django.utils.datastructures import MultiValueDict
from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers

from metrics.models import NAME_LENGTH
from metrics.query.gaps import Fill
from metrics.query.query import FILLS, WHOLE_RANGE

MAX_NAMES = 10_000
MAX_NAMES_IN_URL = 100  # in a URL, which holds 64 KB
MAX_INTERVAL = 1_000_000_000  # seconds
GROUPS = ("groups", "device_groups")  # the second is the name that alert rules use
_COMMA = re.compile(r"(\\*),")
_FILTERS = {"tags", "min_value", "max_value", *GROUPS}


@extend_schema_field(
    {
        "oneOf": [
            {"type": "integer", "minimum": 1, "maximum": MAX_INTERVAL},
            {"type": "string", "enum": ["auto", WHOLE_RANGE]},
        ]
    }
)
class IntervalField(serializers.Field[int | str, Any, Any, Any]):
    """Seconds, `auto` or `range`."""

    def to_internal_value(self, data: Any) -> int | str:
        if data in ("auto", WHOLE_RANGE):
            return str(data)
        try:
            seconds = int(data) if not isinstance(data, bool) and float(data) == int(data) else 0
        except (TypeError, ValueError, OverflowError):
            seconds = 0
        if not 1 <= seconds <= MAX_INTERVAL:
            raise serializers.ValidationError(
                f"whole seconds from 1 to {MAX_INTERVAL:,}, auto or {WHOLE_RANGE} are accepted"
            )
        return seconds

    def to_representation(self, value: Any) -> Any:
        return value


@extend_schema_field({"oneOf": [{"type": "string", "enum": list(FILLS)}, {"type": "number"}]})
class FillField(serializers.Field[Fill, Any, Any, Any]):
    """`none`, `null`, `previous`, `linear` or a number."""

    def to_internal_value(self, data: Any) -> Fill:
        try:
            number = float(data) if not isinstance(data, bool) else float("nan")
        except (TypeError, ValueError):
            number = float("nan")
        if abs(number) < float("inf"):
            return number
        if isinstance(data, str) and data in FILLS:
            return data
        raise serializers.ValidationError(f"must be {', '.join(FILLS)} or a number")

    def to_representation(self, value: Any) -> Any:
        return value


@extend_schema_field(
    {
        "type": "object",
        "properties": {
            "tags": {"type": "object", "description": "Tags that the points must have."},
            **{name: {"type": ["array", "null"], "items": {"type": "string"}} for name in GROUPS},
            "min_value": {"type": ["number", "null"], "description": "Minimum value of the points, inclusive."},
            "max_value": {"type": ["number", "null"], "description": "Maximum value of the points, inclusive."},
        },
        "additionalProperties": False,
    }
)
class FiltersField(serializers.Field[dict[str, Any], Any, Any, Any]):
    """Filters of points by tags, value and device group."""

    def to_internal_value(self, data: Any) -> dict[str, Any]:
        if not isinstance(data, dict):
            raise serializers.ValidationError("an object is accepted, with tags, groups, min_value and max_value")
        errors: dict[str, Any] = {}
        groups = None
        for name, value in data.items():
            if name not in _FILTERS:
                errors[name] = f"is not known; accepted are {', '.join(sorted(_FILTERS))}"
            elif name in GROUPS and value is not None:
                try:
                    groups = names_field("device groups").run_validation(value)
                except serializers.ValidationError as error:
                    errors[name] = error.detail
            elif name == "tags":
                if not isinstance(value, dict):
                    errors[name] = "an object of names and values is accepted"
            elif value is not None and (isinstance(value, bool) or not isinstance(value, int | float)):
                errors[name] = "a number is accepted"
            elif value is not None and abs(value) > 1e308:
                errors[name] = "is out of the range of numbers"
        if all(data.get(name) is not None for name in GROUPS):
            errors[GROUPS[1]] = f"is an alias of {GROUPS[0]}: send only one of them"
        if errors:
            raise serializers.ValidationError(errors)
        return data | {"groups": groups}

    def to_representation(self, value: Any) -> Any:
        return value


def checked(find_error: Callable[[str], str | None]) -> Callable[[str], None]:
    """Return a validator from a function that returns the error of a value, or None."""

    def validate(value: str) -> None:
        if error := find_error(value):
            raise serializers.ValidationError(error)

    return validate


def name_field(**more: Any) -> Any:
    return serializers.CharField(max_length=NAME_LENGTH, trim_whitespace=False, **more)


def names_field(kind: str, max_names: int = MAX_NAMES) -> Any:
    """Return a field for names of devices, metrics or groups; None for all."""
    return serializers.ListField(
        child=name_field(),
        max_length=max_names,
        allow_null=True,
        default=None,
        help_text=f"Names of {kind}; all by default, and with an empty list.",
    )


def split_names(text: str) -> list[str]:
    r"""Split names at commas. `\,` is a comma in a name; backslashes before a comma are doubled."""
    names, begin, name = [], 0, ""
    for comma in _COMMA.finditer(text):
        backslashes = len(comma[1])
        name += text[begin : comma.start()] + "\\" * (backslashes // 2)
        begin = comma.end()
        if backslashes % 2:
            name += ","
        else:
            names.append(name)
            name = ""
    return [*names, name + text[begin:]]


@extend_schema_field(
    {"type": "array", "items": {"type": "string", "minLength": 1, "maxLength": NAME_LENGTH}, "minItems": 1}
)
class NamesField(serializers.Field[tuple[str, ...], Any, Any, Any]):
    """Names: comma-separated or repeated in the query string, a list in JSON."""

    def __init__(self, max_names: int = MAX_NAMES, **options: Any) -> None:
        self.max_names = max_names
        super().__init__(**options)

    def get_value(self, dictionary: Mapping[Any, Any]) -> Any:
        if not isinstance(dictionary, MultiValueDict):
            return super().get_value(dictionary)
        texts = dictionary.getlist(self.field_name)
        return [name for text in texts for name in split_names(text)] if texts else serializers.empty

    def to_internal_value(self, data: Any) -> tuple[str, ...]:
        names = split_names(data) if isinstance(data, str) else data
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            raise serializers.ValidationError("names are accepted, with commas between or as a list")
        kept = tuple(dict.fromkeys(name for name in names if name))
        if not kept or len(kept) > self.max_names:
            raise serializers.ValidationError(f"1 to {self.max_names:,} names are accepted")
        if any(len(name) > NAME_LENGTH or "\0" in name for name in kept):
            raise serializers.ValidationError(f"a name has {NAME_LENGTH} characters at most, none of them NUL")
        return kept

    def to_representation(self, value: Any) -> Any:
        return value
