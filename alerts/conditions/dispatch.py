"""Evaluate a condition of any kind on points."""

from alerts.conditions.spec import ConditionSpec
from alerts.conditions.thresholds import Signal, compare_values
from alerts.conditions.trends import TREND_MEASURES, evaluate_forecast
from alerts.conditions.windows import aggregation_measure, measure_windows
from metrics.query.accumulators import Floats, Ints


def evaluate_condition(condition: ConditionSpec, times: Ints, values: Floats, first: int) -> Signal:
    """Return the signal of the points from position `first` on; the points before only fill windows.

    times int64[n] in µs, ascending; values float64[n], texts converted by `as_numbers`. Anomaly conditions are
    evaluated by the detector, absence by the clock.
    """
    if condition.kind == "forecast":
        return evaluate_forecast(condition, times, values, first)
    if not condition.needs_window:
        return compare_values(condition, times[first:], values[first:])
    if condition.kind == "trend":
        measure = TREND_MEASURES[condition.measure]
    else:
        measure = aggregation_measure(condition.aggregation)
    measured = measure_windows(measure, times, values, condition.window, first)
    return compare_values(condition, times[first:], measured)
