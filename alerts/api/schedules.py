"""Fields that silences, channels and routes have in common."""

from typing import Any

from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers

from rest.configuration import MetadataField, name_field

MOST_NAMES = 1000


def names_of(told: str, most: int = MOST_NAMES) -> Any:
    return serializers.ListField(child=name_field(), max_length=most, required=False, help_text=told)


@extend_schema_field(
    {
        "type": "object",
        "properties": {
            "days": {
                "type": "array",
                "items": {"type": "integer", "minimum": 0, "maximum": 6},
                "description": "On which it begins; 0 is Monday.",
            },
            "from": {"type": "string", "description": "Time of day, such as 22:00."},
            "to": {"type": "string", "description": "Time of day; of the next one where it is not after `from`."},
            "timezone": {"type": "string", "description": "IANA name; UTC where it is left out."},
        },
    }
)
class WeeklyField(MetadataField):
    """Times of the week; what may stand in it is said by alerts.recurring_windows."""

    def to_internal_value(self, data: Any) -> dict[str, Any]:
        found = super().to_internal_value(data)
        if not isinstance(found.get("timezone", ""), str):
            raise serializers.ValidationError({"timezone": "a text is accepted"})
        return found
