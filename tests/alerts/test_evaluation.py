"""The evaluator: alerts for stored points, late data, out-of-order points and catching up."""

import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from threading import Thread
from typing import Any

import pytest
from django.db import connection

from alerts import alert_actions
from alerts.evaluation import late_data
from alerts.evaluation.evaluator import Evaluator
from alerts.evaluation.late_data import evaluate_late_ranges
from alerts.models import Alert, Cursor, Notice, Resolution, Rule, Status
from alerts.rules import lifecycle
from metrics.devices.group_membership import add_devices
from metrics.models import Device, DeviceGroup
from metrics.storage.connection import dedicated_connection
from metrics.storage.merge import schedule
from tests.alerts.conftest import run, send
from tests.conftest import ApiClient, point

RuleFactory = Callable[..., Rule]


def time_ahead() -> int:
    """Return a time some seconds ahead in µs, so that late ranges are old enough to be evaluated."""
    return time.time_ns() // 1000 + 10_000_000


def statuses() -> list[str]:
    return list(Alert.objects.order_by("pk").values_list("status", flat=True))


def test_breach_opens_an_alert_with_a_message(
    gateway: ApiClient, create_cpu_rule: RuleFactory, evaluator: Evaluator
) -> None:
    rule = create_cpu_rule(level="critical")
    send(gateway, 50.0, 95.5)
    run(evaluator)
    alert = Alert.objects.get()
    assert (alert.status, alert.level, alert.value, alert.device_name, alert.metric_name) == (
        "active", "critical", 95.5, "boiler", "cpu",
    )  # fmt: skip
    assert alert.message == "cpu of boiler is 95.5, over 90"
    assert [entry["value"] for entry in alert.evidence["values"]] == [50.0, 95.5]
    rule.refresh_from_db()
    assert (rule.total_triggers, rule.last_triggered) == (1, alert.triggered_at)


def test_first_recovered_value_resolves_the_alert(
    gateway: ApiClient, create_cpu_rule: RuleFactory, evaluator: Evaluator
) -> None:
    create_cpu_rule()
    send(gateway, 95.0)
    run(evaluator)
    send(gateway, 80.0)
    run(evaluator)
    alert = Alert.objects.get()
    assert (alert.status, alert.resolution, alert.resolved_by) == ("resolved", "recovered", "evaluator")
    assert alert.resolved_at > alert.triggered_at


@pytest.mark.parametrize(("max_step_time", "steps"), [(-1.0, [16, 8, 4, 2, 1, 1]), (60.0, [16, 16])])
def test_slow_step_halves_the_next_step(
    gateway: ApiClient,
    create_cpu_rule: RuleFactory,
    evaluator: Evaluator,
    monkeypatch: pytest.MonkeyPatch,
    max_step_time: float,
    steps: list[int],
) -> None:
    monkeypatch.setattr("alerts.evaluation.evaluator.MAX_STEP_TIME", max_step_time)
    create_cpu_rule()
    for number in range(32):
        send(gateway, 95.0, ago=60.0 - number)
    assert [evaluator.step() for _ in steps] == steps
    assert Alert.objects.count() == 1


def test_alert_without_auto_resolve_stays_open(
    gateway: ApiClient, create_cpu_rule: RuleFactory, evaluator: Evaluator
) -> None:
    create_cpu_rule(auto_resolve=False)
    send(gateway, 95.0, 10.0)
    run(evaluator)
    assert statuses() == ["active"]


def test_value_between_threshold_and_recovery_threshold_changes_nothing(
    gateway: ApiClient, create_cpu_rule: RuleFactory, evaluator: Evaluator
) -> None:
    create_cpu_rule(clear_threshold=70)
    send(gateway, 80.0, ago=10)
    run(evaluator)
    assert statuses() == []
    send(gateway, 95.0, 80.0, ago=5)
    run(evaluator)
    assert statuses() == ["active"]
    send(gateway, 70.0)
    run(evaluator)
    assert statuses() == ["resolved"]


