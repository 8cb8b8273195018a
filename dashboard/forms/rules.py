"""The form of a rule. The API's serializer and the rule's own checks validate it."""

import re
from collections.abc import Iterator
from typing import Any

from django import forms
from django.http import QueryDict

from alerts.api.rule_serializers import RuleSerializer, complete_document, first_metric
from alerts.models import Kind, Rule
from alerts.rules.lifecycle import FIELDS, document_of, validate
from dashboard import rule_choices
from dashboard.forms.conditions import (
    BLANK,
    ConditionForm,
    ConditionsFormField,
    condition_texts,
    documents_of,
    with_blank_rows,
)
from dashboard.forms.fields import (
    VERBATIM,
    ChipsInput,
    DurationFormField,
    NamesFormField,
    NumberFormField,
    PageForm,
    TextFormField,
    TextLinesFormField,
    ThresholdFormField,
    select,
    text_input,
)
from rest.errors import InvalidFields

# Parameters that the form has an input for, by kind of rule.
PARAMETERS = {
    Kind.TREND: ("measure",),
    Kind.FORECAST: ("horizon",),
    Kind.ABSENCE: ("expected_interval", "grace"),
}
# Fields without an input for this kind of rule: they keep their saved value.
UNUSED: dict[str, tuple[str, ...]] = {
    Kind.TREND: ("aggregation",),
    Kind.FORECAST: ("aggregation",),
    Kind.ANOMALY: ("aggregation", "threshold_value", "clear_threshold"),
    Kind.ABSENCE: ("aggregation", "threshold_value", "clear_threshold"),
    Kind.COMPOSITE: ("aggregation", "threshold_value", "clear_threshold"),
}
NULLABLE = ("clear_threshold", "auto_resolve_timeout", "threshold_value")
CONDITION_FIELD = re.compile(r"conditions\[(\d+)\]\.(?:parameters\.)?(\w+)")

Errors = dict[str, list[str]]


def _labelled(label: str, css_class: str = "input tiny", **attributes: str) -> forms.TextInput:
    """Return an input of the sentence, which has no visible label."""
    return text_input(css_class, **{"aria-label": label}, **attributes)


