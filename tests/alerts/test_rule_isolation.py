"""Isolation: a broken rule or extreme values of one device do not stop the evaluation of others."""

import sys
from collections.abc import Callable
from typing import Any

import pytest

from alerts.evaluation.evaluator import Evaluator
from alerts.models import Alert, Rule, RuleGeneration
from tests.alerts.conftest import run, send
from tests.conftest import ApiClient

RuleFactory = Callable[..., Rule]


@pytest.mark.parametrize(
    "fields",
    [
        {"kind": "trend", "parameters": {"measure": "slope"}},
        {"kind": "trend", "parameters": {"measure": "rate"}},
        {"kind": "forecast", "parameters": {"horizon": 3600}},
        {"aggregation": "stddev"},
        {"aggregation": "rate"},
    ],
    ids=["slope", "change", "forecast", "spread", "rate"],
)
def test_infinite_result_is_a_breach_with_the_largest_float(
    gateway: ApiClient, create_cpu_rule: RuleFactory, evaluator: Evaluator, fields: dict[str, Any]
) -> None:
    create_cpu_rule(metric_name="vast", auto_resolve=False, **fields)
    create_cpu_rule()
    send(gateway, -1.7e308, -1.7e308, 1.7e308, 1.7e308, metric="vast", ago=1)
    send(gateway, 95.0)
    run(evaluator)
    assert sorted(Alert.objects.values_list("metric_name", flat=True)) == ["cpu", "vast"]
    value: Any = Alert.objects.get(metric_name="vast").value
    assert float(value) == sys.float_info.max


@pytest.mark.parametrize(
    "fields",
    [
        {"kind": "forecast"},
        {"kind": "composite", "parameters": {"conditions": [{"metric_name": "cpu", "parameters": [1]}] * 2}},
        {"threshold_value": 10**400},
    ],
    ids=["forecast", "composite", "threshold"],
)
def test_unreadable_rule_is_suspended_and_others_are_evaluated(
    gateway: ApiClient, create_cpu_rule: RuleFactory, evaluator: Evaluator, fields: dict[str, Any]
) -> None:
    broken_rule = create_cpu_rule(name="broken")
    create_cpu_rule()
    Rule.objects.filter(pk=broken_rule.pk).update(**fields)
    RuleGeneration.increment()
    send(gateway, 95.0)
    run(evaluator)
    assert [alert.rule_name for alert in Alert.objects.all()] == ["High CPU"]
    broken_rule.refresh_from_db()
    assert "accepted" in broken_rule.suspended
