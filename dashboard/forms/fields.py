"""Form fields that several pages use."""

import math
from collections.abc import Callable, Iterable
from typing import Any, TypeVar

from django import forms
from django.core.exceptions import ValidationError
from django.core.validators import MaxLengthValidator
from django.db.models import QuerySet
from django.http import HttpRequest, QueryDict
from django.utils.timezone import get_current_timezone_name

from dashboard.rule_words import WEEKDAYS
from rest.errors import InvalidFields

MAX_TEXT_LENGTH = 20_000
MAX_CHOICES = 200
DURATION_UNITS = ((1, "s"), (60, "min"), (3600, "h"), (86_400, "d"))
# Attributes of inputs in which spelling and capital letters matter.
VERBATIM = {"autocapitalize": "none", "spellcheck": "false"}

Saved = TypeVar("Saved")


def text_input(css_class: str = "input", **attributes: Any) -> forms.TextInput:
    """Return a text input without suggestions of the browser."""
    named = {name.replace("_", "-"): value for name, value in attributes.items()}
    return forms.TextInput({"class": css_class, "autocomplete": "off"} | named)


def posted(request: HttpRequest) -> QueryDict | None:
    """Return the submitted form; None where the page is only read."""
    return request.POST if request.method == "POST" else None


def names_of(rows: QuerySet[Any]) -> list[str]:
    """Return the names to choose from in a form."""
    return list(rows.order_by("name").values_list("name", flat=True)[:MAX_CHOICES])


def parse_number(text: str) -> int | float:
    """Return the number that a text is, with a comma or a point before the decimals. Raises ValidationError."""
    try:
        value = float(text.replace(",", ".").replace("\N{MINUS SIGN}", "-"))
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise ValidationError("Enter a number.")
    return int(value) if value.is_integer() and abs(value) < 1e15 else value


class PageForm(forms.Form):
    """A form of a page; the alerting functions that save its values check them, and so no field is required here."""

    def __init__(self, data: QueryDict | dict[str, Any] | None = None, **options: Any) -> None:
        super().__init__(data, **{"auto_id": "%s", "label_suffix": ""} | options)
        for field in self.fields.values():
            field.required = False

    def save(self, save: Callable[[dict[str, Any]], Saved]) -> Saved | None:
        """Return the result of a function that saves the values; None where a value is invalid."""
        if self.is_valid():
            try:
                return save(self.cleaned_data)
            except InvalidFields as error:
                self.add_errors(error.fields)
        return None

    def add_errors(self, errors: Iterable[tuple[str, str]]) -> None:
        """Show (field, detail) pairs at their fields, and those of other fields above the form."""
        for name, detail in errors:
            if name in self.fields:
                self.add_error(name, detail)
            else:
                self.add_error(None, f"{name}: {detail}")

    def offer(self, name: str, choices: Iterable[str | tuple[str, str]]) -> None:
        """Set the names or (value, label) pairs to choose from; values that are selected already stay selectable."""
        field, selected = self.fields[name], self[name].value() or ()
        assert isinstance(field, forms.ChoiceField)
        offered = dict((choice, choice) if isinstance(choice, str) else choice for choice in choices)
        for value in [selected] if isinstance(selected, str) else selected:
            offered.setdefault(value, value)
        field.choices = list(offered.items())


class TextFormField(forms.CharField):
    """A text that may be empty; further options are attributes of its input."""

    # Not max_length: with this attribute, browsers cut longer texts silently.
    default_validators = [MaxLengthValidator(MAX_TEXT_LENGTH)]

    def __init__(
        self,
        label: str = "",
        css_class: str = "input",
        *,
        widget: Any = None,
        help_text: str = "",
        initial: Any = None,
        **attributes: Any,
    ) -> None:
        widget = widget or text_input(css_class, **attributes)
        super().__init__(label=label, widget=widget, help_text=help_text, initial=initial)


class IntegerFormField(TextFormField):
    """A whole number, or None."""

    def clean(self, value: Any) -> int | None:
        return forms.IntegerField(required=False).clean(super().clean(value))


class NumberFormField(TextFormField):
    """A number, or None."""

    def clean(self, value: Any) -> int | float | None:
        text = super().clean(value)
        return parse_number(text) if text else None

    def prepare_value(self, value: Any) -> Any:
        return parse_number(str(value)) if isinstance(value, float) else value


