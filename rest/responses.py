"""Response bodies that all resources share, for the API description; nothing is written through them."""

from typing import Any

from drf_spectacular.utils import extend_schema_serializer
from rest_framework import serializers


class ResponseSerializer(serializers.Serializer[Any]):
    """Description of a response body that no serializer writes."""


class PageSerializer(ResponseSerializer):
    count = serializers.IntegerField(help_text="Rows in this response.")
    next_cursor = serializers.CharField(allow_null=True, help_text="`cursor` of the next page; null on the last one.")
    total = serializers.IntegerField(help_text="Rows that match the filters.")
    limit = serializers.IntegerField(help_text="Maximum number of rows, as requested.")
    offset = serializers.IntegerField(help_text="Number of rows skipped, as requested.")


@extend_schema_serializer(component_name="Done")
class SuccessSerializer(ResponseSerializer):
    success = serializers.BooleanField(help_text="Always true.")
    message = serializers.CharField(help_text="Summary of the change.")


def page_example(rows_field: str, row: Any, **more: Any) -> dict[str, Any]:
    """Return an example of a page with one row."""
    return {rows_field: [row], "count": 1, "total": 1, "limit": 100, "offset": 0, "next_cursor": None} | more
