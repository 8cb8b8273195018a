"""The anomaly detector on live points.

A series first learns from its stored points, in the pauses of evaluation. The points that arrive meanwhile wait, and
are evaluated after that, in order. The learnt state is stored, so that another process continues from it at the next
point; before that, the time from which points are evaluated.
"""

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np
from django.db import connection

from alerts.conditions.alert_lifecycle import NEVER
from alerts.detector.detector import Detector
from alerts.detector.state import InvalidState
from alerts.evaluation.anomaly_results import AnomalySignal, Points, detect_together
from alerts.evaluation.load_history import read_columns
from alerts.evaluation.point_order import first_on_time
from alerts.models import DetectorState
from metrics.query.accumulators import Floats, Ints

TRAINING_PERIOD = 21 * 86_400 * 1_000_000  # µs before now
MAX_TRAINING_POINTS = 10_000  # per series, the newest
SERIES_BATCH = 64  # series whose points are read together
FIRST_READ_PERIOD = 3_600 * 1_000_000  # µs before now; each further read goes back twice as far
MAX_RESUME_AGE = 86_400 * 1_000_000  # µs since the last learnt point for a series to continue at once …
MAX_RESUME_POINTS = 1_000  # … and points since then
LEARNING_TIME = 0.1  # seconds between two looks for commits
LEARNING_POINTS = 500  # between two looks at the clock
STORE_PERIOD = 300.0  # seconds in which the state of every series is stored once

_NO_POINTS: Points = np.empty(0, np.int64), np.empty(0)
_STORE_STATES = """
INSERT INTO alerts_detectorstate (series, time, state, updated_at)
SELECT series, time, state, now() FROM unnest(%s::bigint[], %s::bigint[], %s::bytea[]) n(series, time, state)
ORDER BY series
ON CONFLICT (series) DO UPDATE SET time = EXCLUDED.time, state = EXCLUDED.state, evaluate_from = NULL,
    updated_at = now()
"""
_STORE_WAITING = """
INSERT INTO alerts_detectorstate (series, time, state, evaluate_from, updated_at)
SELECT series, evaluate_from, '', evaluate_from, now() FROM unnest(%s::bigint[], %s::bigint[]) n(series, evaluate_from)
ORDER BY series
ON CONFLICT (series) DO UPDATE SET evaluate_from = EXCLUDED.evaluate_from, updated_at = now()
"""


@dataclass(slots=True)
class _WaitingSeries:
    """A series that learns the points before a time (µs); later ones are evaluated after that."""

    evaluate_from: int
    points: list[Points] = field(default_factory=list)

    @property
    def last(self) -> int:
        """The time of the last waiting point, or the time before which points are learnt."""
        return int(self.points[-1][0][-1]) if self.points else self.evaluate_from - 1

    def add(self, times: Ints, values: Floats) -> None:
        if len(times):
            self.points.append((times, values))


