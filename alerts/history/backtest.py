"""Backtest: the alerts that a rule would have opened, from stored points and the conditions of live evaluation."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime

import numpy as np
from numpy.typing import NDArray

from alerts.conditions.alert_lifecycle import LifecycleState, Transition, advance
from alerts.conditions.spec import SECOND, RuleSpec
from alerts.conditions.thresholds import Signal
from alerts.detector.sensitivity import SENSITIVITIES, expected_per_month
from alerts.evaluation.anomaly_results import AnomalySignal
from alerts.history.replay import Points, ReplayedSeries, plan_replay, replay
from alerts.rules.scope import RuleScope
from metrics.query.accumulators import Ints
from metrics.query.raw_points import RawPoints, downsample
from metrics.storage.units import to_datetime

MAX_FIRINGS = 1_000  # listed, the newest
MAX_CHART_POINTS = 1_000
SIGNAL_BATCH = 250_000  # points whose transitions are found together


@dataclass(frozen=True, slots=True)
class Firing:
    """An alert that the rule would have opened; `end` is None if it would still be open.

    value  the value that triggers it; None if undefined
    peak   the worst value until its end, of an anomaly the most unusual one; None for texts and booleans
    """

    device_id: str
    metric_name: str
    start: datetime
    end: datetime | None
    value: float | str | bool | None
    peak: float | None


@dataclass(frozen=True, slots=True)
class BacktestSeries:
    """The result for one device and metric.

    held_back  further alerts that the cooldown would have suppressed
    """

    device_id: str
    metric_name: str
    points: int
    firings: int
    is_open: bool
    held_back: int
    open_seconds: float

    @property
    def notifications(self) -> int:
        """Each alert is notified when it is opened and when it is resolved."""
        return 2 * self.firings - self.is_open


@dataclass(frozen=True, slots=True)
class BacktestChart:
    """The evaluated values of one device and metric, downsampled; times in µs."""

    device_id: str
    metric_name: str
    times: list[int]
    values: list[float]
    threshold: float | None
    clear_threshold: float | None


@dataclass(slots=True)
class Backtest:
    """The result of a backtest.

    subjects  by device
    firings   newest first, at most MAX_FIRINGS
    chart     of the series with the most alerts
    missing   points that could not be read, with the reason
    per_month expected notifications per month at each sensitivity, of a rule with one anomaly condition
    """

    start: datetime
    end: datetime
    subjects: list[BacktestSeries] = field(default_factory=list)
    firings: list[Firing] = field(default_factory=list)
    chart: BacktestChart | None = None
    missing: list[str] = field(default_factory=list)
    per_month: dict[str, float] | None = None
    milliseconds: float = 0.0

    @property
    def count(self) -> int:
        return sum(series.firings for series in self.subjects)

    @property
    def notifications(self) -> int:
        return sum(series.notifications for series in self.subjects)

    @property
    def held_back(self) -> int:
        return sum(series.held_back for series in self.subjects)

    @property
    def points(self) -> int:
        return sum(series.points for series in self.subjects)


def backtest(spec: RuleSpec, scope: RuleScope, start: datetime, end: datetime) -> Backtest:
    """Evaluate a rule from start until end as if it had been created at start. Raises InvalidField or Overloaded."""
    began = time.perf_counter()
    plan = plan_replay(spec, scope, start, end)
    result = Backtest(start, end)
    most_transitions = -1
    for replayed in replay(plan):
        signal = replayed.signal
        transitions = _find_transitions(spec, signal)
        result.subjects.append(_summarize(spec, replayed, transitions, plan.end))
        result.firings += _list_firings(spec, replayed, transitions)
        result.firings = sorted(result.firings, key=lambda firing: firing.start, reverse=True)[:MAX_FIRINGS]
        if len(transitions) > most_transitions and len(signal):
            most_transitions, result.chart = len(transitions), _draw_chart(spec, replayed)
        _add_per_month(result, replayed.anomaly)
    result.subjects.sort(key=lambda series: series.device_id)
    result.missing = plan.missing
    result.milliseconds = round((time.perf_counter() - began) * 1000, 3)
    return result


def _add_per_month(result: Backtest, anomaly: AnomalySignal | None) -> None:
    """Add the expected notifications of a series; none for less than a day of points."""
    if anomaly is None:
        return
    detection = anomaly.detection
    expected = expected_per_month(anomaly.times, detection.gravity, detection.gravity_before, anomaly.adjustment)
    if expected is not None:
        before = result.per_month or dict.fromkeys(SENSITIVITIES, 0.0)
        result.per_month = {name: before[name] + expected[name] for name in SENSITIVITIES}


def _find_transitions(spec: RuleSpec, signal: Signal) -> list[Transition]:
    state, transitions = LifecycleState(), []
    for first in range(0, len(signal), SIGNAL_BATCH):
        batch = slice(first, first + SIGNAL_BATCH)
        part = Signal(signal.times[batch], signal.values[batch], signal.breach[batch], signal.recovered[batch])
        transitions += [Transition(opened, position + first) for opened, position in advance(spec, state, part)]
    return transitions


def _summarize(spec: RuleSpec, replayed: ReplayedSeries, transitions: list[Transition], until: int) -> BacktestSeries:
    series, signal = replayed.series, replayed.signal
    firings = -(-len(transitions) // 2)
    is_open = len(transitions) % 2 == 1
    times = np.empty(0, np.int64)
    if transitions:
        times = signal.times[[position for _, position in transitions]]
        times = np.append(times, until) if is_open else times
    without_cooldown = firings
    if spec.cooldown and transitions:
        without_cooldown = -(-len(_find_transitions(replace(spec, cooldown=0), signal)) // 2)
    return BacktestSeries(
        device_id=series.device_id,
        metric_name=series.metric,
        points=replayed.points,
        firings=firings,
        is_open=is_open,
        held_back=without_cooldown - firings,
        open_seconds=float((times[1::2] - times[::2]).sum()) / SECOND,
    )


def _list_firings(spec: RuleSpec, replayed: ReplayedSeries, transitions: list[Transition]) -> list[Firing]:
    """Return the last MAX_FIRINGS firings of a series."""
    series, signal = replayed.series, replayed.signal
    transitions = transitions[max(0, -(-len(transitions) // 2) - MAX_FIRINGS) * 2 :]
    if not transitions:
        return []
    positions: Ints = np.array([position for _, position in transitions])
    times = [to_datetime(microseconds) for microseconds in signal.times[positions].tolist()]
    ends = [*times[1::2], None] if len(times) % 2 else times[1::2]
    values: Sequence[float | str | bool | None]
    peaks: list[float | None]
    if replayed.words is not None:
        values = _words_at(replayed.words, signal.times[positions[::2]])
        peaks = [None] * len(values)
    elif replayed.anomaly is not None:
        values, peaks = _anomalies_at(replayed.anomaly, signal.times[positions])
    else:
        is_low = bool(spec.conditions) and spec.conditions[0].is_low
        values = _nan_to_none(signal.values[positions[::2]])
        peaks = _nan_to_none((np.fmin if is_low else np.fmax).reduceat(signal.values, positions)[::2])
    return [
        Firing(series.device_id, series.metric, *firing) for firing in zip(times[::2], ends, values, peaks, strict=True)
    ]


def _words_at(points: Points, times: Ints) -> list[str | bool]:
    """Return the texts or booleans at these times, or the last ones before."""
    positions = np.searchsorted(points[0], times, side="right") - 1
    return [value.decode() if isinstance(value, bytes) else bool(value) for value in points[1][positions].tolist()]


def _anomalies_at(anomaly: AnomalySignal, times: Ints) -> tuple[list[float | None], list[float | None]]:
    """Return the measured values that opened alerts, and the gravest of each; `times` are those of the transitions."""
    positions = anomaly.times.searchsorted(times)
    values, peaks = [], []
    for first, end in zip(positions[::2].tolist(), [*positions[1::2].tolist(), len(anomaly)], strict=False):
        values.append(float(anomaly.measured[first]))
        peaks.append(float(anomaly.measured[first + int(anomaly.detection.gravity[first:end].argmax())]))
    return list(values), list(peaks)


def _nan_to_none(values: NDArray[np.float64]) -> list[float | None]:
    return [None if value != value else value for value in values.tolist()]


def _draw_chart(spec: RuleSpec, replayed: ReplayedSeries) -> BacktestChart | None:
    series, signal = replayed.series, replayed.anomaly or replayed.signal
    drawn = signal.values if replayed.anomaly is None else replayed.anomaly.measured
    defined = ~np.isnan(drawn)
    if not defined.any():
        return None
    points = RawPoints(signal.times[defined], drawn[defined], [], None, ())
    if len(points) > MAX_CHART_POINTS:
        points = downsample(points, MAX_CHART_POINTS)
    threshold, recovery_threshold = _thresholds(spec)
    values = np.asarray(points.values).tolist()
    return BacktestChart(series.device_id, series.metric, points.times.tolist(), values, threshold, recovery_threshold)


def _thresholds(spec: RuleSpec) -> tuple[float | None, float | None]:
    """Return the threshold and the recovery threshold of the evaluated values."""
    if len(spec.conditions) != 1:
        return None, None
    [condition] = spec.conditions
    threshold = condition.threshold
    return 1.0 if isinstance(threshold, str) else threshold, condition.recovery_threshold
