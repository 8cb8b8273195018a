"""Backtests on stored points."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pytest

from alerts.conditions.spec import read_spec
from alerts.detector.detector import Detector
from alerts.evaluation.evaluator import Evaluator
from alerts.history import backtest as backtests
from alerts.history import replay
from alerts.history.backtest import Backtest, Firing, backtest
from alerts.history.replay import detect_anomalies
from alerts.models import Alert, Rule
from alerts.rules import lifecycle
from alerts.rules import scope as scopes
from alerts.rules.scope import RuleScope
from metrics.models import Device, DeviceGroup
from metrics.storage.format.codec import Kind
from metrics.storage.units import to_datetime, to_microseconds
from rest.caller import Caller
from rest.caller import Scope as Right
from rest.errors import InvalidField
from tests.alerts.conftest import run, send
from tests.alerts.stored_points import START, merge_all, store_points, time_at
from tests.conftest import ApiClient

ALL_DEVICES = RuleScope(Caller.internal("test"))


def run_backtest(scope: RuleScope = ALL_DEVICES, until: float = 3600, since: float = 0, **fields: Any) -> Backtest:
    document = {"metric_name": "temperature", "condition": ">", "threshold_value": 80}
    return backtest(read_spec(document | fields), scope, time_at(since), time_at(until))


def firing_times(result: Backtest) -> list[tuple[float, float | None]]:
    """Return start and end of each firing in seconds after START, oldest first."""
    return [
        ((firing.start - START).total_seconds(), None if firing.end is None else (firing.end - START).total_seconds())
        for firing in reversed(result.firings)
    ]


@pytest.fixture(params=["unmerged", "merged"])
def furnace(site: None, request: pytest.FixtureRequest) -> None:
    """One value per minute: over the threshold at minutes 3 to 5, at 20 and from 50 to the end."""
    hot_values = {3: 85.0, 4: 95.0, 5: 81.0, 20: 90.0} | dict.fromkeys(range(50, 60), 88.0)
    store_points(
        "furnace",
        "temperature",
        [60.0 * minute for minute in range(60)],
        [hot_values.get(minute, 20.0) for minute in range(60)],
    )
    if request.param == "merged":
        merge_all()


def test_firings_have_times_values_and_peaks(furnace: None) -> None:
    result = run_backtest()
    assert result.firings == [
        Firing("furnace", "temperature", time_at(3000), None, 88.0, 88.0),
        Firing("furnace", "temperature", time_at(1200), time_at(1260), 90.0, 90.0),
        Firing("furnace", "temperature", time_at(180), time_at(360), 85.0, 95.0),
    ]
    [subject] = result.subjects
    assert (subject.points, subject.firings, subject.is_open, subject.open_seconds) == (60, 3, True, 180 + 60 + 600)
    assert (result.count, result.notifications, result.held_back, result.points) == (3, 5, 0, 60)


def test_peak_of_a_low_threshold_is_the_minimum(site: None) -> None:
    store_points("tank", "temperature", [0, 60, 120, 180], [50, 9, 3, 50])
    [firing] = run_backtest(condition="<", threshold_value=10).firings
    assert (firing.value, firing.peak) == (9, 3)


def test_cooldown_suppresses_alerts(furnace: None) -> None:
    result = run_backtest(cooldown_minutes=30)
    assert firing_times(result) == [(180, 360), (3000, None)]
    assert (result.held_back, result.notifications) == (1, 3)


def test_alert_ends_after_the_auto_resolve_timeout(site: None) -> None:
    store_points("furnace", "temperature", [0, 60, 120, 1200], [20, 85, 85, 85])
    assert firing_times(run_backtest(auto_resolve_timeout=600)) == [(60, 720), (1200, 1800)]
    assert firing_times(run_backtest(auto_resolve_timeout=1080)) == [
        (60, 2280)
    ]  # the next breach is just within the timeout
    assert firing_times(run_backtest(until=1500, auto_resolve_timeout=600)) == [(60, 720), (1200, None)]
    assert firing_times(run_backtest(auto_resolve_timeout=600, auto_resolve=False)) == [(60, None)]


def test_windows_use_points_before_the_start_and_counts_do_not(furnace: None) -> None:
    average = {"aggregation": "avg", "evaluation_window": 180, "threshold_value": 85}
    assert firing_times(run_backtest(since=300, until=360, **average)) == [(300, None)]
    assert firing_times(run_backtest(since=180, trigger_count=3)) == [(300, 360), (3120, None)]
    # A breach before the start does not count.
    assert firing_times(run_backtest(since=240, until=360, trigger_count=2)) == [(300, None)]


def test_values_equal_live_evaluation_for_any_batch_size(furnace: None, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = run_backtest(trigger_count=2, cooldown_minutes=1)
    monkeypatch.setattr(backtests, "SIGNAL_BATCH", 7)
    assert (
        firing_times(run_backtest(trigger_count=2, cooldown_minutes=1))
        == firing_times(expected)
        == [(240, 360), (3060, None)]
    )


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["plain", "counted", "average", "slope", "forecast"])
def test_backtest_equals_live_alerts(
    admin: ApiClient, evaluator: Evaluator, create_cpu_rule: Callable[..., Rule], kind: str
) -> None:
    fields: dict[str, Any] = {
        "plain": {"clear_threshold": 60},
        "counted": {"trigger_count": 3, "evaluation_window": 4, "cooldown_minutes": 1},
        "average": {"aggregation": "avg", "evaluation_window": 5},
        "slope": {"kind": "trend", "evaluation_window": 5, "threshold_value": 10},
        "forecast": {"kind": "forecast", "evaluation_window": 8, "parameters": {"horizon": 3}},
    }[kind]
    rule = create_cpu_rule(**fields)
    values = np.random.default_rng(5).normal(70, 40, 120).round(2).tolist()
    for first in range(0, 120, 17):
        batch = values[first : first + 17]
        send(admin, *batch, ago=120 - first - len(batch))
        run(evaluator)
    end = datetime.now(UTC) + timedelta(minutes=1)
    result = backtest(lifecycle.spec_of(rule), ALL_DEVICES, end - timedelta(minutes=10), end)
    live_alerts = [(alert.triggered_at, alert.resolved_at, alert.value) for alert in Alert.objects.filter(rule=rule)]
    assert len(live_alerts) > (kind != "counted")
    assert [(firing.start, firing.end, firing.value) for firing in result.firings] == live_alerts


def test_texts_and_booleans_are_backtested(site: None) -> None:
    store_points("door", "state", [0, 10, 20], [b"shut", b"open", b"shut"], Kind.STRING)
    store_points("door", "locked", [0, 10, 20], [1.0, 0.0, 1.0], Kind.BOOLEAN)
    result = run_backtest(metric_name="state", condition="==", threshold_value="open")
    assert firing_times(result) == [(10, 20)]
    assert [(firing.value, firing.peak) for firing in result.firings] == [("open", None)]
    result = run_backtest(metric_name="state", condition="!=", threshold_value="shut")
    assert [(firing.value, firing.peak) for firing in result.firings] == [("open", None)]
    result = run_backtest(metric_name="locked", condition="==", threshold_value=False)
    assert firing_times(result) == [(10, 20)]
    assert [(firing.value is False, firing.peak) for firing in result.firings] == [(True, None)]
    assert result.chart is not None and result.chart.values == [1.0, 0.0, 1.0]


def test_only_values_of_the_thresholds_type_are_evaluated(site: None) -> None:
    store_points("door", "temperature", [0, 10], [b"hot", b"hot"], Kind.STRING)
    assert run_backtest().subjects == []


def test_composite_rule_joins_metrics_of_a_device(site: None) -> None:
    store_points("pump", "pressure", [0, 60, 120, 180, 240], [1, 9, 9, 1, 1])
    store_points("pump", "flow", [5, 65, 125, 185], [5, 5, 0, 0])
    store_points("other", "pressure", [0, 60], [9, 9])
    conditions = [
        {"metric_name": "pressure", "condition": ">", "threshold_value": 8, "evaluation_window": 90},
        {"metric_name": "flow", "condition": "<", "threshold_value": 1, "evaluation_window": 90},
    ]
    parameters = {"operator": "and", "conditions": conditions}
    result = run_backtest(kind="composite", metric_name="pressure", parameters=parameters)
    assert firing_times(result) == [(125, 180)]
    assert [(subject.device_id, subject.points) for subject in result.subjects] == [("other", 2), ("pump", 9)]


def test_absence_is_backtested_also_for_devices_without_data(site: None) -> None:
    store_points("meter", "power", [0, 60, 120, 600], [1, 1, 1, 1])
    store_points("meter", "current", [180], [1])
    Device.objects.create(device_id="silent", expected_interval=300)
    absence = {"kind": "absence", "metric_name": "power", "parameters": {"expected_interval": 60, "grace": 5}}
    assert firing_times(run_backtest(until=640, **absence)) == [(185, 600)]
    named_device = RuleScope(Caller.internal("test"), device_ids=["silent"])
    assert firing_times(run_backtest(named_device, until=640, **absence)) == [(65, None)]
    twice = absence | {"trigger_count": 2, "evaluation_window": 900}
    assert run_backtest(since=580, until=1500, **twice).firings == []  # absence before the start does not count
    any_metric = absence | {"metric_name": "*"}
    meter = RuleScope(Caller.internal("test"), device_ids=["meter"])
    assert firing_times(run_backtest(meter, until=640, **any_metric)) == [(245, 600)]
    own_interval = {"kind": "absence", "metric_name": "*"}
    assert [(firing.device_id, firing.start) for firing in run_backtest(**own_interval).firings] == [
        ("silent", time_at(302))
    ]


@pytest.fixture
def waves(site: None) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Seconds and values of two series, one point per ten minutes; series a has an obvious anomaly."""
    series = {}
    for name, days in (("a", 14), ("b", 9)):
        seconds = np.arange(days * 144) * 600.0 - (days - 1) * 86_400
        values = np.round(
            20 + np.sin(seconds / 43_200 * np.pi) + np.random.default_rng(days).normal(0, 0.1, len(seconds)),
            2,
        )
        if name == "a":
            values[-40:-37] = 60.0
        store_points(name, "temperature", seconds.tolist(), values.tolist())
        series[name] = seconds, values
    return series