def test_alert_opens_at_the_trigger_count_within_the_window(
    gateway: ApiClient, create_cpu_rule: RuleFactory, evaluator: Evaluator
) -> None:
    create_cpu_rule(trigger_count=3, evaluation_window=60)
    send(gateway, 95.0, ago=200)
    send(gateway, 95.0, 95.0, ago=20)
    run(evaluator)
    assert statuses() == []
    send(gateway, 50.0, 95.0, ago=5)
    run(evaluator)
    assert statuses() == ["active"]


def test_breaches_before_a_restart_are_counted(
    gateway: ApiClient, create_cpu_rule: RuleFactory, evaluator: Evaluator
) -> None:
    create_cpu_rule(trigger_count=3, evaluation_window=60)
    send(gateway, 95.0, 95.0, ago=5)
    run(evaluator)
    with dedicated_connection() as other:
        next_evaluator = Evaluator(other)
        send(gateway, 95.0)
        run(next_evaluator)
    assert statuses() == ["active"]


def test_aggregation_of_the_window_is_compared(
    gateway: ApiClient, create_cpu_rule: RuleFactory, evaluator: Evaluator
) -> None:
    create_cpu_rule(aggregation="avg", evaluation_window=10)
    send(gateway, 80.0, 80.0, 95.0, ago=2)
    run(evaluator)
    assert statuses() == []
    send(gateway, 120.0)
    run(evaluator)
    assert Alert.objects.get().value == pytest.approx(93.75)


def test_breach_within_the_cooldown_opens_no_alert(
    gateway: ApiClient, create_cpu_rule: RuleFactory, evaluator: Evaluator
) -> None:
    create_cpu_rule(cooldown_minutes=1)
    send(gateway, 95.0, 10.0, ago=100)
    send(gateway, 95.0, 10.0, ago=60)
    run(evaluator)
    assert statuses() == ["resolved"]
    send(gateway, 95.0)
    run(evaluator)
    assert statuses() == ["resolved", "active"]


def test_gap_does_not_resolve_but_the_timeout_does(
    gateway: ApiClient, create_cpu_rule: RuleFactory, evaluator: Evaluator
) -> None:
    create_cpu_rule()
    create_cpu_rule(name="Forgetful", auto_resolve_timeout=30)
    send(gateway, 95.0, ago=60)
    run(evaluator)
    states = {alert.rule_name: (alert.status, alert.resolution) for alert in Alert.objects.all()}
    assert states == {"High CPU": ("active", ""), "Forgetful": ("resolved", "timeout")}


def test_acknowledged_alert_stays_acknowledged_until_it_recovers(
    gateway: ApiClient, create_cpu_rule: RuleFactory, evaluator: Evaluator
) -> None:
    create_cpu_rule()
    send(gateway, 95.0, ago=5)
    run(evaluator)
    alert_actions.acknowledge(Alert.objects.all(), "user:ana", "on it")
    send(gateway, 96.0, ago=2)
    run(evaluator)
    assert statuses() == ["acknowledged"]
    assert Alert.objects.get().worst_value == 96.0
    send(gateway, 20.0)
    run(evaluator)
    assert statuses() == ["resolved"]


@pytest.mark.slow
def test_breach_after_a_manual_resolve_opens_a_new_alert(
    gateway: ApiClient, create_cpu_rule: RuleFactory, evaluator: Evaluator
) -> None:
    create_cpu_rule()
    send(gateway, 95.0)
    run(evaluator)
    alert_actions.resolve(Alert.objects.all(), Resolution.PERSON, "user:ana")
    run(evaluator)
    assert statuses() == ["resolved"]
    send(gateway, 95.0)
    run(evaluator)
    assert statuses() == ["resolved", "active"]


