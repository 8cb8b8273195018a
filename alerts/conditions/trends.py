"""Trends and forecasts: the change of values over a window, and the extrapolation of a line fitted to it. Pure."""

from functools import partial

import numpy as np

from alerts.conditions.spec import SECOND, ConditionSpec
from alerts.conditions.thresholds import Signal, compare_values
from alerts.conditions.windows import Measure, Summary, measure_windows, summarize_windows
from metrics.query.accumulators import Floats, Ints

MIN_LINE_POINTS = 3  # a line through two points predicts nothing


def _slope(times: Ints, values: Floats, starts: Ints, stops: Ints) -> Floats:
    """Return the slope per second by least squares."""
    *_, squares, products = _line(times, values, starts, stops)
    return np.where(stops - starts > 1, products / squares, np.nan)


def _rate(times: Ints, values: Floats, starts: Ints, stops: Ints) -> Floats:
    """Return the change per second from the first to the last value."""
    return (values[stops - 1] - values[starts]) / ((times[stops - 1] - times[starts]) / SECOND)


def _relative(times: Ints, values: Floats, starts: Ints, stops: Ints) -> Floats:
    """Return the change from the first to the last value, relative to the first."""
    first = values[starts]
    is_defined = (stops - starts > 1) & (first != 0)
    return np.where(is_defined, (values[stops - 1] - first) / np.abs(first), np.nan)


TREND_MEASURES: dict[str, Measure] = {"slope": _slope, "rate": _rate, "relative": _relative}


def _predict(horizon: int, times: Ints, values: Floats, starts: Ints, stops: Ints) -> Floats:
    """Return the value of a least-squares line `horizon` µs after the last point."""
    _, begin, mean_elapsed, mean, squares, products = _line(times, values, starts, stops)
    ahead = (times[stops - 1] - begin + horizon) / SECOND - mean_elapsed
    return np.where(stops - starts >= MIN_LINE_POINTS, mean + products / squares * ahead, np.nan)


def _line(times: Ints, values: Floats, starts: Ints, stops: Ints) -> Summary:
    """Return per window: count, first time, mean time since then (s), mean value, and the sums of the squared time
    deviations and of the products of time and value deviations."""
    zeros = np.zeros(len(values))
    points = (np.ones(len(values)), times, zeros, values, zeros, zeros)
    return summarize_windows(points, _join_lines, starts, stops)


def _join_lines(earlier: Summary, later: Summary) -> Summary:
    count = earlier[0] + later[0]
    weight = later[0] / count
    time_difference = (later[1] - earlier[1]) / SECOND + later[2] - earlier[2]
    value_difference = later[3] - earlier[3]
    weighted = time_difference * weight * earlier[0]
    return (
        count,
        earlier[1],
        earlier[2] + time_difference * weight,
        earlier[3] + value_difference * weight,
        earlier[4] + later[4] + time_difference * weighted,
        earlier[5] + later[5] + value_difference * weighted,
    )


def evaluate_forecast(condition: ConditionSpec, times: Ints, values: Floats, first: int) -> Signal:
    """Return the signal of predicted values. A breach: the predicted or the present value is beyond the threshold."""
    present_values = values[first:]
    predict = partial(_predict, condition.horizon)
    predicted_values = measure_windows(predict, times, values, condition.window, first)
    predicted = compare_values(condition, times[first:], predicted_values)
    present = compare_values(condition, times[first:], present_values)
    compared = np.where(present.breach & ~predicted.breach, present_values, predicted_values)
    recovered = predicted.recovered & present.recovered
    return Signal(times[first:], compared, predicted.breach | present.breach, recovered)
