"""Changes of a series from one point to the next, compared with its largest changes of the past week.

The change of a point is its distance from the median of the six values before, in standard deviations of such changes.
Changes come in episodes: one ends some time after its largest change, which is then remembered. What is usual for a
series is the sixth largest of the remembered changes; each counts half as much after a week. A larger one counts less,
since it was reached less often: the third largest a quarter, the largest 1/36. So a series that often changes by much
must change by more to be reported, and a change of the same size is reported again later.
"""

import math
from dataclasses import dataclass, fields
from typing import Self

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from alerts.detector.seasons import DAY
from alerts.detector.state import PEAKS, PREVIOUS, Bools, Floats, Ints, Table

FORGET = float(np.exp(-1 / 1000))  # per point, of mean and variance of the changes
CLIP = 3.0  # standard deviations: larger changes count as this much in mean and variance
MIN_WEIGHT = 8  # points before changes are compared
LEAST_SPREAD = 1e-9  # of the changes, as a fraction of the value: the precision of measurements
LARGEST_DEVIATION = 1e12  # standard deviations, so that products with values are finite
TINY = 1e-150  # least standard deviation
WEEK = 7 * DAY  # in which a remembered change halves
RANK_WEIGHTS = (np.arange(PEAKS, 0, -1) / PEAKS) ** 2  # of the remembered changes, from the least to the largest
PRIOR = 4.0  # the changes that a new series remembers
MIN_USUAL = 3.0  # standard deviations: of noise, smaller ones are usual
EPISODE_POINTS = 40  # from the largest change of an episode to its end …
EPISODE_TIME = DAY // 4  # … or, if shorter, this time
YOUNG = 2 * DAY  # a series of this age has to change twice as much as an old one
GAP_INTERVALS = 20  # mean intervals without a point (and a day) after which the values before do not matter


@dataclass(slots=True)
class Changes:
    """The changes of points, as columns of equal length.

    size      the change: value minus the median of the values before
    usual     the largest change that is usual for this series now, from 0; NaN while it is unknown
    expected  the value without a change
    ratio     how many times the usual change it is; of a young series less
    seen      time of the last change that was as large, of the remembered ones; 0: none
    begins    whether the episode before has ended
    """

    size: Floats
    usual: Floats
    expected: Floats
    ratio: Floats
    seen: Ints
    begins: Bools

    @classmethod
    def blank(cls, points: int) -> Self:
        none, unknown = np.zeros(points), np.full(points, np.nan)
        return cls(none, unknown, unknown.copy(), none.copy(), np.zeros(points, np.int64), np.zeros(points, np.bool_))

    def part(self, where: Bools | slice) -> Self:
        return type(self)(*(getattr(self, column.name)[where] for column in fields(self)))


def measure_changes(table: Table, slots: Ints, times: Ints, values: Floats) -> Changes:
    """Return the change of one point of each series, and remember it."""
    _begin(table, slots[table["count"][slots] == 0], times, values, slots)
    gap = _is_gap(times, table["last"][slots], table["began"][slots], table["count"][slots])
    previous = np.where(gap[:, None], values[:, None], table["previous"][slots])
    middle = _middle(previous)
    table["previous"][slots] = np.concatenate([previous[:, 1:], values[:, None]], axis=1)
    table["count"][slots] += 1
    table["last"][slots] = times

    size, weight = values - middle, table["change_weight"][slots]
    mean, spread = _spread(table["change_sum"][slots], table["change_square"][slots], weight, middle)
    known = weight > MIN_WEIGHT
    deviation = np.where(known, np.minimum(np.abs(size - mean) / spread, LARGEST_DEVIATION), 0.0)
    clipped = np.where(known, np.minimum(np.maximum(size, mean - CLIP * spread), mean + CLIP * spread), size)
    table["change_sum"][slots] = table["change_sum"][slots] * FORGET + clipped
    table["change_square"][slots] = table["change_square"][slots] * FORGET + clipped * clipped
    table["change_weight"][slots] = weight * FORGET + 1

    peak, points = table["peak"][slots], table["peak_points"][slots] + 1
    begins = (peak > 0) & ((points >= EPISODE_POINTS) | (times - table["peak_time"][slots] >= EPISODE_TIME))
    if begins.any():
        _remember(table, slots[begins], times[begins])
        peak = np.where(begins, 0.0, peak)
    peaks, peaked = table["peaks"][slots], table["peaked"][slots]
    largest = deviation > peak
    table["peak"][slots] = np.where(largest, deviation, peak)
    table["peak_points"][slots] = np.where(largest, 0, points)
    table["peak_time"][slots] = np.where(largest, times, table["peak_time"][slots])
    usual = _usual(peaks, peaked, times)
    seen = np.where(peaks >= deviation[:, None], peaked, 0).max(axis=1)
    return _to_changes(size, mean, spread, middle, known, deviation, usual, seen, begins, times - table["began"][slots])


