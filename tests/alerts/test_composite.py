"""Composite conditions and absence, compared with a model that checks every time."""

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

WINDOWS = (10, 5, 20)  # seconds, of the conditions
WORDS = {"breach": True, "clear": False, "neither": None}
SAID = st.lists(st.tuples(st.integers(0, 60), st.sampled_from(list(WORDS))), max_size=25, unique_by=lambda one: one[0])


def composite(operator: str, windows: tuple[int, ...] = WINDOWS) -> RuleSpec:
    conditions = [
        {"metric_name": f"m{at}", "condition": ">", "threshold_value": 1, "evaluation_window": window}
        for at, window in enumerate(windows)
    ]
    parameters = {"operator": operator, "conditions": conditions}
    return read_spec({"metric_name": "m0", "kind": "composite", "parameters": parameters})


def signal(said: list[tuple[int, str]], value: float = 0.0) -> Signal:
    said = sorted(said)
    times = np.array([time for time, _ in said], np.int64) * SECOND
    breach = np.array([what == "breach" for _, what in said], bool)
    clear = np.array([what == "clear" for _, what in said], bool)
    return Signal(times, times / SECOND + value, breach, clear)


def expected(operator: str, said: list[list[tuple[int, str]]]) -> list[tuple[int, bool, bool]]:
    """Kleene's three values, time by time."""
    found = []
    for time in sorted({time for one in said for time, _ in one}):
        truths: list[bool | None] = []
        for one, window in zip(said, WINDOWS, strict=True):
            known = [(at, what) for at, what in one if at <= time]
            at, what = max(known) if known else (-math.inf, "neither")
            truths.append(WORDS[what] if time - at < window else None)
        if operator == "and":
            holds, well = all(truth is True for truth in truths), any(truth is False for truth in truths)
        else:
            holds, well = any(truth is True for truth in truths), all(truth is False for truth in truths)
        found.append((time * SECOND, holds, well))
    return found


def listed(joined: Signal) -> list[tuple[int, bool, bool]]:
    return list(zip(joined.times.tolist(), joined.breach.tolist(), joined.recovered.tolist(), strict=True))


@pytest.mark.slow
@pytest.mark.parametrize("operator", ["and", "or"])
@settings(deadline=None)
@given(said=st.tuples(SAID, SAID, SAID).map(list), cuts=st.lists(st.integers(0, 61), max_size=5))
def test_join_of_parts_equals_join_of_the_whole(
    operator: str, said: list[list[tuple[int, str]]], cuts: list[int]
) -> None:
    spec, wanted = composite(operator), expected(operator, said)
    whole = join(spec, CompositeState(), [signal(one) for one in said])
    assert listed(whole) == wanted
    joined, found, values = CompositeState(), [], []
    edges = sorted({0, 61, *cuts})
    for low, high in zip(edges[:-1], edges[1:], strict=True):
        piece = join(spec, joined, [signal([part for part in one if low <= part[0] < high]) for one in said])
        found += listed(piece)
        values += piece.values.tolist()
    assert found == wanted
    np.testing.assert_array_equal(values, whole.values)


def test_value_is_that_of_the_condition_that_is_met() -> None:
    spec = composite("or", (60, 60))
    joined = join(
        spec, CompositeState(), [signal([(1, "clear"), (3, "breach")], 100), signal([(0, "clear"), (2, "breach")])]
    )
    assert joined.values.tolist() == [0.0, 101.0, 2.0, 103.0]


def test_point_behind_another_metric_counts_from_the_joined_time() -> None:
    spec, joined = composite("and", (60, 60)), CompositeState()
    assert listed(join(spec, joined, [signal([(10, "breach")]), signal([])])) == [(10 * SECOND, False, False)]
    assert listed(join(spec, joined, [signal([]), signal([(9, "breach")])])) == [(10 * SECOND, True, False)]


@pytest.mark.slow
@settings(deadline=None)
@given(
    times=st.lists(st.integers(1, 100), unique=True).map(sorted), expected=st.integers(1, 20), grace=st.integers(0, 5)
)
def test_absence_breaches_at_every_missed_deadline(times: list[int], expected: int, grace: int) -> None:
    said: Any = []
    heard = 0
    for time in [*times, 101]:
        if heard + expected + grace < time:
            said.append((heard + expected + grace, True, float(expected + grace)))
        if time <= 100:
            said.append((time, False, float(time - heard)))
        heard = time
    found = evaluate_absence(np.array(times, np.int64) * SECOND, 0, 101 * SECOND, expected * SECOND, grace * SECOND)
    told = zip((found.times // SECOND).tolist(), found.breach.tolist(), found.values.tolist(), strict=True)
    assert list(told) == said
    assert (found.recovered == ~found.breach).all()
