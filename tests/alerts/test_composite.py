"""Composite conditions and absence, compared with a model that evaluates each time."""

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from alerts.conditions.absence import evaluate_absence
from alerts.conditions.composite import CompositeState, join
from alerts.conditions.spec import SECOND, RuleSpec, read_spec
from alerts.conditions.thresholds import Signal

WINDOWS = (10, 5, 20)  # evaluation windows of the conditions in seconds
OUTCOMES = {"breach": True, "clear": False, "neither": None}
OUTCOME_LISTS = st.lists(
    st.tuples(st.integers(0, 60), st.sampled_from(list(OUTCOMES))), max_size=25, unique_by=lambda outcome: outcome[0]
)


def composite_spec(operator: str, windows: tuple[int, ...] = WINDOWS) -> RuleSpec:
    conditions = [
        {"metric_name": f"m{number}", "condition": ">", "threshold_value": 1, "evaluation_window": window}
        for number, window in enumerate(windows)
    ]
    parameters = {"operator": operator, "conditions": conditions}
    return read_spec({"metric_name": "m0", "kind": "composite", "parameters": parameters})


def signal(outcomes: list[tuple[int, str]], value: float = 0.0) -> Signal:
    outcomes = sorted(outcomes)
    times = np.array([time for time, _ in outcomes], np.int64) * SECOND
    breach = np.array([outcome == "breach" for _, outcome in outcomes], bool)
    clear = np.array([outcome == "clear" for _, outcome in outcomes], bool)
    return Signal(times, times / SECOND + value, breach, clear)


def expected_rows(operator: str, outcome_lists: list[list[tuple[int, str]]]) -> list[tuple[int, bool, bool]]:
    """Return the joined outcome at each time, in Kleene's three-valued logic."""
    rows = []
    for time in sorted({time for outcomes in outcome_lists for time, _ in outcomes}):
        truths: list[bool | None] = []
        for outcomes, window in zip(outcome_lists, WINDOWS, strict=True):
            earlier = [(outcome_time, outcome) for outcome_time, outcome in outcomes if outcome_time <= time]
            outcome_time, outcome = max(earlier) if earlier else (-math.inf, "neither")
            truths.append(OUTCOMES[outcome] if time - outcome_time < window else None)
        if operator == "and":
            breach, recovered = all(value is True for value in truths), any(value is False for value in truths)
        else:
            breach, recovered = any(value is True for value in truths), all(value is False for value in truths)
        rows.append((time * SECOND, breach, recovered))
    return rows


def to_rows(joined: Signal) -> list[tuple[int, bool, bool]]:
    return list(zip(joined.times.tolist(), joined.breach.tolist(), joined.recovered.tolist(), strict=True))


@pytest.mark.slow
@pytest.mark.parametrize("operator", ["and", "or"])
@settings(deadline=None)
@given(
    outcome_lists=st.tuples(OUTCOME_LISTS, OUTCOME_LISTS, OUTCOME_LISTS).map(list),
    cuts=st.lists(st.integers(0, 61), max_size=5),
)
def test_join_of_parts_equals_join_of_the_whole(
    operator: str, outcome_lists: list[list[tuple[int, str]]], cuts: list[int]
) -> None:
    spec, expected = composite_spec(operator), expected_rows(operator, outcome_lists)
    whole = join(spec, CompositeState(), [signal(outcomes) for outcomes in outcome_lists])
    assert to_rows(whole) == expected
    state, rows, values = CompositeState(), [], []
    edges = sorted({0, 61, *cuts})
    for low, high in zip(edges[:-1], edges[1:], strict=True):
        part_signal = join(
            spec, state, [signal([part for part in outcomes if low <= part[0] < high]) for outcomes in outcome_lists]
        )
        rows += to_rows(part_signal)
        values += part_signal.values.tolist()
    assert rows == expected
    np.testing.assert_array_equal(values, whole.values)


def test_value_is_that_of_the_condition_that_is_met() -> None:
    spec = composite_spec("or", (60, 60))
    whole = join(
        spec, CompositeState(), [signal([(1, "clear"), (3, "breach")], 100), signal([(0, "clear"), (2, "breach")])]
    )
    assert whole.values.tolist() == [0.0, 101.0, 2.0, 103.0]


def test_point_behind_another_metric_counts_from_the_joined_time() -> None:
    spec, state = composite_spec("and", (60, 60)), CompositeState()
    assert to_rows(join(spec, state, [signal([(10, "breach")]), signal([])])) == [(10 * SECOND, False, False)]
    assert to_rows(join(spec, state, [signal([]), signal([(9, "breach")])])) == [(10 * SECOND, True, False)]


@pytest.mark.slow
@settings(deadline=None)
@given(
    times=st.lists(st.integers(1, 100), unique=True).map(sorted), interval=st.integers(1, 20), grace=st.integers(0, 5)
)
def test_absence_breaches_at_every_missed_deadline(times: list[int], interval: int, grace: int) -> None:
    expected_rows: Any = []
    last_seen = 0
    for time in [*times, 101]:
        if last_seen + interval + grace < time:
            expected_rows.append((last_seen + interval + grace, True, float(interval + grace)))
        if time <= 100:
            expected_rows.append((time, False, float(time - last_seen)))
        last_seen = time
    result = evaluate_absence(np.array(times, np.int64) * SECOND, 0, 101 * SECOND, interval * SECOND, grace * SECOND)
    rows = zip((result.times // SECOND).tolist(), result.breach.tolist(), result.values.tolist(), strict=True)
    assert list(rows) == expected_rows
    assert (result.recovered == ~result.breach).all()
