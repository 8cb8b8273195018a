"""The anomaly detector on live points.

A series first learns from its stored points, in the pauses of evaluation, and is evaluated after that. The learnt state
is stored, so that another process continues from it at the next point.
"""

import time
from collections.abc import Iterator, Mapping

import numpy as np
from django.db import connection

from alerts.detector.detector import Detector
from alerts.detector.state import InvalidState
from alerts.evaluation.anomaly_results import AnomalySignal, Points, detect_by_rank, detect_together
from alerts.evaluation.load_history import read_columns
from alerts.evaluation.point_order import LATE, first_on_time
from alerts.models import DetectorState
from metrics.query.accumulators import Ints

TRAINING_PERIOD = 21 * 86_400 * 1_000_000  # µs before now
MAX_TRAINING_POINTS = 10_000  # per series, the newest
SERIES_BATCH = 64  # series that learn side by side
FIRST_READ_PERIOD = 3_600 * 1_000_000  # µs before now; each further read goes back twice as far
MAX_RESUME_AGE = 86_400 * 1_000_000  # µs since the last learnt point for a series to continue at once …
MAX_RESUME_POINTS = 1_000  # … and points since then
LEARNING_TIME = 0.1  # seconds between two looks for commits
STORE_PERIOD = 300.0  # seconds in which the state of every series is stored once

_STORE_STATES = """
INSERT INTO alerts_detectorstate (series, time, state, updated_at)
SELECT series, time, state, now() FROM unnest(%s::bigint[], %s::bigint[], %s::bytea[]) n(series, time, state)
ORDER BY series
ON CONFLICT (series) DO UPDATE SET time = EXCLUDED.time, state = EXCLUDED.state, updated_at = now()
"""


class LiveDetector:
    """The detector and the series that it has learnt, each with the time (µs) of its last learnt point."""

    def __init__(self) -> None:
        self._detector = Detector()
        self._slots: dict[int, int] = {}
        self._learnt: dict[int, int] = {}
        self._to_learn: dict[int, None] = {}  # in order of their first points
        self._learning: Iterator[None] | None = None
        self._to_store: list[int] = []
        self._storing_since = time.monotonic()

    @property
    def series(self) -> Ints:
        """The learnt series, ascending."""
        return np.array(sorted(self._learnt), np.int64)

    def watch(self, series: set[int]) -> None:
        """Store and drop the state of all series that are not in the set."""
        unwatched = [number for number in self._learnt if number not in series]
        self._store(unwatched)
        for number in unwatched:
            self._detector.remove(self._slots.pop(number))
            del self._learnt[number]

    def detect(self, points: Mapping[int, Points], arrived: int) -> dict[int, AnomalySignal]:
        """Return the signals of the new points of learnt series. Late and out-of-order points are left out."""
        on_time: dict[int, Points] = {}
        unknown = {number: int(times[0]) for number, (times, _) in points.items() if number not in self._learnt}
        self._resume({number: first for number, first in unknown.items() if number not in self._to_learn})
        for number, (times, values) in points.items():
            if number not in self._learnt:
                self._to_learn[number] = None
                continue
            first = first_on_time(times, arrived, self._learnt[number])
            if first < len(times):
                on_time[number] = times[first:], values[first:]
        signals = detect_together(self._detector, self._slots, on_time)
        self._learnt |= {number: int(times[-1]) for number, (times, _) in on_time.items()}
        return signals

    def learn(self, now: int) -> bool:
        """Learn for LEARNING_TIME. Returns whether more is left to learn."""
        deadline = time.monotonic() + LEARNING_TIME
        while time.monotonic() < deadline:
            if self._learning is None:
                batch = list(self._to_learn)[:SERIES_BATCH]
                if not batch:
                    return False
                self._learning = self._learn(batch, now)
            try:
                next(self._learning)
            except StopIteration:
                self._learning = None
        return True

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

    def _resume(self, firsts: Mapping[int, int]) -> None:
        """Continue stored states: learn the points from there until the first new one (time in µs by series).

        This is done at once, so that no point is missed when another evaluator takes over. Series with too much to
        learn (their rules were not evaluated for long) learn in pauses instead.
        """
        series = list(firsts)
        for position in range(0, len(series), SERIES_BATCH):
            self._resume_batch({number: firsts[number] for number in series[position : position + SERIES_BATCH]})

    def _resume_batch(self, firsts: Mapping[int, int]) -> None:
        stored = {
            state.series: state
            for state in DetectorState.objects.filter(series__in=list(firsts))
            if firsts[state.series] - state.time <= MAX_RESUME_AGE
        }
        points = read_newest({number: state.time for number, state in stored.items()}, firsts)
        points = {number: columns for number, columns in points.items() if len(columns[0]) <= MAX_RESUME_POINTS}
        for number in list(points):
            try:
                self._slots[number] = self._detector.add(bytes(stored[number].state))
            except InvalidState:
                del points[number]
        for _ in detect_by_rank(self._detector, self._slots, points):
            pass
        self._learnt |= {number: _last_time(columns, stored[number].time) for number, columns in points.items()}

    def _learn(self, series: list[int], now: int) -> Iterator[None]:
        """Learn the stored points of some series, from their stored states; yields often."""
        stored = {state.series: state for state in DetectorState.objects.filter(series__in=series)}
        since = {}
        for number in series:
            self._slots[number], since[number] = self._add(stored.get(number), now)
        yield
        points = read_newest(since, dict.fromkeys(series, now + LATE))
        for _ in detect_by_rank(self._detector, self._slots, points):
            yield
        for number in series:
            self._detector.reset_cooldown(self._slots[number])  # no notification was sent for stored points
            self._to_learn.pop(number, None)
            self._learnt[number] = _last_time(points[number], since[number])
        self._store(series)  # another evaluator need not learn them again

    def _add(self, stored: DetectorState | None, now: int) -> tuple[int, int]:
        """Add a series to the detector. Returns its slot, and the time (µs) up to which it has learnt."""
        if stored is not None:
            try:
                return self._detector.add(bytes(stored.state)), stored.time
            except InvalidState:
                pass  # of another version of the detector: learn from the beginning
        return self._detector.add(), now - TRAINING_PERIOD


def read_newest(since: Mapping[int, int], until: Mapping[int, int]) -> dict[int, Points]:
    """Return the newest points, at most MAX_TRAINING_POINTS, of each series after `since` and before `until`.

    Reads backwards from the end, each time twice as far, so that little more than needed is read of dense series.
    """
    points: dict[int, Points] = dict.fromkeys(since, (np.empty(0, np.int64), np.empty(0)))
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


def _last_time(points: Points, default: int) -> int:
    return int(points[0][-1]) if len(points[0]) else default
