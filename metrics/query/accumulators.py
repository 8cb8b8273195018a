"""Aggregations and their accumulators: the state of each aggregation per bucket. Pure: numpy, no database, no Django.

avg min max sum count stddev median pN   over all points of a bucket; stddev is the population's, percentiles
                                         interpolate between neighbours
first last                               by time; of two series at one time the one with the lower (higher) number
increase delta rate                      differences between successive points of a series, counted in the bucket of
                                         the later point; the first one continues from the point before the range. So
                                         buckets add up, and so do ranges. A value that falls is a counter that was
                                         reset to 0 (not for delta). Series add up; the rate of a series is its increase
                                         per second between its points.

Memory grows with the number of buckets and not of points, except for percentiles, which hold every value.
"""

import re
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from metrics.query.time_buckets import BucketRuns
from metrics.storage.format.codec import Columns
from metrics.storage.units import SECOND

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]

_LONG_RUN = 16  # points per run on average, from which on values are gathered run by run


class Accumulator:
    """State of every bucket, fed with pieces of points. This one counts; its subclasses count too."""

    needs_order = False  # of the pieces of a series, by time
    rollup_stat: str | None = "count"  # the rollup statistic that gives the same result as the points
    accepts_rollup_ends = False  # first and last values of rollups replace expired points
    holds_values = False  # all of them, so that memory grows with the number of points

    def __init__(self, buckets: int, series: int) -> None:
        self.count = np.zeros(buckets, np.int64)

    def add(self, piece: Columns, runs: BucketRuns) -> None:
        np.add.at(self.count, runs.buckets, runs.stops - runs.starts if runs.counts is None else runs.counts)

    def values(self) -> Floats:
        """Return a value per bucket, NaN for an empty one."""
        return np.where(self.count > 0, self.count.astype(np.float64), np.nan)


class Sum(Accumulator):
    rollup_stat = "sum"

    def __init__(self, buckets: int, series: int) -> None:
        super().__init__(buckets, series)
        self.sum = np.zeros(buckets)

    def add(self, piece: Columns, runs: BucketRuns) -> None:
        super().add(piece, runs)
        np.add.at(self.sum, runs.buckets, np.add.reduceat(piece.values, runs.starts))

    def values(self) -> Floats:
        return np.where(self.count > 0, self.sum, np.nan)


class Average(Sum):
    def values(self) -> Floats:
        return _divide(self.sum, self.count)


class Minimum(Accumulator):
    rollup_stat = "least"
    choose: np.ufunc = np.minimum
    initial = np.inf

    def __init__(self, buckets: int, series: int) -> None:
        super().__init__(buckets, series)
        self.extreme = np.full(buckets, self.initial)

    def add(self, piece: Columns, runs: BucketRuns) -> None:
        super().add(piece, runs)
        self.choose.at(self.extreme, runs.buckets, self.choose.reduceat(piece.values, runs.starts))

    def values(self) -> Floats:
        return np.where(self.count > 0, self.extreme, np.nan)


class Maximum(Minimum):
    rollup_stat = "greatest"
    choose = np.maximum
    initial = -np.inf


class StandardDeviation(Accumulator):
    """Sums of distances to a value near the mean: exact enough in one pass."""

    rollup_stat = None

    def __init__(self, buckets: int, series: int) -> None:
        super().__init__(buckets, series)
        self.near = np.full(buckets, np.nan)
        self.sum = np.zeros(buckets)
        self.squares = np.zeros(buckets)

    def add(self, piece: Columns, runs: BucketRuns) -> None:
        lengths = runs.stops - runs.starts
        empty = np.isnan(self.near[runs.buckets])
        means = np.add.reduceat(piece.values, runs.starts) / lengths
        self.near[runs.buckets[empty]] = means[empty]
        distances = piece.values - np.repeat(self.near[runs.buckets], lengths)
        np.add.at(self.sum, runs.buckets, np.add.reduceat(distances, runs.starts))
        np.add.at(self.squares, runs.buckets, np.add.reduceat(distances * distances, runs.starts))
        super().add(piece, runs)

    def values(self) -> Floats:
        variance = _divide(self.squares, self.count) - _divide(self.sum, self.count) ** 2
        return np.sqrt(np.maximum(variance, 0.0))


