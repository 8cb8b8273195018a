"""State of components over time, and uptime, from alert intervals. Pure: times are µs since 1970.

A timeline is a list of segments without gaps or overlaps that covers a window, so every figure is a sum of differences
of times and exact.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import NamedTuple


class State(IntEnum):
    """State of a component, the better the lower. UNKNOWN: no data and no open alert."""

    UNKNOWN = 0
    OPERATIONAL = 1
    DEGRADED = 2
    PARTIAL_OUTAGE = 3
    MAJOR_OUTAGE = 4


_WORST_FIRST = tuple(reversed(State))
DOWN = State.PARTIAL_OUTAGE  # from this state on, time counts as downtime
LEVEL_STATES = {
    "warning": State.DEGRADED,
    "error": State.PARTIAL_OUTAGE,
    "critical": State.MAJOR_OUTAGE,
    "emergency": State.MAJOR_OUTAGE,
}  # alerts of level info do not change the state


class Interval(NamedTuple):
    start: int
    end: int


class Segment(NamedTuple):
    start: int
    end: int
    state: State


class AlertSpan(NamedTuple):
    """Time in which an alert was open; `device` tells which alerts are of the same device."""

    start: int
    end: int
    state: State
    device: int | None


Timeline = list[Segment]
Change = tuple[int, State, int]  # at a time, one more (1) or one less (-1) member in a state
Decide = Callable[[list[int]], State]  # from the number of members in each state


@dataclass(frozen=True, slots=True)
class ShareLimits:
    """From which percent of affected members the state is an outage."""

    partial: int
    major: int

    def state(self, affected: int, total: int) -> State:
        if total == 0 or affected == 0:
            return State.OPERATIONAL
        if affected * 100 >= self.major * total:
            return State.MAJOR_OUTAGE
        return State.PARTIAL_OUTAGE if affected * 100 >= self.partial * total else State.DEGRADED


def leaf_timeline(
    spans: Iterable[AlertSpan], window: Interval, limits: ShareLimits | None = None, devices: int = 0
) -> Timeline:
    """Return the timeline of a component with these alerts: the worst open one, or by share of its devices."""
    if limits is None:
        changes = [change for span in spans for change in _changes(span, span.state)]
        return _sweep(changes, window, lambda counts: _worst(counts, State.OPERATIONAL))
    by_device: dict[int | None, list[Interval]] = {}
    for span in spans:
        by_device.setdefault(span.device, []).append(Interval(span.start, span.end))
    affected = [interval for intervals in by_device.values() for interval in merge_intervals(intervals)]
    changes = [change for interval in affected for change in _changes(interval, State.DEGRADED)]
    total = max(devices, len(by_device))
    return _sweep(changes, window, lambda counts: limits.state(counts[State.DEGRADED], total))


def group_timeline(children: Sequence[Timeline], window: Interval, limits: ShareLimits | None = None) -> Timeline:
    """Return the timeline of a group: the worst of its components, or by share of those whose state is known."""
    changes = [change for child in children for segment in child for change in _changes(segment, segment.state)]
    if limits is None:
        return _sweep(changes, window, lambda counts: _worst(counts, State.UNKNOWN))

    def by_share(counts: list[int]) -> State:
        known = sum(counts[State.OPERATIONAL :])
        return limits.state(sum(counts[State.DEGRADED :]), known) if known else State.UNKNOWN

    return _sweep(changes, window, by_share)


def mark_unknown(timeline: Timeline, intervals: Iterable[Interval], only_operational: bool = True) -> Timeline:
    """Return the timeline with these intervals unknown; times with an open alert stay as they are by default."""
    marked: Timeline = []
    pending = merge_intervals(intervals)
    for segment in timeline:
        if only_operational and segment.state != State.OPERATIONAL:
            _append(marked, segment)
            continue
        start = segment.start
        for interval in pending:
            low, high = max(interval.start, start), min(interval.end, segment.end)
            if low >= high:
                continue
            _append(marked, Segment(start, low, segment.state))
            _append(marked, Segment(low, high, State.UNKNOWN))
            start = high
        _append(marked, Segment(start, segment.end, segment.state))
    return marked


def merge_intervals(intervals: Iterable[Interval]) -> list[Interval]:
    """Return the union of intervals, sorted."""
    merged: list[Interval] = []
    for interval in sorted(interval for interval in intervals if interval.start < interval.end):
        if merged and interval.start <= merged[-1].end:
            merged[-1] = Interval(merged[-1].start, max(merged[-1].end, interval.end))
        else:
            merged.append(interval)
    return merged


def clip(intervals: Iterable[Interval], window: Interval) -> list[Interval]:
    """Return the parts of intervals inside a window."""
    parts = (Interval(max(part.start, window.start), min(part.end, window.end)) for part in intervals)
    return [part for part in parts if part.start < part.end]


@dataclass(frozen=True, slots=True)
class Figures:
    """Durations in µs. `known_clear` and `down_clear` leave out the time of maintenance."""

    total: int = 0
    known: int = 0
    down: int = 0
    degraded: int = 0
    maintenance: int = 0
    known_clear: int = 0
    down_clear: int = 0

    def __add__(self, other: "Figures") -> "Figures":
        return Figures(*(getattr(self, name) + getattr(other, name) for name in FIGURES))

    @property
    def uptime(self) -> float | None:
        """Share of the known time that was not down; None if nothing is known."""
        return 1 - self.down / self.known if self.known else None

    @property
    def uptime_clear(self) -> float | None:
        """The same without the time of maintenance."""
        return 1 - self.down_clear / self.known_clear if self.known_clear else None

    @property
    def known_share(self) -> float | None:
        return self.known / self.total if self.total else None


FIGURES = tuple(Figures.__slots__)


def measure(raw: Timeline, clear: Timeline, maintenance: Iterable[Interval]) -> Figures:
    """Return the figures of a timeline; in `clear`, the time of maintenance is unknown."""
    return Figures(
        total=sum(segment.end - segment.start for segment in raw),
        known=_time_from(raw, State.OPERATIONAL),
        down=_time_from(raw, DOWN),
        degraded=_time_from(raw, State.DEGRADED) - _time_from(raw, DOWN),
        maintenance=sum(interval.end - interval.start for interval in merge_intervals(maintenance)),
        known_clear=_time_from(clear, State.OPERATIONAL),
        down_clear=_time_from(clear, DOWN),
    )


def _time_from(timeline: Timeline, state: State) -> int:
    return sum(segment.end - segment.start for segment in timeline if segment.state >= state)


def _changes(span: Interval | Segment | AlertSpan, state: State) -> tuple[Change, Change]:
    return (span.start, state, 1), (span.end, state, -1)


def _worst(counts: list[int], at_least: State) -> State:
    return next((state for state in _WORST_FIRST if counts[state] and state > at_least), at_least)


def _sweep(changes: list[Change], window: Interval, decide: Decide) -> Timeline:
    """Return the timeline of a window, from how many members are in each state."""
    changes.sort()
    counts = [0] * len(State)
    timeline: Timeline = []
    start, position = window.start, 0
    while position < len(changes):
        at = changes[position][0]
        if start < at:
            _append(timeline, Segment(start, min(at, window.end), decide(counts)))
            start = min(at, window.end)
        while position < len(changes) and changes[position][0] == at:
            _, state, step = changes[position]
            counts[state] += step
            position += 1
    _append(timeline, Segment(start, window.end, decide(counts)))
    return timeline


def _append(timeline: Timeline, segment: Segment) -> None:
    if segment.start >= segment.end:
        return
    if timeline and timeline[-1].state == segment.state:
        segment = Segment(timeline.pop().start, segment.end, segment.state)
    timeline.append(segment)
