"""Stored history through the conditions that live evaluation goes through: subject after subject, in bounded memory."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final

import numpy as np

from alerts.conditions.absence import heard_again
from alerts.conditions.alert_lifecycle import closed_by_time
from alerts.conditions.composite import Joined, join
from alerts.conditions.dispatch import judge
from alerts.conditions.spec import Comparison, Spec
from alerts.conditions.thresholds import Signal, as_numbers
from alerts.detector.detector import Detector
from alerts.evaluation.anomalies import LEARNT_FROM, MOST_LEARNT
from alerts.evaluation.anomaly_results import judge_together
from alerts.evaluation.rule_series_state import NOTHING
from alerts.rules.scope import Scope, Subject, subjects
from metrics.query.accumulators import Ints
from metrics.query.plan import PlanPiece, find_expired_points, limit_points, open_read
from metrics.query.query import Query
from metrics.storage.connection import Connection
from metrics.storage.format.codec import Values
from metrics.storage.read.plan import ReadPlan
from metrics.storage.read.scan import read_points
from rest.errors import InvalidField

MOST_POINTS: Final = 5_000_000
TOGETHER: Final = 25  # subjects whose points are held at once
MOST_DETECTED: Final = 60_000  # points that the detector of anomalies learns from and judges: it takes its time

Points = tuple[Ints, Values]


@dataclass(slots=True)
class History:
    """What is to be replayed from `start` (µs) on; the query for its points begins earlier."""

    spec: Spec
    start: int
    query: Query
    subjects: list[Subject]
    missing: list[str] = field(default_factory=list)  # what is not in it, and why


See = Callable[[Subject, Signal, int], None]
"""What is told of a subject: its signal, and how many points were judged."""


def history(spec: Spec, scope: Scope, start: datetime, end: datetime) -> History:
    """What a rule would judge from one time to before another. Raises InvalidField."""
    metrics = tuple(sorted(spec.metrics or {spec.metric}))
    Query(metrics, start, end).validate()
    learning = LEARNT_FROM if any(one.kind == "anomaly" for one in spec.conditions) else 0
    query = Query(metrics, start - timedelta(microseconds=max(spec.lookback, learning)), end)
    about, asked = subjects(spec, scope)
    return History(spec, Query(metrics, start, end).start_us, query, about, find_expired_points(query, asked, None))


def replay(past: History, see: See) -> None:
    """Tell of each subject. Raises InvalidField where that would be too much to read."""
    for one in past.subjects:
        if not one.is_heard:
            see(one, _signal(past, one, {}, {}), 0)
    heard = [one for one in past.subjects if one.is_heard]
    parts = [heard[at : at + TOGETHER] for at in range(0, len(heard), TOGETHER)]

    if not parts:
        return
    left = MOST_DETECTED
    pieces = [PlanPiece(_ids(some)) for some in parts]
    with open_read(past.query, pieces, MOST_POINTS) as (connection, plans):
        for some, planned in zip(parts, plans, strict=True):
            held = _held(past.query, connection, planned)
            learnt = _learnt(past, some, held)
            left -= sum(len(times) for times, _ in learnt.values())
            if left < 0:
                most = f"anomalies are looked for in {MOST_DETECTED:,} points at most"
                raise InvalidField("start_time", f"{most}; ask for less time, or for fewer devices")
            found = strange(learnt, past.start)
            for one in some:
                see(one, _signal(past, one, held, found), _points(past, one, held))
            past.missing += [f"{name} is damaged and was left out" for name in planned.damaged]


def _ids(subjects: Sequence[Subject]) -> Ints:
    return np.unique([number for one in subjects for number in one.series if number is not None])


def _held(query: Query, connection: Connection, planned: ReadPlan) -> dict[int, Points]:
    """The points of a plan by series, in order of time."""
    pieces: dict[int, list[Points]] = {}
    for piece in limit_points(query, read_points(connection, planned, whole=True), MOST_POINTS):
        for at, number in enumerate(piece.ids.tolist()):
            low, high = int(piece.offsets[at]), int(piece.offsets[at + 1])
            pieces.setdefault(number, []).append((piece.times[low:high], piece.values[low:high]))
    return {
        number: (np.concatenate([times for times, _ in some]), np.concatenate([values for _, values in some]))
        for number, some in pieces.items()
    }


def _points(past: History, one: Subject, held: dict[int, Points]) -> int:
    numbers = {number for number in one.series if number in held}
    return sum(len(held[number][0]) - int(held[number][0].searchsorted(past.start)) for number in numbers)


def _learnt(past: History, some: Sequence[Subject], held: dict[int, Points]) -> dict[int, Points]:
    """The points of those series that the detector of anomalies judges, with what it learns them from."""
    places = [place for place, one in enumerate(past.spec.conditions) if one.kind == "anomaly"]
    numbers = {number for one in some for place in places if (number := one.series[place]) in held}
    found = {}
    for number in numbers:
        assert number is not None
        times, values = held[number]
        first = max(int(times.searchsorted(past.start)) - MOST_LEARNT, 0)
        found[number] = times[first:], values[first:]
    return found


def strange(points: dict[int, Points], start: int) -> dict[int, Signal]:
    """The anomalies of series from a time on (µs)."""
    detector = Detector()
    found = judge_together(detector, {number: detector.add() for number in points}, points)
    return {number: one.after(start - 1) for number, one in found.items()}


def _signal(past: History, one: Subject, held: dict[int, Points], detected: dict[int, Signal]) -> Signal:
    """The signal of a subject, with what the clock adds to it."""
    spec, until = past.spec, past.query.end_us
    if spec.kind == "absence":
        times = [held[number][0] for number in one.series if number in held]
        heard = np.unique(np.concatenate([np.empty(0, np.int64), *times]))
        return heard_again(heard[heard >= past.start], past.start, until, one.expected, spec.grace)
    signals = []
    for comparison, number in zip(spec.conditions, one.series, strict=True):
        if number not in held:
            signals.append(NOTHING)
        elif comparison.kind == "anomaly":
            signals.append(detected[number])
        else:
            signals.append(_condition(comparison, *held[number], past.start))
    return closed_by_time(spec, join(spec, Joined(), signals) if spec.kind == "composite" else signals[0], until)


def _condition(comparison: Comparison, times: Ints, values: Values, start: int) -> Signal:
    numbers = as_numbers(comparison, values) if values.dtype == object else values
    return judge(comparison, times, numbers, int(times.searchsorted(start)))
