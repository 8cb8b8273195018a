"""Anomaly rules on live points: learning, alerts, stored states and the API."""

import re
import time
from collections.abc import Callable
from datetime import timedelta

import numpy as np
import pytest

from alerts.detector.state import VERSION
from alerts.evaluation import anomalies
from alerts.evaluation.evaluator import Evaluator
from alerts.history.anomaly_scores import read_anomaly_scores
from alerts.history.trace import trace_evaluation
from alerts.models import Alert, DetectorState, Rule
from alerts.rules import lifecycle
from metrics.models import Device, MetricDefinition, Series
from metrics.storage import series_registry
from metrics.storage.connection import dedicated_connection
from rest.caller import Caller
from tests.alerts.conftest import run, send
from tests.alerts.stored_points import store_points, time_at
from tests.conftest import ApiClient, point

RuleFactory = Callable[..., Rule]


def send_quiet_history(gateway: ApiClient, device: str = "boiler", count: int = 900) -> None:
    """Send a regular series up to now, one point per five minutes (by default three days)."""
    rng = np.random.default_rng(7)
    values = 50 + 10 * np.sin(np.arange(count) / 288 * 2 * np.pi) + rng.normal(0, 0.5, count)
    points = [point("cpu", round(float(value), 2), 300 * (count - number)) for number, value in enumerate(values)]
    assert gateway.post(f"devices/{device}/telemetry/batch", {"data_points": points}).status == 200


def learn_quiet_history(gateway: ApiClient, create_cpu_rule: RuleFactory, evaluator: Evaluator) -> None:
    """Create an anomaly rule, and let a series with a regular history learn."""
    create_cpu_rule(kind="anomaly", threshold_value=None)
    send_quiet_history(gateway)
    send(gateway, 50.0, ago=120)
    run(evaluator)
    wait_until_learnt(evaluator)


def wait_until_learnt(evaluator: Evaluator) -> None:
    deadline = time.monotonic() + 30
    while evaluator.detector.is_learning:
        evaluator.step()
        assert time.monotonic() < deadline


