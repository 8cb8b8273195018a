"""Evaluation traces."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest

from alerts import alert_actions
from alerts.evaluation.evaluator import Evaluator
from alerts.history.trace import EvaluationTrace, trace_evaluation
from alerts.models import Alert, Resolution, Rule
from alerts.notifications.channel_lifecycle import create_channel
from alerts.rules import lifecycle
from alerts.silences import create_silence
from metrics.devices.group_membership import add_devices, remove_devices
from metrics.models import Device, DeviceGroup
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


@pytest.mark.slow
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


@pytest.mark.slow
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


@pytest.mark.slow
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


@pytest.mark.slow
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


def breach_before_the_rule(gateway: ApiClient, create_cpu_rule: RuleFactory, evaluator: Evaluator) -> Rule:
    send(gateway, 95.0, ago=5)
    run(evaluator)
    rule = create_cpu_rule()
    run(evaluator)
    return rule


def breach_resolved_by_a_person(gateway: ApiClient, create_cpu_rule: RuleFactory, evaluator: Evaluator) -> Rule:
    rule = create_cpu_rule()
    rule.versions.update(at=datetime.now(UTC) - timedelta(minutes=10))
    send(gateway, 95.0, ago=5)
    run(evaluator)
    alert_actions.resolve(Alert.objects.all(), Resolution.PERSON, "user:ana")
    run(evaluator)
    return rule


def breaches_before_and_after_a_resolve(gateway: ApiClient, create_cpu_rule: RuleFactory, evaluator: Evaluator) -> Rule:
    rule = create_cpu_rule(trigger_count=2, evaluation_window=60)
    rule.versions.update(at=datetime.now(UTC) - timedelta(minutes=10))
    send(gateway, 95.0, 96.0, ago=10)
    run(evaluator)
    alert = Alert.objects.get()
    at = datetime.now(UTC) - timedelta(seconds=8)
    alert_actions.resolve(Alert.objects.all(), Resolution.PERSON, "user:ana", at={alert.pk: at})
    evaluator.clock_checks.next_check = 0.0
    run(evaluator)
    send(gateway, 97.0, ago=5)
    run(evaluator)
    return rule


def breach_that_is_not_evaluated_yet(gateway: ApiClient, create_cpu_rule: RuleFactory, evaluator: Evaluator) -> Rule:
    rule = create_cpu_rule()
    rule.versions.update(at=datetime.now(UTC) - timedelta(minutes=10))
    send(gateway, 95.0, ago=1)
    return rule


def late_breach(gateway: ApiClient, create_cpu_rule: RuleFactory, evaluator: Evaluator) -> Rule:
    rule = create_cpu_rule()
    rule.versions.update(at=datetime.now(UTC) - timedelta(hours=1))
    send(gateway, 95.0, ago=600)
    run(evaluator)
    evaluator._store()
    return rule


def deleted_alert(gateway: ApiClient, create_cpu_rule: RuleFactory, evaluator: Evaluator) -> Rule:
    rule = create_cpu_rule()
    rule.versions.update(at=datetime.now(UTC) - timedelta(minutes=10))
    send(gateway, 95.0, ago=5)
    run(evaluator)
    evaluator._store()
    Alert.objects.all().delete()
    return rule


@pytest.mark.slow
@pytest.mark.parametrize(
    ("prepare", "reason"),
    [
        (breach_before_the_rule, "evaluation: the value is older than the rule"),
        (breach_resolved_by_a_person, "trigger count: 0 of 1 breaches within 300 s; those before the end of"),
        (breaches_before_and_after_a_resolve, "trigger count: 1 of 2 breaches within 60 s; those before the end of"),
        (breach_that_is_not_evaluated_yet, "evaluation: not evaluated yet, 1 commits are waiting"),
        (late_breach, "evaluation: the point came late or out of order and is evaluated as history"),
        (deleted_alert, "evaluation: the point came late or out of order, other points were stored or deleted since"),
    ],
)
def test_breach_without_an_open_alert_has_a_reason(
    gateway: ApiClient,
    create_cpu_rule: RuleFactory,
    evaluator: Evaluator,
    prepare: Callable[[ApiClient, RuleFactory, Evaluator], Rule],
    reason: str,
) -> None:
    trace = trace_rule(prepare(gateway, create_cpu_rule, evaluator))
    assert states(trace)["Value"] == "yes"
    assert not trace.fired
    assert "no" in states(trace).values()
    assert trace.verdict.startswith(f"It did not fire: {reason}")


@pytest.mark.slow
def test_trace_of_an_alert_agrees_with_it_after_rule_values_and_groups_have_changed(
    gateway: ApiClient, create_cpu_rule: RuleFactory, evaluator: Evaluator
) -> None:
    group = DeviceGroup.objects.create(name="site b")
    add_devices(group, [Device.objects.create(device_id="boiler").pk])
    rule = create_cpu_rule(device_groups=["site b"], auto_resolve=False, trigger_count=2, evaluation_window=60)
    send(gateway, 95.0, 96.0, ago=90)
    run(evaluator)
    send(gateway, 10.0, ago=80)
    run(evaluator)
    remove_devices(group, [Device.objects.get().pk])
    lifecycle.change(rule, {"threshold_value": 99}, "user:ana")
    trace = trace_rule(rule)
    assert trace.fired
    assert {label: state for label, state in states(trace).items() if label != "Notification"} == {
        "Rule": "yes", "Device": "note", "Value": "yes", "Trigger count": "yes",
    }  # fmt: skip
    assert detail(trace, "Rule").startswith("version 1")
    assert [value for _, value, _ in trace.values] == [95.0, 96.0]
