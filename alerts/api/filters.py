"""Filters of the lists of alerting."""

from typing import Any

import django_filters
from rest_framework import serializers

from metrics.api.fields import NamesField

EXACT_TEXT: dict[str, Any] = {"max_length": 400, "trim_whitespace": False}


class ChoicesField(NamesField):
    """Some of a few words: comma-separated or repeated in the query string, a list in JSON."""

    def __init__(self, choices: list[str], **options: Any) -> None:
        super().__init__(**options)
        self.choices = choices

    def to_internal_value(self, data: Any) -> tuple[str, ...]:
        words = super().to_internal_value(data)
        if unknown := [word for word in words if word not in self.choices]:
            raise serializers.ValidationError(
                f"{unknown[0]!r:.60} is not known; {', '.join(self.choices)} are accepted"
            )
        return words


class ChoicesFilter(django_filters.Filter):
    field_class = ChoicesField

    def __init__(self, choices: list[str], **options: Any) -> None:
        super().__init__(lookup_expr="in", choices=choices, **options)