class LiveDetector:
    """The detector and the series that it has learnt, each with the time (µs) of its last learnt point."""

    def __init__(self) -> None:
        self._detector = Detector()
        self._slots: dict[int, int] = {}
        self._learnt: dict[int, int] = {}
        self._waiting: dict[int, _WaitingSeries] = {}  # in order of their first points
        self._learning: Iterator[list[int]] | None = None
        self._just_learnt: list[int] = []
        self._to_store: list[int] = []
        self._storing_since = time.monotonic()

    @property
    def series(self) -> Ints:
        """The series that have learnt or are learning, ascending."""
        return np.array(sorted([*self._learnt, *self._waiting]), np.int64)

    @property
    def is_learning(self) -> bool:
        """Whether points wait for series that are learning."""
        return bool(self._waiting)

    def watch(self, series: set[int]) -> None:
        """Store and drop the state of all series that are not in the set."""
        unwatched = [number for number in self._learnt if number not in series]
        self._store(unwatched)
        for number in unwatched:
            del self._learnt[number]
            self._detector.remove(self._slots.pop(number))
        if waiting := [number for number in self._waiting if number not in series]:
            DetectorState.objects.filter(series__in=waiting).update(evaluate_from=None)
            for number in waiting:
                del self._waiting[number]

    def detect(self, points: Mapping[int, Points], arrived: int) -> dict[int, AnomalySignal]:
        """Return the signals of the new points of learnt series. Late and out-of-order points are left out.

        The points of series that are learning wait for `learn`.
        """
        self._add_series({number: columns for number, columns in points.items() if number not in self._learnt}, arrived)
        on_time: dict[int, Points] = {}
        for number, (times, values) in points.items():
            waiting = self._waiting.get(number)
            first = first_on_time(times, arrived, self._learnt[number] if waiting is None else waiting.last)
            if waiting is not None:
                waiting.add(times[first:], values[first:])
            elif first < len(times):
                on_time[number] = times[first:], values[first:]
        return self._detect(on_time)

    def learn(self, now: int) -> dict[int, AnomalySignal]:
        """Learn for LEARNING_TIME. Returns the signals of the points that waited for series that have learnt now.

        `store_learnt` is called when these are evaluated.
        """
        deadline = time.monotonic() + LEARNING_TIME
        waited: dict[int, Points] = {}
        while self._waiting and time.monotonic() < deadline:
            if self._learning is None:
                self._learning = self._learn(list(self._waiting)[:SERIES_BATCH], now)
            learnt = next(self._learning, None)
            if learnt is None:
                self._learning = None
                continue
            for number in learnt:
                if points := self._waiting.pop(number).points:
                    waited[number] = _join(points)
                self._just_learnt.append(number)
        return self._detect(waited)

    def store_learnt(self) -> None:
        """Store the states of the series that have just learnt, so that another evaluator need not learn them again."""
        self._store([number for number in self._just_learnt if number in self._learnt])
        self._just_learnt = []

    def _detect(self, points: Mapping[int, Points]) -> dict[int, AnomalySignal]:
        signals = detect_together(self._detector, self._slots, points)
        self._learnt |= {number: int(times[-1]) for number, (times, _) in points.items()}
        return signals

    def store(self) -> None:
        """Store some states, so that each is stored once per STORE_PERIOD."""
        if not self._to_store:
            self._to_store, self._storing_since = list(self._learnt), time.monotonic()
        elapsed = (time.monotonic() - self._storing_since) / STORE_PERIOD
        left = int(max(0.0, 1 - elapsed) * len(self._learnt))
        due = [number for number in self._to_store[left:] if number in self._learnt]
        self._to_store = self._to_store[:left]
        self._store(due)

    def _store(self, series: list[int]) -> None:
        if series:
            states = [self._detector.dump(self._slots[number]) for number in series]
            with connection.cursor() as cursor:
                cursor.execute(_STORE_STATES, (series, [self._learnt[number] for number in series], states))

    def _add_series(self, points: Mapping[int, Points], arrived: int) -> None:
        """Continue the stored states of series, or let them wait until they have learnt."""
        unknown = [number for number in points if number not in self._waiting]
        for position in range(0, len(unknown), SERIES_BATCH):
            batch = unknown[position : position + SERIES_BATCH]
            stored = {state.series: state for state in DetectorState.objects.filter(series__in=batch)}
            self._resume(stored, {number: int(points[number][0][0]) for number in batch})
            starts = {number: _first_time(points[number][0], arrived) for number in batch if number not in self._learnt}
            self._wait(stored, starts)

    def _resume(self, stored: Mapping[int, DetectorState], firsts: Mapping[int, int]) -> None:
        """Continue stored states: learn the points from there until the first new one (time in µs by series).

        This is done at once, so that no point is missed when another evaluator takes over. Series with too much to
        learn (their rules were not evaluated for long) and those that were interrupted learn in pauses instead.
        """
        since = {
            number: state.time
            for number, state in stored.items()
            if state.evaluate_from is None and firsts[number] - state.time <= MAX_RESUME_AGE
        }
        points = read_newest(since, firsts)
        for number, (times, values) in points.items():
            if len(times) > MAX_RESUME_POINTS:
                continue
            try:
                self._slots[number] = self._detector.add(bytes(stored[number].state))
            except InvalidState:
                continue
            self._detector.run(self._slots[number], times, values)
            self._learnt[number] = _last_time(times, since[number])

    def _wait(self, stored: Mapping[int, DetectorState], starts: dict[int, int]) -> None:
        """Let series learn the points before a time (µs). Points that waited when another evaluator ended wait on."""
        interrupted = {
            number: state.evaluate_from
            for number, state in stored.items()
            if number in starts
            and state.evaluate_from is not None
            and 0 <= starts[number] - state.evaluate_from <= MAX_RESUME_AGE
        }
        self._waiting |= {number: _WaitingSeries(start) for number, start in (starts | interrupted).items()}
        for number, (times, values) in read_newest(
            {number: start - 1 for number, start in interrupted.items()}, starts
        ).items():
            self._waiting[number].add(times, values)
        started = {number: start for number, start in starts.items() if number not in interrupted}
        if started:
            with connection.cursor() as cursor:
                cursor.execute(_STORE_WAITING, (list(started), list(started.values())))

    def _learn(self, series: list[int], now: int) -> Iterator[list[int]]:
        """Learn the stored points of series, from their stored states. Yields often: the series that have learnt."""
        stored = {state.series: state for state in DetectorState.objects.filter(series__in=series)}
        slots, since = {}, {}
        for number in series:
            slots[number], since[number] = self._add(stored.get(number), now)
        yield []
        ends = {number: self._waiting[number].evaluate_from for number in series if number in self._waiting}
        points = read_newest({number: since[number] for number in ends}, ends)
        for number in series:
            times, values = points.get(number, _NO_POINTS)
            for first in range(0, len(times), LEARNING_POINTS):
                part = slice(first, first + LEARNING_POINTS)
                self._detector.run(slots[number], times[part], values[part])
                yield []
            if number not in self._waiting:  # its rule is gone
                self._detector.remove(slots[number])
                continue
            self._detector.reset_cooldown(slots[number])  # no notification was sent for stored points
            self._slots[number], self._learnt[number] = slots[number], _last_time(times, since[number])
            yield [number]

    def _add(self, stored: DetectorState | None, now: int) -> tuple[int, int]:
        """Add a series to the detector. Returns its slot, and the time (µs) up to which it has learnt."""
        if stored is not None and stored.state:
            try:
                return self._detector.add(bytes(stored.state)), stored.time
            except InvalidState:
                pass  # of another version of the detector: learn from the beginning
        return self._detector.add(), now - TRAINING_PERIOD


