"""Forms of what is set up, held to the same checks as requests of the API."""

from typing import Any

from django import forms
from django.contrib import admin
from django.contrib.postgres.fields import ArrayField
from django.contrib.postgres.forms import SimpleArrayField
from django.db import models

from alerts.models import Level
from rest.errors import InvalidFields


class CheckedForm(forms.ModelForm):
    """`check` says what is wrong with the row that the form has made, by field."""

    def check(self) -> None:
        """Raises InvalidFields."""
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


class ListsAdmin(admin.ModelAdmin):
    """Lists of names are written one to a line, since a name may hold anything else; levels are ticked."""

    show_full_result_count = False
    list_per_page = 50

    def formfield_for_dbfield(self, db_field: "models.Field[Any, Any]", request: Any, **more: Any) -> Any:
        if not isinstance(db_field, ArrayField):
            return super().formfield_for_dbfield(db_field, request, **more)
        if db_field.base_field.choices:
            ticks = forms.CheckboxSelectMultiple
            return forms.MultipleChoiceField(choices=Level.choices, required=False, widget=ticks)
        one = db_field.base_field.formfield()
        assert one is not None
        lines = forms.Textarea(attrs={"rows": 3})
        told = f"{db_field.help_text} One to a line.".strip()
        return SimpleArrayField(one, delimiter="\n", required=False, widget=lines, help_text=told)


def taken_over(row: models.Model, saved: models.Model) -> None:
    """Have the row of a form be what was saved in its name, which the admin goes on with."""
    for field in saved._meta.concrete_fields:
        setattr(row, field.attname, getattr(saved, field.attname))
    row._state.adding = False
    row._state.db = saved._state.db