@pytest.mark.slow
def test_anomalies_equal_those_of_each_series_alone(
    waves: dict[str, tuple[np.ndarray, np.ndarray]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(replay, "MAX_TRAINING_POINTS", 1500)  # fewer than the points of "a"
    result = run_backtest(since=0, until=86_400, kind="anomaly")
    assert {subject.device_id: subject.points for subject in result.subjects} == {"a": 144, "b": 144}
    [firing] = result.firings
    seconds, values = waves["a"]
    assert firing.device_id == "a" and firing.start == time_at(seconds[-40])
    assert result.chart is not None and result.chart.threshold is None
    for seconds, values in waves.values():
        start = max(len(seconds) - 144 - 1500, 0)
        detector = Detector()
        times = to_microseconds(START) + (seconds[start:] * 1_000_000).astype(np.int64)
        alone = detector.run(detector.add(), times, values[start:])
        together = detect_anomalies(
            {7: (times, values[start:]), 8: (times[:500], values[:500])}, to_microseconds(START)
        )[7]
        np.testing.assert_allclose(together.values, alone.score[-144:], rtol=1e-5)


@pytest.mark.slow
def test_value_outside_the_expected_range_is_not_recovered(
    waves: dict[str, tuple[np.ndarray, np.ndarray]],
) -> None:
    seconds, values = waves["a"]
    times = to_microseconds(START) + (seconds * 1_000_000).astype(np.int64)
    signal = detect_anomalies({7: (times, values)}, to_microseconds(START))[7]
    assert signal.recovered[:100].mean() > 0.9
    assert not signal.recovered[-40:-37].any()


def test_too_many_points_for_the_detector_are_rejected(
    waves: dict[str, tuple[np.ndarray, np.ndarray]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(replay, "MAX_ANOMALY_POINTS", 2000)
    with pytest.raises(InvalidField, match="start_time: more than 2,000 points for the anomaly detector"):
        run_backtest(until=86_400, kind="anomaly")


def test_scope_is_named_devices_and_members_of_named_groups(site: None) -> None:
    for name in ("a", "b", "c"):
        store_points(name, "temperature", [0], [99])
    DeviceGroup.objects.create(name="hall").devices.add(Device.objects.get(device_id="b"))
    result = run_backtest(RuleScope(Caller.internal("test"), device_ids=["a"], device_groups=["hall"]))
    assert [subject.device_id for subject in result.subjects] == ["a", "b"]
    assert len(run_backtest().subjects) == 3


def test_backtest_covers_visible_devices_only(site: None) -> None:
    for name in ("a", "b"):
        store_points(name, "temperature", [0], [99])
    DeviceGroup.objects.create(name="hall").devices.add(Device.objects.get(device_id="b"))
    caller = Caller("user:somebody", Right.READ, groups=("hall",))
    assert [subject.device_id for subject in run_backtest(RuleScope(caller)).subjects] == ["b"]
    assert run_backtest(RuleScope(caller, device_ids=["a"])).subjects == []


def test_too_large_backtest_is_rejected_with_the_field(furnace: None, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InvalidField, match="start_time"):
        run_backtest(until=0)
    with monkeypatch.context() as patch, pytest.raises(InvalidField, match="about 60 points"):
        patch.setattr(replay, "MAX_REPLAY_POINTS", 10)
        run_backtest()
    store_points("other", "temperature", [0], [1])
    monkeypatch.setattr(scopes, "MAX_DEVICES", 1)
    with pytest.raises(InvalidField, match="device_ids: more than 1 devices"):
        run_backtest()


def test_series_are_read_in_batches(site: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(replay, "REPLAY_BATCH", 2)
    for number in range(5):
        store_points(f"device {number}", "temperature", [0, 60 * number], [99 if number == 0 else 20, 99])
    assert [(subject.device_id, subject.firings) for subject in run_backtest().subjects] == [
        (f"device {n}", 1) for n in range(5)
    ]


def test_chart_shows_the_series_with_most_firings_and_keeps_extremes(site: None) -> None:
    for name in ("a calm one", "z calm one"):
        store_points(name, "temperature", range(10), [1.0] * 10)
    values = np.sin(np.arange(20_000) / 500) * 50
    values[[777, 12_345]] = 99.0
    store_points("wild", "temperature", np.arange(20_000) / 10, values.tolist())
    chart = run_backtest(clear_threshold=70).chart
    assert chart is not None and chart.device_id == "wild"
    assert (chart.threshold, chart.clear_threshold) == (80.0, 70.0)
    assert len(chart.times) <= backtests.MAX_CHART_POINTS + 2
    peaks = [to_datetime(time) for time, value in zip(chart.times, chart.values, strict=True) if value == 99.0]
    assert peaks == [time_at(77.7), time_at(1234.5)]


def test_newest_firings_are_listed_and_all_are_counted(site: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backtests, "MAX_FIRINGS", 3)
    for name in ("a", "b"):
        store_points(name, "temperature", range(20), [99.0, 20.0] * 10)
    result = run_backtest()
    assert result.count == 20
    assert [firing.start for firing in result.firings] == [time_at(18), time_at(18), time_at(16)]


def test_expired_points_are_listed_as_missing(furnace: None) -> None:
    spec = read_spec({"metric_name": "temperature", "condition": ">", "threshold_value": 80})
    result = backtest(spec, ALL_DEVICES, START - timedelta(days=400), time_at(3600))
    assert result.count == 3
    assert result.missing == []  # no points were stored at that time