def measure_changes_along(table: Table, slot: int, times: Ints, values: Floats) -> Changes:
    """Return what `measure_changes` does, for points of one series, times ascending."""
    if not len(times):
        return Changes.blank(0)
    slots, count = np.array([slot]), int(table["count"][slot])
    if count == 0:
        _begin(table, slots, times[:1], values[:1], slots)
    began = int(table["began"][slot])
    before = np.append(table["last"][slot], times[:-1])
    gap = _is_gap(times, before, np.full(len(times), began), count + np.arange(len(times)))
    windows = sliding_window_view(np.append(table["previous"][slot], values), PREVIOUS).copy()
    for first in np.flatnonzero(gap).tolist():
        for later in range(min(PREVIOUS, len(windows) - first)):
            windows[first + later, : PREVIOUS - later] = values[first]
    middle = _middle(windows[:-1])
    table["previous"][slot], table["last"][slot], table["count"][slot] = windows[-1], times[-1], count + len(times)

    size = values - middle
    mean, spread, known = _spread_along(table, slot, size, middle)
    deviation = np.where(known, np.minimum(np.abs(size - mean) / spread, LARGEST_DEVIATION), 0.0)
    usual, seen, begins = _usual_along(table, slot, times, deviation)
    return _to_changes(size, mean, spread, middle, known, deviation, usual, seen, begins, times - began)


def _begin(table: Table, new: Ints, times: Ints, values: Floats, slots: Ints) -> None:
    """Set the state of new series by their first points; `slots` are those of times and values."""
    if len(new):
        first = np.isin(slots, new)
        table["began"][new] = table["last"][new] = times[first]
        table["previous"][new] = values[first][:, None]
        table["peaks"][new], table["peaked"][new] = PRIOR, times[first][:, None]


def _is_gap(times: Ints, last: Ints, began: Ints, count: Ints) -> Bools:
    interval = (last - began) // np.maximum(count, 1)
    gap: Bools = times - last > np.maximum(GAP_INTERVALS * interval, DAY)
    return gap


