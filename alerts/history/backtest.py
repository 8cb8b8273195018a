"""What a rule would have done: stored history through the very conditions and episodes of live evaluation."""

import time
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Final

import numpy as np

from alerts.conditions.alert_lifecycle import Standing, Turn, advance
from alerts.conditions.spec import SECOND, Spec
from alerts.conditions.thresholds import Signal
from alerts.detector.detector import MARK, NOTIFY
from alerts.history.replay import history, replay
from alerts.rules.scope import Scope, Subject
from metrics.query.accumulators import Ints
from metrics.query.downsample import RawPoints, downsample
from metrics.storage.units import to_datetime

MOST_FIRINGS: Final = 1_000  # that are told one by one, the newest of them
MOST_DRAWN: Final = 1_000  # points of the chart
AT_ONCE: Final = 250_000  # points that episodes are looked for in at once


@dataclass(frozen=True, slots=True)
class Firing:
    """An alert that there would have been; `end` is None where it would still be open.

    value  what was judged when it was triggered; None where that cannot be told
    peak   the worst until it ended
    """

    device_id: str
    metric_name: str
    start: datetime
    end: datetime | None
    value: float | None
    peak: float | None


@dataclass(frozen=True, slots=True)
class Outcome:
    """What there would have been of one subject."""

    device_id: str
    metric_name: str
    points: int
    firings: int
    is_open: bool
    held_back: int  # further alerts that the cooldown would have kept back
    open_seconds: float

    @property
    def notifications(self) -> int:
        """Each alert is told when it is raised, and when it is over."""
        return 2 * self.firings - self.is_open


@dataclass(frozen=True, slots=True)
class Chart:
    """What was judged of one subject, thinned: times in µs."""

    device_id: str
    metric_name: str
    times: list[int]
    values: list[float]
    threshold: float | None
    clear_threshold: float | None


@dataclass(slots=True)
class Backtest:
    """subjects  by device; firings: newest first, at most MOST_FIRINGS; chart: of the subject with the most of them."""

    start: datetime
    end: datetime
    subjects: list[Outcome] = field(default_factory=list)
    firings: list[Firing] = field(default_factory=list)
    chart: Chart | None = None
    missing: list[str] = field(default_factory=list)
    milliseconds: float = 0.0

    @property
    def count(self) -> int:
        return sum(one.firings for one in self.subjects)

    @property
    def notifications(self) -> int:
        return sum(one.notifications for one in self.subjects)

    @property
    def held_back(self) -> int:
        return sum(one.held_back for one in self.subjects)

    @property
    def points(self) -> int:
        return sum(one.points for one in self.subjects)


def backtest(spec: Spec, scope: Scope, start: datetime, end: datetime) -> Backtest:
    """Replay a rule, as if it had been made at `start`, until `end`. Raises Unanswerable or Overloaded."""
    began = time.perf_counter()
    past = history(spec, scope, start, end)
    found = Backtest(start, end)
    most = -1

    def see(subject: Subject, signal: Signal, points: int) -> None:
        nonlocal most
        turns = _turns(spec, signal)
        found.subjects.append(_outcome(spec, subject, signal, turns, points, past.query.end_us))
        found.firings += _firings(spec, subject, signal, turns)
        found.firings = sorted(found.firings, key=lambda one: one.start, reverse=True)[:MOST_FIRINGS]
        if len(turns) > most and len(signal):
            most, found.chart = len(turns), _chart(spec, subject, signal)

    replay(past, see)
    found.subjects.sort(key=lambda one: one.device_id)
    found.missing = past.missing
    found.milliseconds = round((time.perf_counter() - began) * 1000, 3)
    return found


def _turns(spec: Spec, signal: Signal) -> list[Turn]:
    standing, turns = Standing(), []
    for low in range(0, len(signal), AT_ONCE):
        some = slice(low, low + AT_ONCE)
        piece = Signal(signal.times[some], signal.values[some], signal.breach[some], signal.clear[some])
        turns += [Turn(turn.raised, turn.at + low) for turn in advance(spec, standing, piece)]
    return turns


def _outcome(spec: Spec, subject: Subject, signal: Signal, turns: list[Turn], points: int, until: int) -> Outcome:
    firings = -(-len(turns) // 2)
    at = np.append(signal.times[[turn.at for turn in turns]], [until] * (len(turns) % 2)) if turns else np.empty(0)
    uncooled = len(_turns(replace(spec, cooldown=0), signal)) if spec.cooldown and turns else len(turns)
    return Outcome(
        device_id=subject.device_id,
        metric_name=subject.metric,
        points=points,
        firings=firings,
        is_open=len(turns) % 2 == 1,
        held_back=-(-uncooled // 2) - firings,
        open_seconds=float((at[1::2] - at[::2]).sum()) / SECOND,
    )


def _firings(spec: Spec, subject: Subject, signal: Signal, turns: list[Turn]) -> list[Firing]:
    """The last MOST_FIRINGS of a subject."""
    turns = turns[max(0, -(-len(turns) // 2) - MOST_FIRINGS) * 2 :]
    if not turns:
        return []
    places: Ints = np.array([turn.at for turn in turns])
    is_low = bool(spec.conditions) and spec.conditions[0].is_low
    peaks = (np.fmin if is_low else np.fmax).reduceat(signal.values, places)[::2]
    times, values = [to_datetime(at) for at in signal.times[places].tolist()], signal.values[places[::2]]
    ends = [*times[1::2], None] if len(times) % 2 else times[1::2]
    return [
        Firing(subject.device_id, subject.metric, *one)
        for one in zip(times[::2], ends, _told(values), _told(peaks), strict=True)
    ]


def _told(values: "np.ndarray[tuple[int], np.dtype[np.float64]]") -> list[float | None]:
    return [None if value != value else value for value in values.tolist()]


def _chart(spec: Spec, subject: Subject, signal: Signal) -> Chart | None:
    known = ~np.isnan(signal.values)
    if not known.any():
        return None
    drawn = RawPoints(signal.times[known], signal.values[known], [], None, ())
    if len(drawn) > MOST_DRAWN:
        drawn = downsample(drawn, MOST_DRAWN)
    threshold, clear = _thresholds(spec)
    values = np.asarray(drawn.values).tolist()
    return Chart(subject.device_id, subject.metric, drawn.times.tolist(), values, threshold, clear)


def _thresholds(spec: Spec) -> tuple[float | None, float | None]:
    """What the judged values are held against, and what they are to be beyond to be well again."""
    if len(spec.conditions) != 1:
        return None, None
    [one] = spec.conditions
    if one.kind == "anomaly":
        return NOTIFY, MARK
    return 1.0 if isinstance(one.threshold, str) else one.threshold, one.clear
