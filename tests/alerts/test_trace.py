"""Evaluation traces."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

from alerts import alert_actions
from alerts.evaluation.evaluator import Evaluator
from alerts.history.trace import EvaluationTrace, trace_evaluation
from alerts.models import Alert, Resolution, Rule
from alerts.notifications.channel_lifecycle import create_channel
from alerts.rules import lifecycle
from alerts.silences import create_silence
from metrics.models import Device
from rest.caller import Caller
from tests.alerts.conftest import run, send
from tests.conftest import ApiClient

RuleFactory = Callable[..., Rule]
ADMIN = Caller.internal("tests")


def trace_rule(rule: Rule, ago: float = 0.0) -> EvaluationTrace:
    rule.refresh_from_db()
    return trace_evaluation(
        rule, Device.objects.get(device_id="boiler"), datetime.now(UTC) - timedelta(seconds=ago), ADMIN
    )


def states(trace: EvaluationTrace) -> dict[str, str]:
    return {step.label: step.state for step in trace.steps}


def detail(trace: EvaluationTrace, label: str) -> str:
    return next(step.detail for step in trace.steps if step.label == label)


def test_trace_of_an_alert_lists_values_trigger_count_and_deliveries(
    gateway: ApiClient, create_cpu_rule: RuleFactory, evaluator: Evaluator
) -> None:
    rule = create_cpu_rule(trigger_count=2, evaluation_window=60, notification_channels=["pager"])
    send(gateway, 50.0, 95.0, 96.0, ago=2)
    run(evaluator)
    trace = trace_rule(rule)
    assert trace.fired
    assert trace.verdict.startswith("It fired: cpu of boiler is 96, over 90")
    assert [(value, breach) for _, value, breach in trace.values] == [(50.0, False), (95.0, True), (96.0, True)]
    assert detail(trace, "Trigger count") == "2 of 2 breaches within 60 s"
    assert states(trace)["Rule"] == states(trace)["Value"] == states(trace)["Trigger count"] == "yes"
    assert detail(trace, "Notification").startswith("fired to pager: unconfigured")


def test_too_few_breaches_are_the_reason_for_no_alert(
    gateway: ApiClient, create_cpu_rule: RuleFactory, evaluator: Evaluator
) -> None:
    rule = create_cpu_rule(trigger_count=3, evaluation_window=60)
    send(gateway, 95.0, 96.0, ago=2)
    run(evaluator)
    trace = trace_rule(rule)
    assert not trace.fired
    assert trace.verdict == "It did not fire: trigger count: 2 of 3 breaches within 60 s."


def test_cooldown_is_the_reason_for_no_alert(
    gateway: ApiClient, create_cpu_rule: RuleFactory, evaluator: Evaluator
) -> None:
    rule = create_cpu_rule(cooldown_minutes=10)
    send(gateway, 95.0, 50.0, ago=20)
    send(gateway, 95.0, ago=5)
    run(evaluator)
    trace = trace_rule(rule)
    assert states(trace)["Cooldown"] == "no"
    assert trace.verdict.startswith("It did not fire: cooldown: no further alert until ")


def test_device_outside_the_scope_is_the_reason_for_no_alert(
    gateway: ApiClient, create_cpu_rule: RuleFactory, evaluator: Evaluator
) -> None:
    rule = create_cpu_rule(device_ids=["pump"])
    send(gateway, 95.0)
    run(evaluator)
    assert (
        trace_rule(rule).verdict == "It did not fire: device: the rule names neither the device nor one of its groups."
    )


def test_missing_values_and_disabled_rule_are_reasons_for_no_alert(
    gateway: ApiClient, create_cpu_rule: RuleFactory, evaluator: Evaluator
) -> None:
    rule = create_cpu_rule()
    send(gateway, 95.0, metric="heat")
    run(evaluator)
    assert trace_rule(rule).verdict == "It did not fire: values: no values to evaluate are stored up to that time."
    lifecycle.change(rule, {"enabled": False}, "user:ana")
    assert trace_rule(rule).verdict == "It did not fire: rule: version 2 was disabled."


def test_trace_uses_the_rule_version_of_that_time(
    gateway: ApiClient, create_cpu_rule: RuleFactory, evaluator: Evaluator
) -> None:
    rule = create_cpu_rule()
    rule.versions.update(at=datetime.now(UTC) - timedelta(minutes=10))
    send(gateway, 95.0, ago=30)
    run(evaluator)
    alert_actions.resolve(
        Alert.objects.all(), Resolution.PERSON, "user:ana", at={Alert.objects.get().pk: datetime.now(UTC)}
    )
    lifecycle.change(rule, {"threshold_value": 99}, "user:ana")
    trace_before, trace_now = trace_rule(rule, ago=20), trace_rule(rule)
    assert trace_before.fired and detail(trace_before, "Rule").startswith("version 1")
    assert not trace_now.fired and detail(trace_now, "Rule").startswith("version 2")
    assert states(trace_now)["Value"] == "no"


def test_trace_lists_the_silence(gateway: ApiClient, create_cpu_rule: RuleFactory, evaluator: Evaluator) -> None:
    create_channel({"name": "log", "kind": "action", "action": "log_alert"}, "user:ana")
    rule = create_cpu_rule(notification_channels=["log"])
    ends = datetime.now(UTC) + timedelta(hours=1)
    create_silence({"device_ids": ["boiler"], "ends_at": ends, "reason": "repairs"}, ADMIN)
    send(gateway, 95.0)
    run(evaluator)
    trace = trace_rule(rule)
    assert trace.fired
    assert "repairs" in detail(trace, "Silence")
    assert detail(trace, "Notification").startswith("fired to log: silenced")
