"""The detector of anomalies among live points: series learn from what is stored before they are judged, beside all
other work, and what they have learnt outlives the process: another goes on from there at the next point.
"""

import time
from collections.abc import Iterator, Mapping

import numpy as np
from django.db import connection

from alerts.detector.detector import Detector
from alerts.detector.state import BadState
from alerts.evaluation import load_history
from alerts.evaluation.anomaly_results import Detected, Points, judge_together, rounds
from alerts.evaluation.point_order import LATE, in_order
from alerts.models import DetectorState
from metrics.query.accumulators import Ints

LEARNT_FROM = 21 * 86_400 * 1_000_000  # µs before now
MOST_LEARNT = 10_000  # points of a series, the newest
TOGETHER = 64  # series that learn side by side
FIRST_READ = 3_600 * 1_000_000  # µs before now that are read first
RESUMED = 86_400 * 1_000_000  # µs since the last point that was learnt, up to which a series goes on from there at once
MOST_RESUMED = 1_000  # points meanwhile
BUDGET = 0.1  # seconds of learning between two looks for commits
KEPT_EVERY = 300.0  # seconds in which what every series has learnt is kept once

_KEEP = """
INSERT INTO alerts_detectorstate (series, time, state, updated_at)
SELECT series, time, state, now() FROM unnest(%s::bigint[], %s::bigint[], %s::bytea[]) n(series, time, state)
ORDER BY series
ON CONFLICT (series) DO UPDATE SET time = EXCLUDED.time, state = EXCLUDED.state, updated_at = now()
"""


