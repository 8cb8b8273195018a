"""Replay stored points through the conditions of live evaluation, a batch of series at a time, in bounded memory."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import NamedTuple

import numpy as np

from alerts.anomaly_feedback import read_adjustments
from alerts.conditions.absence import evaluate_absence
from alerts.conditions.alert_lifecycle import add_timeouts
from alerts.conditions.composite import CompositeState, join
from alerts.conditions.dispatch import evaluate_condition
from alerts.conditions.spec import ConditionSpec, RuleSpec
from alerts.conditions.thresholds import Signal, as_numbers
from alerts.detector.detector import Detector
from alerts.evaluation.anomalies import MAX_TRAINING_POINTS, TRAINING_PERIOD
from alerts.evaluation.anomaly_results import AnomalySignal, detect_together
from alerts.evaluation.rule_series_state import EMPTY_SIGNAL
from alerts.rules.scope import RuleScope, RuleSeries, find_rule_series
from metrics.query.accumulators import Floats, Ints
from metrics.query.plan import ReadRequest, find_expired_points, open_read, read_matching_points
from metrics.query.query import Query
from metrics.storage.connection import Connection
from metrics.storage.format.codec import Values
from metrics.storage.read.plan import ReadPlan
from metrics.storage.read.rollups import PlanPiece
from rest.errors import InvalidField

MAX_REPLAY_POINTS = 5_000_000
REPLAY_BATCH = 25  # rule series whose points are in memory together
MAX_ANOMALY_POINTS = 500_000  # of the detector, which takes 10 to 20 s for them: points to learn from included

Points = tuple[Ints, Values]


@dataclass(slots=True)
class ReplayPlan:
    """A replay from `start` to before `end` (µs).

    read_from  µs; windows and the detector need earlier points
    thin_to    the detector gets at most this many points of a series; None: all
    missing    points that cannot be read, with the reason
    """

    spec: RuleSpec
    start: int
    end: int
    read_from: int
    series: list[RuleSeries]
    missing: list[str] = field(default_factory=list)
    thin_to: int | None = None


class ReplayedSeries(NamedTuple):
    """The signal of one rule series, and the number of points that it was evaluated on.

    words    the points of a rule that compares texts or booleans: its signal has only 0 and 1
    anomaly  the result of the detector, of a rule with one anomaly condition
    """

    series: RuleSeries
    signal: Signal
    points: int
    words: Points | None = None
    anomaly: AnomalySignal | None = None


def plan_replay(spec: RuleSpec, scope: RuleScope, start: datetime, end: datetime) -> ReplayPlan:
    """Return what a rule would evaluate from start until before end. Raises InvalidField."""
    metrics = tuple(sorted(spec.metrics or {spec.metric}))
    query = Query(metrics, start, end).validate()
    has_anomaly = any(condition.kind == "anomaly" for condition in spec.conditions)
    read_from = query.start - max(spec.lookback, TRAINING_PERIOD if has_anomaly else 0)
    series, targets = find_rule_series(spec, scope)
    expired = find_expired_points(targets, None, read_from, query.end)
    return ReplayPlan(spec, query.start, query.end, read_from, series, expired)


def replay(plan: ReplayPlan) -> Iterator[ReplayedSeries]:
    """Yield the signal of each rule series. Raises InvalidField if there are too many points."""
    for series in plan.series:
        if not series.has_points:
            yield ReplayedSeries(series, _evaluate(plan, series, {}, {}), 0)
    stored = [series for series in plan.series if series.has_points]
    batches = [stored[first : first + REPLAY_BATCH] for first in range(0, len(stored), REPLAY_BATCH)]
    if not batches:
        return
    anomaly_points = 0
    pieces = [PlanPiece(_series_ids(batch)) for batch in batches]
    request = ReadRequest(pieces, plan.read_from, plan.end, MAX_REPLAY_POINTS)
    with open_read(request) as (connection, read_plans):
        for batch, read_plan in zip(batches, read_plans, strict=True):
            points = _read(connection, read_plan, request)
            training = _select_anomaly_points(plan, batch, points)
            anomaly_points += sum(len(times) for times, _ in training.values())
            if anomaly_points > MAX_ANOMALY_POINTS:
                raise InvalidField(
                    "start_time",
                    f"more than {MAX_ANOMALY_POINTS:,} points for the anomaly detector; choose a shorter time range"
                    " or fewer devices",
                )
            anomalies = detect_anomalies(training, plan.start)
            for series in batch:
                yield ReplayedSeries(
                    series,
                    _evaluate(plan, series, points, anomalies),
                    _count_points(plan, series, points),
                    _select_words(plan.spec, series, points),
                    anomalies.get(series.ids[0]) if plan.spec.kind == "anomaly" and series.ids[0] is not None else None,
                )
            plan.missing += [f"{name} is damaged and was left out" for name in read_plan.damaged]


def _series_ids(batch: Sequence[RuleSeries]) -> Ints:
    return np.unique([number for series in batch for number in series.ids if number is not None])


def _read(connection: Connection, read_plan: ReadPlan, request: ReadRequest) -> dict[int, Points]:
    """Return the points of each series, times ascending."""
    parts: dict[int, list[Points]] = {}
    for columns in read_matching_points(connection, read_plan, request, whole=True):
        for position, number in enumerate(columns.ids.tolist()):
            low, high = int(columns.offsets[position]), int(columns.offsets[position + 1])
            parts.setdefault(number, []).append((columns.times[low:high], columns.values[low:high]))
    return {
        number: (
            np.concatenate([times for times, _ in series_parts]),
            np.concatenate([values for _, values in series_parts]),
        )
        for number, series_parts in parts.items()
    }


def _count_points(plan: ReplayPlan, series: RuleSeries, points: dict[int, Points]) -> int:
    """Return the number of points from the start on."""
    numbers = {number for number in series.ids if number in points}
    return sum(len(points[number][0]) - int(points[number][0].searchsorted(plan.start)) for number in numbers)


def _select_words(spec: RuleSpec, series: RuleSeries, points: dict[int, Points]) -> Points | None:
    if len(spec.conditions) != 1 or not isinstance(spec.conditions[0].threshold, str | bool):
        return None
    return points.get(series.ids[0]) if series.ids[0] is not None else None


def _select_anomaly_points(
    plan: ReplayPlan, batch: Sequence[RuleSeries], points: dict[int, Points]
) -> dict[int, Points]:
    """Return the points of the series with an anomaly condition, and the points before that the detector learns."""
    positions = [position for position, condition in enumerate(plan.spec.conditions) if condition.kind == "anomaly"]
    selected = {}
    for number in {series.ids[position] for series in batch for position in positions}:
        if number is not None and number in points:
            times, values = thin(*points[number], plan.thin_to)
            first = max(int(times.searchsorted(plan.start)) - MAX_TRAINING_POINTS, 0)
            selected[number] = times[first:], values[first:]
    return selected


def thin(times: Ints, values: Floats, limit: int | None) -> tuple[Ints, Floats]:
    """Return at most `limit` points: of equal parts of the time the most extreme one, so that spikes stay.

    times ascending; the most extreme point is the one farthest from the mean of its part.
    """
    if limit is None or len(times) <= limit:
        return times, values
    part = (times - times[0]) // (int(times[-1] - times[0]) // limit + 1)
    starts = np.flatnonzero(np.diff(part, prepend=-1))
    lengths = np.diff(starts, append=len(times))
    finite = np.where(np.isfinite(values), values, 0.0)
    mean = np.repeat(np.add.reduceat(finite, starts) / lengths, lengths)
    order = np.lexsort((np.abs(finite - mean), part))
    extreme = np.sort(order[starts + lengths - 1])
    return times[extreme], values[extreme]


def detect_anomalies(points: dict[int, Points], start: int) -> dict[int, AnomalySignal]:
    """Return the anomaly signal of each series from a time on (µs)."""
    detector = Detector()
    signals = detect_together(detector, {number: detector.add() for number in points}, points)
    adjustments = read_adjustments(list(points)) if points else {}
    return {
        number: replace(signal.after(start - 1), adjustment=adjustments.get(number, 1.0))
        for number, signal in signals.items()
    }


def _evaluate(
    plan: ReplayPlan, series: RuleSeries, points: dict[int, Points], anomalies: dict[int, AnomalySignal]
) -> Signal:
    """Return the signal of a rule series, with the timeouts that the clock adds."""
    spec, until = plan.spec, plan.end
    if spec.kind == "absence":
        stored_times = [points[number][0] for number in series.ids if number in points]
        times = np.unique(np.concatenate([np.empty(0, np.int64), *stored_times]))
        return evaluate_absence(times[times >= plan.start], plan.start, until, series.expected, spec.grace)
    signals: list[Signal] = []
    for condition, number in zip(spec.conditions, series.ids, strict=True):
        if number not in points:
            signals.append(EMPTY_SIGNAL)
        elif condition.kind == "anomaly":
            signals.append(anomalies[number].at(condition.sensitivity))
        else:
            signals.append(_evaluate_condition(condition, *points[number], plan.start))
    signal = join(spec, CompositeState(), signals) if spec.kind == "composite" else signals[0]
    return add_timeouts(spec, signal, until)


def _evaluate_condition(condition: ConditionSpec, times: Ints, values: Values, start: int) -> Signal:
    numbers = as_numbers(condition, values) if values.dtype == object else values
    return evaluate_condition(condition, times, numbers, int(times.searchsorted(start)))
