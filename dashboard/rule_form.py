"""The form of a rule: from what was typed to the fields of the API, whose checks it passes, and back."""

import json
import math
from dataclasses import dataclass, field
from typing import Any

from django.http import QueryDict

from alerts.api.rule_shapes import RuleSerializer, whole
from alerts.conditions.spec import BadRule
from alerts.models import Condition, Kind, Level, Rule
from alerts.rules import FIELDS, check, document_of
from dashboard.forms import lines, texts

KINDS = (
    (Kind.THRESHOLD, "Limit"),
    (Kind.TREND, "Trend"),
    (Kind.ANOMALY, "Unusual"),
    (Kind.ABSENCE, "Missing"),
    (Kind.FORECAST, "Forecast"),
    (Kind.COMPOSITE, "Several"),
)
CONDITIONS = (
    (Condition.ABOVE, "above"),
    (Condition.AT_LEAST, "at or above"),
    (Condition.BELOW, "below"),
    (Condition.AT_MOST, "at or below"),
    (Condition.EQUAL, "exactly"),
    (Condition.UNEQUAL, "anything but"),
)
AGGREGATIONS = (
    ("", "each value"), ("avg", "the average"), ("min", "the lowest"), ("max", "the highest"), ("sum", "the sum"),
    ("count", "the number"), ("median", "the median"), ("p95", "the 95th percentile"), ("p99", "the 99th percentile"),
    ("stddev", "the deviation"), ("first", "the first"), ("last", "the last"), ("rate", "the increase per second"),
)  # fmt: skip
MEASURES = (("slope", "the slope per second"), ("rate", "the change per second"), ("relative", "the relative change"))
UNITS = ((1, "s"), (60, "min"), (3600, "h"), (86_400, "d"))
DURATIONS = ("evaluation_window", "auto_resolve_timeout", "horizon", "expected_interval", "grace")
TEXTS = ("name", "description", "runbook_url", "metric_name", "kind", "condition", "aggregation", "level")
PARAMETERS = {
    Kind.TREND: ("measure",),
    Kind.FORECAST: ("horizon",),
    Kind.ABSENCE: ("expected_interval", "grace"),
}
SPARE_CONDITIONS = 2


@dataclass
class RuleForm:
    """What stands in the fields, as text; `errors` by the names of the fields of the API, shortened to the form's."""

    values: dict[str, Any]
    errors: dict[str, list[str]] = field(default_factory=dict)

    @property
    def duration(self) -> dict[str, tuple[str, int]]:
        return {name: _split(self.values.get(name)) for name in DURATIONS}

    @property
    def conditions(self) -> list[dict[str, Any]]:
        """Of a composite; some empty ones to fill in."""
        given = self.values.get("conditions") or []
        rows = [one | {"kept": json.dumps(_kept(one))} for one in given if isinstance(one, dict)]
        return rows + [{}] * max(1, SPARE_CONDITIONS - len(rows))

    @property
    def misplaced(self) -> list[str]:
        """Errors that no field of the form shows."""
        shown = {*FIELDS, *DURATIONS, "measure", "conditions"} - {"parameters", "enabled"}
        return [f"{name}: {one}" for name, told in self.errors.items() if name not in shown for one in told]


def form_of(rule: Rule) -> RuleForm:
    """The form of a rule as it stands."""
    document = document_of(rule)
    return RuleForm(document | document["parameters"] | {"threshold_value": _written(rule.threshold_value)})


def read(given: QueryDict) -> tuple[dict[str, Any] | None, RuleForm]:
    """The fields that were typed, checked as the API does; None where something is wrong, which the form then says."""
    values = _typed(given)
    document = _document(values)
    form = RuleForm(values)
    serializer = RuleSerializer(data=document)
    if not serializer.is_valid():
        form.errors = _errors(serializer.errors)
        return None, form
    fields = whole(dict(serializer.validated_data))
    try:
        check(Rule(**fields))
    except BadRule as error:
        for name, detail in error.errors:
            form.errors.setdefault(_short(name), []).append(detail)
        return None, form
    return fields, form


