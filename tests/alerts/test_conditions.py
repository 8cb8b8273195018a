"""Conditions, compared with models that use single points and exact arithmetic."""

import math
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from alerts.conditions import windows
from alerts.conditions.dispatch import evaluate_condition
from alerts.conditions.spec import KINDS, SECOND, ConditionSpec, read_spec
from alerts.conditions.thresholds import Signal, as_numbers
from alerts.conditions.windows import AGGREGATIONS
from metrics.query.accumulators import ACCUMULATORS, Floats, Ints, find_aggregation
from metrics.query.time_buckets import split_by_bucket
from metrics.storage.format.codec import Columns
from rest.errors import InvalidFields

NUMBERS = st.floats(-1e6, 1e6, allow_nan=False).map(lambda value: round(value, 3))
POINTS = st.lists(st.tuples(st.integers(1, 30_000_000), NUMBERS), min_size=1, max_size=50)
WINDOWS = st.integers(1, 120)  # seconds
PARAMETER_NAMES = st.sampled_from(
    ["conditions", "operator", "horizon", "measure", "grace", "metric_name", "threshold_value", "kind", "parameters"]
)
PERCENTILES = ("median", "p0", "p95", "p99.9", "p100")


def comparison(**fields: Any) -> ConditionSpec:
    defaults = {"metric_name": "x", "condition": ">", "threshold_value": 10}
    return read_spec(defaults | fields).conditions[0]


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.just(10**400) | st.floats() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(PARAMETER_NAMES, inner, max_size=3),
    max_leaves=8,
)


@pytest.mark.slow
@given(
    st.sampled_from(KINDS),
    st.fixed_dictionaries(
        {"metric_name": st.just("x")},
        optional={"threshold_value": JSON, "clear_threshold": JSON, "evaluation_window": JSON, "parameters": JSON},
    ),
)
@settings(deadline=None)
def test_any_document_is_read_or_rejected(kind: str, fields: dict[str, Any]) -> None:
    try:
        read_spec({"kind": kind} | fields)
    except InvalidFields as error:
        assert error.errors


def to_columns(points: list[tuple[int, float]]) -> tuple[Ints, Floats]:
    times = np.cumsum(np.array([gap for gap, _ in points], np.int64)) + 1_700_000_000_000_000
    return times, np.array([value for _, value in points], np.float64)


def evaluate(fields: dict[str, Any], points: list[tuple[int, float]]) -> list[float]:
    return evaluate_condition(comparison(**fields), *to_columns(points), 0).values.tolist()


def split_into_windows(times: Ints, values: Floats, window: int) -> list[tuple[list[int], list[float]]]:
    """Return the points in (t − window, t] for each time t."""
    window_points = []
    for end, time in enumerate(times.tolist()):
        positions = [position for position in range(end + 1) if time - int(times[position]) < window * SECOND]
        window_points.append(
            ([int(times[position]) for position in positions], [float(values[position]) for position in positions])
        )
    return window_points


def aggregate_query(name: str, times: list[int], values: list[float]) -> float:
    """Return the aggregation of these points by the query engine."""
    columns = Columns(np.array([7]), np.array([0, len(times)]), np.array(times), np.array(values))
    accumulator = find_aggregation(name).create_accumulator(1, 1)
    accumulator.add(
        columns,
        split_by_bucket(columns, np.array([times[0], times[-1] + 1]), np.zeros(1, np.int64), np.zeros(1, np.int64)),
    )
    return float(accumulator.values()[0])


@pytest.mark.slow
@pytest.mark.parametrize("name", [*sorted(ACCUMULATORS), *PERCENTILES])
@settings(deadline=None)
@given(points=POINTS, window=WINDOWS)
def test_window_aggregation_equals_the_query_aggregation(
    name: str, points: list[tuple[int, float]], window: int
) -> None:
    expected = [
        aggregate_query(name, *window_points) for window_points in split_into_windows(*to_columns(points), window)
    ]
    values = evaluate({"aggregation": name, "evaluation_window": window}, points)
    assert values == pytest.approx(expected, rel=1e-9, abs=1e-6, nan_ok=True)


def test_every_query_aggregation_has_a_measure() -> None:
    assert AGGREGATIONS.keys() == ACCUMULATORS.keys()


@pytest.mark.slow
@settings(deadline=None)
@given(points=POINTS, window=WINDOWS)
def test_sums_are_exact_except_for_rounding(points: list[tuple[int, float]], window: int) -> None:
    expected = [math.fsum(values) for _, values in split_into_windows(*to_columns(points), window)]
    scale = max(math.fsum(map(abs, values)) for _, values in split_into_windows(*to_columns(points), window))
    sums = evaluate({"aggregation": "sum", "evaluation_window": window}, points)
    assert np.abs(np.array(sums) - expected).max() <= 1e-14 * scale


