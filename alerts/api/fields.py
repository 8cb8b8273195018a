"""Serializer fields that silences and routes share."""

from typing import Any

from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers

from alerts.models import Level
from rest.fields import ChoiceField, MetadataField

MAX_NAMES = 1000


def levels_field(help_text: str) -> Any:
    return serializers.ListField(
        child=ChoiceField(Level.choices), max_length=len(Level), required=False, help_text=help_text
    )


@extend_schema_field(
    {
        "type": "object",
        "properties": {
            "days": {
                "type": "array",
                "items": {"type": "integer", "minimum": 0, "maximum": 6},
                "description": "Weekdays on which the window starts; 0 is Monday.",
            },
            "from": {"type": "string", "description": "Start, as time of day: `22:00`."},
            "to": {"type": "string", "description": "End, as time of day; on the next day unless later than `from`."},
            "timezone": {"type": "string", "description": "IANA time zone; UTC by default."},
        },
    }
)
class WeeklyField(MetadataField):
    """A recurring window. `alerts.recurring_windows` validates its contents."""

    def to_internal_value(self, data: Any) -> dict[str, Any]:
        window = super().to_internal_value(data)
        if not isinstance(window.get("timezone", ""), str):
            raise serializers.ValidationError({"timezone": "must be a text"})
        return window
