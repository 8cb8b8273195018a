"""A rule, and a group that it names, apply to every commit after their own.

RULES_IN_FORCE sets the number of rules that are created and breached at once (default: 40).
"""

import os
import threading
from collections.abc import Callable

import pytest

from alerts.evaluation import evaluator as evaluator_module
from alerts.evaluation.evaluator import Evaluator
from alerts.loops import EvaluationLoop, stop_loops
from alerts.models import Alert, Rule
from metrics.devices.group_membership import add_devices
from metrics.models import Device, DeviceGroup
from metrics.storage.connection import Connection, connect
from metrics.storage.merge import schedule
from metrics.storage.read.block_cache import CommitCursor
from tests.alerts.conftest import CPU_RULE_FIELDS, run, send
from tests.conftest import ApiClient, point
from tests.telemetry_site.site_process import wait_until

RuleFactory = Callable[..., Rule]
ROUNDS = int(os.environ.get("RULES_IN_FORCE", "40"))
RULES = "/api/v1/telemetry/alerts/rules"


@pytest.mark.slow
def test_rules_that_are_breached_at_once_always_open_an_alert(admin: ApiClient, gateway: ApiClient) -> None:
    ended = threading.Event()
    loop = EvaluationLoop(threading.Event())
    traffic = [threading.Thread(target=send_until, args=(gateway, f"busy_{number}", ended)) for number in range(2)]
    for thread in [loop, *traffic]:
        thread.start()
    try:
        for number in range(ROUNDS):
            rule = CPU_RULE_FIELDS | {"name": f"rule {number}", "device_ids": [f"pump_{number}"]}
            assert admin.post(RULES, rule).status == 201
            send(gateway, 95.0, device=f"pump_{number}")
        wait_until(lambda: Alert.objects.count() == ROUNDS, 30, "every breach has an alert")
    finally:
        ended.set()
        stop_loops([loop])
        for thread in traffic:
            thread.join()
    assert Alert.objects.values("device_name").distinct().count() == ROUNDS


def send_until(gateway: ApiClient, device: str, ended: threading.Event) -> None:
    while not ended.wait(0.005):
        send(gateway, 1.0, metric="idle", device=device)


@pytest.mark.slow
def test_rule_created_while_the_evaluator_reads_applies_to_the_next_commit(
    gateway: ApiClient, create_cpu_rule: RuleFactory, evaluator: Evaluator, monkeypatch: pytest.MonkeyPatch
) -> None:
    send(gateway, 1.0, metric="idle")
    read_headers = evaluator_module.read_commit_headers

    def breach_before_the_headers(connection: Connection, shard: int, after: int, limit: int) -> object:
        if not Rule.objects.exists():
            create_cpu_rule()
            send(gateway, 95.0)
        return read_headers(connection, shard, after, limit)

    monkeypatch.setattr(evaluator_module, "read_commit_headers", breach_before_the_headers)
    run(evaluator)
    assert Alert.objects.get().value == 95.0


@pytest.mark.slow
def test_device_added_to_a_group_is_evaluated_from_the_next_commit(
    gateway: ApiClient, create_cpu_rule: RuleFactory, evaluator: Evaluator
) -> None:
    group = DeviceGroup.objects.create(name="site b")
    create_cpu_rule(device_groups=["site b"])
    for number in range(3):
        device = f"pump_{number}"
        add_devices(group, [Device.objects.create(device_id=device).pk])
        send(gateway, 95.0, device=device)
        run(evaluator)
    assert sorted(Alert.objects.values_list("device_name", flat=True)) == ["pump_0", "pump_1", "pump_2"]


@pytest.mark.slow
def test_commits_deleted_while_the_evaluator_reads_are_evaluated_by_time(
    gateway: ApiClient, create_cpu_rule: RuleFactory, evaluator: Evaluator, monkeypatch: pytest.MonkeyPatch
) -> None:
    create_cpu_rule()
    send(gateway, 95.0)
    run(evaluator)
    send(gateway, 96.0, device="pump")
    read_commits = evaluator_module.read_commits_after

    def merge_before(connection: Connection, cursor: CommitCursor, limit: int) -> object:
        monkeypatch.undo()
        with connect() as other_connection:
            schedule.merge_commits(other_connection, force=True)
        send(gateway, 1.0, device="fan")
        return read_commits(connection, cursor, limit)

    monkeypatch.setattr(evaluator_module, "read_commits_after", merge_before)
    run(evaluator)
    assert sorted(Alert.objects.values_list("device_name", flat=True)) == ["boiler", "pump"]


@pytest.mark.slow
def test_composite_rule_joins_numbers_and_texts_of_one_commit_by_time(
    gateway: ApiClient, create_cpu_rule: RuleFactory, evaluator: Evaluator
) -> None:
    conditions = [
        {"metric_name": "cpu", "condition": ">", "threshold_value": 90},
        {"metric_name": "mode", "condition": "==", "threshold_value": "auto"},
    ]
    create_cpu_rule(kind="composite", metric_name="overload", parameters={"operator": "and", "conditions": conditions})
    points = [point("cpu", 95.0, 9), point("mode", "auto", 8), point("cpu", 20.0, 7), point("mode", "manual", 6)]
    assert gateway.post("devices/boiler/telemetry/batch", {"data_points": points}).status == 200
    run(evaluator)
    alert = Alert.objects.get()
    assert alert.status == "resolved"
    assert (alert.resolved_at - alert.triggered_at).total_seconds() == pytest.approx(1, abs=0.1)