def test_tiny_value_after_a_huge_one_is_not_lost() -> None:
    points = [(SECOND, value) for value in (1e300, 1e-3, 1e-3, 1e-3)]
    assert evaluate({"aggregation": "sum", "evaluation_window": 2}, points)[2:] == [2e-3, 2e-3]
    assert evaluate({"aggregation": "stddev", "evaluation_window": 2}, points)[2:] == [0.0, 0.0]


def test_standard_deviation_of_large_similar_values_is_exact() -> None:
    points = [(SECOND, 1e9 + offset) for offset in (0.0, 1.0, 0.0, 1.0)]
    assert evaluate({"aggregation": "stddev", "evaluation_window": 10}, points)[-1] == pytest.approx(0.5, rel=1e-12)


def fit_line(times: list[int], values: list[float], at: int) -> tuple[float, float]:
    """Return slope per second and value at `at` of the least-squares line, in exact arithmetic."""
    x, y = [Fraction(time, SECOND) for time in times], [Fraction(value) for value in values]
    mean_x, mean_y = sum(x) / len(x), sum(y) / len(y)
    squares = sum((x_value - mean_x) ** 2 for x_value in x)
    slope = sum((x_value - mean_x) * (y_value - mean_y) for x_value, y_value in zip(x, y, strict=True)) / squares
    return float(slope), float(mean_y + slope * (Fraction(at, SECOND) - mean_x))


@pytest.mark.slow
@settings(deadline=None)
@given(points=st.lists(st.tuples(st.integers(100_000, 30_000_000), NUMBERS), min_size=1, max_size=40), window=WINDOWS)
def test_slope_is_that_of_the_least_squares_line(points: list[tuple[int, float]], window: int) -> None:
    slopes = evaluate({"kind": "trend", "evaluation_window": window}, points)
    for slope, (times, values) in zip(slopes, split_into_windows(*to_columns(points), window), strict=True):
        if len(times) < 2:
            assert math.isnan(slope)
        else:
            assert slope == pytest.approx(fit_line(times, values, 0)[0], rel=1e-8, abs=1e-4)


@pytest.mark.slow
@settings(deadline=None)
@given(points=st.lists(st.tuples(st.integers(100_000, 30_000_000), NUMBERS), min_size=1, max_size=40), window=WINDOWS)
def test_forecast_extrapolates_the_least_squares_line(points: list[tuple[int, float]], window: int) -> None:
    fields = {"kind": "forecast", "evaluation_window": window, "parameters": {"horizon": 600}, "threshold_value": 1e9}
    forecasts = evaluate(fields, points)
    for predicted, (times, values) in zip(forecasts, split_into_windows(*to_columns(points), window), strict=True):
        if len(times) < 3:
            assert math.isnan(predicted)
        else:
            assert predicted == pytest.approx(fit_line(times, values, times[-1] + 600 * SECOND)[1], rel=1e-8, abs=1e-2)


@pytest.mark.slow
@settings(deadline=None)
@given(points=POINTS, window=WINDOWS)
def test_rate_and_relative_change_compare_first_and_last_value(points: list[tuple[int, float]], window: int) -> None:
    fields = {"kind": "trend", "evaluation_window": window}
    rates = evaluate(fields | {"parameters": {"measure": "rate"}}, points)
    relatives = evaluate(fields | {"parameters": {"measure": "relative"}}, points)
    for rate, relative, (times, values) in zip(
        rates, relatives, split_into_windows(*to_columns(points), window), strict=True
    ):
        change = values[-1] - values[0]
        seconds = (times[-1] - times[0]) / SECOND
        assert rate == pytest.approx(change / seconds if seconds else math.nan, nan_ok=True)
        defined = seconds and values[0]
        assert relative == pytest.approx(change / abs(values[0]) if defined else math.nan, nan_ok=True)


