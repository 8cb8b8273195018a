"""Fields and checks that the configuration of several things has in common."""

import re
from typing import Any

import msgspec
from rest_framework import serializers

from rest.names import NAME_LENGTH

MOST_TAGS = 100
MOST_METADATA = 16 * 1024  # bytes of JSON
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")


def printable(text: str) -> None:
    """A validator: one line that people can read. Raises ValidationError."""
    if _CONTROL.search(text):
        raise serializers.ValidationError("control characters are not accepted")


def name_field(**more: Any) -> serializers.CharField:
    """A text of one line, as it is sent."""
    validators = [printable, *more.pop("validators", ())]
    return serializers.CharField(max_length=NAME_LENGTH, trim_whitespace=False, validators=validators, **more)


class TagsField(serializers.DictField):
    """Names and values, both short texts of one line."""

    child = name_field(allow_blank=True)

    def to_internal_value(self, data: Any) -> dict[str, str]:
        found: dict[str, str] = super().to_internal_value(data)
        if len(found) > MOST_TAGS:
            raise serializers.ValidationError(f"at most {MOST_TAGS} tags are accepted")
        for tag in found:
            if not tag or len(tag) > NAME_LENGTH or not tag.isprintable() or ":" in tag:
                accepted = f"a name of 1 to {NAME_LENGTH} printable characters without a colon is accepted"
                raise serializers.ValidationError({tag[:NAME_LENGTH]: accepted})
        return found


class MetadataField(serializers.DictField):
    """Any JSON object that PostgreSQL can hold, up to a size."""

    def to_internal_value(self, data: Any) -> dict[str, Any]:
        found: dict[str, Any] = super().to_internal_value(data)
        text = msgspec.json.encode(found)
        if len(text) > MOST_METADATA:
            raise serializers.ValidationError(f"at most {MOST_METADATA:,} bytes of JSON are accepted")
        if b"\\u0000" in text:
            raise serializers.ValidationError("NUL in texts is not accepted")
        return found


class Known(serializers.Serializer[Any]):
    """Refuses fields that it does not know, each by its name."""

    def validate(self, attributes: dict[str, Any]) -> dict[str, Any]:
        unknown = sorted(set(map(str, self.initial_data)) - set(self.fields))
        if unknown:
            raise serializers.ValidationError(dict.fromkeys(unknown, "is not known"))
        return attributes