class RuleEditForm(PageForm):
    """A rule, with a ConditionForm for each condition of a composite rule."""

    name = TextFormField(label="Name", widget=text_input(placeholder="Name of the rule"))
    kind = TextFormField(label="Kind", widget=forms.RadioSelect(choices=rule_choices.KINDS))
    aggregation = TextFormField(label="Aggregation", widget=select("Aggregation"))
    measure = TextFormField(
        label="Trend measure", widget=select("Trend measure", rule_choices.MEASURES), initial="slope"
    )
    metric_name = TextFormField(
        label="Metric",
        widget=_labelled("Metric", "input name", list="metric-names", placeholder="metric", **VERBATIM),
    )
    condition = TextFormField(label="Comparison", widget=select("Comparison", rule_choices.COMPARISONS))
    threshold_value = ThresholdFormField(
        label="Threshold", widget=_labelled("Threshold", "input limit", placeholder="value")
    )
    horizon = DurationFormField("Forecast horizon")
    expected_interval = DurationFormField("Expected interval", placeholder="auto")
    grace = DurationFormField("Grace period", placeholder="2 s")
    operator = TextFormField(widget=select("Operator"))
    conditions = ConditionsFormField(label="Conditions")
    trigger_count = forms.IntegerField(
        required=False, label="Trigger count", widget=_labelled("Trigger count", inputmode="numeric")
    )
    evaluation_window = DurationFormField("Evaluation window")
    level = TextFormField(
        label="Level", widget=select("Level", [(level, label.lower()) for level, label in rule_choices.LEVELS])
    )
    device_groups = NamesFormField(label="Groups")
    device_ids = TextLinesFormField(label="Devices", attributes={"placeholder": "One device ID per line"})
    clear_threshold = NumberFormField(
        label="Recovery threshold", widget=text_input(inputmode="decimal", placeholder="same as the threshold")
    )
    cooldown_minutes = forms.IntegerField(
        required=False, label="Cooldown (minutes)", widget=text_input(inputmode="numeric")
    )
    auto_resolve = forms.BooleanField(required=False, label="Resolve automatically")
    auto_resolve_timeout = DurationFormField("Auto-resolve after", placeholder="never")
    notification_channels = NamesFormField(label="Notify")
    runbook_url = TextFormField(
        label="Runbook", widget=text_input(inputmode="url", placeholder="https://…", **VERBATIM)
    )
    description = TextFormField(
        label="Message",
        widget=forms.Textarea(
            {"class": "input", "rows": "2", "placeholder": "{device}, {metric} and {value} are filled in"}
        ),
    )
    version = TextFormField()

    rule_fields: dict[str, Any] | None = None  # all fields of the valid rule

    def __init__(
        self,
        data: QueryDict | None,
        rule: Rule,
        initial: dict[str, Any] | None = None,
        groups: list[str] | None = None,
        channels: list[str] | None = None,
    ) -> None:
        document = document_of(rule)
        conditions = [condition_texts(condition) for condition in _conditions_of(rule)]
        super().__init__(data, initial=document | rule.parameters | {"conditions": conditions} | (initial or {}))
        self.rule = rule
        self.condition_forms = [ConditionForm(texts) for texts in self["conditions"].value()]
        self._set_choices(groups or [], channels or [])

    def _set_choices(self, groups: list[str], channels: list[str]) -> None:
        operator = self["operator"].value()
        choices = {
            "aggregation": rule_choices.aggregation_choices(self["aggregation"].value()),
            # A rule without an operator keeps it unset; the default is "and".
            "operator": [("and" if operator else "", "all conditions are met"), ("or", "any condition is met")],
        }
        for name, pairs in choices.items():
            widget = self.fields[name].widget
            assert isinstance(widget, forms.Select)
            widget.choices = pairs
        self.offer("device_groups", [(name, name) for name in groups])
        selected = self["notification_channels"].value() or []
        unconfigured = [name for name in selected if name not in channels]
        self.offer(
            "notification_channels",
            [*((name, name) for name in channels), *((name, f"{name} (not configured)") for name in unconfigured)],
        )
        chips = self.fields["notification_channels"].widget
        assert isinstance(chips, ChipsInput)
        chips.unconfigured = unconfigured

    @property
    def condition_rows(self) -> list[ConditionForm]:
        return with_blank_rows(self.condition_forms)

    @property
    def blank_condition(self) -> ConditionForm:
        return ConditionForm(BLANK)

    def clean(self) -> dict[str, Any]:
        """Validate the rule as the API does, and place every error at its input."""
        fields, errors = _validate(self._document())
        for name, details in errors.items():
            self._add_field_error(name, details)
        if not self.error_lists():
            self.rule_fields = fields
        return self.cleaned_data

    def is_valid(self) -> bool:
        return super().is_valid() and self.rule_fields is not None

    def error_lists(self) -> Errors:
        """Return all errors by the names of the API's fields."""
        lists = {name: [str(detail) for detail in details] for name, details in self.errors.items()}
        if self.cleaned_data.get("kind") == Kind.COMPOSITE:
            for number, form in enumerate(self.condition_forms):
                for name, details in form.errors.items():
                    lists[f"conditions[{number}].{name}"] = [str(detail) for detail in details]
        return lists

    def _document(self) -> dict[str, Any]:
        """Return the fields of the API: of those with an input, the ones of the kind of rule."""
        values = self.cleaned_data
        kind = values.get("kind", "")
        document = {name: values[name] for name in FIELDS if name in values}
        document["description"] = values.get("description", "").replace("\r\n", "\n")
        saved = self.rule if self.rule.kind == kind else Rule()
        document |= {name: getattr(saved, name) for name in UNUSED.get(kind, ())}
        parameters = {name: values.get(name) for name in PARAMETERS.get(kind, ())}
        document["parameters"] = {name: value for name, value in parameters.items() if value is not None}
        if kind == Kind.COMPOSITE:
            document |= self._composite(saved)
        return {name: value for name, value in document.items() if value is not None or name in NULLABLE}

    def _composite(self, saved: Rule) -> dict[str, Any]:
        """Return the conditions, and the metric that the rule is listed under: of the first one, or as it was set."""
        saved_conditions = _conditions_of(saved)
        parameters: dict[str, Any] = {"conditions": documents_of(self.condition_forms, saved_conditions)}
        if self.cleaned_data.get("operator"):
            parameters["operator"] = self.cleaned_data["operator"]
        is_set = saved_conditions and saved.metric_name != first_metric(saved.parameters)
        listed = saved.metric_name if is_set else first_metric(parameters) or self.cleaned_data.get("metric_name")
        return {"parameters": parameters, "metric_name": listed or None}

    def _add_field_error(self, name: str, details: list[str]) -> None:
        """Add an error of the API's validation to its input, unless the input has one already."""
        match = CONDITION_FIELD.fullmatch(name)
        form: PageForm = self
        if name == "metric_name" and self.cleaned_data.get("kind") == Kind.COMPOSITE and self.condition_forms:
            form = self.condition_forms[0]  # the rule has the metric of its first condition
        elif match and int(match[1]) < len(self.condition_forms) and match[2] in ConditionForm.base_fields:
            form, name = self.condition_forms[int(match[1])], match[2]
        if name not in form.errors:
            form.add_errors((name, detail) for detail in details)


def _validate(document: dict[str, Any]) -> tuple[dict[str, Any], Errors]:
    """Return all fields of a rule and the errors of those that were sent."""
    serializer = RuleSerializer(data=document)
    if not serializer.is_valid():
        return {}, {_form_name(name): list(_leaves(details)) for name, details in serializer.errors.items()}
    fields = complete_document(dict(serializer.validated_data))
    errors: Errors = {}
    try:
        validate(Rule(**fields))
    except InvalidFields as error:
        for name, detail in error.fields:
            errors.setdefault(_form_name(name), []).append(detail)
    return fields, errors


def _leaves(details: Any) -> Iterator[str]:
    """Yield the texts of nested error details."""
    if isinstance(details, dict | list):
        for detail in details.values() if isinstance(details, dict) else details:
            yield from _leaves(detail)
    else:
        yield str(details)


def _conditions_of(rule: Rule) -> list[dict[str, Any]]:
    return rule.parameters.get("conditions", []) if rule.kind == Kind.COMPOSITE else []


def _form_name(name: str) -> str:
    """Return the form's name of a field of the API: `parameters.horizon` is `horizon`."""
    return name.removeprefix("parameters.")
