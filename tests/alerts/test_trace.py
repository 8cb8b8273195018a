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

Make = Callable[..., Rule]
ADMIN = Caller.internal("tests")


def told(rule: Rule, ago: float = 0.0) -> EvaluationTrace:
    rule.refresh_from_db()
    return trace_evaluation(
        rule, Device.objects.get(device_id="boiler"), datetime.now(UTC) - timedelta(seconds=ago), ADMIN
    )


def states(found: EvaluationTrace) -> dict[str, str]:
    return {step.label: step.state for step in found.steps}


def detail(found: EvaluationTrace, label: str) -> str:
    return next(step.detail for step in found.steps if step.label == label)


def test_trace_of_an_alert_lists_values_trigger_count_and_deliveries(
    gateway: ApiClient, create_cpu_rule: Make, evaluator: Evaluator
) -> None:
    made = create_cpu_rule(trigger_count=2, evaluation_window=60, notification_channels=["pager"])
    send(gateway, 50.0, 95.0, 96.0, ago=2)
    run(evaluator)
    found = told(made)
    assert found.fired
    assert found.verdict.startswith("It fired: cpu of boiler is 96, over 90")
    assert [(value, breach) for _, value, breach in found.values] == [(50.0, False), (95.0, True), (96.0, True)]
    assert detail(found, "Trigger count") == "2 of 2 breaches within 60 s"
    assert states(found)["Rule"] == states(found)["Value"] == states(found)["Trigger count"] == "yes"
    assert detail(found, "Notification").startswith("fired to pager: unconfigured")


def test_too_few_breaches_are_the_reason_for_no_alert(
    gateway: ApiClient, create_cpu_rule: Make, evaluator: Evaluator
) -> None:
    made = create_cpu_rule(trigger_count=3, evaluation_window=60)
    send(gateway, 95.0, 96.0, ago=2)
    run(evaluator)
    found = told(made)
    assert not found.fired
    assert found.verdict == "It did not fire: trigger count: 2 of 3 breaches within 60 s."


def test_cooldown_is_the_reason_for_no_alert(gateway: ApiClient, create_cpu_rule: Make, evaluator: Evaluator) -> None:
    made = create_cpu_rule(cooldown_minutes=10)
    send(gateway, 95.0, 50.0, ago=20)
    send(gateway, 95.0, ago=5)
    run(evaluator)
    found = told(made)
    assert states(found)["Cooldown"] == "no"
    assert found.verdict.startswith("It did not fire: cooldown: no further alert until ")


def test_device_outside_the_scope_is_the_reason_for_no_alert(
    gateway: ApiClient, create_cpu_rule: Make, evaluator: Evaluator
) -> None:
    made = create_cpu_rule(device_ids=["pump"])
    send(gateway, 95.0)
    run(evaluator)
    assert told(made).verdict == "It did not fire: device: the rule names neither the device nor one of its groups."


def test_missing_values_and_disabled_rule_are_reasons_for_no_alert(
    gateway: ApiClient, create_cpu_rule: Make, evaluator: Evaluator
) -> None:
    made = create_cpu_rule()
    send(gateway, 95.0, metric="heat")
    run(evaluator)
    assert told(made).verdict == "It did not fire: values: no values to evaluate are stored up to that time."
    lifecycle.change(made, {"enabled": False}, "user:ana")
    assert told(made).verdict == "It did not fire: rule: version 2 was disabled."


def test_trace_uses_the_rule_version_of_that_time(
    gateway: ApiClient, create_cpu_rule: Make, evaluator: Evaluator
) -> None:
    made = create_cpu_rule()
    made.versions.update(at=datetime.now(UTC) - timedelta(minutes=10))
    send(gateway, 95.0, ago=30)
    run(evaluator)
    alert_actions.resolve(
        Alert.objects.all(), Resolution.PERSON, "user:ana", at={Alert.objects.get().pk: datetime.now(UTC)}
    )
    lifecycle.change(made, {"threshold_value": 99}, "user:ana")
    then, now = told(made, ago=20), told(made)
    assert then.fired and detail(then, "Rule").startswith("version 1")
    assert not now.fired and detail(now, "Rule").startswith("version 2")
    assert states(now)["Value"] == "no"


def test_trace_lists_the_silence(gateway: ApiClient, create_cpu_rule: Make, evaluator: Evaluator) -> None:
    create_channel({"name": "log", "kind": "action", "action": "log_alert"}, "user:ana")
    made = create_cpu_rule(notification_channels=["log"])
    ends = datetime.now(UTC) + timedelta(hours=1)
    create_silence({"device_ids": ["boiler"], "ends_at": ends, "reason": "repairs"}, ADMIN)
    send(gateway, 95.0)
    run(evaluator)
    found = told(made)
    assert found.fired
    assert "repairs" in detail(found, "Silence")
    assert detail(found, "Notification").startswith("fired to log: silenced")
