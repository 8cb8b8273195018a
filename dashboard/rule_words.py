"""Rules in words: the labels of their values, conditions as sentences, changes of versions and recurring windows."""

from typing import Any

from alerts.conditions import spec
from alerts.models import Rule, RuleKind, RuleVersion
from alerts.rules.lifecycle import FIELDS, document_of
from metrics.value_text import duration_text, reading

KINDS = tuple((kind.value, "No data" if kind == RuleKind.ABSENCE else kind.label) for kind in RuleKind)
CONDITION_KINDS = tuple((kind, label) for kind, label in KINDS if kind in spec.CONDITION_KINDS)  # of a composite rule
COMPARISONS = (
    (">", "above"), (">=", "at or above"), ("<", "below"), ("<=", "at or below"), ("==", "equal to"),
    ("!=", "not equal to"),
)  # fmt: skip
AGGREGATIONS = (
    ("", "each value"), ("avg", "the average"), ("min", "the minimum"), ("max", "the maximum"), ("sum", "the sum"),
    ("count", "the count"), ("median", "the median"), ("p95", "the 95th percentile"), ("p99", "the 99th percentile"),
    ("stddev", "the standard deviation"), ("first", "the first value"), ("last", "the last value"),
    ("rate", "the increase per second"),
)  # fmt: skip
MEASURES = (("slope", "the slope per second"), ("rate", "the change per second"), ("relative", "the relative change"))
SENSITIVITIES = (("calm", "calm"), ("normal", "normal"), ("keen", "keen"))
WEEKDAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
FIELD_LABELS = {
    "name": "name", "description": "message", "runbook_url": "runbook", "enabled": "enabled",
    "metric_name": "metric", "kind": "kind", "condition": "comparison", "threshold_value": "threshold",
    "clear_threshold": "recovery threshold", "aggregation": "aggregation", "parameters": "parameters",
    "level": "level", "evaluation_window": "evaluation window", "trigger_count": "trigger count",
    "device_ids": "devices", "device_groups": "groups", "notification_channels": "channels",
    "cooldown_minutes": "cooldown", "auto_resolve": "resolve automatically",
    "auto_resolve_timeout": "auto-resolve after",
}  # fmt: skip


def sentence(rule: Rule) -> str:
    """Return the condition of a rule in one line."""
    if rule.kind == RuleKind.COMPOSITE:
        operator = " and " if rule.parameters.get("operator", "and") == "and" else " or "
        return operator.join(_condition(condition) for condition in rule.parameters.get("conditions", ()))
    if rule.kind == RuleKind.ABSENCE:
        metric = "" if rule.metric_name == spec.ANY_METRIC else f"{rule.metric_name} "
        interval = rule.parameters.get("expected_interval")
        return f"No {metric}data for {duration_text(interval) if interval else 'the expected interval'}"
    condition = _condition(document_of(rule))
    if rule.trigger_count == 1:
        return condition
    return f"{condition}, {rule.trigger_count} times in {duration_text(rule.evaluation_window)}"


def _condition(condition: dict[str, Any]) -> str:
    """Return a condition of a composite rule, or the document of a rule with one condition, in words."""
    kind, metric = condition.get("kind", RuleKind.THRESHOLD), condition.get("metric_name", "")
    parameters = condition.get("parameters") or {}
    window = condition.get("evaluation_window")
    over = f" over {duration_text(window)}" if window is not None else ""
    comparison = _comparison(condition.get("condition", ">"), condition.get("threshold_value"))
    if kind == RuleKind.ANOMALY:
        sensitivity = parameters.get("sensitivity", "normal")
        return f"{metric} is anomalous" + ("" if sensitivity == "normal" else f" ({sensitivity})")
    if kind == RuleKind.TREND:
        return f"{dict(MEASURES)[parameters.get('measure', 'slope')]} of {metric}{over} is {comparison}"
    if kind == RuleKind.FORECAST:
        return f"{metric} is {comparison} in {duration_text(parameters.get('horizon', 0))}"
    aggregation = condition.get("aggregation")
    if not aggregation:
        return f"{metric} is {comparison}"
    return f"{dict(AGGREGATIONS).get(aggregation, aggregation)} of {metric}{over} is {comparison}"


def _comparison(condition: str, threshold: Any) -> str:
    value = reading(threshold, None)[0] if threshold is not None else "?"
    return f"{dict(COMPARISONS).get(condition, condition)} {value}"


def weekly_text(weekly: dict[str, Any]) -> str:
    """Return the days and times of a recurring window: "Mon, Tue 08:00 to 18:00"."""
    return f"{', '.join(WEEKDAYS[day] for day in sorted(weekly['days']))} {weekly['from']} to {weekly['to']}"


def changes(version: RuleVersion, before: RuleVersion | None) -> list[tuple[str, str, str]]:
    """Return (field, old value, new value) of every field that a version changed."""
    if before is None:
        return []
    old, new = before.document, version.document
    return [
        (FIELD_LABELS[name], _value(old.get(name)), _value(new.get(name)))
        for name in FIELDS
        if old.get(name) != new.get(name)
    ]


def _value(value: Any) -> str:
    if value in (None, "", []):
        return "none"
    if isinstance(value, list):
        return ", ".join(map(str, value))
    return reading(value, None)[0]
