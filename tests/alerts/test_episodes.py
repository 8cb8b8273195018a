"""Alert lifecycle, compared with a model that processes one point at a time."""

from dataclasses import dataclass, field

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from alerts.conditions.alert_lifecycle import LifecycleState, advance
from alerts.conditions.spec import SECOND, RuleSpec, read_spec
from alerts.conditions.thresholds import Signal

POINTS = st.lists(
    st.tuples(st.integers(0, 40), st.sampled_from(["breach", "clear", "neither"])), max_size=60
)  # seconds since the previous point, and its outcome


def spec(**fields: object) -> RuleSpec:
    return read_spec({"metric_name": "x", "condition": ">", "threshold_value": 1} | fields)


def signal(outcomes: list[tuple[int, str]]) -> Signal:
    times = np.cumsum(np.array([gap for gap, _ in outcomes], np.int64)) * SECOND
    breach = np.array([outcome == "breach" for _, outcome in outcomes], bool)
    recovered = np.array([outcome == "clear" for _, outcome in outcomes], bool)
    return Signal(times, breach.astype(float), breach, recovered)


def part(whole: Signal, low: int, high: int) -> Signal:
    return Signal(whole.times[low:high], whole.values[low:high], whole.breach[low:high], whole.recovered[low:high])


@dataclass
class PointModel:
    spec: RuleSpec
    breaches: list[int] = field(default_factory=list)
    is_open: bool = False
    triggered: int | None = None
    ended: int | None = None

    def process(self, time: int, breach: bool, recovered: bool) -> bool | None:
        """Return True if an alert opens, False if it resolves, else None."""
        if breach:
            self.breaches.append(time)
        if self.is_open:
            if recovered and self.spec.auto_resolve:
                self.is_open, self.ended = False, time
                return False
            return None
        if not breach or (self.triggered is not None and time < self.triggered + self.spec.cooldown):
            return None
        counted = self.breaches[-self.spec.trigger_count :]
        if len(counted) < self.spec.trigger_count or time - counted[0] > self.spec.window:
            return None
        if self.ended is not None and counted[0] <= self.ended:
            return None
        self.is_open, self.triggered = True, time
        return True


@pytest.mark.slow
@settings(deadline=None)
@given(
    outcomes=POINTS,
    trigger_count=st.integers(1, 4),
    window=st.integers(1, 90),
    cooldown=st.integers(0, 3),
    auto_resolve=st.booleans(),
    cuts=st.lists(st.integers(0, 60), max_size=6),
)
def test_parts_give_the_transitions_of_a_point_by_point_model(
    outcomes: list[tuple[int, str]], trigger_count: int, window: int, cooldown: int, auto_resolve: bool, cuts: list[int]
) -> None:
    rule = spec(
        trigger_count=trigger_count, evaluation_window=window, cooldown_minutes=cooldown, auto_resolve=auto_resolve
    )
    whole, model, state = signal(outcomes), PointModel(rule), LifecycleState()
    expected = [
        (opened, position)
        for position, (time, breach, recovered) in enumerate(
            zip(whole.times.tolist(), whole.breach.tolist(), whole.recovered.tolist(), strict=True)
        )
        if (opened := model.process(time, breach, recovered)) is not None
    ]
    edges = sorted({0, len(outcomes), *(cut for cut in cuts if cut < len(outcomes))})
    transitions_of_parts = [
        (transition.opened, low + transition.position)
        for low, high in zip(edges[:-1], edges[1:], strict=True)
        for transition in advance(rule, state, part(whole, low, high))
    ]
    assert transitions_of_parts == expected
    assert state.is_open == model.is_open


def transitions(rule: RuleSpec, *outcomes: tuple[int, str]) -> list[tuple[bool, int]]:
    return [
        (transition.opened, transition.position)
        for transition in advance(rule, LifecycleState(), signal(list(outcomes)))
    ]


def test_trigger_window_includes_both_ends() -> None:
    rule = spec(trigger_count=3, evaluation_window=20)
    assert transitions(rule, (0, "breach"), (10, "breach"), (10, "breach")) == [(True, 2)]
    assert transitions(rule, (0, "breach"), (10, "breach"), (11, "breach")) == []


def test_cooldown_begins_at_the_trigger_of_the_previous_alert() -> None:
    rule = spec(cooldown_minutes=1)
    outcomes = (0, "breach"), (50, "clear"), (9, "breach"), (1, "breach")
    assert transitions(rule, *outcomes) == [(True, 0), (False, 1), (True, 3)]


def test_breaches_of_a_resolved_alert_do_not_count_for_the_next() -> None:
    rule = spec(trigger_count=2)
    outcomes = (0, "breach"), (1, "breach"), (1, "clear"), (1, "breach"), (1, "breach")
    assert transitions(rule, *outcomes) == [(True, 1), (False, 2), (True, 4)]
    assert transitions(spec(), (0, "breach"), (5, "clear"), (0, "breach"), (1, "breach")) == [
        (True, 0),
        (False, 1),
        (True, 3),
    ]


def test_value_between_both_thresholds_does_not_resolve() -> None:
    assert transitions(spec(), (0, "breach"), (1, "neither"), (1, "breach"), (1, "clear")) == [(True, 0), (False, 3)]


def test_alert_without_auto_resolve_stays_open() -> None:
    assert transitions(spec(auto_resolve=False), (0, "breach"), (1, "clear"), (1, "breach")) == [(True, 0)]
