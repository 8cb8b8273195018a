"""Rules in words: a sentence of what one says, and what a version changed."""

from typing import Any

from alerts.models import Kind, Rule, RuleVersion
from alerts.rules import FIELDS
from dashboard.readings import duration_text, reading
from dashboard.rule_form import AGGREGATIONS, CONDITIONS, MEASURES

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
    window = duration_text(rule.evaluation_window)
    if rule.kind == Kind.COMPOSITE:
        joint = " and " if rule.parameters.get("operator", "and") == "and" else " or "
        return joint.join(_comparison(one) for one in rule.parameters.get("conditions", ()))
    if rule.kind == Kind.ABSENCE:
        what = "anything" if rule.metric_name == "*" else rule.metric_name
        expected = rule.parameters.get("expected_interval")
        return f"{what} is not heard {f'every {duration_text(expected)}' if expected else 'when it is due'}"
    if rule.kind == Kind.ANOMALY:
        said = f"{rule.metric_name} is unlike what it was before"
    elif rule.kind == Kind.TREND:
        measure = _MEASURES.get(rule.parameters.get("measure", "slope"), "the slope")
        said = f"{measure} of {rule.metric_name} over {window} is {_limit(rule.condition, rule.threshold_value)}"
    elif rule.kind == Kind.FORECAST:
        ahead = duration_text(rule.parameters.get("horizon", 0))
        said = f"{rule.metric_name} is {_limit(rule.condition, rule.threshold_value)} in {ahead}"
    else:
        said = _comparison(
            {name: getattr(rule, name) for name in ("metric_name", "aggregation", "condition", "threshold_value")}
            | {"window": window}
        )
    return f"{said}, {rule.trigger_count} times in {window}" if rule.trigger_count > 1 else said


def _comparison(one: dict[str, Any]) -> str:
    metric = one.get("metric_name", "")
    if one.get("kind") == "anomaly":
        return f"{metric} is unlike what it was before"
    limit = _limit(one.get("condition", ">"), one.get("threshold_value"))
    aggregation = one.get("aggregation")
    if not aggregation:
        return f"{metric} is {limit}"
    words = _AGGREGATIONS.get(aggregation, aggregation)
    return f"{words} of {metric}{' over ' + one['window'] if 'window' in one else ''} is {limit}"


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
