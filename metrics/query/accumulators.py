"""Accumulators: the state of each aggregation per bucket. `metrics.query.aggregations` documents their names. Pure.

Memory is a matter of slots and not of points, except for percentiles, which need every value.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from metrics.storage.format.codec import Columns
from metrics.storage.units import SECOND

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]

_LONG = 16  # points of a run on average, from which on slots are gathered run by run


@dataclass(slots=True)
class Runs:
    """The points of one series in one interval, each from starts[i] to before stops[i] of a piece.

    series     int64[r]  the position of the run's series among all that were asked for
    slots      int64[r]  where the run belongs
    counts     int64[r]  how many points it stands for; None: as many as it has
    """

    starts: Ints
    stops: Ints
    series: Ints
    slots: Ints
    counts: Ints | None = None


class Fold:
    """What is known of every slot. This one counts; the others count too."""

    needs_order = False  # whether the pieces of a series must come in order of time
    needs_values = False  # whether the fold keeps every value
    stat: str | None = "count"  # the statistic of shorter intervals from which it follows
    from_ends = False  # whether it follows from the first and the last value of shorter intervals

    def __init__(self, slots: int, series: int) -> None:
        self.count = np.zeros(slots, np.int64)

    def add(self, piece: Columns, runs: Runs) -> None:
        np.add.at(self.count, runs.slots, runs.stops - runs.starts if runs.counts is None else runs.counts)

    def values(self) -> Floats:
        """A value for each slot, NaN where it has none."""
        return np.where(self.count > 0, self.count.astype(np.float64), np.nan)


class Sum(Fold):
    stat = "sum"

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
    stat = "least"
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
    stat = "greatest"
    pick = np.maximum
    worst = -np.inf


class Spread(Fold):
    """Standard deviation from sums of distances to a value near the mean: exact enough in one pass."""

    stat = None

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
    stat, from_ends = None, True
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
    """Steps from point to point, also over the end of a piece. What lies between two points of a run cancels out."""

    needs_order = True
    stat, from_ends = None, True

    def __init__(self, slots: int, series: int) -> None:
        super().__init__(slots, series)
        self.total = np.full(slots, np.nan)
        self.last_value = np.full(series, np.nan)
        self.last_time = np.zeros(series, np.int64)

    def add(self, piece: Columns, runs: Runs) -> None:
        super().add(piece, runs)
        values, times, ends = piece.values, piece.times, runs.stops - 1
        before, since = values[runs.starts - 1], times[runs.starts - 1]
        first = np.flatnonzero(np.append(True, runs.series[1:] != runs.series[:-1]))
        owner, begin = runs.series[first], runs.starts[first]
        fresh = np.isnan(self.last_value[owner])  # no point before: the first one is where steps begin
        before[first] = np.where(fresh, values[begin], self.last_value[owner])
        since[first] = np.where(fresh, times[begin], self.last_time[owner])
        final = ends[np.append(first[1:], len(ends)) - 1]
        self.last_value[owner], self.last_time[owner] = values[final], times[final]
        steps = values[ends] - before + self.made_good(values, runs.starts, before)
        took = times[ends] - since
        self.gather(runs, took > 0, steps, took)

    def made_good(self, values: Floats, starts: Ints, before: Floats) -> Floats | float:
        """What to add to a run's last value less the value before it."""
        return 0.0

    def gather(self, runs: Runs, some: NDArray[np.bool_], steps: Floats, took: Ints) -> None:
        slots = runs.slots[some]
        self.total[slots[np.isnan(self.total[slots])]] = 0.0
        np.add.at(self.total, slots, steps[some])

    def values(self) -> Floats:
        return self.total


class Increase(Delta):
    def made_good(self, values: Floats, starts: Ints, before: Floats) -> Floats:
        """A counter that began again went on from 0: what it had reached before counts."""
        lost = np.where(values[starts] < before, before, 0.0)
        fell = np.flatnonzero(values[1:] < values[:-1]) + 1
        runs = np.searchsorted(starts, fell, side="right") - 1
        inside = fell > starts[runs]
        np.add.at(lost, runs[inside], values[fell[inside] - 1])
        return lost


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
    stat = None

    def __init__(self, slots: int, series: int, percent: float) -> None:
        super().__init__(slots, series)
        self.percent = percent
        self._pieces: list[tuple[Floats, Runs]] = []

    def add(self, piece: Columns, runs: Runs) -> None:
        super().add(piece, runs)
        self._pieces.append((piece.values, runs))

    def values(self) -> Floats:
        found = np.full(len(self.count), np.nan)
        pieces, self._pieces = self._pieces, []
        runs = sum(len(one.slots) for _, one in pieces)
        used = np.flatnonzero(self.count)
        if len(used) == 1:
            found[used] = self._of(np.concatenate([values for values, _ in pieces]))
        elif self.count.sum() >= _LONG * runs:
            by_slot: dict[int, list[Floats]] = {}
            for values, one in pieces:
                for slot, low, high in zip(one.slots.tolist(), one.starts.tolist(), one.stops.tolist(), strict=True):
                    by_slot.setdefault(slot, []).append(values[low:high])
            for slot, some in by_slot.items():
                found[slot] = self._of(np.concatenate(some))
        elif pieces:
            slots = np.concatenate([np.repeat(one.slots, one.stops - one.starts) for _, one in pieces])
            values = np.concatenate([values for values, _ in pieces])
            found[used] = self._between(values[np.lexsort((values, slots))], self.count[used])
        return found

    def _of(self, values: Floats) -> float:
        """Partly sorts the values in place."""
        at = (len(values) - 1) * (self.percent / 100)
        low = int(at)
        high = min(low + 1, len(values) - 1)
        values.partition((low, high))
        return float(values[low] + (values[high] - values[low]) * (at - low))

    def _between(self, ordered: Floats, counts: Ints) -> Floats:
        at = (counts - 1) * (self.percent / 100)
        low = at.astype(np.int64)
        high = np.minimum(low + 1, counts - 1)
        starts = np.cumsum(counts) - counts
        lower: Floats = ordered[starts + low]
        lower += (ordered[starts + high] - lower) * (at - low)
        return lower


def _divided(sums: Floats, counts: Ints) -> Floats:
    with np.errstate(invalid="ignore"):
        found: Floats = np.divide(sums, counts)
    return found
