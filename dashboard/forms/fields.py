"""Form fields that several pages use."""

import math
from collections.abc import Iterable, Sequence
from typing import Any

from django import forms
from django.core.exceptions import ValidationError
from django.http import QueryDict

MAX_TEXT_LENGTH = 20_000
DURATION_UNITS = ((1, "s"), (60, "min"), (3600, "h"), (86_400, "d"))
WEEKDAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
# Attributes of inputs in which spelling and capital letters matter.
VERBATIM = {"autocapitalize": "none", "spellcheck": "false"}


def text_input(css_class: str = "input", **attributes: str) -> forms.TextInput:
    """Return a text input without suggestions of the browser."""
    return forms.TextInput({"class": css_class, "autocomplete": "off"} | attributes)


def select(label: str, choices: Iterable[tuple[Any, Any]] = ()) -> forms.Select:
    """Return a select that has no visible label."""
    return forms.Select({"class": "select", "aria-label": label}, list(choices))


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
    """A form of a page; the alerting functions that save its values check them."""

    def __init__(self, data: QueryDict | dict[str, Any] | None = None, **options: Any) -> None:
        super().__init__(data, auto_id=options.pop("auto_id", "%s"), label_suffix="", **options)

    def add_errors(self, errors: Iterable[tuple[str, str]]) -> None:
        """Show (field, detail) pairs at their fields, and those of other fields above the form."""
        for name, detail in errors:
            if name in self.fields:
                self.add_error(name, detail)
            else:
                self.add_error(None, f"{name}: {detail}")

    def offer(self, name: str, choices: Iterable[tuple[str, str]]) -> None:
        """Set the choices of a field of names; names that are selected already stay selectable."""
        field = self.fields[name]
        assert isinstance(field, NamesFormField)
        offered = list(choices)
        listed = {value for value, _ in offered}
        unlisted = [value for value in self[name].value() or () if value not in listed]
        field.choices = [*offered, *((value, value) for value in unlisted)]


class TextFormField(forms.CharField):
    """A text that may be empty."""

    def __init__(self, **options: Any) -> None:
        options = {"widget": text_input()} | options
        super().__init__(required=False, max_length=MAX_TEXT_LENGTH, **options)

    def widget_attrs(self, widget: forms.Widget) -> dict[str, Any]:
        """Leave out maxlength: the browser would cut texts silently."""
        return {}


class NumberFormField(forms.Field):
    """A number, or None."""

    def __init__(self, **options: Any) -> None:
        options = {"widget": text_input(inputmode="decimal")} | options
        super().__init__(required=False, **options)

    def to_python(self, value: Any) -> int | float | None:
        text = str(value or "").strip()
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

    def __init__(self, rows: int = 2, **options: Any) -> None:
        attributes = {"class": "input mono", "rows": str(rows)} | VERBATIM
        super().__init__(widget=forms.Textarea(attributes | options.pop("attributes", {})), **options)

    def clean(self, value: Any) -> list[str]:
        lines = (line.strip() for line in super().clean(value).splitlines())
        return list(dict.fromkeys(line for line in lines if line))

    def prepare_value(self, value: Any) -> Any:
        return "\n".join(value) if isinstance(value, list) else value


class ChipsInput(forms.CheckboxSelectMultiple):
    """Checkboxes shown as chips; those of `unconfigured` names are marked."""

    unconfigured: Sequence[str] = ()

    def create_option(self, name: str, value: Any, *args: Any, **options: Any) -> dict[str, Any]:
        option: dict[str, Any] = super().create_option(name, value, *args, **options)
        if value in self.unconfigured:
            option["attrs"]["data-unconfigured"] = True
        return option


class NamesFormField(forms.MultipleChoiceField):
    """Names chosen with checkboxes. Unlisted names are valid: a rule may name a channel that does not exist yet."""

    widget = ChipsInput

    def __init__(self, **options: Any) -> None:
        super().__init__(required=False, **options)

    def valid_value(self, value: str) -> bool:
        return "\0" not in value


class DurationWidget(forms.MultiWidget):
    """A number and its unit, posted as `name` and `name_unit`."""

    def __init__(self, label: str, placeholder: str = "") -> None:
        attributes = {"inputmode": "decimal", "aria-label": label, "placeholder": placeholder}
        number = text_input("input tiny", **{name: text for name, text in attributes.items() if text})
        super().__init__({"": number, "unit": select(f"Unit of {label.lower()}", DURATION_UNITS)})

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

    def __init__(self, label: str, placeholder: str = "", **options: Any) -> None:
        unit = forms.TypedChoiceField(choices=DURATION_UNITS, coerce=int, empty_value=None, required=False)
        super().__init__(
            (NumberFormField(), unit),
            label=label,
            widget=DurationWidget(label, placeholder),
            required=False,
            require_all_fields=False,
            **options,
        )

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

    def __init__(self, **options: Any) -> None:
        super().__init__(required=False, **options)

    def to_python(self, value: Any) -> dict[str, Any] | None:
        if not value or not value["days"]:
            return None
        days = [int(day) for day in value["days"] if day in dict(self.weekdays)]
        return value | {"days": days, "timezone": value["timezone"] or "UTC"}

    def prepare_value(self, value: Any) -> dict[str, Any]:
        return value | {"days": [str(day) for day in value["days"]]} if value else {"days": []}