def store_states(evaluator: Evaluator) -> None:
    """Store the states of all series now, as the evaluator does within STORE_PERIOD."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(anomalies, "STORE_PERIOD", 1e-9)
        evaluator.detector.store()
        evaluator.detector.store()


@pytest.mark.slow
def test_anomaly_opens_an_alert_with_the_expected_range(
    gateway: ApiClient, create_cpu_rule: RuleFactory, evaluator: Evaluator
) -> None:
    MetricDefinition.objects.create(name="cpu", data_type="numeric", unit="%")
    series_registry.refresh_registry()
    learn_quiet_history(gateway, create_cpu_rule, evaluator)
    for value, ago in ((400.0, 40), (410.0, 30), (405.0, 20)):
        send(gateway, value, ago=ago)
        run(evaluator)
    alert = Alert.objects.get()
    assert alert.value >= 400
    assert re.search(r"jump up: [\d.]+ × the largest usual change \(\d\.\d+ %\); not seen", alert.evidence["reason"])
    low, high = alert.evidence["band"]
    assert low < high < 100
    assert "expected" in alert.message


@pytest.mark.slow
def test_learnt_state_is_used_by_the_next_evaluator(
    gateway: ApiClient, create_cpu_rule: RuleFactory, evaluator: Evaluator
) -> None:
    learn_quiet_history(gateway, create_cpu_rule, evaluator)
    store_states(evaluator)
    assert DetectorState.objects.count() == 1
    with dedicated_connection() as connection:
        next_evaluator = Evaluator(connection)
        send(gateway, 50.5, ago=60)
        run(next_evaluator)
        wait_until_learnt(next_evaluator)
        for value, ago in ((400.0, 40), (410.0, 30), (405.0, 20)):
            send(gateway, value, ago=ago)
            run(next_evaluator)
    assert Alert.objects.count() == 1


@pytest.mark.slow
def test_series_with_a_state_of_another_version_learns_its_history_again(
    gateway: ApiClient, create_cpu_rule: RuleFactory, evaluator: Evaluator
) -> None:
    learn_quiet_history(gateway, create_cpu_rule, evaluator)
    store_states(evaluator)
    state = bytes(DetectorState.objects.get().state)
    DetectorState.objects.update(state=(VERSION - 1).to_bytes(2, "little") + state[2:])
    with dedicated_connection() as connection:
        next_evaluator = Evaluator(connection)
        send(gateway, 50.5, ago=60)
        run(next_evaluator)
        wait_until_learnt(next_evaluator)
        send(gateway, 400.0, ago=40)
        run(next_evaluator)
        alert = Alert.objects.get()
        store_states(next_evaluator)
    assert alert.value == 400 and alert.evidence["band"][0] > 30  # the expected range needs the points before
    assert bytes(DetectorState.objects.get().state)[:2] == VERSION.to_bytes(2, "little")


@pytest.mark.slow
def test_anomaly_during_downtime_opens_an_alert_when_evaluation_continues(
    gateway: ApiClient, create_cpu_rule: RuleFactory, evaluator: Evaluator
) -> None:
    learn_quiet_history(gateway, create_cpu_rule, evaluator)
    send(gateway, 50.2, ago=100)
    run(evaluator)  # is replaced before it has stored its state with this point
    send(gateway, 50.5, ago=60)
    send(gateway, 400.0, 410.0, 405.0, ago=20)
    with dedicated_connection() as connection:
        run(Evaluator(connection))
    assert Alert.objects.get().value >= 400


@pytest.mark.slow
def test_anomaly_before_the_rule_does_not_suppress_later_ones(
    gateway: ApiClient, create_cpu_rule: RuleFactory, evaluator: Evaluator
) -> None:
    send_quiet_history(gateway)
    send(gateway, 400.0, ago=150)
    run(evaluator)
    create_cpu_rule(kind="anomaly", threshold_value=None)
    send(gateway, 50.0, ago=120)
    run(evaluator)
    wait_until_learnt(evaluator)
    send(gateway, 900.0, ago=20)
    run(evaluator)
    assert Alert.objects.get().value == 900


@pytest.mark.slow
@pytest.mark.parametrize("interrupted", [False, True])
def test_points_that_arrive_while_a_new_rule_learns_are_evaluated_in_order(
    gateway: ApiClient, create_cpu_rule: RuleFactory, evaluator: Evaluator, interrupted: bool
) -> None:
    send_quiet_history(gateway)
    run(evaluator)
    create_cpu_rule(kind="anomaly", threshold_value=None)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(anomalies, "LEARNING_TIME", -1.0)
        for value, ago in ((400.0, 60), (410.0, 50), (50.0, 40), (50.1, 30)):
            send(gateway, value, ago=ago)
            run(evaluator)
        assert evaluator.detector.is_learning
    assert not Alert.objects.exists()
    with dedicated_connection() as connection:
        finishing = evaluator
        if interrupted:
            evaluator._store()
            finishing = Evaluator(connection)
            send(gateway, 50.2, ago=20)
            run(finishing)
        wait_until_learnt(finishing)
        run(finishing)
    assert Alert.objects.get().value == 400.0  # the first one
    assert DetectorState.objects.get().evaluate_from is None


@pytest.mark.slow
def test_series_whose_rule_is_deleted_while_it_learns_is_not_evaluated_later(
    gateway: ApiClient, create_cpu_rule: RuleFactory, evaluator: Evaluator
) -> None:
    send_quiet_history(gateway)
    run(evaluator)
    rule = create_cpu_rule(kind="anomaly", threshold_value=None)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(anomalies, "LEARNING_TIME", -1.0)
        send(gateway, 400.0, ago=60)
        run(evaluator)
    lifecycle.delete(rule, "user:tests")
    run(evaluator)
    assert not evaluator.detector.is_learning
    create_cpu_rule(kind="anomaly", threshold_value=None)
    send(gateway, 50.0, ago=30)
    run(evaluator)
    wait_until_learnt(evaluator)
    assert not Alert.objects.exists()


@pytest.mark.slow
def test_state_of_an_unwatched_series_is_stored_and_reused_by_the_next_rule(
    gateway: ApiClient, create_cpu_rule: RuleFactory, evaluator: Evaluator
) -> None:
    rule = create_cpu_rule(kind="anomaly", threshold_value=None)
    send_quiet_history(gateway)
    send(gateway, 50.0, ago=120)
    run(evaluator)
    wait_until_learnt(evaluator)
    send(gateway, 50.2, ago=100)
    run(evaluator)
    lifecycle.change(rule, {"enabled": False}, "user:tests")
    run(evaluator)
    [state] = DetectorState.objects.all()
    assert time.time() - state.time / 1e6 < 110  # includes the last evaluated point
    DetectorState.objects.update(time=0)
    store_states(evaluator)
    assert DetectorState.objects.get().time == 0
    DetectorState.objects.update(time=state.time)
    lifecycle.change(rule, {"enabled": True}, "user:tests")
    send(gateway, 400.0, ago=20)
    run(evaluator)
    assert Alert.objects.get().value == 400


@pytest.mark.slow
def test_training_reads_the_newest_points_of_a_dense_series(
    gateway: ApiClient, create_cpu_rule: RuleFactory, site: None
) -> None:
    for hour in range(3, 0, -1):
        send(gateway, *[float(number % 50) for number in range(1000)], ago=3600.0 * hour)
    send(gateway, 1.0, ago=30)
    until = int(time.time() * 1e6)
    since = until - 86_400_000_000
    [series] = Series.objects.values_list("pk", flat=True)
    with pytest.MonkeyPatch.context() as patch:
        for max_points in (1, 500, 1001, 2500, 9000):
            patch.setattr(anomalies, "MAX_TRAINING_POINTS", max_points)
            times, values = anomalies.read_newest({series: since}, {series: until})[series]
            assert len(times) == len(values) == min(max_points, 3001)
            assert values[-1] == 1.0 and bool((np.diff(times) > 0).all())
        start, end = int(times[10]), int(times[20])
        times, _ = anomalies.read_newest({series: start}, {series: end})[series]
        assert (len(times), int(times[0]) > start, int(times[-1]) < end) == (9, True, True)


@pytest.mark.slow
def test_api_returns_expected_range_and_anomalies(
    gateway: ApiClient, reader: ApiClient, stranger: ApiClient, site: None
) -> None:
    send_quiet_history(gateway)
    send(gateway, 400.0, 410.0, ago=20)
    response = reader.get("devices/boiler/metrics/cpu/anomalies").json
    assert response["points"] > 280
    assert 0 < len(response["band"]) <= 500
    assert all(bucket["low"] <= bucket["high"] for bucket in response["band"])
    marks = [mark for mark in response["marks"] if mark["value"] >= 400]
    assert marks and all(mark["reason"] and mark["score"] >= 0.5 for mark in marks)
    assert stranger.get("devices/boiler/metrics/cpu/anomalies").json == {"points": 0, "band": [], "marks": []}


@pytest.mark.slow
def test_six_days_of_points_a_minute_apart_are_scored_and_traced_within_a_second_each(
    gateway: ApiClient, create_cpu_rule: RuleFactory
) -> None:
    rng, count = np.random.default_rng(7), 8_700
    values = 50 + 10 * np.sin(np.arange(count) / 1440 * 2 * np.pi) + rng.normal(0, 0.5, count)
    store_points("boiler", "cpu", (np.arange(count) - count + 1440 * 3) * 60.0, values)
    rule, reader = create_cpu_rule(kind="anomaly", threshold_value=None), Caller.internal("tests")
    device, end = Device.objects.get(device_id="boiler"), time_at(1440 * 3 * 60)
    started = time.process_time()
    scores = read_anomaly_scores("boiler", "cpu", end - timedelta(days=1), end, reader)
    scored = time.process_time()
    trace_evaluation(rule, device, end, reader)
    traced = time.process_time()
    assert scores.points == 1440
    assert scored - started < 1 and traced - scored < 1


def test_start_after_end_is_rejected_with_422(gateway: ApiClient, reader: ApiClient) -> None:
    response = reader.get(
        "devices/boiler/metrics/cpu/anomalies?start_time=2025-12-18T10:00:00Z&end_time=2025-12-17T10:00:00Z"
    )
    assert response.status == 422
    assert response.json["errors"][0]["field"] == "start_time"
