"""Rules in words: a sentence of what one says, and what a version changed."""

from typing import Any

from alerts.models import Kind, Rule, RuleVersion
from alerts.rules.lifecycle import FIELDS, document_of
from dashboard.number_format import duration_text, reading
from dashboard.rule_choices import AGGREGATIONS, CONDITIONS, MEASURES

NAMES = {
    "name": "name", "description": "description", "runbook_url": "runbook", "enabled": "enabled",
    "metric_name": "metric",
    "kind": "kind", "condition": "comparison", "threshold_value": "limit", "clear_threshold": "well again at",
    "aggregation": "aggregation", "parameters": "parameters", "level": "level", "evaluation_window": "window",
    "trigger_count": "values needed", "device_ids": "devices", "device_groups": "groups",
    "notification_channels": "channels", "cooldown_minutes": "cooldown", "auto_resolve": "resolves itself",
    "auto_resolve_timeout": "timeout",
}  # fmt: skip
_CONDITIONS: dict[str, str] = {condition.value: words for condition, words in CONDITIONS}
_AGGREGATIONS = dict(AGGREGATIONS)
_MEASURES = dict(MEASURES)


def sentence(rule: Rule) -> str:
    """When the rule holds, in one line."""
    if rule.kind == Kind.COMPOSITE:
        joint = " and " if rule.parameters.get("operator", "and") == "and" else " or "
        return joint.join(_condition(one) for one in rule.parameters.get("conditions", ()))
    if rule.kind == Kind.ABSENCE:
        what = "anything" if rule.metric_name == "*" else rule.metric_name
        expected = rule.parameters.get("expected_interval")
        return f"{what} is not heard {f'every {duration_text(expected)}' if expected else 'when it is due'}"
    said = _condition(document_of(rule))
    window = duration_text(rule.evaluation_window)
    return f"{said}, {rule.trigger_count} times in {window}" if rule.trigger_count > 1 else said


def _condition(one: dict[str, Any]) -> str:
    """When a condition holds: one of several, or the only one of a rule."""
    kind, metric = one.get("kind", Kind.THRESHOLD), one.get("metric_name", "")
    parameters = one.get("parameters") or {}
    over = f" over {duration_text(one['evaluation_window'])}" if "evaluation_window" in one else ""
    limit = _limit(one.get("condition", ">"), one.get("threshold_value"))
    if kind == Kind.ANOMALY:
        return f"{metric} is unlike what it was before"
    if kind == Kind.TREND:
        return f"{_MEASURES[parameters.get('measure', 'slope')]} of {metric}{over} is {limit}"
    if kind == Kind.FORECAST:
        return f"{metric} is {limit} in {duration_text(parameters.get('horizon', 0))}"
    aggregation = one.get("aggregation")
    if not aggregation:
        return f"{metric} is {limit}"
    return f"{_AGGREGATIONS.get(aggregation, aggregation)} of {metric}{over} is {limit}"


def _limit(condition: str, threshold: Any) -> str:
    return f"{_CONDITIONS.get(condition, condition)} {reading(threshold, None)[0] if threshold is not None else '?'}"


def changes(version: RuleVersion, before: RuleVersion | None) -> list[tuple[str, str, str]]:
    """(field, before, after) of what a version changed."""
    if before is None:
        return []
    old, new = before.document, version.document
    return [
        (NAMES[name], _shown(old.get(name)), _shown(new.get(name))) for name in FIELDS if old.get(name) != new.get(name)
    ]


def _shown(value: Any) -> str:
    if value in (None, "", []):
        return "nothing"
    if isinstance(value, list):
        return ", ".join(map(str, value))
    return reading(value, None)[0]
