"""The form of a rule. The API's serializer and the rule's own checks validate it."""

import re
from collections.abc import Iterator, Sequence
from typing import Any

from django import forms
from django.http import QueryDict

from alerts.api.rule_serializers import RuleSerializer, complete_document, first_metric
from alerts.conditions.spec import MAX_CONDITIONS
from alerts.models import Level, Rule, RuleKind
from alerts.rules.lifecycle import FIELDS, document_of, validate
from dashboard import rule_words
from dashboard.forms.conditions import (
    BLANK,
    DEFAULT_SENSITIVITY,
    ConditionFields,
    ConditionForm,
    ConditionsFormField,
    condition_texts,
    documents_of,
)
from dashboard.forms.fields import (
    VERBATIM,
    DurationFormField,
    IntegerFormField,
    NamesFormField,
    NumberFormField,
    OpenChoiceFormField,
    PageForm,
    TextFormField,
    TextLinesFormField,
)
from rest.errors import InvalidFields

# Parameters that the form has an input for, by kind of rule.
PARAMETERS = {
    RuleKind.TREND: ("measure",),
    RuleKind.FORECAST: ("horizon",),
    RuleKind.ANOMALY: ("sensitivity",),
    RuleKind.ABSENCE: ("expected_interval", "grace"),
}
# Fields without an input for this kind of rule: they keep their saved value.
UNUSED: dict[str, tuple[str, ...]] = {
    RuleKind.TREND: ("aggregation",),
    RuleKind.FORECAST: ("aggregation",),
    RuleKind.ANOMALY: ("aggregation", "threshold_value", "clear_threshold"),
    RuleKind.ABSENCE: ("aggregation", "threshold_value", "clear_threshold"),
    RuleKind.COMPOSITE: ("aggregation", "threshold_value", "clear_threshold"),
}
MIN_CONDITIONS = 2
NULLABLE = ("clear_threshold", "auto_resolve_timeout", "threshold_value")
CONDITION_FIELD = re.compile(r"conditions\[(\d+)\]\.(?:parameters\.)?(\w+)")

Errors = dict[str, list[str]]


class RuleEditForm(ConditionFields):
    """A rule, with a ConditionForm for each condition of a composite rule."""

    name = TextFormField("Name", placeholder="Name of the rule")
    kind = TextFormField("Kind", widget=forms.RadioSelect(choices=rule_words.KINDS))
    expected_interval = DurationFormField("Expected interval", "auto")
    grace = DurationFormField("Grace period", "2 s")
    operator = OpenChoiceFormField("Operator")
    conditions = ConditionsFormField(label="Conditions")
    trigger_count = IntegerFormField("Trigger count", "input tiny", inputmode="numeric", aria_label="Trigger count")
    evaluation_window = DurationFormField("Evaluation window")
    level = OpenChoiceFormField("Level", [(level, label.lower()) for level, label in Level.choices])
    device_groups = NamesFormField(label="Groups")
    device_ids = TextLinesFormField("Devices", placeholder="One device ID per line")
    clear_threshold = NumberFormField("Recovery threshold", inputmode="decimal", placeholder="same as the threshold")
    cooldown_minutes = IntegerFormField("Cooldown (minutes)", inputmode="numeric")
    auto_resolve = forms.BooleanField(label="Resolve automatically")
    auto_resolve_timeout = DurationFormField("Auto-resolve after", "never")
    notification_channels = NamesFormField(label="Notify")
    runbook_url = TextFormField("Runbook", inputmode="url", placeholder="https://…", **VERBATIM)
    description = TextFormField(
        "Message",
        widget=forms.Textarea(
            {"class": "input", "rows": "2", "placeholder": "{device}, {metric} and {value} are filled in"}
        ),
    )
    version = TextFormField()

    def __init__(
        self,
        data: QueryDict | None,
        rule: Rule,
        initial: dict[str, Any] | None = None,
        groups: Sequence[str] = (),
        channels: Sequence[str] = (),
    ) -> None:
        document = document_of(rule)
        conditions = [condition_texts(condition) for condition in _conditions_of(rule)]
        super().__init__(data, initial=document | rule.parameters | {"conditions": conditions} | (initial or {}))
        self.rule = rule
        self.condition_forms = [ConditionForm(texts) for texts in self["conditions"].value()]
        # A rule without an operator keeps it unset; the default is "and".
        all_of = "and" if self["operator"].value() else ""
        self.offer("operator", [(all_of, "all conditions are met"), ("or", "any condition is met")])
        self.offer("device_groups", groups)
        self.unconfigured = [name for name in self["notification_channels"].value() or () if name not in channels]
        labels = [(name, f"{name} (not configured)") for name in self.unconfigured]
        self.offer("notification_channels", [*channels, *labels])

    @property
    def condition_rows(self) -> list[ConditionForm]:
        """The conditions and blank rows: two rows at least, and one more while it is allowed."""
        count = len(self.condition_forms)
        blank = max(MIN_CONDITIONS - count, 1 if count < MAX_CONDITIONS else 0)
        return [*self.condition_forms, *(ConditionForm(BLANK) for _ in range(blank))]

    @property
    def blank_condition(self) -> ConditionForm:
        return ConditionForm(BLANK)

    def clean(self) -> dict[str, Any]:
        """Validate the rule as the API does, place every error at its input, and return all fields of a valid rule."""
        fields, errors = _validate(self._document())
        for name, details in errors.items():
            self._add_field_error(name, details)
        return self.cleaned_data if self.error_lists() else fields

    def is_valid(self) -> bool:
        return super().is_valid() and not self.error_lists()

    def error_lists(self) -> Errors:
        """Return all errors by the names of the API's fields."""
        lists = {name: [str(detail) for detail in details] for name, details in self.errors.items()}
        if self.cleaned_data.get("kind") == RuleKind.COMPOSITE:
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
        if parameters.get("sensitivity") == DEFAULT_SENSITIVITY:
            del parameters["sensitivity"]
        document["parameters"] = {name: value for name, value in parameters.items() if value not in (None, "")}
        if kind == RuleKind.COMPOSITE:
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
        if name == "metric_name" and self.cleaned_data.get("kind") == RuleKind.COMPOSITE and self.condition_forms:
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
    return rule.parameters.get("conditions", []) if rule.kind == RuleKind.COMPOSITE else []


def _form_name(name: str) -> str:
    """Return the form's name of a field of the API: `parameters.horizon` is `horizon`."""
    return name.removeprefix("parameters.")
