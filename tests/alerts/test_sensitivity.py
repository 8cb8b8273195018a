"""Sensitivity of anomaly rules and the thresholds of series after feedback, in backtests and on live points."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from alerts import alert_actions
from alerts.anomaly_feedback import give_feedback
from alerts.conditions.spec import read_spec
from alerts.detector.sensitivity import FACTORS, SENSITIVITIES
from alerts.evaluation.evaluator import Evaluator
from alerts.history.backtest import Backtest, backtest
from alerts.models import Alert, AnomalyFeedback, Resolution, Rule
from alerts.rules.scope import RuleScope
from rest.caller import Caller
from rest.errors import InvalidFields
from tests.alerts.conftest import run, send
from tests.alerts.stored_points import store_points, time_at
from tests.alerts.test_anomalies import send_quiet_history, wait_until_learnt
from tests.conftest import ApiClient

EVERYTHING = RuleScope(Caller.internal("test"))
DAYS = 30


def run_backtest(**parameters: Any) -> Backtest:
    spec = read_spec({"metric_name": "load", "kind": "anomaly", "parameters": parameters})
    return backtest(spec, EVERYTHING, time_at(-(DAYS - 3) * 86_400), time_at(3 * 86_400))


@pytest.fixture
def bursts(site: None) -> int:
    """A month of hourly noise with a burst of a different height every 40 hours; return the series."""
    rng = np.random.default_rng(3)
    count = 24 * DAYS
    values = rng.normal(0, 1, count)
    values[100::40] += rng.uniform(4, 40, len(values[100::40]))
    return store_points("pump", "load", (np.arange(count) - (DAYS - 3) * 24) * 3600.0, values.tolist())


@pytest.mark.slow
def test_backtest_opens_more_alerts_the_keener_the_rule(bursts: int) -> None:
    counts = [run_backtest(sensitivity=name).count for name in SENSITIVITIES]
    assert counts == sorted(counts) and 0 < counts[0] < counts[2]
    assert run_backtest().count == counts[SENSITIVITIES.index("normal")]


@pytest.mark.slow
def test_expected_notifications_are_those_of_each_sensitivity(bursts: int) -> None:
    result = run_backtest(sensitivity="calm")
    assert result.per_month is not None
    for name in SENSITIVITIES:
        # The same history counts: an alert that is still open at the next anomaly opens no other.
        assert run_backtest(sensitivity=name).count <= round(result.per_month[name]) <= 2 * result.per_month["keen"]
    assert list(result.per_month.values()) == sorted(result.per_month.values())


@pytest.mark.slow
def test_feedback_raises_the_threshold_of_its_series_in_backtests(bursts: int) -> None:
    before = run_backtest()
    AnomalyFeedback.objects.create(alert_id="alt_1", series=bursts, is_anomaly=False, gravity=3.0, by="user:mei")
    after = run_backtest()
    assert after.count < before.count
    AnomalyFeedback.objects.get().delete()
    assert run_backtest().count == before.count


@pytest.mark.slow
@pytest.mark.parametrize(("is_anomaly", "alerts"), [(None, 2), (False, 1)])
def test_anomaly_like_one_that_was_none_opens_no_alert(
    gateway: ApiClient,
    create_cpu_rule: Callable[..., Rule],
    evaluator: Evaluator,
    is_anomaly: bool | None,
    alerts: int,
) -> None:
    create_cpu_rule(kind="anomaly", threshold_value=None)
    send_quiet_history(gateway)
    send(gateway, 57.0, ago=120)
    run(evaluator)
    wait_until_learnt(evaluator)
    send(gateway, 97.0, ago=100)
    run(evaluator)
    alert = Alert.objects.get()
    assert alert.evidence["gravity"] > FACTORS["normal"]
    if is_anomaly is not None:
        give_feedback(alert, is_anomaly, "user:mei")
    alert_actions.resolve(Alert.objects.filter(pk=alert.pk), Resolution.PERSON, "user:mei")
    send(gateway, *[57.0, 57.3] * 25, ago=40)  # as expected at this hour, until the episode has ended
    send(gateway, 96.0, ago=20)
    run(evaluator)
    assert Alert.objects.count() == alerts


def test_unknown_sensitivity_is_rejected_with_the_accepted_ones() -> None:
    with pytest.raises(InvalidFields) as error:
        read_spec({"metric_name": "load", "kind": "anomaly", "parameters": {"sensitivity": "high"}})
    assert error.value.fields == [
        ("parameters.sensitivity", "'high' is unknown; accepted are calm, normal, keen"),
    ]


def test_sensitivity_of_other_kinds_is_rejected() -> None:
    document = {"metric_name": "load", "threshold_value": 1, "parameters": {"sensitivity": "calm"}}
    with pytest.raises(InvalidFields, match=r"parameters\.sensitivity: is unknown for kind threshold"):
        read_spec(document)