def read_newest(since: Mapping[int, int], until: Mapping[int, int]) -> dict[int, Points]:
    """Return the newest points, at most MAX_TRAINING_POINTS, of each series after `since` and before `until`.

    Reads backwards from the end, each time twice as far, so that little more than needed is read of dense series.
    """
    points: dict[int, Points] = dict.fromkeys(since, _NO_POINTS)
    incomplete, period = dict(since), FIRST_READ_PERIOD
    end = max((until[number] for number in incomplete), default=0)
    while incomplete:
        start = max(end - period, min(incomplete.values()) + 1)
        for number, columns in read_columns(incomplete, start, end).items():
            times, values = points[number]
            first, last = columns.times.searchsorted((incomplete[number] + 1, until[number]))
            part = slice(max(int(first), int(last) - MAX_TRAINING_POINTS + len(times)), int(last))
            points[number] = (
                np.concatenate([columns.times[part], times]),
                np.concatenate([columns.values[part], values]),
            )
        incomplete = {
            number: after
            for number, after in incomplete.items()
            if after + 1 < start and len(points[number][0]) < MAX_TRAINING_POINTS
        }
        end, period = start, 2 * period
    return points


def _first_time(times: Ints, arrived: int) -> int:
    """Return the time of the first point that is not late; if all are, the time at which they arrived."""
    first = first_on_time(times, arrived, NEVER)
    return int(times[first]) if first < len(times) else arrived


def _last_time(times: Ints, default: int) -> int:
    return int(times[-1]) if len(times) else default


def _join(points: list[Points]) -> Points:
    return np.concatenate([times for times, _ in points]), np.concatenate([values for _, values in points])
