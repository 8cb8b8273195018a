"""What the window that ends with each point comes to, (t − window, t], however many points it has.

A value follows from the points of its window alone, to the last bit: live evaluation, which remembers one window, and a
backtest over a year tell the same. So nothing runs along (running sums drift and cancel out): a window is put together
from runs of 1, 2, 4, … points, which takes as many steps as the longest window has binary digits.

Aggregations have the names and the meaning of metrics.query.accumulators. Pure.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from metrics.query.accumulators import Floats, Ints, parse_percentile
from metrics.storage.units import SECOND

AT_ONCE: Final = 16_384  # windows: what is made of them stays within a core's cache
LARGEST: Final = float(np.finfo(np.float64).max)

Measure = Callable[[Ints, Floats, Ints, Ints], Floats]
"""Times, values, and where each window begins and ends among them (one point at least) to one value a window."""

Summary = tuple[NDArray[Any], ...]
Join = Callable[[Summary, Summary], Summary]


def over_windows(measure: Measure, times: Ints, values: Floats, window: int, first: int) -> Floats:
    """The measure of the window of each point from place `first` on: float64[n − first], NaN where it cannot be told.

    times int64[n] in µs, ascending; `window` in µs. What is too large for a number is told as the largest there is:
    that is what it has to be compared as, and an infinity can be neither stored nor sent as JSON.
    """
    stops = np.arange(first + 1, len(times) + 1)
    starts = times.searchsorted(times[first:] - window, "right")
    found = np.empty(len(stops))
    step = max(AT_ONCE, int((stops - starts).max(initial=0)))
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        for at in range(0, len(stops), step):
            some = slice(at, at + step)
            low, high = int(starts[at]), int(stops[some][-1])
            found[some] = measure(times[low:high], values[low:high], starts[some] - low, stops[some] - low)
    return found.clip(-LARGEST, LARGEST, out=found)


def summed_up(points: Summary, join: Join, starts: Ints, stops: Ints) -> Summary:
    """The summary of each window, from the summaries of single points and an associative way to join two of them.

    The first of the two that are joined is that of the earlier points.
    """
    found = tuple(column[starts] for column in points)
    at, left, step = starts + 1, stops - starts - 1, 1
    longest = int(left.max(initial=0))
    while step <= longest:
        some = np.flatnonzero(left & step)
        next_ones = at[some]
        more = join(tuple(column[some] for column in found), tuple(column[next_ones] for column in points))
        for column, new in zip(found, more, strict=True):
            column[some] = new
        at[some] += step
        if 2 * step <= longest:
            points = join(tuple(column[:-step] for column in points), tuple(column[step:] for column in points))
        step *= 2
    return found


def measure_of(aggregation: str) -> Measure:
    """The measure of an aggregation that metrics.query.accumulators knows."""
    percent = parse_percentile(aggregation)
    return AGGREGATIONS[aggregation] if percent is None else partial(_percentile, percent)


def _picked(pick: np.ufunc) -> Measure:
    def join(one: Summary, other: Summary) -> Summary:
        return (pick(one[0], other[0]),)

    def measure(times: Ints, values: Floats, starts: Ints, stops: Ints) -> Floats:
        return summed_up((values,), join, starts, stops)[0]

    return measure


_sum = _picked(np.add)


def _average(times: Ints, values: Floats, starts: Ints, stops: Ints) -> Floats:
    return _sum(times, values, starts, stops) / (stops - starts)


def _count(times: Ints, values: Floats, starts: Ints, stops: Ints) -> Floats:
    return (stops - starts).astype(np.float64)


def _first(times: Ints, values: Floats, starts: Ints, stops: Ints) -> Floats:
    return values[starts]


def _last(times: Ints, values: Floats, starts: Ints, stops: Ints) -> Floats:
    return values[stops - 1]


def _spread(times: Ints, values: Floats, starts: Ints, stops: Ints) -> Floats:
    """Population standard deviation, from distances to means of the runs that are joined."""
    points = (np.ones(len(values)), values, values - values)  # NaN where there is no value
    count, _, squares = summed_up(points, _joined_squares, starts, stops)
    spread: Floats = np.sqrt(squares / count)
    return spread


def _joined_squares(one: Summary, other: Summary) -> Summary:
    count = one[0] + other[0]
    away, share = other[1] - one[1], other[0] / count
    return count, one[1] + away * share, one[2] + other[2] + away * away * share * one[0]


def _delta(times: Ints, values: Floats, starts: Ints, stops: Ints) -> Floats:
    return np.where(stops - starts > 1, values[stops - 1] - values[starts], np.nan)


def _increase(times: Ints, values: Floats, starts: Ints, stops: Ints) -> Floats:
    """A counter that fell began again from 0."""
    risen = np.empty(len(values))
    risen[1:] = np.where(values[1:] < values[:-1], values[1:], values[1:] - values[:-1])
    found = np.full(len(starts), np.nan)
    some = np.flatnonzero(stops - starts > 1)
    found[some] = _sum(times, risen, starts[some] + 1, stops[some])
    return found


def _rate(times: Ints, values: Floats, starts: Ints, stops: Ints) -> Floats:
    return _increase(times, values, starts, stops) / ((times[stops - 1] - times[starts]) / SECOND)


def _percentile(percent: float, times: Ints, values: Floats, starts: Ints, stops: Ints) -> Floats:
    """Interpolated between neighbours, as numpy's `linear` method does."""
    last = stops - starts - 1
    at = last * (percent / 100)
    below = at.astype(np.int64)
    ranks = np.concatenate((below, np.minimum(below + 1, last)))
    lower, upper = np.split(smallest(values, np.tile(starts, 2), np.tile(stops, 2), ranks), 2)
    found: Floats = lower + (upper - lower) * (at - below)
    return found


def smallest(values: Floats, starts: Ints, stops: Ints, ranks: Ints) -> Floats:
    """The value of a rank (0: the smallest) in each window, in steps of the binary digits of the values' places.

    A wavelet matrix: digit by digit, the values with a 0 are moved before those with a 1, and a window moves along with
    those of its values that are still in question.
    """
    known, places = np.unique(values, return_inverse=True)
    # Half as wide as they come, which is a quarter faster.
    codes, low, high, left = (column.astype(np.int32) for column in (places, starts, stops, ranks))
    found = np.zeros(len(ranks), np.int32)
    zeros = np.zeros(len(codes) + 1, np.int32)
    for digit in reversed(range((len(known) - 1).bit_length())):
        is_one = (codes >> digit & 1).astype(bool)
        np.cumsum(~is_one, out=zeros[1:])
        zeros_from, zeros_to = zeros[low], zeros[high]
        among = zeros_to - zeros_from
        up = left >= among
        left -= among * up
        low = np.where(up, zeros[-1] + low - zeros_from, zeros_from)
        high = np.where(up, zeros[-1] + high - zeros_to, zeros_to)
        found |= up.astype(np.int32) << digit
        codes = np.concatenate((codes[~is_one], codes[is_one]))
    smallest_ones: Floats = known[found]
    return smallest_ones


AGGREGATIONS: Final[dict[str, Measure]] = {
    "avg": _average,
    "min": _picked(np.minimum),
    "max": _picked(np.maximum),
    "sum": _sum,
    "count": _count,
    "first": _first,
    "last": _last,
    "stddev": _spread,
    "rate": _rate,
    "increase": _increase,
    "delta": _delta,
}
