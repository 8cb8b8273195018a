"""Base classes of alerting forms, which use the same validation as the API."""

from typing import Any

from django import forms
from django.contrib import admin
from django.contrib.postgres.fields import ArrayField
from django.contrib.postgres.forms import SimpleArrayField
from django.db import models

from alerts.models import Level
from rest.errors import InvalidFields


class ValidatedModelForm(forms.ModelForm):
    """Form whose `check` validates the instance and reports errors by field."""

    def check(self) -> None:
        """Validate the instance. Raises InvalidFields."""
        raise NotImplementedError

    def _post_clean(self) -> None:
        super()._post_clean()  # type: ignore[misc]
        if self.errors:
            return
        try:
            self.check()
        except InvalidFields as error:
            for name, detail in error.fields:
                field = name.partition(".")[0].partition("[")[0]
                self.add_error(
                    field if field in self.fields else None, detail if field == name else f"{name}: {detail}"
                )


class ArrayFieldAdmin(admin.ModelAdmin):
    """Admin with array fields as text areas, one name per line, and levels as checkboxes."""

    show_full_result_count = False
    list_per_page = 50

    def formfield_for_dbfield(self, db_field: "models.Field[Any, Any]", request: Any, **more: Any) -> Any:
        if not isinstance(db_field, ArrayField):
            return super().formfield_for_dbfield(db_field, request, **more)
        if db_field.base_field.choices:
            checkboxes = forms.CheckboxSelectMultiple
            return forms.MultipleChoiceField(choices=Level.choices, required=False, widget=checkboxes)
        base_field = db_field.base_field.formfield()
        assert base_field is not None
        textarea = forms.Textarea(attrs={"rows": 3})
        help_text = f"{db_field.help_text} One per line.".strip()
        return SimpleArrayField(base_field, delimiter="\n", required=False, widget=textarea, help_text=help_text)


def copy_saved_values(instance: models.Model, saved: models.Model) -> None:
    """Copy the saved values to the instance of the form, which the admin continues with."""
    for field in saved._meta.concrete_fields:
        setattr(instance, field.attname, getattr(saved, field.attname))
    instance._state.adding = False
    instance._state.db = saved._state.db