class FirstValue(Accumulator):
    rollup_stat, accepts_rollup_ends = None, True
    sign = 1

    def __init__(self, buckets: int, series: int) -> None:
        super().__init__(buckets, series)
        self.time = np.full(buckets, np.iinfo(np.int64).max)
        self.series = np.full(buckets, np.iinfo(np.int64).max)
        self.value = np.full(buckets, np.nan)

    def add(self, piece: Columns, runs: BucketRuns) -> None:
        super().add(piece, runs)
        ends = runs.starts if self.sign > 0 else runs.stops - 1
        times, series = piece.times[ends] * self.sign, runs.series * self.sign
        order = np.lexsort((series, times, runs.buckets))
        buckets, firsts = np.unique(runs.buckets[order], return_index=True)
        best = order[firsts]
        earlier = times[best] < self.time[buckets]
        earlier |= (times[best] == self.time[buckets]) & (series[best] < self.series[buckets])
        buckets, best = buckets[earlier], best[earlier]
        self.time[buckets], self.series[buckets] = times[best], series[best]
        self.value[buckets] = piece.values[ends[best]]

    def values(self) -> Floats:
        return self.value


class LastValue(FirstValue):
    sign = -1


class Delta(Accumulator):
    """Differences between successive points, across pieces too. Those inside a run add up to its last value less the
    value before it."""

    needs_order = True
    rollup_stat, accepts_rollup_ends = None, True

    def __init__(self, buckets: int, series: int) -> None:
        super().__init__(buckets, series)
        self.total = np.full(buckets, np.nan)
        self.last_value = np.full(series, np.nan)
        self.last_time = np.zeros(series, np.int64)

    def continue_from(self, series: Ints, times: Ints, values: Floats) -> None:
        """Set the points before the range of these series, from which their first differences begin."""
        self.last_time[series], self.last_value[series] = times, values

    def add(self, piece: Columns, runs: BucketRuns) -> None:
        super().add(piece, runs)
        values, times, ends = piece.values, piece.times, runs.stops - 1
        previous_values, previous_times = values[runs.starts - 1], times[runs.starts - 1]
        first = np.flatnonzero(np.append(True, runs.series[1:] != runs.series[:-1]))
        owner, begin = runs.series[first], runs.starts[first]
        unseen = np.isnan(self.last_value[owner])  # no point before: differences begin at the first one
        previous_values[first] = np.where(unseen, values[begin], self.last_value[owner])
        previous_times[first] = np.where(unseen, times[begin], self.last_time[owner])
        final = ends[np.append(first[1:], len(ends)) - 1]
        self.last_value[owner], self.last_time[owner] = values[final], times[final]
        gained = values[ends] - previous_values + self.reset_losses(values, runs.starts, previous_values)
        elapsed = times[ends] - previous_times
        self.add_differences(runs, elapsed > 0, gained, elapsed)

    def reset_losses(self, values: Floats, starts: Ints, previous_values: Floats) -> Floats | float:
        """Return what resets of a counter took away within each run."""
        return 0.0

    def add_differences(self, runs: BucketRuns, valid: NDArray[np.bool_], gained: Floats, elapsed: Ints) -> None:
        buckets = runs.buckets[valid]
        self.total[buckets[np.isnan(self.total[buckets])]] = 0.0
        np.add.at(self.total, buckets, gained[valid])

    def values(self) -> Floats:
        return self.total


class Increase(Delta):
    def reset_losses(self, values: Floats, starts: Ints, previous_values: Floats) -> Floats:
        """Return the values that the counter had before each reset: it continues from 0."""
        lost = np.where(values[starts] < previous_values, previous_values, 0.0)
        fell = np.flatnonzero(values[1:] < values[:-1]) + 1
        runs = np.searchsorted(starts, fell, side="right") - 1
        inside = fell > starts[runs]
        np.add.at(lost, runs[inside], values[fell[inside] - 1])
        return lost


class Rate(Increase):
    """The last run of each series stays open, since the next piece often continues its bucket."""

    def __init__(self, buckets: int, series: int) -> None:
        super().__init__(buckets, series)
        self.open_bucket = np.full(series, -1, np.int64)
        self.open_gained = np.zeros(series)
        self.open_elapsed = np.zeros(series, np.int64)

    def add_differences(self, runs: BucketRuns, valid: NDArray[np.bool_], gained: Floats, elapsed: Ints) -> None:
        owner, buckets, gained, elapsed = runs.series[valid], runs.buckets[valid], gained[valid], elapsed[valid]
        if not len(owner):
            return
        begins = np.append(True, owner[1:] != owner[:-1])
        first, open_buckets = np.flatnonzero(begins), self.open_bucket[owner[begins]]
        continues = open_buckets == buckets[first]
        gained[first[continues]] += self.open_gained[owner[first[continues]]]
        elapsed[first[continues]] += self.open_elapsed[owner[first[continues]]]
        ended = owner[first[~continues & (open_buckets >= 0)]]
        self._close(self.open_bucket[ended], self.open_gained[ended], self.open_elapsed[ended])
        final = np.append(begins[1:], True)
        self._close(buckets[~final], gained[~final], elapsed[~final])
        self.open_bucket[owner[final]] = buckets[final]
        self.open_gained[owner[final]], self.open_elapsed[owner[final]] = gained[final], elapsed[final]

    def _close(self, buckets: Ints, gained: Floats, elapsed: Ints) -> None:
        self.total[buckets[np.isnan(self.total[buckets])]] = 0.0
        np.add.at(self.total, buckets, gained / (elapsed / SECOND))

    def values(self) -> Floats:
        still_open = np.flatnonzero(self.open_bucket >= 0)
        self._close(self.open_bucket[still_open], self.open_gained[still_open], self.open_elapsed[still_open])
        self.open_bucket[still_open] = -1
        return self.total


