"""Serializer fields that several resources share."""

import re
from collections.abc import Callable, Mapping
from typing import Any

import msgspec
from django.db import models
from django.utils.datastructures import MultiValueDict
from rest_framework import serializers

from rest.names import NAME_LENGTH
from rest.unknown_names import reject_unknown_fields

MAX_TAGS = 100
MAX_METADATA_BYTES = 16 * 1024
_BOOLEANS = {"true": True, "1": True, "false": False, "0": False}
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")


def validate_printable(text: str) -> None:
    """Raise ValidationError for text with control characters or line breaks."""
    if _CONTROL.search(text):
        raise serializers.ValidationError("must not contain control characters")


class NewName:
    """Validator of a new name; names of existing objects are not validated."""

    requires_context = True

    def __init__(self, find_error: Callable[[str], str | None]) -> None:
        self.find_error = find_error

    def __call__(self, name: str, field: serializers.Field[Any, Any, Any, Any]) -> None:
        row = getattr(field.parent, "instance", None)
        if name != getattr(row, field.source or "", None) and (error := self.find_error(name)) is not None:
            raise serializers.ValidationError(error)


def name_field(**options: Any) -> serializers.CharField:
    """Return a field for one line of text, which is not stripped."""
    validators = [validate_printable, *options.pop("validators", ())]
    return serializers.CharField(max_length=NAME_LENGTH, trim_whitespace=False, validators=validators, **options)


def names_field(help_text: str, max_length: int) -> Any:
    return serializers.ListField(child=name_field(), max_length=max_length, required=False, help_text=help_text)


class ChoiceField(serializers.ChoiceField):
    """One of a few words. The error message lists the accepted ones."""

    def __init__(self, choices: Any, **options: Any) -> None:
        accepted = ", ".join(value for value, _ in choices)
        super().__init__(choices, error_messages={"invalid_choice": f"{accepted} are accepted"}, **options)


class TagsField(serializers.DictField):
    """Tags: short texts of one line by name."""

    child = name_field(allow_blank=True)

    def to_internal_value(self, data: Any) -> dict[str, str]:
        tags: dict[str, str] = super().to_internal_value(data)
        if len(tags) > MAX_TAGS:
            raise serializers.ValidationError(f"must have at most {MAX_TAGS} tags")
        for name in tags:
            if not name or len(name) > NAME_LENGTH or not name.isprintable() or ":" in name:
                accepted = f"tag names must have 1 to {NAME_LENGTH} printable characters and no colon"
                raise serializers.ValidationError({name[:NAME_LENGTH]: accepted})
        return tags


class MetadataField(serializers.DictField):
    """A JSON object of limited size that PostgreSQL can store."""

    def to_internal_value(self, data: Any) -> dict[str, Any]:
        metadata: dict[str, Any] = super().to_internal_value(data)
        text = msgspec.json.encode(metadata)
        if len(text) > MAX_METADATA_BYTES:
            raise serializers.ValidationError(f"must have at most {MAX_METADATA_BYTES:,} bytes of JSON")
        if b"\\u0000" in text:
            raise serializers.ValidationError("must not contain NUL characters")
        return metadata


class BooleanField(serializers.BooleanField):
    """true or false: a JSON boolean in a body, one of these words (or 1 and 0) in a query string."""

    default_error_messages = {"invalid": "must be a boolean: true or false"}

    def to_internal_value(self, data: Any) -> bool:
        if isinstance(data, bool):
            return data
        is_text = isinstance(data, str) and isinstance(getattr(self.root, "initial_data", None), MultiValueDict)
        if not is_text or data.lower() not in _BOOLEANS:
            self.fail("invalid")
        return _BOOLEANS[data.lower()]


class StrictSerializer(serializers.Serializer[Any]):
    """Rejects unknown fields, each by name."""

    serializer_field_mapping = serializers.ModelSerializer.serializer_field_mapping | {
        models.BooleanField: BooleanField
    }

    def to_internal_value(self, data: Any) -> Any:
        if self.root is self and isinstance(data, Mapping):
            reject_unknown_fields(data, self.fields)
        return super().to_internal_value(data)
