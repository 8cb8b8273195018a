"""What each aggregation remembers of a slot while points pass by; the words are told in `metrics.aggregation`. Pure.

Memory is a matter of slots and not of points, except for percentiles, which need every value.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from metrics.intervals import SECOND
from metrics.storage.codec import Columns

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]

_SMALL = 256  # points of a slot on average, below which all slots are sorted at once


@dataclass(slots=True)
class Runs:
    """The points of one series in one interval, each from starts[i] to before stops[i] of a piece.

    series     int64[r]  the position of the run's series among all that were asked for
    slots      int64[r]  where the run belongs
    """

    starts: Ints
    stops: Ints
    series: Ints
    slots: Ints


class Fold:
    """What is known of every slot. This one counts; the others count too."""

    needs_order = False  # whether the pieces of a series must come in order of time
    needs_values = False  # whether the fold keeps every value

    def __init__(self, slots: int, series: int) -> None:
        self.count = np.zeros(slots, np.int64)

    def add(self, piece: Columns, runs: Runs) -> None:
        np.add.at(self.count, runs.slots, runs.stops - runs.starts)

    def values(self) -> Floats:
        """A value for each slot, NaN where it has none."""
        return np.where(self.count > 0, self.count.astype(np.float64), np.nan)


class Sum(Fold):
    def __init__(self, slots: int, series: int) -> None:
        super().__init__(slots, series)
        self.sum = np.zeros(slots)

    def add(self, piece: Columns, runs: Runs) -> None:
        super().add(piece, runs)
        np.add.at(self.sum, runs.slots, np.add.reduceat(piece.values, runs.starts))

    def values(self) -> Floats:
        return np.where(self.count > 0, self.sum, np.nan)


class Average(Sum):
    def values(self) -> Floats:
        return _divided(self.sum, self.count)


class Least(Fold):
    pick: np.ufunc = np.minimum
    worst = np.inf

    def __init__(self, slots: int, series: int) -> None:
        super().__init__(slots, series)
        self.best = np.full(slots, self.worst)

    def add(self, piece: Columns, runs: Runs) -> None:
        super().add(piece, runs)
        self.pick.at(self.best, runs.slots, self.pick.reduceat(piece.values, runs.starts))

    def values(self) -> Floats:
        return np.where(self.count > 0, self.best, np.nan)


class Greatest(Least):
    pick = np.maximum
    worst = -np.inf


class Spread(Fold):
    """Standard deviation from sums of distances to a value near the mean: exact enough in one pass."""

    def __init__(self, slots: int, series: int) -> None:
        super().__init__(slots, series)
        self.near = np.full(slots, np.nan)
        self.sum = np.zeros(slots)
        self.squares = np.zeros(slots)

    def add(self, piece: Columns, runs: Runs) -> None:
        lengths = runs.stops - runs.starts
        fresh = np.isnan(self.near[runs.slots])
        means = np.add.reduceat(piece.values, runs.starts) / lengths
        self.near[runs.slots[fresh]] = means[fresh]
        away = piece.values - np.repeat(self.near[runs.slots], lengths)
        np.add.at(self.sum, runs.slots, np.add.reduceat(away, runs.starts))
        np.add.at(self.squares, runs.slots, np.add.reduceat(away * away, runs.starts))
        super().add(piece, runs)

    def values(self) -> Floats:
        variance = _divided(self.squares, self.count) - _divided(self.sum, self.count) ** 2
        return np.sqrt(np.maximum(variance, 0.0))


class First(Fold):
    sign = 1

    def __init__(self, slots: int, series: int) -> None:
        super().__init__(slots, series)
        self.time = np.full(slots, np.iinfo(np.int64).max)
        self.series = np.full(slots, np.iinfo(np.int64).max)
        self.value = np.full(slots, np.nan)

    def add(self, piece: Columns, runs: Runs) -> None:
        super().add(piece, runs)
        ends = runs.starts if self.sign > 0 else runs.stops - 1
        times, series = piece.times[ends] * self.sign, runs.series * self.sign
        order = np.lexsort((series, times, runs.slots))
        slots, places = np.unique(runs.slots[order], return_index=True)
        best = order[places]
        earlier = times[best] < self.time[slots]
        earlier |= (times[best] == self.time[slots]) & (series[best] < self.series[slots])
        slots, best = slots[earlier], best[earlier]
        self.time[slots], self.series[slots] = times[best], series[best]
        self.value[slots] = piece.values[ends[best]]

    def values(self) -> Floats:
        return self.value


class Last(First):
    sign = -1


class Delta(Fold):
    """Steps from point to point, also over the end of a piece."""

    needs_order = True

    def __init__(self, slots: int, series: int) -> None:
        super().__init__(slots, series)
        self.total = np.full(slots, np.nan)
        self.last_value = np.full(series, np.nan)
        self.last_time = np.zeros(series, np.int64)

    def add(self, piece: Columns, runs: Runs) -> None:
        super().add(piece, runs)
        begins = np.flatnonzero(np.append(True, runs.series[1:] != runs.series[:-1]))
        owner, first = runs.series[begins], runs.starts[begins]
        final = np.append(first[1:], len(piece)) - 1
        before, since = np.empty(len(piece)), np.empty(len(piece), np.int64)
        before[1:], since[1:] = piece.values[:-1], piece.times[:-1]
        before[first], since[first] = self.last_value[owner], self.last_time[owner]
        self.last_value[owner], self.last_time[owner] = piece.values[final], piece.times[final]
        steps, known = self.steps(before, piece.values), ~np.isnan(before)
        steps[~known] = 0.0
        some = np.add.reduceat(known, runs.starts, dtype=np.int64) > 0
        took = np.where(known, piece.times - since, 0)
        self.gather(runs, some, np.add.reduceat(steps, runs.starts), np.add.reduceat(took, runs.starts))

    def steps(self, before: Floats, values: Floats) -> Floats:
        return values - before

    def gather(self, runs: Runs, some: NDArray[np.bool_], steps: Floats, took: Ints) -> None:
        slots = runs.slots[some]
        self.total[slots[np.isnan(self.total[slots])]] = 0.0
        np.add.at(self.total, slots, steps[some])

    def values(self) -> Floats:
        return self.total


class Increase(Delta):
    def steps(self, before: Floats, values: Floats) -> Floats:
        return np.where(values < before, values, values - before)


class Rate(Increase):
    """A run goes on in the next piece as often as not, so the last run of a series stays open until it is over."""

    def __init__(self, slots: int, series: int) -> None:
        super().__init__(slots, series)
        self.open_slot = np.full(series, -1, np.int64)
        self.open_steps = np.zeros(series)
        self.open_took = np.zeros(series, np.int64)

    def gather(self, runs: Runs, some: NDArray[np.bool_], steps: Floats, took: Ints) -> None:
        owner, slots, steps, took = runs.series[some], runs.slots[some], steps[some], took[some]
        if not len(owner):
            return
        begins = np.append(True, owner[1:] != owner[:-1])
        first, held = np.flatnonzero(begins), self.open_slot[owner[begins]]
        goes_on = held == slots[first]
        steps[first[goes_on]] += self.open_steps[owner[first[goes_on]]]
        took[first[goes_on]] += self.open_took[owner[first[goes_on]]]
        over = owner[first[~goes_on & (held >= 0)]]
        self._close(self.open_slot[over], self.open_steps[over], self.open_took[over])
        final = np.append(begins[1:], True)
        self._close(slots[~final], steps[~final], took[~final])
        self.open_slot[owner[final]] = slots[final]
        self.open_steps[owner[final]], self.open_took[owner[final]] = steps[final], took[final]

    def _close(self, slots: Ints, steps: Floats, took: Ints) -> None:
        self.total[slots[np.isnan(self.total[slots])]] = 0.0
        np.add.at(self.total, slots, steps / (took / SECOND))

    def values(self) -> Floats:
        held = np.flatnonzero(self.open_slot >= 0)
        self._close(self.open_slot[held], self.open_steps[held], self.open_took[held])
        self.open_slot[held] = -1
        return self.total


class Percentile(Fold):
    """The exact one, as numpy's `linear` method gives it."""

    needs_values = True

    def __init__(self, slots: int, series: int, percent: float) -> None:
        super().__init__(slots, series)
        self.percent = percent
        self._pieces: list[Floats] = []
        self._runs: list[tuple[Ints, Ints]] = []

    def add(self, piece: Columns, runs: Runs) -> None:
        super().add(piece, runs)
        self._pieces.append(piece.values)
        self._runs.append((runs.slots, runs.stops - runs.starts))

    def values(self) -> Floats:
        found = np.full(len(self.count), np.nan)
        if not self._pieces:
            return found
        values = np.concatenate(self._pieces)
        self._pieces.clear()
        used = np.flatnonzero(self.count)
        if len(used) == 1:
            found[used] = self._of(values)
            return found
        slots = np.repeat(*(np.concatenate(column) for column in zip(*self._runs, strict=True)))
        ends = np.cumsum(self.count[used])
        starts = ends - self.count[used]
        if len(values) < _SMALL * len(used):
            values = values[np.lexsort((values, slots))]
            found[used] = self._between(values, starts, self.count[used])
            return found
        values = values[np.argsort(slots, kind="stable")]
        for slot, low, high in zip(used.tolist(), starts.tolist(), ends.tolist(), strict=True):
            found[slot] = self._of(values[low:high])
        return found

    def _of(self, values: Floats) -> float:
        """Partly sorts the values in place."""
        at = (len(values) - 1) * (self.percent / 100)
        low = int(at)
        high = min(low + 1, len(values) - 1)
        values.partition((low, high))
        return float(values[low] + (values[high] - values[low]) * (at - low))

    def _between(self, ordered: Floats, starts: Ints, counts: Ints) -> Floats:
        at = (counts - 1) * (self.percent / 100)
        low = at.astype(np.int64)
        high = np.minimum(low + 1, counts - 1)
        lower: Floats = ordered[starts + low]
        return lower + (ordered[starts + high] - lower) * (at - low)


def _divided(sums: Floats, counts: Ints) -> Floats:
    with np.errstate(invalid="ignore"):
        found: Floats = np.divide(sums, counts)
    return found