class Percentile(Accumulator):
    """The exact percentile, as numpy's `linear` method computes it."""

    rollup_stat, holds_values = None, True

    def __init__(self, buckets: int, series: int, percent: float) -> None:
        super().__init__(buckets, series)
        self.percent = percent
        self._pieces: list[tuple[Floats, BucketRuns]] = []

    def add(self, piece: Columns, runs: BucketRuns) -> None:
        super().add(piece, runs)
        self._pieces.append((piece.values, runs))

    def values(self) -> Floats:
        result = np.full(len(self.count), np.nan)
        pieces, self._pieces = self._pieces, []
        run_count = sum(len(runs.buckets) for _, runs in pieces)
        used = np.flatnonzero(self.count)
        if len(used) == 1:
            result[used] = self._of_one_bucket(np.concatenate([values for values, _ in pieces]))
        elif self.count.sum() >= _LONG_RUN * run_count:
            by_bucket: dict[int, list[Floats]] = {}
            for values, runs in pieces:
                bounds = zip(runs.buckets.tolist(), runs.starts.tolist(), runs.stops.tolist(), strict=True)
                for bucket, low, high in bounds:
                    by_bucket.setdefault(bucket, []).append(values[low:high])
            for bucket, parts in by_bucket.items():
                result[bucket] = self._of_one_bucket(np.concatenate(parts))
        elif pieces:
            buckets = np.concatenate([np.repeat(runs.buckets, runs.stops - runs.starts) for _, runs in pieces])
            values = np.concatenate([values for values, _ in pieces])
            result[used] = self._of_sorted_buckets(values[np.lexsort((values, buckets))], self.count[used])
        return result

    def _of_one_bucket(self, values: Floats) -> float:
        """Return the percentile of these values, which are partly sorted in place."""
        position = (len(values) - 1) * (self.percent / 100)
        low = int(position)
        high = min(low + 1, len(values) - 1)
        values.partition((low, high))
        return float(values[low] + (values[high] - values[low]) * (position - low))

    def _of_sorted_buckets(self, values: Floats, counts: Ints) -> Floats:
        """Return the percentile of each bucket; the values are sorted by bucket, then by value."""
        position = (counts - 1) * (self.percent / 100)
        low = position.astype(np.int64)
        high = np.minimum(low + 1, counts - 1)
        starts = np.cumsum(counts) - counts
        lower: Floats = values[starts + low]
        lower += (values[starts + high] - lower) * (position - low)
        return lower


def _divide(sums: Floats, counts: Ints) -> Floats:
    with np.errstate(invalid="ignore"):
        quotients: Floats = np.divide(sums, counts)
    return quotients


ACCUMULATORS: dict[str, type[Accumulator]] = {
    "avg": Average,
    "min": Minimum,
    "max": Maximum,
    "sum": Sum,
    "count": Accumulator,
    "first": FirstValue,
    "last": LastValue,
    "stddev": StandardDeviation,
    "rate": Rate,
    "increase": Increase,
    "delta": Delta,
}
ACCEPTED_AGGREGATIONS = (
    "avg, min, max, sum, count, median, first, last, stddev, rate, increase, delta or p0 to p100, such as p99.9"
)
_PERCENTILE = re.compile(r"p(\d{1,3}(?:\.\d{1,6})?)", re.ASCII)


def parse_percentile(aggregation: str) -> float | None:
    """Return the percent of `median` or `pN`; None for other aggregations and unknown names."""
    if aggregation == "median":
        return 50.0
    match = _PERCENTILE.fullmatch(aggregation)
    percent = float(match[1]) if match else -1.0
    return percent if 0.0 <= percent <= 100.0 else None


class Aggregation(NamedTuple):
    """An aggregation by name, with its accumulator; the percent of a percentile."""

    name: str
    accumulator: type[Accumulator]
    percent: float | None = None

    def create_accumulator(self, buckets: int, series: int) -> Accumulator:
        """Return an empty accumulator."""
        if self.percent is not None:
            return Percentile(buckets, series, self.percent)
        return self.accumulator(buckets, series)


def find_aggregation(name: str) -> Aggregation:
    """Return an aggregation. Raises KeyError for an unknown name."""
    percent = parse_percentile(name)
    return Aggregation(name, ACCUMULATORS[name]) if percent is None else Aggregation(name, Percentile, percent)
