"""The form of a rule: from what was typed to the fields of the API, whose checks it passes, and back."""

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from django.http import QueryDict

from alerts.api.rule_shapes import RuleSerializer, first_metric, whole
from alerts.conditions.spec import BadRule
from alerts.models import Kind, Rule
from alerts.rules.lifecycle import FIELDS, check, document_of
from dashboard import condition_rows
from dashboard.condition_rows import Row
from dashboard.form_values import number, seconds, split, threshold, written
from dashboard.forms import lines, texts
from dashboard.rule_choices import aggregations

DURATIONS = ("evaluation_window", "auto_resolve_timeout", "horizon", "expected_interval", "grace")
TEXTS = ("name", "description", "runbook_url", "metric_name", "kind", "condition", "aggregation", "level")
PARAMETERS = {
    Kind.TREND: ("measure",),
    Kind.FORECAST: ("horizon",),
    Kind.ABSENCE: ("expected_interval", "grace"),
}
UNUSED: dict[str, tuple[str, ...]] = {
    Kind.TREND: ("aggregation",),
    Kind.FORECAST: ("aggregation",),
    Kind.ANOMALY: ("aggregation", "threshold_value", "clear_threshold"),
    Kind.ABSENCE: ("aggregation", "threshold_value", "clear_threshold"),
    Kind.COMPOSITE: ("aggregation", "threshold_value", "clear_threshold"),
}
PLACE = re.compile(r"(conditions\[\d+\]\.)(?:parameters\.)?")


@dataclass
class RuleForm:
    """What stands in the fields, as text; `errors` by the names of the fields of the API, shortened to the form's."""

    values: dict[str, Any]
    errors: dict[str, list[str]] = field(default_factory=dict)

    @property
    def duration(self) -> dict[str, tuple[str, int]]:
        return {name: split(self.values.get(name)) for name in DURATIONS}

    @property
    def aggregations(self) -> Iterable[tuple[str, str]]:
        return aggregations(self.values.get("aggregation"))

    @property
    def rows(self) -> list[Row]:
        """The conditions of a composite, and blank ones to fill in."""
        return condition_rows.with_errors(self.values.get("rows", []), self.errors)

    @property
    def blank(self) -> Row:
        return condition_rows.BLANK

    @property
    def misplaced(self) -> list[str]:
        """Errors that no field of the form shows."""
        shown = {*FIELDS, *DURATIONS, "measure", "conditions"} - {"parameters", "enabled"}
        in_rows = {f"conditions[{at}].{name}" for at, row in enumerate(self.rows) for name in row.errors}
        placed = shown | in_rows
        return [f"{name}: {one}" for name, told in self.errors.items() if name not in placed for one in told]


def form_of(rule: Rule) -> RuleForm:
    """The form of a rule as it stands."""
    document = document_of(rule)
    rows = [condition_rows.shown(one) for one in _conditions_of(rule)]
    return RuleForm(
        document | document["parameters"] | {"threshold_value": written(rule.threshold_value), "rows": rows}
    )


def read(given: QueryDict, rule: Rule | None = None) -> tuple[dict[str, Any] | None, RuleForm]:
    """The fields that were typed, checked as the API does; None where something is wrong, which the form then says.

    `rule` is the one whose form it was: what nobody edited stays as that has it.
    """
    values = _typed(given)
    fields, errors = _checked(_document(values, rule or Rule()))
    if values["kind"] == Kind.COMPOSITE and "metric_name" in errors:  # which is that of its first condition
        errors["conditions[0].metric_name"] = errors.pop("metric_name")
    return fields, RuleForm(values, errors)


def _checked(document: dict[str, Any]) -> tuple[dict[str, Any] | None, dict[str, list[str]]]:
    """All fields of a rule, or what is wrong with those that were sent."""
    serializer = RuleSerializer(data=document)
    if not serializer.is_valid():
        return None, _errors(serializer.errors)
    fields = whole(dict(serializer.validated_data))
    try:
        check(Rule(**fields))
    except BadRule as error:
        errors: dict[str, list[str]] = {}
        for name, detail in error.fields:
            errors.setdefault(_short(name), []).append(detail)
        return None, errors
    return fields, {}


def _typed(given: QueryDict) -> dict[str, Any]:
    """The texts of the fields; times in seconds, names as lists."""
    text = texts(given)
    values: dict[str, Any] = {name: text.get(name, "").replace("\r\n", "\n") for name in TEXTS}
    values |= {name: seconds(text.get(name, ""), text.get(f"{name}_unit", "1")) for name in DURATIONS}
    values |= {name: number(text.get(name, "")) for name in ("clear_threshold", "trigger_count", "cooldown_minutes")}
    values["threshold_value"] = text.get("threshold_value", "")
    values["measure"] = text.get("measure", "slope")
    values["operator"] = text.get("operator", "")
    values["device_ids"] = lines(text.get("device_ids", ""))
    for name in ("device_groups", "notification_channels"):
        values[name] = [one for one in given.getlist(name) if "\0" not in one]
    values["auto_resolve"] = "auto_resolve" in given
    values["enabled"] = "enabled" in given
    values["rows"] = condition_rows.typed(given)
    return values


def _document(values: dict[str, Any], rule: Rule) -> dict[str, Any]:
    """The fields of the API: of those that the form shows, what the kind of rule asks for."""
    kind = values["kind"]
    sent = {name: values[name] for name in FIELDS if name in values and name != "parameters"}
    sent["threshold_value"] = threshold(values["threshold_value"])
    as_it_is = rule if rule.kind == kind else Rule()
    sent |= {name: getattr(as_it_is, name) for name in UNUSED.get(kind, ())}
    wanted = PARAMETERS.get(kind, ())
    sent["parameters"] = {name: values[name] for name in wanted if values[name] is not None}
    if kind == Kind.COMPOSITE:
        sent |= _several(values, as_it_is)
    return {
        name: value
        for name, value in sent.items()
        if value is not None or name in ("clear_threshold", "auto_resolve_timeout", "threshold_value")
    }


def _several(values: dict[str, Any], rule: Rule) -> dict[str, Any]:
    """Of a composite its conditions, and what it is listed under: the metric of the first, or what somebody chose."""
    before = _conditions_of(rule)
    found: dict[str, Any] = {"conditions": condition_rows.read(values["rows"], before)}
    if values["operator"]:  # else it is as where nobody has said
        found["operator"] = values["operator"]
    chosen = before and rule.metric_name != first_metric(rule.parameters)
    listed = rule.metric_name if chosen else first_metric(found) or values["metric_name"]
    return {"parameters": found, "metric_name": listed or None}


def _conditions_of(rule: Rule) -> list[dict[str, Any]]:
    return rule.parameters.get("conditions", []) if rule.kind == Kind.COMPOSITE else []


def _errors(found: Any) -> dict[str, list[str]]:
    """One list of words for each field of the form."""
    told: dict[str, list[str]] = {}
    for name, details in found.items():
        told.setdefault(_short(name), []).extend(_leaves(details))
    return told


def _leaves(details: Any) -> list[str]:
    if isinstance(details, dict):
        return [word for one in details.values() for word in _leaves(one)]
    return [str(one) for one in details] if isinstance(details, list) else [str(details)]


def _short(name: str) -> str:
    """`parameters.horizon` stands at the horizon, `parameters.conditions[1].parameters.horizon` at that of its row."""
    return PLACE.sub(r"\1", name.removeprefix("parameters."))