def _middle(previous: Floats) -> Floats:
    """Return the medians [k] of values [k, PREVIOUS]."""
    ordered = np.sort(previous, axis=1)
    middle: Floats = (ordered[:, PREVIOUS // 2 - 1] + ordered[:, PREVIOUS // 2]) / 2
    return middle


def _spread(total: Floats, square: Floats, weight: Floats, middle: Floats) -> tuple[Floats, Floats]:
    """Return mean and standard deviation of the changes before."""
    weight = np.maximum(weight, 1.0)
    mean = total / weight
    variance = np.maximum(square / weight - mean * mean, 0.0)
    return mean, np.sqrt(variance) + (LEAST_SPREAD * np.abs(middle) + TINY)


def _spread_along(table: Table, slot: int, size: Floats, middle: Floats) -> tuple[Floats, Floats, Bools]:
    """Return mean and standard deviation before each change, and whether they are known."""
    sums = np.empty((3, len(size)))
    total, square, weight = (float(table[name][slot]) for name in ("change_sum", "change_square", "change_weight"))
    least = (LEAST_SPREAD * np.abs(middle) + TINY).tolist()
    for position, (change, floor) in enumerate(zip(size.tolist(), least, strict=True)):
        sums[:, position] = total, square, weight
        if weight > MIN_WEIGHT:
            mean = total / weight
            reach = CLIP * (math.sqrt(max(square / weight - mean * mean, 0.0)) + floor)
            change = min(max(change, mean - reach), mean + reach)
        total = total * FORGET + change
        square = square * FORGET + change * change
        weight = weight * FORGET + 1
    table["change_sum"][slot], table["change_square"][slot], table["change_weight"][slot] = total, square, weight
    mean_of_all, spread = _spread(sums[0], sums[1], sums[2], middle)
    return mean_of_all, spread, sums[2] > MIN_WEIGHT


def _usual(peaks: Floats, peaked: Ints, times: Ints) -> Floats:
    """Return the usual change [k] by the remembered changes [k, PEAKS], each halved by the week and weighed by rank."""
    ascending = np.sort(_decay(peaks, peaked, times), axis=1)
    usual: Floats = np.maximum((ascending * RANK_WEIGHTS).max(axis=1), MIN_USUAL)
    return usual


def _decay(peaks: Floats, peaked: Ints, times: Ints) -> Floats:
    decayed: Floats = peaks * np.exp2(-np.maximum(times[:, None] - peaked, 0) / WEEK)
    return decayed


def _remember(table: Table, slots: Ints, times: Ints) -> None:
    """Remember the largest change of an episode that has ended in place of the least one."""
    decayed = _decay(table["peaks"][slots], table["peaked"][slots], times)
    least = decayed.argmin(axis=1)
    larger = table["peak"][slots] > decayed.min(axis=1)
    slots, least = slots[larger], least[larger]
    table["peaks"][slots, least] = table["peak"][slots]
    table["peaked"][slots, least] = table["peak_time"][slots]


def _usual_along(table: Table, slot: int, times: Ints, deviation: Floats) -> tuple[Floats, Ints, Bools]:
    """Return the usual change and the time of the last one as large, of each point; where episodes begin."""
    usual, seen, begins = np.empty(len(times)), np.empty(len(times), np.int64), np.zeros(len(times), np.bool_)
    peak, points, peak_time = float(table["peak"][slot]), int(table["peak_points"][slot]), int(table["peak_time"][slot])
    known = 0  # points whose usual change is known, because the remembered changes stay the same
    for position, (time, size) in enumerate(zip(times.tolist(), deviation.tolist(), strict=True)):
        points += 1
        if peak > 0 and (points >= EPISODE_POINTS or time - peak_time >= EPISODE_TIME):
            _fill_usual(table, slot, slice(known, position), times, deviation, usual, seen)
            table["peak"][slot], table["peak_time"][slot] = peak, peak_time
            _remember(table, np.array([slot]), times[position : position + 1])
            known, begins[position], peak = position, True, 0.0
        if size > peak:
            peak, points, peak_time = size, 0, time
    _fill_usual(table, slot, slice(known, len(times)), times, deviation, usual, seen)
    table["peak"][slot], table["peak_points"][slot], table["peak_time"][slot] = peak, points, peak_time
    return usual, seen, begins


def _fill_usual(
    table: Table, slot: int, part: slice, times: Ints, deviation: Floats, usual: Floats, seen: Ints
) -> None:
    peaks, peaked = table["peaks"][slot][None], table["peaked"][slot][None]
    usual[part] = _usual(peaks, peaked, times[part])
    seen[part] = np.where(peaks >= deviation[part, None], peaked, 0).max(axis=1)


def _to_changes(
    size: Floats,
    mean: Floats,
    spread: Floats,
    middle: Floats,
    known: Bools,
    deviation: Floats,
    usual: Floats,
    seen: Ints,
    begins: Bools,
    age: Ints,
) -> Changes:
    ratio = deviation / usual / (1 + YOUNG / np.maximum(age, 1))
    return Changes(
        size, np.where(known, usual * spread, np.nan), np.where(known, middle + mean, np.nan), ratio, seen, begins
    )
