"""Filters of lists: one serializer validates them, applies them to the rows and describes them in OpenAPI."""

import operator
from collections.abc import Mapping
from functools import reduce
from typing import Any, ClassVar

from django.db.models import Q, QuerySet
from rest_framework import serializers

from rest.pagination import PageQuerySerializer


def text_filter(help_text: str, **options: Any) -> Any:
    options = {"max_length": 400, "trim_whitespace": False} | options
    return serializers.CharField(required=False, help_text=help_text, **options)


def boolean_filter(help_text: str) -> Any:
    return serializers.BooleanField(allow_null=True, default=None, help_text=help_text)


class FilterSerializer(serializers.Serializer[Any]):
    """Filters of a list, from the query string or from a JSON object.

    A field filters with its method `filter_<field>(queryset, value)`, else with its lookup in `lookups`, else with the
    model field of the same name. `search` matches any of `search_lookups`. The parameters in `options` do not filter.
    """

    lookups: ClassVar[Mapping[str, str]] = {}
    search_lookups: ClassVar[tuple[str, ...]] = ()
    options: ClassVar[tuple[str, ...]] = ()

    def filter_names(self) -> list[str]:
        parameters = {*self.options, *PageQuerySerializer().fields.keys()}
        return [name for name, _ in self.fields.items() if name not in parameters]

    def filter_values(self) -> dict[str, Any]:
        """Return the validated filters that have a value."""
        fields = self.validated_data
        return {name: fields[name] for name in self.filter_names() if fields.get(name) is not None}

    def filter_queryset(self, queryset: QuerySet[Any], values: Mapping[str, Any]) -> QuerySet[Any]:
        for name, value in values.items():
            if method := getattr(self, f"filter_{name}", None):
                queryset = method(queryset, value)
            else:
                queryset = queryset.filter(**{self.lookups.get(name, name): value})
        return queryset

    def filter_search(self, queryset: QuerySet[Any], words: str) -> QuerySet[Any]:
        return queryset.filter(reduce(operator.or_, (Q(**{lookup: words}) for lookup in self.search_lookups)))
