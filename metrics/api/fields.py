"""Fields of requests that are about measurements: how they are read, and how they are described."""

from collections.abc import Mapping
from typing import Any

from django.utils.datastructures import MultiValueDict
from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers

from metrics.models import NAME_LENGTH
from metrics.query.accumulators import Fill
from metrics.query.query import FILLS

MOST_NAMES = 10_000
MOST_IN_ADDRESS = 100  # of them where they stand in the address, which holds 64 KB
LONGEST_INTERVAL = 1_000_000_000  # seconds
GROUPS = ("groups", "device_groups")  # what alert rules call them is known to filters too
_FILTERS = {"tags", "min_value", "max_value", *GROUPS}


@extend_schema_field(
    {"oneOf": [{"type": "integer", "minimum": 1, "maximum": LONGEST_INTERVAL}, {"type": "string", "enum": ["auto"]}]}
)
class IntervalField(serializers.Field[int | str, Any, Any, Any]):
    """Seconds, or `auto`."""

    def to_internal_value(self, data: Any) -> int | str:
        if data == "auto":
            return "auto"
        try:
            seconds = int(data) if not isinstance(data, bool) and float(data) == int(data) else 0
        except (TypeError, ValueError, OverflowError):
            seconds = 0
        if not 1 <= seconds <= LONGEST_INTERVAL:
            raise serializers.ValidationError(f"whole seconds from 1 to {LONGEST_INTERVAL:,}, or auto, are accepted")
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
        return data if isinstance(data, str) else "unknown"  # the Question knows which words there are

    def to_representation(self, value: Any) -> Any:
        return value


@extend_schema_field(
    {
        "type": "object",
        "properties": {
            "tags": {"type": "object", "description": "What a point's tags must be."},
            **{name: {"type": ["array", "null"], "items": {"type": "string"}} for name in GROUPS},
            "min_value": {"type": ["number", "null"], "description": "The least value that counts."},
            "max_value": {"type": ["number", "null"], "description": "The greatest value that counts."},
        },
        "additionalProperties": False,
    }
)
class FiltersField(serializers.Field[dict[str, Any], Any, Any, Any]):
    """`tags`: what a point's tags must be; `min_value` and `max_value`: its value, both included; `groups`: of which
    its device must be in one.
    """

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
            errors[GROUPS[1]] = f"is another name of {GROUPS[0]}: give one of them"
        if errors:
            raise serializers.ValidationError(errors)
        return data | {"groups": groups}

    def to_representation(self, value: Any) -> Any:
        return value


def name_field(**more: Any) -> Any:
    return serializers.CharField(max_length=NAME_LENGTH, trim_whitespace=False, **more)


def names_field(of: str, most: int = MOST_NAMES) -> Any:
    """Names of devices, metrics or groups, or None for all."""
    return serializers.ListField(
        child=name_field(), max_length=most, allow_null=True, default=None, help_text=f"These {of}; else all."
    )


@extend_schema_field(
    {"type": "array", "items": {"type": "string", "minLength": 1, "maxLength": NAME_LENGTH}, "minItems": 1}
)
class NamesField(serializers.Field[tuple[str, ...], Any, Any, Any]):
    """Names with commas between, once or several times; in JSON a list of them as they are."""

    def get_value(self, dictionary: Mapping[Any, Any]) -> Any:
        if not isinstance(dictionary, MultiValueDict):
            return super().get_value(dictionary)
        given = dictionary.getlist(self.field_name)
        return ",".join(given) if given else serializers.empty

    def to_internal_value(self, data: Any) -> tuple[str, ...]:
        names = data.split(",") if isinstance(data, str) else data
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            raise serializers.ValidationError("names are accepted, with commas between or as a list")
        kept = tuple(dict.fromkeys(name for name in names if name))
        if not kept or len(kept) > MOST_NAMES:
            raise serializers.ValidationError(f"1 to {MOST_NAMES:,} names are accepted")
        if any(len(name) > NAME_LENGTH or "\0" in name for name in kept):
            raise serializers.ValidationError(f"a name has {NAME_LENGTH} characters at most, none of them NUL")
        return kept

    def to_representation(self, value: Any) -> Any:
        return value