KINDS: dict[str, dict[str, Any]] = {
    "raw": {},
    "hysteresis": {"clear_threshold": -100},
    "average": {"aggregation": "avg"},
    "least": {"aggregation": "min", "condition": "<"},
    "p95": {"aggregation": "p95"},
    "spread": {"aggregation": "stddev"},
    "rate": {"aggregation": "rate"},
    "slope": {"kind": "trend"},
    "relative": {"kind": "trend", "parameters": {"measure": "relative"}},
    "forecast": {"kind": "forecast", "parameters": {"horizon": 60}},
}


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
@settings(deadline=None)
@given(points=POINTS, window=WINDOWS, cuts=st.lists(st.integers(0, 49), max_size=5), batch_size=st.sampled_from([1, 7]))
def test_parts_with_a_window_equal_the_whole_bit_for_bit(
    kind: str, points: list[tuple[int, float]], window: int, cuts: list[int], batch_size: int
) -> None:
    rule = comparison(evaluation_window=window, **KINDS[kind])
    times, values = to_columns(points)
    whole = evaluate_condition(rule, times, values, 0)
    edges = sorted({0, len(points), *(cut for cut in cuts if cut < len(points))})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(windows, "WINDOW_BATCH", batch_size)
        parts = []
        for low, high in zip(edges[:-1], edges[1:], strict=True):
            start = int(times.searchsorted(times[low] - rule.window, "right"))
            parts.append(evaluate_condition(rule, times[start:high], values[start:high], low - start))
    for name in ("times", "values", "breach", "recovered"):
        joined = np.concatenate([getattr(part, name) for part in parts])
        np.testing.assert_array_equal(joined, getattr(whole, name))


@pytest.mark.slow
@pytest.mark.parametrize("op", [">", "<", ">=", "<=", "==", "!="])
@settings(deadline=None)
@given(values=st.lists(st.one_of(st.just(math.nan), st.integers(5, 15).map(float)), min_size=1))
def test_each_operator_compares_and_nan_is_neither_breach_nor_recovered(op: str, values: list[float]) -> None:
    signal = evaluate_condition(comparison(condition=op), np.arange(len(values)), np.array(values), 0)
    compare = {
        ">": lambda value: value > 10, "<": lambda value: value < 10, ">=": lambda value: value >= 10,
        "<=": lambda value: value <= 10, "==": lambda value: value == 10, "!=": lambda value: value != 10,
    }[op]  # fmt: skip
    assert signal.breach.tolist() == [not math.isnan(value) and compare(value) for value in values]
    assert signal.recovered.tolist() == [not math.isnan(value) and not compare(value) for value in values]


@pytest.mark.parametrize("kind", ["average", "slope", "relative", "forecast", "rate", "p95", "spread"])
def test_undefined_values_never_breach(kind: str) -> None:
    rule = comparison(**KINDS[kind] | {"condition": "!=", "threshold_value": 1e9})
    signal = evaluate_condition(rule, np.array([10, 20]) * SECOND, np.array([math.nan, math.nan]), 0)
    assert not signal.breach.any()
    assert not signal.recovered.any()


def test_values_between_both_thresholds_are_neither_breach_nor_recovered() -> None:
    signal = evaluate_condition(comparison(clear_threshold=8), np.arange(4), np.array([11.0, 9.0, 8.5, 8.0]), 0)
    assert signal.breach.tolist() == [True, False, False, False]
    assert signal.recovered.tolist() == [False, False, False, True]


@pytest.mark.parametrize(("op", "breach"), [("==", [True, False]), ("!=", [False, True])], ids=["equal", "unequal"])
def test_texts_and_booleans_are_compared_by_equality(op: str, breach: list[bool]) -> None:
    spec = comparison(condition=op, threshold_value="fault")
    numbers = as_numbers(spec, np.array([b"fault", b"faulty"], object))
    assert evaluate_condition(spec, np.arange(2), numbers, 0).breach.tolist() == breach
    for truth in (True, False):
        values = np.array([truth, not truth], np.float64)
        signal = evaluate_condition(comparison(condition=op, threshold_value=truth), np.arange(2), values, 0)
        assert signal.breach.tolist() == breach


def forecast_rising_values(step: float, **fields: Any) -> Signal:
    """Forecast values that rise from 0 by `step` per minute, one hour ahead."""
    rule = comparison(kind="forecast", parameters={"horizon": 3600}, evaluation_window=600, **fields)
    return evaluate_condition(rule, np.arange(5) * 60 * SECOND, np.arange(5) * step, 0)


def test_forecast_breaches_before_the_value_does() -> None:
    assert forecast_rising_values(0.1, threshold_value=6.35).breach.tolist() == [False, False, False, False, True]
    assert not forecast_rising_values(0.1, threshold_value=7).breach.any()


def test_present_breach_is_a_forecast_breach_in_any_direction() -> None:
    falling = forecast_rising_values(-1.0, threshold_value=-4.5)
    assert falling.breach.tolist() == [True] * 5
    assert falling.values[0] == 0.0  # a single point has no forecast
    assert forecast_rising_values(-1.0, threshold_value=-2.0).values.tolist()[3:] == [-63.0, -64.0]


def test_forecast_recovers_if_present_and_predicted_value_do() -> None:
    assert forecast_rising_values(0.1, threshold_value=7, clear_threshold=6.25).recovered.tolist() == [
        False,
        False,
        True,
        False,
        False,
    ]
    assert forecast_rising_values(-1.0, threshold_value=-3.5).recovered.tolist() == [False, False, False, False, True]
