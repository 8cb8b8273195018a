"""What the lists of this app have in common: what they are chosen by, and how they tell of it."""

from typing import Any

from rest_framework import serializers
from rest_framework.request import Request

from alerts.models import Level
from metrics.api.answers import Page
from metrics.api.fields import NamesField
from rest.pagination import PageParameters

COUNTED = 10_000  # where `total` stops


class ChoicesField(NamesField):
    """Some of a few words, with commas between, once or several times; in JSON a list of them."""

    def __init__(self, choices: list[str], **more: Any) -> None:
        super().__init__(**more)
        self.choices = choices

    def to_internal_value(self, data: Any) -> tuple[str, ...]:
        words = super().to_internal_value(data)
        if unknown := [word for word in words if word not in self.choices]:
            raise serializers.ValidationError(
                f"{unknown[0]!r:.60} is not known; {', '.join(self.choices)} are accepted"
            )
        return words


def maybe(told: str) -> Any:
    """A truth value that need not be asked for."""
    return serializers.BooleanField(allow_null=True, default=None, help_text=told)


def levels(told: str = "Of these levels.") -> Any:
    return ChoicesField(Level.values, required=False, help_text=told)


def text(told: str, **more: Any) -> Any:
    return serializers.CharField(required=False, max_length=400, trim_whitespace=False, help_text=told, **more)


class Filtered(Page):
    filters = serializers.DictField(child=serializers.CharField(), help_text="What was asked for.")


def asked(given: serializers.Serializer[Any]) -> dict[str, Any]:
    """What a list is to be chosen by: each filter that was given a value."""
    given.is_valid(raise_exception=True)
    return {
        name: value
        for name, value in given.validated_data.items()
        if name not in PageParameters().fields and value is not None
    }


def told(request: Request, filters: dict[str, Any]) -> dict[str, str]:
    """The filters of a list, as they were asked for."""
    return {name: ",".join(request.query_params.getlist(name)) for name in filters if name in request.query_params}
