"""State of the evaluator for each rule and series: inputs, evaluation window, breaches and open alert."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from alerts.conditions.alert_lifecycle import NEVER, LifecycleState, Transition, advance
from alerts.conditions.composite import CompositeState, join
from alerts.conditions.dispatch import evaluate_condition
from alerts.conditions.spec import ConditionSpec, RuleSpec
from alerts.conditions.thresholds import Signal, as_numbers
from alerts.evaluation.anomaly_results import AnomalySignal
from alerts.evaluation.point_order import first_on_time
from alerts.models import Rule
from metrics.query.accumulators import Floats, Ints
from metrics.storage.format.codec import Columns

MAX_WINDOW_POINTS = 20_000  # the newest points of a window that has more

EMPTY_SIGNAL = Signal(np.empty(0, np.int64), np.empty(0), np.empty(0, np.bool_), np.empty(0, np.bool_))

RuleSeriesKey = tuple[int, int, str]  # primary keys of rule and device, metric
TimeRange = tuple[int, int]  # first and last time, µs


def numeric(value: Any) -> float | None:
    """Return the value of an alert where it is a number: others have no worst value."""
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


@dataclass(slots=True, eq=False)
class WatchedRule:
    """An enabled rule. `devices` are device_ids, `members` primary keys of devices; both None: every device."""

    rule: Rule
    spec: RuleSpec
    devices: frozenset[str] | None
    members: frozenset[int] | None

    @property
    def identity(self) -> tuple[object, ...]:
        """Rule version and devices. Two watched rules with the same identity are evaluated alike."""
        return self.rule.pk, self.rule.version, self.devices, self.members

    def covers(self, device: int, device_id: str) -> bool:
        if self.devices is None or self.members is None:
            return True
        return device_id in self.devices or device in self.members


@dataclass(slots=True, eq=False)
class ConditionInput:
    """The series that one condition is evaluated on, with the points that the next evaluation needs.

    watermark       time of the last evaluated point, µs
    times, values   points of the evaluation window up to the watermark; empty if the condition has no window
    anomaly_signal  the detector's result for the points that are about to be evaluated
    """

    condition: ConditionSpec
    series: int
    watermark: int = NEVER
    times: Ints = field(default_factory=lambda: np.empty(0, np.int64))
    values: Floats = field(default_factory=lambda: np.empty(0))
    anomaly_signal: AnomalySignal | None = None

    @property
    def is_simple(self) -> bool:
        """Whether each number alone is compared with a threshold, without a window."""
        condition = self.condition
        return condition.kind == "threshold" and not condition.aggregation and not isinstance(condition.threshold, str)

    def read_points(self, columns: Columns) -> tuple[Ints, Floats]:
        """Return the times and values of columns that hold this series alone, as numbers to compare."""
        if columns.is_numeric:
            return columns.times, columns.values
        return columns.times, as_numbers(self.condition, columns.values)

    def load_history(self, times: Ints, values: Floats) -> Signal:
        """Fill the window with earlier points. Returns their signal."""
        if self.condition.kind == "anomaly":
            return EMPTY_SIGNAL
        signal = evaluate_condition(self.condition, times, values, 0)
        self._keep_window(times, values)
        return signal

    def evaluate(self, times: Ints, values: Floats, arrived: int) -> tuple[Signal | None, TimeRange | None]:
        """Return the signal of the new points that are on time and in order, and the time range of the others."""
        if self.condition.kind == "anomaly":
            return self._take_anomaly_signal(), None
        late, first = None, first_on_time(times, arrived, self.watermark)
        if first:
            late = int(times[0]), int(times[first - 1])
            times, values = times[first:], values[first:]
        if not len(times):
            return None, late
        self.watermark = int(times[-1])
        earlier = len(self.times)
        if earlier:
            times, values = np.concatenate((self.times, times)), np.concatenate((self.values, values))
        signal = evaluate_condition(self.condition, times, values, earlier)
        self._keep_window(times, values)
        return signal, late

    def _take_anomaly_signal(self) -> AnomalySignal | None:
        signal, self.anomaly_signal = self.anomaly_signal, None
        if signal is None or not len(signal := signal.after(self.watermark)):
            return None
        self.watermark = int(signal.times[-1])
        return signal

    def _keep_window(self, times: Ints, values: Floats) -> None:
        if self.condition.needs_window and len(times):
            first = int(times.searchsorted(times[-1] - self.condition.window, "right"))
            first = max(first, len(times) - MAX_WINDOW_POINTS)
            self.times, self.values = times[first:].copy(), values[first:].copy()


class EvaluationResult(NamedTuple):
    """The result of new points for one rule and series.

    transitions  alerts to open and to resolve, in order
    late         time range of points that came late or out of order, by series
    """

    state: "RuleSeriesState"
    signal: Signal | None
    transitions: list[Transition]
    late: dict[int, TimeRange]


@dataclass(slots=True, eq=False)
class RuleSeriesState:
    """State of a rule and a metric of a device; of a composite rule: of a rule and a device.

    inputs       by position of the condition; more than one only for a composite
    lifecycle    breaches and alert so far
    composite    last result of each condition; None if the rule is no composite
    alert        primary key of the open alert
    column       position in SimpleStates; -1: not in there
    has_history  whether the points before the first new ones were loaded
    last_breach  time of the last breach while an alert is open, µs
    worst        value furthest beyond the threshold while an alert is open
    """

    watched: WatchedRule
    device: int
    device_id: str
    metric: str
    inputs: dict[int, ConditionInput] = field(default_factory=dict)
    lifecycle: LifecycleState = field(default_factory=LifecycleState)
    composite: CompositeState | None = None
    alert: int | None = None
    column: int = -1
    has_history: bool = False
    last_breach: int = NEVER
    worst: float | None = None

    @property
    def key(self) -> RuleSeriesKey:
        return self.watched.rule.pk, self.device, self.metric

    @property
    def is_simple(self) -> bool:
        return self.composite is None and all(source.is_simple for source in self.inputs.values())

    @property
    def needs_history(self) -> bool:
        """Whether earlier points are needed and were not loaded yet."""
        return not self.has_history and self.watched.spec.lookback > 0

    def load_history(self, points: dict[int, tuple[Ints, Floats]]) -> None:
        """Load the points before the first new ones, by position of the condition."""
        self.has_history = True
        spec = self.watched.spec
        signals = {position: self.inputs[position].load_history(*columns) for position, columns in points.items()}
        if not signals:
            return
        signal = signals[0] if self.composite is None else self._join(signals)
        if spec.trigger_count > 1:
            breaches = signal.times[signal.breach & (signal.times > self.lifecycle.ended)]
            self.lifecycle.breaches = breaches[len(breaches) - min(spec.trigger_count - 1, len(breaches)) :]

    def evaluate(self, points: Sequence[tuple[int, Ints, Floats]], arrived: int) -> EvaluationResult:
        """Evaluate new points (position of the condition, times, values) that arrived at a time (µs)."""
        signals: dict[int, Signal] = {}
        late: dict[int, TimeRange] = {}
        for position, times, values in points:
            source = self.inputs[position]
            signal, late_range = source.evaluate(times, values, arrived)
            if late_range is not None:
                late[source.series] = late_range
            if signal is not None:
                signals[position] = signal
        if not signals:
            return EvaluationResult(self, None, [], late)
        evaluated = signals[0] if self.composite is None else self._join(signals)
        return EvaluationResult(self, evaluated, advance(self.watched.spec, self.lifecycle, evaluated), late)

    def worst_of(self, values: Floats) -> float | None:
        """Return the worst of these values and `worst`: the minimum if low values are bad, else the maximum.

        Texts and booleans have none.
        """
        conditions = self.watched.spec.conditions
        if any(isinstance(condition.threshold, (str, bool)) for condition in conditions):
            return None
        numbers = values[~np.isnan(values)]
        if not len(numbers):
            return self.worst
        low = conditions[0].op in ("<", "<=")
        worst = float(numbers.min() if low else numbers.max())
        return worst if self.worst is None else min(worst, self.worst) if low else max(worst, self.worst)

    def _join(self, signals: dict[int, Signal]) -> Signal:
        assert self.composite is not None
        spec = self.watched.spec
        return join(
            spec, self.composite, [signals.get(position, EMPTY_SIGNAL) for position in range(len(spec.conditions))]
        )
