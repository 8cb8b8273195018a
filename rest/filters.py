"""Filters of lists with django-filter, which validates them with serializer fields instead of form fields.

So filters accept the same values in the query string and in JSON, with the errors of bodies, and drf-spectacular
describes them as OpenAPI parameters.
"""

import operator
from datetime import UTC
from functools import reduce
from typing import Any

import django_filters
from django.db.models import Q, QuerySet
from rest_framework import serializers

from rest.fields import BooleanField, ChoiceField


class TextFilter(django_filters.Filter):
    field_class = serializers.CharField


class BooleanFilter(django_filters.Filter):
    field_class = BooleanField

    def __init__(self, *lookup: str, **options: Any) -> None:
        super().__init__(
            *lookup, **(options if "default" in options else {"default": None, "allow_null": True} | options)
        )


class ChoiceFilter(django_filters.Filter):
    field_class = ChoiceField


class TimeFilter(django_filters.Filter):
    field_class = serializers.DateTimeField

    def __init__(self, *lookup: str, **options: Any) -> None:
        super().__init__(*lookup, default_timezone=UTC, **options)


class SearchFilter(TextFilter):
    """Text that any of several lookups matches."""

    def __init__(self, *lookups: str, **options: Any) -> None:
        super().__init__(**options)
        self.lookups = lookups

    def filter(self, queryset: QuerySet[Any], text: str) -> QuerySet[Any]:
        return queryset.filter(reduce(operator.or_, (Q(**{lookup: text}) for lookup in self.lookups)))


class FilterForm(serializers.Serializer[Any]):
    """The fields of a FilterSet, in place of a form."""

    @property
    def cleaned_data(self) -> dict[str, Any]:
        """Return the filters that have a value."""
        return {name: value for name, value in self.validated_data.items() if value is not None}


class FilterSet(django_filters.FilterSet):
    """Filters of a list; the base of the filters of each resource."""

    class Meta:
        form = FilterForm

    @classmethod
    def get_form_class(cls) -> type[FilterForm]:
        """Return the serializer of the filters, which also describes them in OpenAPI."""
        fields = {name: filter_.field for name, filter_ in cls.base_filters.items()}
        return type(f"{cls.__name__}Form", (cls._meta.form,), fields)

    @property
    def form(self) -> FilterForm:
        if not hasattr(self, "_form"):
            self._form = self.get_form_class()(data=self.data)
            self._form.is_valid()
        return self._form
