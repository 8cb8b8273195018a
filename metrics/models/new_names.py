"""Validation of new names in the forms of the admin site; the API validates them in its serializers."""

from collections.abc import Callable
from typing import Any

from django.core.exceptions import ValidationError
from django.db import models


def validate_new_names(row: models.Model, **rules: Callable[[str], str | None]) -> None:
    """Raise ValidationError for fields of a row whose new name is not accepted; a stored name may stay."""
    stored: dict[str, Any] = type(row)._default_manager.filter(pk=row.pk).values(*rules).first() or {}
    names = {field: getattr(row, field) for field in rules}
    errors = {
        field: error
        for field, name in names.items()
        if name != stored.get(field) and (error := rules[field](name)) is not None
    }
    if errors:
        raise ValidationError(errors)
