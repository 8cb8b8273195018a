"""What a condition makes of points, whatever its kind."""

from alerts.conditions.spec import Comparison
from alerts.conditions.thresholds import Signal, compared
from alerts.conditions.trends import MEASURED, forecast
from alerts.conditions.windows import measure_of, over_windows
from metrics.query.accumulators import Floats, Ints


def judge(comparison: Comparison, times: Ints, values: Floats, first: int) -> Signal:
    """The signal of the points from place `first` on; those before are what was measured before, as far as it counts.

    times int64[n] in µs, ascending; values float64[n], texts by `as_numbers`. Anomalies are told by the detector:
    `signals.scored`; absence by the clock: `absence`.
    """
    if comparison.kind == "forecast":
        return forecast(comparison, times, values, first)
    if not comparison.needs_window:
        return compared(comparison, times[first:], values[first:])
    measure = MEASURED[comparison.measure] if comparison.kind == "trend" else measure_of(comparison.aggregation)
    return compared(comparison, times[first:], over_windows(measure, times, values, comparison.window, first))