class Anomalies:
    """The series that rules of anomaly are about; of each is known up to which time (µs) it has learnt."""

    def __init__(self) -> None:
        self._detector = Detector()
        self._slots: dict[int, int] = {}
        self._learnt: dict[int, int] = {}
        self._asked: dict[int, None] = {}
        self._learning: Iterator[None] | None = None
        self._to_keep: list[int] = []
        self._began_keeping = time.monotonic()

    @property
    def series(self) -> Ints:
        """Those of which something is held, ascending."""
        return np.array(sorted(self._learnt), np.int64)

    def watch(self, series: set[int]) -> None:
        """Of those that no rule is about any more nothing is held; what they have learnt is kept."""
        gone = [number for number in self._learnt if number not in series]
        self._write(gone)
        for number in gone:
            self._detector.remove(self._slots.pop(number))
            del self._learnt[number]

    def judge(self, points: Mapping[int, Points], arrived: int) -> dict[int, Detected]:
        """New points of series, those that have learnt; points that are late or out of order are left out."""
        fresh: dict[int, Points] = {}
        unknown = {number: int(times[0]) for number, (times, _) in points.items() if number not in self._learnt}
        self._resume({number: first for number, first in unknown.items() if number not in self._asked})
        for number, (times, values) in points.items():
            if number not in self._learnt:
                self._asked[number] = None
                continue
            first = in_order(times, arrived, self._learnt[number])
            if first < len(times):
                fresh[number] = times[first:], values[first:]
        found = judge_together(self._detector, self._slots, fresh)
        self._learnt |= {number: int(times[-1]) for number, (times, _) in fresh.items()}
        return found

    def learn(self, now: int) -> bool:
        """Go on learning for a moment; returns whether there is more to learn."""
        deadline = time.monotonic() + BUDGET
        while time.monotonic() < deadline:
            if self._learning is None:
                some = list(self._asked)[:TOGETHER]
                if not some:
                    return False
                self._learning = self._learn(some, now)
            try:
                next(self._learning)
            except StopIteration:
                self._learning = None
        return True

    @property
    def is_learning(self) -> bool:
        return bool(self._asked) or self._learning is not None

    def keep(self, everything: bool = False) -> None:
        """Keep what some series have learnt: each of them once in a while, a few at a time; or everything now."""
        if everything or not self._to_keep:
            self._to_keep, self._began_keeping = list(self._learnt), time.monotonic()
        share = 1.0 if everything else (time.monotonic() - self._began_keeping) / KEPT_EVERY
        left = int(max(0.0, 1 - share) * len(self._learnt))
        some = [number for number in self._to_keep[left:] if number in self._learnt]
        self._to_keep = self._to_keep[:left]
        self._write(some)

    def _write(self, series: list[int]) -> None:
        """Keep what these have learnt."""
        if series:
            states = [self._detector.dump(self._slots[number]) for number in series]
            with connection.cursor() as cursor:
                cursor.execute(_KEEP, (series, [self._learnt[number] for number in series], states))

    def _resume(self, firsts: Mapping[int, int]) -> None:
        """Let series that have learnt before see what is stored until their first new points; of which the times (µs).

        At once, so that no point is left out when another evaluator takes over. Where that would be much (nobody
        evaluated their rules for long), they learn beside all other work.
        """
        numbers = list(firsts)
        for at in range(0, len(numbers), TOGETHER):
            self._resume_some({number: firsts[number] for number in numbers[at : at + TOGETHER]})

    def _resume_some(self, firsts: Mapping[int, int]) -> None:
        held = DetectorState.objects.filter(series__in=list(firsts))
        kept = {one.series: one for one in held if firsts[one.series] - one.time <= RESUMED}
        points = newest({number: one.time for number, one in kept.items()}, firsts)
        few = {number: some for number, some in points.items() if len(some[0]) <= MOST_RESUMED}
        for number in list(few):
            try:
                self._slots[number] = self._detector.add(bytes(kept[number].state))
            except BadState:
                del few[number]
        for _ in rounds(self._detector, self._slots, few):
            pass
        self._learnt |= {number: _last(some, kept[number].time) for number, some in few.items()}

    def _learn(self, series: list[int], now: int) -> Iterator[None]:
        """Let some series see what is stored of them, from where they were."""
        kept = {one.series: one for one in DetectorState.objects.filter(series__in=series)}
        since = {}
        for number in series:
            held = kept.get(number)
            self._slots[number], since[number] = self._begin(held, now)
        yield
        points = newest(since, dict.fromkeys(series, now + LATE))
        for _ in rounds(self._detector, self._slots, points):
            yield
        for number in series:
            self._detector.rouse(self._slots[number])  # nobody was told of what is stored
            self._asked.pop(number, None)
            self._learnt[number] = _last(points[number], since[number])
        self._write(series)  # so that whoever takes over need not learn all of it

    def _begin(self, held: DetectorState | None, now: int) -> tuple[int, int]:
        """A slot, and up to when (µs) what is in it has learnt."""
        if held is not None:
            try:
                return self._detector.add(bytes(held.state)), held.time
            except BadState:
                pass  # of another version of the detector: it learns anew
        return self._detector.add(), now - LEARNT_FROM


def newest(since: Mapping[int, int], until: Mapping[int, int]) -> dict[int, Points]:
    """What is stored of series after a time of each and before another (µs): the newest points of it.

    Read from the newest on, twice as far back each time, so that of dense series no more is read than is wanted.
    """
    found = dict.fromkeys(since, (np.empty(0, np.int64), np.empty(0)))
    wanted, reach = dict(since), FIRST_READ
    end = max((until[number] for number in wanted), default=0)
    while wanted:
        start = max(end - reach, min(wanted.values()) + 1)
        for number, columns in load_history.columns_of(wanted, start, end).items():
            times, values = found[number]
            first, last = columns.times.searchsorted((wanted[number] + 1, until[number]))
            some = slice(max(int(first), int(last) - MOST_LEARNT + len(times)), int(last))
            found[number] = np.concatenate([columns.times[some], times]), np.concatenate([columns.values[some], values])
        wanted = {n: at for n, at in wanted.items() if at + 1 < start and len(found[n][0]) < MOST_LEARNT}
        end, reach = start, 2 * reach
    return found


def _last(points: Points, before: int) -> int:
    """The time of the last of some points, where there is one."""
    return int(points[0][-1]) if len(points[0]) else before
