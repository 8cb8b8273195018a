"""Measures of the window that ends with each point: (t − window, t], with any number of points.

A result depends only on the points of its window, to the last bit, so live evaluation, which keeps one window, and a
backtest over a year agree. Running sums would drift. Instead a window is composed of runs of 1, 2, 4, … points, in as
many steps as the size of the largest window has binary digits.

Aggregations have the names and the meaning of metrics.query.accumulators, but differences begin at the first point of
a window. Pure.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from metrics.query.accumulators import Floats, Ints, parse_percentile
from metrics.storage.units import SECOND

WINDOW_BATCH = 16_384  # windows per step, whose intermediate results fit a core's cache
MAX_FLOAT = float(np.finfo(np.float64).max)

Measure = Callable[[Ints, Floats, Ints, Ints], Floats]
"""From times, values, and the start and stop position of each window (at least one point) to one value per window."""

Summary = tuple[NDArray[Any], ...]
Join = Callable[[Summary, Summary], Summary]


def measure_windows(measure: Measure, times: Ints, values: Floats, window: int, first: int) -> Floats:
    """Return the measure of the window of each point from position `first` on: float64[n − first], NaN if undefined.

    times int64[n] in µs, ascending; `window` in µs. Infinite results become the largest float, since an infinity can be
    neither stored nor sent as JSON.
    """
    stops = np.arange(first + 1, len(times) + 1)
    starts = times.searchsorted(times[first:] - window, "right")
    results = np.empty(len(stops))
    step = max(WINDOW_BATCH, int((stops - starts).max(initial=0)))
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        for at in range(0, len(stops), step):
            batch = slice(at, at + step)
            low, high = int(starts[at]), int(stops[batch][-1])
            results[batch] = measure(times[low:high], values[low:high], starts[batch] - low, stops[batch] - low)
    return results.clip(-MAX_FLOAT, MAX_FLOAT, out=results)


def summarize_windows(points: Summary, join: Join, starts: Ints, stops: Ints) -> Summary:
    """Return the summary of each window, from the summaries of single points and an associative `join`.

    `join` gets the summary of the earlier points first.
    """
    summaries = tuple(column[starts] for column in points)
    positions, remaining, step = starts + 1, stops - starts - 1, 1
    longest = int(remaining.max(initial=0))
    while step <= longest:
        windows = np.flatnonzero(remaining & step)
        following = positions[windows]
        joined = join(tuple(column[windows] for column in summaries), tuple(column[following] for column in points))
        for column, new in zip(summaries, joined, strict=True):
            column[windows] = new
        positions[windows] += step
        if 2 * step <= longest:
            points = join(tuple(column[:-step] for column in points), tuple(column[step:] for column in points))
        step *= 2
    return summaries


def aggregation_measure(aggregation: str) -> Measure:
    """Return the measure of an aggregation of metrics.query.accumulators."""
    percent = parse_percentile(aggregation)
    return AGGREGATIONS[aggregation] if percent is None else partial(_percentile, percent)


def _reduction(ufunc: np.ufunc) -> Measure:
    def join(earlier: Summary, later: Summary) -> Summary:
        return (ufunc(earlier[0], later[0]),)

    def measure(times: Ints, values: Floats, starts: Ints, stops: Ints) -> Floats:
        return summarize_windows((values,), join, starts, stops)[0]

    return measure


_sum = _reduction(np.add)


def _average(times: Ints, values: Floats, starts: Ints, stops: Ints) -> Floats:
    return _sum(times, values, starts, stops) / (stops - starts)


def _count(times: Ints, values: Floats, starts: Ints, stops: Ints) -> Floats:
    return (stops - starts).astype(np.float64)


def _first(times: Ints, values: Floats, starts: Ints, stops: Ints) -> Floats:
    return values[starts]


def _last(times: Ints, values: Floats, starts: Ints, stops: Ints) -> Floats:
    return values[stops - 1]


def _standard_deviation(times: Ints, values: Floats, starts: Ints, stops: Ints) -> Floats:
    """Return the population standard deviation."""
    points = (np.ones(len(values)), values, values - values)  # NaN stays NaN
    count, _, squares = summarize_windows(points, _join_squares, starts, stops)
    deviation: Floats = np.sqrt(squares / count)
    return deviation


def _join_squares(earlier: Summary, later: Summary) -> Summary:
    count = earlier[0] + later[0]
    difference, weight = later[1] - earlier[1], later[0] / count
    squares = earlier[2] + later[2] + difference * difference * weight * earlier[0]
    return count, earlier[1] + difference * weight, squares


def _delta(times: Ints, values: Floats, starts: Ints, stops: Ints) -> Floats:
    return np.where(stops - starts > 1, values[stops - 1] - values[starts], np.nan)


def _increase(times: Ints, values: Floats, starts: Ints, stops: Ints) -> Floats:
    """Return the increase of a counter; a lower value is a restart from 0."""
    increases = np.empty(len(values))
    increases[1:] = np.where(values[1:] < values[:-1], values[1:], values[1:] - values[:-1])
    results = np.full(len(starts), np.nan)
    windows = np.flatnonzero(stops - starts > 1)
    results[windows] = _sum(times, increases, starts[windows] + 1, stops[windows])
    return results


def _rate(times: Ints, values: Floats, starts: Ints, stops: Ints) -> Floats:
    return _increase(times, values, starts, stops) / ((times[stops - 1] - times[starts]) / SECOND)


def _percentile(percent: float, times: Ints, values: Floats, starts: Ints, stops: Ints) -> Floats:
    """Return the percentile, interpolated as numpy's `linear` method does."""
    last = stops - starts - 1
    rank = last * (percent / 100)
    below = rank.astype(np.int64)
    ranks = np.concatenate((below, np.minimum(below + 1, last)))
    lower, upper = np.split(select_ranks(values, np.tile(starts, 2), np.tile(stops, 2), ranks), 2)
    percentiles: Floats = lower + (upper - lower) * (rank - below)
    return percentiles


def select_ranks(values: Floats, starts: Ints, stops: Ints, ranks: Ints) -> Floats:
    """Return the value of a rank (0: the smallest) in each window.

    A wavelet matrix: for each binary digit of the values' codes, from the highest, values with a 0 are moved before
    those with a 1, and each window is narrowed to the half with its rank.
    """
    distinct, value_codes = np.unique(values, return_inverse=True)
    # 32 bits are a quarter faster.
    codes, low, high, left = (column.astype(np.int32) for column in (value_codes, starts, stops, ranks))
    selected = np.zeros(len(ranks), np.int32)
    zeros = np.zeros(len(codes) + 1, np.int32)
    for digit in reversed(range((len(distinct) - 1).bit_length())):
        is_one = (codes >> digit & 1).astype(bool)
        np.cumsum(~is_one, out=zeros[1:])
        zeros_from, zeros_to = zeros[low], zeros[high]
        zero_count = zeros_to - zeros_from
        up = left >= zero_count
        left -= zero_count * up
        low = np.where(up, zeros[-1] + low - zeros_from, zeros_from)
        high = np.where(up, zeros[-1] + high - zeros_to, zeros_to)
        selected |= up.astype(np.int32) << digit
        codes = np.concatenate((codes[~is_one], codes[is_one]))
    selected_values: Floats = distinct[selected]
    return selected_values


AGGREGATIONS: dict[str, Measure] = {
    "avg": _average,
    "min": _reduction(np.minimum),
    "max": _reduction(np.maximum),
    "sum": _sum,
    "count": _count,
    "first": _first,
    "last": _last,
    "stddev": _standard_deviation,
    "rate": _rate,
    "increase": _increase,
    "delta": _delta,
}