def test_only_devices_and_groups_of_the_rule_are_evaluated(
    gateway: ApiClient, create_cpu_rule: RuleFactory, evaluator: Evaluator
) -> None:
    group = DeviceGroup.objects.create(name="site b")
    add_devices(group, [Device.objects.create(device_id="pump").pk])
    create_cpu_rule(device_ids=["boiler"], device_groups=["site b"])
    for name in ("boiler", "pump", "fan"):
        send(gateway, 95.0, device=name)
    run(evaluator)
    assert sorted(Alert.objects.values_list("device_name", flat=True)) == ["boiler", "pump"]


@pytest.mark.slow
def test_texts_and_booleans_are_compared_as_they_are(
    gateway: ApiClient, create_cpu_rule: RuleFactory, evaluator: Evaluator
) -> None:
    create_cpu_rule(name="mode", metric_name="mode", condition="!=", threshold_value="auto")
    create_cpu_rule(name="door", metric_name="door", condition="==", threshold_value=True)
    create_cpu_rule(name="lid", metric_name="lid", condition="==", threshold_value=False)
    send(gateway, "auto", "manual", metric="mode", ago=2)
    send(gateway, False, True, metric="door")
    send(gateway, True, False, metric="lid")
    run(evaluator)
    assert sorted(Alert.objects.values_list("message", flat=True)) == [
        "door of boiler is true", "lid of boiler is false", "mode of boiler is manual, not auto",
    ]  # fmt: skip
    send(gateway, "auto", metric="mode", ago=0)
    run(evaluator)
    assert Alert.objects.get(rule_name="mode").status == Status.RESOLVED


def test_disabled_rule_is_not_evaluated_and_its_alerts_are_resolved(
    gateway: ApiClient, create_cpu_rule: RuleFactory, evaluator: Evaluator
) -> None:
    rule = create_cpu_rule()
    send(gateway, 95.0)
    run(evaluator)
    lifecycle.change(rule, {"enabled": False}, "user:ana")
    send(gateway, 99.0, device="pump")
    run(evaluator)
    assert [(alert.status, alert.resolution) for alert in Alert.objects.all()] == [("resolved", "rule")]


@pytest.mark.slow
def test_composite_rule_evaluates_several_metrics_of_a_device(
    gateway: ApiClient, create_cpu_rule: RuleFactory, evaluator: Evaluator
) -> None:
    create_cpu_rule(
        kind="composite", metric_name="overload",
        parameters={
            "operator": "and",
            "conditions": [
                {"metric_name": "cpu", "condition": ">", "threshold_value": 90},
                {"metric_name": "queue", "condition": ">", "threshold_value": 5},
            ],
        },
    )  # fmt: skip
    send(gateway, 95.0)
    send(gateway, 9.0, metric="queue", device="pump")
    run(evaluator)
    assert statuses() == []
    send(gateway, 9.0, metric="queue")
    run(evaluator)
    assert Alert.objects.get().message == "boiler: cpu over 90 and queue over 5"
    send(gateway, 1.0, metric="queue")
    run(evaluator)
    assert statuses() == ["resolved"]


def test_late_batch_opens_a_retroactive_alert_without_notification(
    gateway: ApiClient, create_cpu_rule: RuleFactory, evaluator: Evaluator
) -> None:
    create_cpu_rule(notification_channels=["pager"])
    send(gateway, 10.0, 95.0, 96.0, 20.0, ago=3600)
    run(evaluator)
    assert statuses() == []
    assert evaluate_late_ranges(time_ahead()) == 1
    alert = Alert.objects.get()
    assert (alert.status, alert.retroactive, alert.resolution, alert.value) == ("resolved", True, "retroactive", 95.0)
    assert (alert.resolved_at - alert.triggered_at).total_seconds() == pytest.approx(2, abs=0.1)
    assert not Notice.objects.exists()


