"""Where values are going: how fast they change over a window, and where a straight line through it leads. Pure."""

from functools import partial
from typing import Final

import numpy as np

from alerts.conditions.spec import SECOND, Comparison
from alerts.conditions.thresholds import Signal, compared, holds
from alerts.conditions.windows import Measure, Summary, over_windows, summed_up
from metrics.query.accumulators import Floats, Ints

LEAST_OF_A_LINE: Final = 3  # points: a line goes through any two, whatever they are


def _slope(times: Ints, values: Floats, starts: Ints, stops: Ints) -> Floats:
    """Per second, by least squares."""
    *_, across, along = _line(times, values, starts, stops)
    return np.where(stops - starts > 1, along / across, np.nan)


def _rate(times: Ints, values: Floats, starts: Ints, stops: Ints) -> Floats:
    """Per second, from the first to the last."""
    return (values[stops - 1] - values[starts]) / ((times[stops - 1] - times[starts]) / SECOND)


def _relative(times: Ints, values: Floats, starts: Ints, stops: Ints) -> Floats:
    """From the first to the last, as a share of the first."""
    first = values[starts]
    told = (stops - starts > 1) & (first != 0)
    return np.where(told, (values[stops - 1] - first) / np.abs(first), np.nan)


MEASURED: Final[dict[str, Measure]] = {"slope": _slope, "rate": _rate, "relative": _relative}


def _predicted(horizon: int, times: Ints, values: Floats, starts: Ints, stops: Ints) -> Floats:
    """The value, `horizon` µs after the last one, of a line by least squares."""
    _, begin, elapsed, mean, across, along = _line(times, values, starts, stops)
    ahead = (times[stops - 1] - begin + horizon) / SECOND - elapsed
    return np.where(stops - starts >= LEAST_OF_A_LINE, mean + along / across * ahead, np.nan)


def _line(times: Ints, values: Floats, starts: Ints, stops: Ints) -> Summary:
    """Of each window: points, time of the first, mean time since then (s), mean value, and sums of squares and
    products of the distances to both means."""
    nothing = np.zeros(len(values))
    points = (np.ones(len(values)), times, nothing, values, nothing, nothing)
    return summed_up(points, _joined_lines, starts, stops)


def _joined_lines(one: Summary, other: Summary) -> Summary:
    count = one[0] + other[0]
    share = other[0] / count
    later = (other[1] - one[1]) / SECOND + other[2] - one[2]
    away = other[3] - one[3]
    weighed = later * share * one[0]
    return (
        count,
        one[1],
        one[2] + later * share,
        one[3] + away * share,
        one[4] + other[4] + later * weighed,
        one[5] + other[5] + away * weighed,
    )


def forecast(comparison: Comparison, times: Ints, values: Floats, first: int) -> Signal:
    """The signal of where values will be: a breach where they are beyond the threshold then, or are so by now, and well
    where neither is so."""
    now = values[first:]
    predicted = over_windows(partial(_predicted, comparison.horizon), times, values, comparison.window, first)
    then, present = compared(comparison, times[first:], predicted), compared(comparison, times[first:], now)
    judged = np.where(present.breach & ~then.breach, now, predicted)
    return Signal(times[first:], judged, then.breach | present.breach, then.clear & present.clear)


def due_in(comparison: Comparison, now: float, predicted: float) -> float | None:
    """In about how many seconds a value crosses the threshold of a forecast: 0 where it did, None where it will not."""
    threshold = comparison.threshold
    assert isinstance(threshold, float)
    beyond_now, beyond_then = holds(comparison.op, np.array([now, predicted]), threshold).tolist()
    if beyond_now:
        return 0.0
    return (threshold - now) / (predicted - now) * comparison.horizon / SECOND if beyond_then else None


def in_words(seconds: float) -> str:
    """How long it is until then: `in about 40 min`."""
    if seconds < 90:
        return "within a minute or so"
    if seconds < 90 * 60:
        return f"in about {seconds / 60:.0f} min"
    return f"in about {seconds / 3600:.0f} h" if seconds < 36 * 3600 else f"in about {seconds / 86400:.0f} days"
