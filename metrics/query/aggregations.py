"""Many points to few numbers. Pure: numpy, no database, no Django.

Points come in pieces (Columns: in order of series and time). A piece is cut into *runs*, the points of one series in
one interval, which stand side by side; each run is reduced by numpy and folded into its *slot*, one for each group
and interval.

avg min max sum count stddev median pN   over all points of a slot; stddev is the population's,
                                         percentiles interpolate between neighbours
first last                               by time; of two series at one time the one with the lower (higher) number
increase delta rate                      steps from point to point of a series, each counted in the interval that it
                                         ends in, so that the intervals of a range add up. A value that falls is a
                                         counter that began again from 0 (not for delta). Series add up; the rate of
                                         a series is its increase over the time between the points, per second.
"""

import re

import numpy as np

from metrics.query import accumulators
from metrics.query.accumulators import Floats, Fold, Ints, Runs
from metrics.storage.format.codec import Columns

_FEW = 32  # points of a series in a piece: below, cut point by point; from here on, series by series


def cut(piece: Columns, edges: Ints, series: Ints, groups: Ints) -> Runs:
    """A piece, all of it within the edges, in runs. `series` and `groups` tell both of each of the piece's ids."""
    intervals = len(edges) - 1
    if intervals == 1:
        return Runs(piece.offsets[:-1], piece.offsets[1:], series, groups)
    if len(piece.ids) == 1:
        bounds, buckets = _cut_one(piece.times, edges)
        return Runs(bounds[:-1], bounds[1:], np.repeat(series, len(buckets)), buckets + groups * intervals)
    few = len(piece) < _FEW * len(piece.ids)
    starts, owner, buckets = _cut_points(piece, edges) if few else _cut_series(piece, edges)
    return Runs(starts, np.append(starts[1:], len(piece)), series[owner], groups[owner] * intervals + buckets)


def _cut_one(times: Ints, edges: Ints) -> tuple[Ints, Ints]:
    """Where the points of one series change from interval to interval, both ends included, and which intervals."""
    first = int(edges.searchsorted(times[0], "right")) - 1
    last = int(edges.searchsorted(times[-1], "right")) - 1
    bounds = np.empty(last - first + 2, np.int64)
    bounds[0], bounds[-1] = 0, len(times)
    bounds[1:-1] = times.searchsorted(edges[first + 1 : last + 1])
    full = bounds[1:] > bounds[:-1]
    if full.all():
        return bounds, np.arange(first, last + 1)
    return np.append(bounds[:-1][full], len(times)), np.flatnonzero(full) + first


def _cut_points(piece: Columns, edges: Ints) -> tuple[Ints, Ints, Ints]:
    buckets = np.searchsorted(edges, piece.times, side="right") - 1
    begins = np.zeros(len(piece), bool)
    begins[piece.offsets[:-1]] = True
    begins[1:] |= buckets[1:] != buckets[:-1]
    starts = np.flatnonzero(begins)
    return starts, np.searchsorted(piece.offsets, starts, side="right") - 1, buckets[starts]


def _cut_series(piece: Columns, edges: Ints) -> tuple[Ints, Ints, Ints]:
    """The same where series are long: a few searches instead of one a point, once where all have the same times."""
    many, length = len(piece.ids), int(piece.offsets[1])
    if len(piece) == many * length and (piece.times.reshape(many, length) == piece.times[:length]).all():
        bounds, some = _cut_one(piece.times[:length], edges)
        begins = np.arange(0, len(piece), length)[:, np.newaxis] + bounds[:-1]
        return begins.ravel(), np.repeat(np.arange(many), len(some)), np.tile(some, many)
    starts, owner, buckets = [], [], []
    offsets = piece.offsets.tolist()
    for at, (low, high) in enumerate(zip(offsets[:-1], offsets[1:], strict=True)):
        bounds, some = _cut_one(piece.times[low:high], edges)
        starts.append(bounds[:-1] + low)
        owner.append(np.full(len(some), at))
        buckets.append(some)
    return np.concatenate(starts), np.concatenate(owner), np.concatenate(buckets)


FOLDS: dict[str, type[Fold]] = {
    "avg": accumulators.Average,
    "min": accumulators.Least,
    "max": accumulators.Greatest,
    "sum": accumulators.Sum,
    "count": Fold,
    "first": accumulators.First,
    "last": accumulators.Last,
    "stddev": accumulators.Spread,
    "rate": accumulators.Rate,
    "increase": accumulators.Increase,
    "delta": accumulators.Delta,
}
ACCEPTED = "avg, min, max, sum, count, median, first, last, stddev, rate, increase, delta or p0 to p100, such as p99.9"
_PERCENTILE = re.compile(r"p(\d{1,3}(?:\.\d{1,6})?)", re.ASCII)


def percent_of(name: str) -> float | None:
    """Which percentile an aggregation is; None where it is something else."""
    if name == "median":
        return 50.0
    found = _PERCENTILE.fullmatch(name)
    percent = float(found[1]) if found else -1.0
    return percent if 0.0 <= percent <= 100.0 else None


def fold(name: str, slots: int, series: int) -> Fold:
    """The fold of an aggregation. Raises KeyError where there is none of that name."""
    percent = percent_of(name)
    return FOLDS[name](slots, series) if percent is None else accumulators.Percentile(slots, series, percent)


Fill = str | float | None  # none, null, previous or linear; or a number


def filled(values: Floats, times: Ints, how: Fill) -> Floats:
    """Values of one group with what is missing (NaN) filled; what stays NaN is shown as null."""
    missing = np.isnan(values)
    if isinstance(how, int | float):
        return np.where(missing, float(how), values)
    known = np.flatnonzero(~missing)
    if how not in ("previous", "linear") or not len(known):
        return values
    if how == "linear":
        return np.interp(times, times[known], values[known], left=np.nan, right=np.nan)
    at = np.searchsorted(known, np.arange(len(values)), side="right") - 1
    return np.where(at >= 0, values[known[at]], np.nan)
