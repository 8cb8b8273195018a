"""The form of a collector: its own fields, and those of the configuration and the secrets of its kind."""

from collections.abc import Iterable, Mapping
from typing import Any

from django import forms
from django.core.exceptions import ValidationError
from rest_framework import serializers

from dashboard.forms.fields import (
    VERBATIM,
    IntegerFormField,
    OpenChoiceFormField,
    PageForm,
    TextFormField,
    TextLinesFormField,
)
from ingest.collection.kinds.kind import Kind
from ingest.collection.models import Collector

SECRET_LABELS = {"auth_key": "Authentication password", "priv_key": "Encryption password"}
MORE = ("deadline", "jitter", "metric_prefix")  # of the details that are closed at first
CONFIGURATION, SECRETS = "configuration.", "secrets."
SECRET_PLACEHOLDER = {True: "unchanged", False: "none"}


class MappingFormField(TextFormField):
    """Texts by name, one `name: text` per line."""

    def __init__(self, label: str, help_text: str = "") -> None:
        widget = forms.Textarea({"class": "input mono", "rows": 4} | VERBATIM)
        super().__init__(label, widget=widget, help_text=help_text)

    def clean(self, value: Any) -> dict[str, str]:
        pairs: dict[str, str] = {}
        for line in filter(None, (line.strip() for line in super().clean(value).splitlines())):
            name, colon, text = line.partition(":")
            if not colon or not name.strip() or not text.strip():
                raise ValidationError(f"Enter a name, a colon and a value on each line, not “{line[:60]}”.")
            if name.strip() in pairs:
                raise ValidationError(f"{name.strip()} is there twice.")
            pairs[name.strip()] = text.strip()
        return pairs

    def prepare_value(self, value: Any) -> Any:
        return "\n".join(f"{name}: {text}" for name, text in value.items()) if isinstance(value, dict) else value


class CollectorEditForm(PageForm):
    """A collector. Stored secrets are never shown; empty inputs keep them."""

    name = TextFormField("Name")
    device_id = TextFormField(
        "Device", "input mono", help_text="Device that the points are stored for; it is created if needed.", **VERBATIM
    )
    interval = IntegerFormField("Interval (s)", inputmode="numeric")
    deadline = IntegerFormField(
        "Deadline (s)", help_text="A collection that takes longer is cut off.", inputmode="numeric"
    )
    jitter = IntegerFormField(
        "Jitter (s)",
        help_text="Starts are spread over this time. Empty: the whole interval.",
        inputmode="numeric",
    )
    metric_prefix = TextFormField(
        "Metric prefix",
        "input mono",
        help_text="Prefix of each metric name, so that two checks of a device have different metrics.",
        **VERBATIM,
    )
    enabled = forms.BooleanField(label="Enabled")

    def __init__(self, data: Any, collector: Collector, kind: Kind) -> None:
        own = ("name", "device_id", "interval", "deadline", "jitter", "metric_prefix", "enabled")
        initial = {name: getattr(collector, name) for name in own}
        configured = {CONFIGURATION + name: value for name, value in collector.configuration.items()}
        super().__init__(data, initial=initial | configured)
        self.kind = kind
        described = kind.configuration_class().fields
        for name, field in described.items():
            self._add(CONFIGURATION + name, form_field(field), kind.shown_with.get(name))
            if field.default is not serializers.empty and not callable(field.default):
                self.initial.setdefault(CONFIGURATION + name, field.default)
        for name, help_text in kind.secret_names.items():
            placeholder = SECRET_PLACEHOLDER[name in collector.secret_names]
            self._add(SECRETS + name, secret_field(name, help_text, placeholder), kind.shown_with.get(name))
        self.removable = [name for name in collector.secret_names if name in kind.secret_names]
        if self.removable:
            choices = [(name, name) for name in self.removable]
            removed = forms.MultipleChoiceField(
                label="Remove secrets", choices=choices, widget=forms.CheckboxSelectMultiple
            )
            self._add("remove_secrets", removed)

    def _add(self, name: str, field: forms.Field, shown_with: tuple[str, str] | None = None) -> None:
        field.required = False
        self.fields[name] = field
        if shown_with is not None:
            other, value = shown_with
            field.widget.attrs |= {"data-shown-with": CONFIGURATION + other, "data-shown-value": value}

    @property
    def configuration_fields(self) -> list[forms.BoundField]:
        return [self[name] for name in self.fields if name.startswith(CONFIGURATION)]

    @property
    def has_more_errors(self) -> bool:
        return any(name in self.errors for name in MORE)

    @property
    def secret_fields(self) -> list[forms.BoundField]:
        return [self[name] for name in self.fields if name.startswith(SECRETS)]

    def clean(self) -> dict[str, Any]:
        """Return the fields of the collector."""
        values = self.cleaned_data
        if self.errors:
            return values
        serializer_fields = self.kind.configuration_class().fields
        configuration = {
            name: values[CONFIGURATION + name]
            for name, field in serializer_fields.items()
            if values[CONFIGURATION + name] is not None or field.allow_null
        }
        secrets = {name: values[SECRETS + name] for name in self.kind.secret_names if values[SECRETS + name]}
        secrets |= dict.fromkeys(values.get("remove_secrets") or (), "")
        return {
            "name": values["name"].strip(),
            "kind": self.kind.name,
            "device_id": values["device_id"].strip(),
            "interval": values["interval"] or 0,
            "deadline": values["deadline"] or 0,
            "jitter": values["jitter"],
            "metric_prefix": values["metric_prefix"],
            "enabled": values["enabled"],
            "configuration": configuration,
            "secrets": secrets,
        }

    def add_errors(self, errors: Iterable[tuple[str, str]]) -> None:
        """Show the error of a part of a field, such as `configuration.paths.x`, at the field."""
        at_fields = []
        for path, detail in errors:
            field = next((name for name in self.fields if path == name or path.startswith(f"{name}.")), path)
            inner = path[len(field) + 1 :]
            at_fields.append((field, f"{inner}: {detail}" if inner else detail))
        super().add_errors(at_fields)


def form_field(field: serializers.Field[Any, Any, Any, Any]) -> forms.Field:
    """Return the form field of a configuration field."""
    label, help_text = str(field.label or field.field_name), str(field.help_text or "").replace("`", "")
    if help_text.rstrip(".").lower() == label.lower():
        help_text = ""
    if isinstance(field, serializers.BooleanField):
        return forms.BooleanField(label=label, help_text=help_text)
    if isinstance(field, serializers.ChoiceField):
        return OpenChoiceFormField(label, list(field.choices.items()), help_text=help_text)
    if isinstance(field, serializers.IntegerField):
        return IntegerFormField(label, help_text=help_text, inputmode="numeric")
    if isinstance(field, serializers.DictField):
        return MappingFormField(label, help_text)
    if isinstance(field, serializers.ListField):
        lines = TextLinesFormField(label)
        lines.help_text = f"{help_text} One per line."
        return lines
    return TextFormField(label, "input mono", help_text=help_text, **VERBATIM)


def secret_field(name: str, help_text: str, placeholder: str) -> forms.Field:
    attributes: Mapping[str, Any] = {
        "class": "input mono", "autocomplete": "new-password", "placeholder": placeholder,
    }  # fmt: skip
    label = SECRET_LABELS.get(name, name.replace("_", " ").capitalize())
    return TextFormField(label, widget=forms.PasswordInput(dict(attributes)), help_text=help_text.replace("`", ""))
