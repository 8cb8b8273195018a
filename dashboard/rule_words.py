"""Rules in words: the condition of a rule as a sentence, and the changes of a version."""

from typing import Any

from alerts.conditions.spec import ANY_METRIC
from alerts.models import Kind, Rule, RuleVersion
from alerts.rules.lifecycle import FIELDS, document_of
from dashboard.number_format import duration_text, reading
from dashboard.rule_choices import AGGREGATIONS, COMPARISONS, MEASURES

FIELD_LABELS = {
    "name": "name", "description": "message", "runbook_url": "runbook", "enabled": "enabled",
    "metric_name": "metric", "kind": "kind", "condition": "comparison", "threshold_value": "threshold",
    "clear_threshold": "recovery threshold", "aggregation": "aggregation", "parameters": "parameters",
    "level": "level", "evaluation_window": "evaluation window", "trigger_count": "trigger count",
    "device_ids": "devices", "device_groups": "groups", "notification_channels": "channels",
    "cooldown_minutes": "cooldown", "auto_resolve": "resolve automatically",
    "auto_resolve_timeout": "auto-resolve after",
}  # fmt: skip
_COMPARISON_LABELS: dict[str, str] = {comparison.value: label for comparison, label in COMPARISONS}
_AGGREGATION_LABELS = dict(AGGREGATIONS)
_MEASURE_LABELS = dict(MEASURES)


def sentence(rule: Rule) -> str:
    """Return the condition of a rule in one line."""
    if rule.kind == Kind.COMPOSITE:
        operator = " and " if rule.parameters.get("operator", "and") == "and" else " or "
        return operator.join(_condition(condition) for condition in rule.parameters.get("conditions", ()))
    if rule.kind == Kind.ABSENCE:
        metric = "" if rule.metric_name == ANY_METRIC else f"{rule.metric_name} "
        interval = rule.parameters.get("expected_interval")
        return f"No {metric}data for {duration_text(interval) if interval else 'the expected interval'}"
    condition = _condition(document_of(rule))
    if rule.trigger_count == 1:
        return condition
    return f"{condition}, {rule.trigger_count} times in {duration_text(rule.evaluation_window)}"


def _condition(condition: dict[str, Any]) -> str:
    """Return a condition of a composite rule, or the document of a rule with one condition, in words."""
    kind, metric = condition.get("kind", Kind.THRESHOLD), condition.get("metric_name", "")
    parameters = condition.get("parameters") or {}
    window = condition.get("evaluation_window")
    over = f" over {duration_text(window)}" if window is not None else ""
    comparison = _comparison(condition.get("condition", ">"), condition.get("threshold_value"))
    if kind == Kind.ANOMALY:
        return f"{metric} is anomalous"
    if kind == Kind.TREND:
        return f"{_MEASURE_LABELS[parameters.get('measure', 'slope')]} of {metric}{over} is {comparison}"
    if kind == Kind.FORECAST:
        return f"{metric} is {comparison} in {duration_text(parameters.get('horizon', 0))}"
    aggregation = condition.get("aggregation")
    if not aggregation:
        return f"{metric} is {comparison}"
    return f"{_AGGREGATION_LABELS.get(aggregation, aggregation)} of {metric}{over} is {comparison}"


def _comparison(condition: str, threshold: Any) -> str:
    value = reading(threshold, None)[0] if threshold is not None else "?"
    return f"{_COMPARISON_LABELS.get(condition, condition)} {value}"


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