class ThresholdFormField(TextFormField):
    """A truth value, a number or a text; None where the input is empty."""

    def clean(self, value: Any) -> Any:
        text = super().clean(value)
        if text in ("true", "false"):
            return text == "true"
        try:
            return parse_number(text)
        except ValidationError:
            return text or None

    def prepare_value(self, value: Any) -> Any:
        return str(value).lower() if isinstance(value, bool) else value


class TextLinesFormField(TextFormField):
    """Names, one per line."""

    def __init__(self, label: str, css_class: str = "input mono", **attributes: Any) -> None:
        super().__init__(label, widget=forms.Textarea({"class": css_class, "rows": 2} | VERBATIM | attributes))

    def clean(self, value: Any) -> list[str]:
        lines = (line.strip() for line in super().clean(value).splitlines())
        return list(dict.fromkeys(line for line in lines if line))

    def prepare_value(self, value: Any) -> Any:
        return "\n".join(value) if isinstance(value, list) else value


class OpenChoices:
    """Accepts other values than the offered ones: a rule may name a channel that does not exist yet."""

    def valid_value(self, value: str) -> bool:
        return "\0" not in value


class OpenChoiceFormField(OpenChoices, forms.ChoiceField):
    """A value of a select without visible label."""

    def __init__(self, label: str, choices: Iterable[tuple[Any, str]] = (), **options: Any) -> None:
        attributes = {"class": "select", "aria-label": label}
        super().__init__(label=label, choices=choices, widget=forms.Select(attributes), **options)


class NamesFormField(OpenChoices, forms.MultipleChoiceField):
    """Names chosen with checkboxes."""

    widget = forms.CheckboxSelectMultiple


class DurationWidget(forms.MultiWidget):
    """A number and its unit, posted as `name` and `name_unit`."""

    def __init__(self, label: str = "", placeholder: str | bool = False) -> None:
        number = text_input("input tiny", inputmode="decimal", aria_label=label, placeholder=placeholder)
        unit = forms.Select({"class": "select", "aria-label": f"Unit of {label.lower()}"}, DURATION_UNITS)
        super().__init__({"": number, "unit": unit})

    def decompress(self, value: Any) -> list[Any]:
        """Split seconds into a number and the largest unit that gives a whole number."""
        if not isinstance(value, int | float):
            return ["", 60]
        unit = next((unit for unit, _ in reversed(DURATION_UNITS) if value and value % unit == 0), 1)
        return [parse_number(str(value / unit)), unit]

    def get_context(self, name: str, value: Any, attrs: dict[str, Any] | None) -> dict[str, Any]:
        """Mark the number alone as invalid."""
        context: dict[str, Any] = super().get_context(name, value, attrs)
        context["widget"]["subwidgets"][1]["attrs"].pop("aria-invalid", None)
        return context


class DurationFormField(forms.MultiValueField):
    """A duration in seconds, or None."""

    def __init__(self, label: str, placeholder: str | bool = False) -> None:
        unit = forms.TypedChoiceField(choices=DURATION_UNITS, coerce=int, empty_value=None)
        super().__init__((NumberFormField(), unit), label=label, widget=DurationWidget(label, placeholder))

    def compress(self, data_list: Any) -> int | float | None:
        if not data_list or data_list[0] is None:
            return None
        seconds = data_list[0] * (data_list[1] or 1)
        return int(seconds) if float(seconds).is_integer() else seconds


class WeeklyWidget(forms.Widget):
    """Days and times of a recurring window, posted as `days`, `from`, `to` and `timezone`."""

    def value_from_datadict(self, data: Any, files: Any, name: str) -> dict[str, Any]:
        times = {part: data.get(part, "").strip() for part in ("from", "to", "timezone")}
        return {"days": data.getlist("days")} | times


class WeeklyFormField(forms.Field):
    """A recurring window as alerts.recurring_windows takes it; None where no day is chosen."""

    widget = WeeklyWidget
    weekdays = tuple((str(number), label) for number, label in enumerate(WEEKDAYS))

    def to_python(self, value: Any) -> dict[str, Any] | None:
        if not value or not value["days"]:
            return None
        days = [int(day) for day in value["days"] if day in dict(self.weekdays)]
        return value | {"days": days, "timezone": value["timezone"] or get_current_timezone_name()}

    def prepare_value(self, value: Any) -> dict[str, Any]:
        return value | {"days": [str(day) for day in value["days"]]} if value else {"days": []}
