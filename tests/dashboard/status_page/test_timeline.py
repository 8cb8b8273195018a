"""Timelines and uptime against an oracle that looks at every second by itself."""

from typing import NamedTuple

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dashboard.status_page.timeline import (
    AlertSpan,
    Figures,
    Interval,
    Segment,
    ShareLimits,
    State,
    group_timeline,
    leaf_timeline,
    mark_unknown,
    measure,
)

SECOND = 1_000_000
unhurried = settings(suppress_health_check=[HealthCheck.too_slow], deadline=None)
LENGTH = 60  # seconds of the window
WINDOW = Interval(1_000 * SECOND, (1_000 + LENGTH) * SECOND)
ALERT_STATES = (State.DEGRADED, State.PARTIAL_OUTAGE, State.MAJOR_OUTAGE)


class Leaf(NamedTuple):
    """A component in whole seconds of the window."""

    alerts: list[tuple[int, int, State, int]]
    unknown: list[tuple[int, int]]
    maintenance: list[tuple[int, int]]
    limits: ShareLimits | None
    devices: int


spans = st.tuples(st.integers(0, LENGTH), st.integers(0, LENGTH)).map(lambda pair: (min(pair), max(pair)))
alerts = st.builds(
    lambda span, state, device: (*span, state, device), spans, st.sampled_from(ALERT_STATES), st.integers(1, 4)
)
limits = st.none() | st.builds(ShareLimits, st.integers(1, 100), st.integers(1, 100))
leaves = st.builds(
    Leaf, st.lists(alerts, max_size=6), st.lists(spans, max_size=2), st.lists(spans, max_size=2), limits,
    st.integers(0, 5),
)  # fmt: skip


def interval(span: tuple[int, int]) -> Interval:
    return Interval(WINDOW.start + span[0] * SECOND, WINDOW.start + span[1] * SECOND)


def state_by_share(limits: ShareLimits, affected: int, total: int) -> State:
    if not affected:
        return State.OPERATIONAL
    share = 100 * affected / total
    return (
        State.MAJOR_OUTAGE
        if share >= limits.major
        else State.PARTIAL_OUTAGE if share >= limits.partial else State.DEGRADED
    )  # fmt: skip


def leaf_second(leaf: Leaf, second: int) -> State:
    """Return the state of a component in one second, maintenance left aside."""
    active = [alert for alert in leaf.alerts if alert[0] <= second < alert[1]]
    if leaf.limits is None:
        state = max((alert[2] for alert in active), default=State.OPERATIONAL)
    else:
        devices = max(leaf.devices, len({alert[3] for alert in leaf.alerts}))
        state = state_by_share(leaf.limits, len({alert[3] for alert in active}), devices)
    is_unknown = any(low <= second < high for low, high in leaf.unknown)
    return State.UNKNOWN if is_unknown and state == State.OPERATIONAL else state


def group_second(states: list[State], limits: ShareLimits | None) -> State:
    known = [state for state in states if state != State.UNKNOWN]
    if not known:
        return State.UNKNOWN
    if limits is None:
        return max(known)
    return state_by_share(limits, sum(state > State.OPERATIONAL for state in known), len(known))


def expected_figures(raw: list[State], clear: list[State], maintenance: int) -> Figures:
    return Figures(
        total=LENGTH * SECOND,
        known=sum(state != State.UNKNOWN for state in raw) * SECOND,
        down=sum(state in (State.PARTIAL_OUTAGE, State.MAJOR_OUTAGE) for state in raw) * SECOND,
        degraded=raw.count(State.DEGRADED) * SECOND,
        maintenance=maintenance * SECOND,
        known_clear=sum(state != State.UNKNOWN for state in clear) * SECOND,
        down_clear=sum(state in (State.PARTIAL_OUTAGE, State.MAJOR_OUTAGE) for state in clear) * SECOND,
    )


def in_maintenance(leaf: Leaf, second: int) -> bool:
    return any(low <= second < high for low, high in leaf.maintenance)


def timelines(leaf: Leaf) -> tuple[list[Segment], list[Segment]]:
    alert_spans = [AlertSpan(*interval((low, high)), state, device) for low, high, state, device in leaf.alerts]
    raw = leaf_timeline(alert_spans, WINDOW, leaf.limits, leaf.devices)
    raw = mark_unknown(raw, map(interval, leaf.unknown))
    return raw, mark_unknown(raw, map(interval, leaf.maintenance), only_operational=False)


@unhurried
@given(leaves)
def test_figures_of_component_equal_count_of_seconds(leaf: Leaf) -> None:
    raw, clear = timelines(leaf)
    states = [leaf_second(leaf, second) for second in range(LENGTH)]
    clear_states = [State.UNKNOWN if in_maintenance(leaf, second) else state for second, state in enumerate(states)]
    maintenance = sum(in_maintenance(leaf, second) for second in range(LENGTH))
    assert measure(raw, clear, map(interval, leaf.maintenance)) == expected_figures(states, clear_states, maintenance)


@pytest.mark.slow
@unhurried
@given(st.lists(leaves, max_size=4), limits)
def test_figures_of_group_equal_count_of_seconds(children: list[Leaf], limits: ShareLimits | None) -> None:
    pairs = [timelines(leaf) for leaf in children]
    raw = group_timeline([pair[0] for pair in pairs], WINDOW, limits)
    clear = group_timeline([pair[1] for pair in pairs], WINDOW, limits)
    states, clear_states = [], []
    for second in range(LENGTH):
        of_children = [leaf_second(leaf, second) for leaf in children]
        without = [
            State.UNKNOWN if in_maintenance(leaf, second) else state
            for leaf, state in zip(children, of_children, strict=True)
        ]
        states.append(group_second(of_children, limits))
        clear_states.append(group_second(without, limits))
    assert measure(raw, clear, []) == expected_figures(states, clear_states, 0)


@unhurried
@given(leaves)
def test_timeline_covers_window_without_gaps_and_overlaps(leaf: Leaf) -> None:
    for timeline in timelines(leaf):
        assert timeline[0].start == WINDOW.start and timeline[-1].end == WINDOW.end
        assert all(first.end == second.start for first, second in zip(timeline, timeline[1:], strict=False))
        assert all(first.state != second.state for first, second in zip(timeline, timeline[1:], strict=False))


def test_uptime_of_outage_of_one_microsecond_is_below_one() -> None:
    figures = Figures(total=SECOND, known=SECOND, down=1, known_clear=SECOND)
    assert figures.uptime == 1 - 1e-6
    assert figures.uptime_clear == 1.0


def test_uptime_without_known_time_is_none() -> None:
    assert Figures(total=SECOND).uptime is None
    assert Figures(total=SECOND).uptime_clear is None
    assert Figures().known_share is None


def test_share_exactly_at_a_limit_has_the_state_of_the_limit() -> None:
    limits = ShareLimits(25, 50)
    states = [limits.state(affected, 4) for affected in range(5)]
    degraded = ShareLimits(26, 50).state(1, 4)
    outage = State.MAJOR_OUTAGE
    assert states == [State.OPERATIONAL, State.PARTIAL_OUTAGE, outage, outage, outage]
    assert degraded == State.DEGRADED