def _typed(given: QueryDict) -> dict[str, Any]:
    """The texts of the fields; times in seconds, names as lists."""
    text = texts(given)
    values: dict[str, Any] = {name: text.get(name, "") for name in TEXTS}
    values |= {name: _seconds(text.get(name, ""), text.get(f"{name}_unit", "1")) for name in DURATIONS}
    values |= {name: _number(text.get(name, "")) for name in ("clear_threshold", "trigger_count", "cooldown_minutes")}
    values["threshold_value"] = text.get("threshold_value", "")
    values["measure"] = text.get("measure", "slope")
    values["operator"] = text.get("operator", "and")
    values["device_ids"] = lines(text.get("device_ids", ""))
    for name in ("device_groups", "notification_channels"):
        values[name] = [one for one in given.getlist(name) if "\0" not in one]
    values["auto_resolve"] = "auto_resolve" in given
    values["enabled"] = "enabled" in given
    values["conditions"] = _typed_conditions(given)
    return values


def _typed_conditions(given: QueryDict) -> list[dict[str, Any]]:
    """The rows of a composite that name a metric."""
    columns = ("c_metric", "c_aggregation", "c_condition", "c_threshold", "c_kept")
    rows = zip(*(given.getlist(name) for name in columns), strict=False)
    found = []
    for metric, aggregation, condition, threshold, kept in rows:
        if not metric.strip():
            continue
        one = _object(kept) | {"metric_name": metric.strip(), "condition": condition}
        if one.get("kind", "threshold") == "threshold":
            one["aggregation"] = aggregation
        if one.get("kind") != "anomaly":
            one["threshold_value"] = _threshold(threshold.strip())
        found.append(one)
    return found


def _document(values: dict[str, Any]) -> dict[str, Any]:
    """The fields of the API: of those that the form shows, what the kind of rule asks for."""
    kind = values["kind"]
    sent = {name: values[name] for name in FIELDS if name in values and name != "parameters"}
    sent["threshold_value"] = (
        None if kind in (Kind.ANOMALY, Kind.ABSENCE, Kind.COMPOSITE) else _threshold(values["threshold_value"])
    )
    if kind != Kind.THRESHOLD:
        sent["aggregation"] = ""
    if kind in (Kind.ANOMALY, Kind.ABSENCE, Kind.COMPOSITE):
        sent["clear_threshold"] = None
    wanted = PARAMETERS.get(kind, ())
    sent["parameters"] = {name: values[name] for name in wanted if values[name] is not None}
    if kind == Kind.COMPOSITE:
        sent["parameters"] = {"operator": values["operator"], "conditions": values["conditions"]}
        if not sent["metric_name"]:
            del sent["metric_name"]
    return {
        name: value
        for name, value in sent.items()
        if value is not None or name in ("clear_threshold", "auto_resolve_timeout", "threshold_value")
    }


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
    """`parameters.conditions[1].threshold_value` stands at the conditions, `parameters.horizon` at the horizon."""
    name = name.removeprefix("parameters.")
    return "conditions" if name.startswith("conditions") else name


def _threshold(text: str) -> Any:
    """A number, a truth value or a text: whatever it reads as."""
    if text in ("true", "false"):
        return text == "true"
    number = _number(text)
    return number if isinstance(number, (int, float)) else text or None


def _written(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else "" if value is None else f"{value}"


def _number(text: str) -> Any:
    """The number that a text is, in either way to write decimals; the text itself where it is none, for it is wrong."""
    if not text:
        return None
    try:
        number = float(text.replace(",", ".").replace("\N{MINUS SIGN}", "-"))
    except ValueError:
        return text
    if not math.isfinite(number):
        return text
    return int(number) if number.is_integer() and abs(number) < 1e15 else number


def _seconds(text: str, unit: str) -> Any:
    number = _number(text)
    if not isinstance(number, (int, float)):
        return number
    seconds = number * (int(unit) if unit in {str(length) for length, _ in UNITS} else 1)
    return int(seconds) if float(seconds).is_integer() else seconds


def _split(seconds: Any) -> tuple[str, int]:
    """A number and the largest unit of which it is whole ones."""
    if not isinstance(seconds, (int, float)):
        return ("" if seconds is None else str(seconds)), 60
    unit = next((length for length, _ in reversed(UNITS) if seconds and seconds % length == 0), 1)
    return f"{seconds / unit:g}", unit


def _object(text: str) -> dict[str, Any]:
    try:
        found = json.loads(text or "{}")
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _kept(condition: dict[str, Any]) -> dict[str, Any]:
    """What the form has no field for."""
    shown = ("metric_name", "aggregation", "condition", "threshold_value", "kept")
    return {name: value for name, value in condition.items() if name not in shown}


LEVELS = [(level, Level(level).label) for level in Level.values]