def test_out_of_order_points_are_evaluated_by_time(
    gateway: ApiClient, create_cpu_rule: RuleFactory, evaluator: Evaluator
) -> None:
    create_cpu_rule(trigger_count=2, evaluation_window=60)
    send(gateway, 95.0, ago=30)
    send(gateway, 10.0, ago=5)
    run(evaluator)
    send(gateway, 95.0, ago=20)
    run(evaluator)
    assert statuses() == []
    assert evaluate_late_ranges(time_ahead()) == 1
    alert = Alert.objects.get()
    assert (alert.retroactive, alert.status) == (True, "resolved")
    send(gateway, 20.0)
    run(evaluator)
    assert evaluate_late_ranges(time_ahead()) == 0
    assert Alert.objects.count() == 1


def test_late_points_of_a_range_that_is_being_evaluated_do_not_hold_up_the_evaluator(
    gateway: ApiClient, create_cpu_rule: RuleFactory, evaluator: Evaluator, monkeypatch: pytest.MonkeyPatch
) -> None:
    create_cpu_rule()
    send(gateway, 10.0, 95.0, 20.0, ago=3600)
    run(evaluator)
    read_rules = late_data.read_watched_rules

    def evaluate_further_points() -> None:
        try:
            run(evaluator)
        finally:
            connection.close()

    def read_rules_meanwhile() -> Any:
        send(gateway, 10.0, 97.0, 20.0, ago=7200)  # of the same series
        send(gateway, 99.0)
        thread = Thread(target=evaluate_further_points)
        thread.start()
        thread.join(10)
        assert not thread.is_alive()
        return read_rules()

    monkeypatch.setattr(late_data, "read_watched_rules", read_rules_meanwhile)
    assert evaluate_late_ranges(time_ahead()) == 0  # the range has grown meanwhile
    assert [alert.value for alert in Alert.objects.all()] == [99.0]
    monkeypatch.undo()
    assert evaluate_late_ranges(time_ahead()) == 1
    assert sorted(alert.value for alert in Alert.objects.filter(retroactive=True)) == [95.0, 97.0]
    assert evaluate_late_ranges(time_ahead()) == 0


@pytest.mark.slow
def test_late_batch_within_an_alert_opens_no_other(
    gateway: ApiClient, create_cpu_rule: RuleFactory, evaluator: Evaluator
) -> None:
    create_cpu_rule()
    send(gateway, 95.0, ago=60)
    run(evaluator)
    send(gateway, 10.0, ago=5)
    run(evaluator)
    send(gateway, 96.0, ago=30)
    run(evaluator)
    evaluate_late_ranges(time_ahead())
    assert Alert.objects.count() == 1


def test_long_late_batch_is_evaluated_day_by_day(
    gateway: ApiClient, create_cpu_rule: RuleFactory, evaluator: Evaluator
) -> None:
    create_cpu_rule()
    points = [point("cpu", 95.0 if hour % 30 in (3, 4) else 10.0, 86_400 * 4 - 3600 * hour) for hour in range(90)]
    assert gateway.post("devices/boiler/telemetry/batch", {"data_points": points}).status == 200
    run(evaluator)
    evaluate_late_ranges(time_ahead())
    durations = [(alert.resolved_at - alert.triggered_at).total_seconds() for alert in Alert.objects.all()]
    assert durations == pytest.approx([7200] * 3, abs=1)


@pytest.mark.slow
def test_merged_commits_are_evaluated_by_time_and_only_once(
    gateway: ApiClient, create_cpu_rule: RuleFactory, evaluator: Evaluator
) -> None:
    create_cpu_rule()
    send(gateway, 10.0, 95.0, ago=60)
    run(evaluator)
    Cursor.objects.update(at=datetime.now(UTC) - timedelta(seconds=30))
    send(gateway, 20.0, ago=10)
    send(gateway, 96.0, metric="cpu", device="pump", ago=5)
    with dedicated_connection() as other:
        schedule.merge_commits(other, force=True)  # deletes the merged commits
        next_evaluator = Evaluator(other)
        run(next_evaluator)
    evaluate_late_ranges(time_ahead())
    alerts = [(alert.device_name, alert.value, alert.status) for alert in Alert.objects.order_by("triggered_at")]
    assert alerts == [("boiler", 95.0, "resolved"), ("pump", 96.0, "active")]
