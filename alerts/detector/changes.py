"""Changes of a series from one point to the next, compared with its largest changes of the past days.

The change of a point is its distance from the median of the six values before. Changes come in episodes: one ends some
time after its largest change, which is then remembered. The usual change of a series is the sixth largest remembered
one. Each counts half as much after four days, in slow series after 50 points. A larger one counts less, since it was
reached less often: the third largest a quarter, the largest 1/36. So a series with frequent large changes must change
by more to be reported, and a change of the same size is reported again later. Where the remembered changes differ much,
the usual change is up to half as much larger. It is at least three standard deviations.
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
LARGEST_RATIO = 1e12
TINY = 1e-150  # least standard deviation
MEMORY = 4 * DAY  # in which a remembered change halves …
MEMORY_POINTS = 50  # … or, if longer, the time of so many points
TAIL = 1.25  # a change larger is usual, by the mean logarithm of the remembered ones over the least of them …
MAX_TAIL = 0.5  # … at most
RANK_WEIGHTS = (np.arange(PEAKS, 0, -1) / PEAKS) ** 2  # of the remembered changes, from the least to the largest
PRIOR = 4.0  # standard deviations: the changes that a new series remembers
MIN_USUAL = 3.0  # standard deviations: of noise, smaller ones are usual
EPISODE_POINTS = 30  # from the largest change of an episode to its end …
EPISODE_TIME = DAY // 4  # … or, if shorter, this time
YOUNG = 4 * DAY  # a series of this age has to change twice as much as an old one
RESET_POINTS = 50  # without a fall, half of them higher than the one before: then a series is a counter …
RESET_SHARE = 0.1  # … and a fall to this share of the value before is its reset, after which it does not matter
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
    last, rising, rises = table["previous"][slots, -1], table["rising"][slots], table["rises"][slots]
    gap |= _is_reset(values, last, rising, rises)
    table["rising"][slots] = np.where(values < last, 0, rising + 1)
    table["rises"][slots] = np.where(values < last, 0, rises + (values > last))
    previous = np.where(gap[:, None], values[:, None], table["previous"][slots])
    middle = _middle(previous)
    table["previous"][slots] = np.concatenate([previous[:, 1:], values[:, None]], axis=1)
    table["count"][slots] += 1
    table["last"][slots] = times

    size, weight = values - middle, table["change_weight"][slots]
    mean, spread = _spread(table["change_sum"][slots], table["change_square"][slots], weight, middle)
    known = weight > MIN_WEIGHT
    distance = np.where(known, np.abs(size - mean), 0.0)
    clipped = np.where(known, np.minimum(np.maximum(size, mean - CLIP * spread), mean + CLIP * spread), size)
    table["change_sum"][slots] = table["change_sum"][slots] * FORGET + clipped
    table["change_square"][slots] = table["change_square"][slots] * FORGET + clipped * clipped
    table["change_weight"][slots] = weight * FORGET + 1

    peak, points = table["peak"][slots], table["peak_points"][slots] + 1
    begins = (peak > 0) & ((points >= EPISODE_POINTS) | (times - table["peak_time"][slots] >= EPISODE_TIME))
    age = times - table["began"][slots]
    memory = _memory(age, table["count"][slots])
    if begins.any():
        _remember(table, slots[begins], times[begins], spread[begins], memory[begins])
        peak = np.where(begins, 0.0, peak)
    peaks, peaked = table["peaks"][slots], table["peaked"][slots]
    largest = distance > peak
    table["peak"][slots] = np.where(largest, distance, peak)
    table["peak_points"][slots] = np.where(largest, 0, points)
    table["peak_time"][slots] = np.where(largest, times, table["peak_time"][slots])
    usual = _usual(peaks, peaked, times, spread, memory)
    seen = _last_seen(peaks, peaked, distance)
    return _to_changes(size, mean, middle, known, distance, usual, seen, begins, age)


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
    gap |= _find_resets(table, slot, values)
    windows = sliding_window_view(np.append(table["previous"][slot], values), PREVIOUS).copy()
    for first in np.flatnonzero(gap).tolist():
        for later in range(min(PREVIOUS, len(windows) - first)):
            windows[first + later, : PREVIOUS - later] = values[first]
    middle = _middle(windows[:-1])
    table["previous"][slot], table["last"][slot], table["count"][slot] = windows[-1], times[-1], count + len(times)

    size = values - middle
    mean, spread, known = _spread_along(table, slot, size, middle)
    distance = np.where(known, np.abs(size - mean), 0.0)
    age = times - began
    memory = _memory(age, count + 1 + np.arange(len(times)))
    usual, seen, begins = _usual_along(table, slot, times, distance, spread, memory)
    return _to_changes(size, mean, middle, known, distance, usual, seen, begins, age)


def _begin(table: Table, new: Ints, times: Ints, values: Floats, slots: Ints) -> None:
    """Set the state of new series by their first points; `slots` are those of times and values."""
    if len(new):
        first = np.isin(slots, new)
        table["began"][new] = table["last"][new] = times[first]
        table["previous"][new] = values[first][:, None]
        table["peaked"][new] = times[first][:, None]


def _is_gap(times: Ints, last: Ints, began: Ints, count: Ints) -> Bools:
    interval = (last - began) // np.maximum(count, 1)
    gap: Bools = times - last > np.maximum(GAP_INTERVALS * interval, DAY)
    return gap


def _is_reset(values: Floats, last: Floats, rising: Ints, rises: Ints) -> Bools:
    """Return which values are resets of counters, by the points before them."""
    is_counter = (rising >= RESET_POINTS) & (2 * rises >= rising)
    return np.asarray(is_counter & (values >= 0) & (values < last) & (values <= RESET_SHARE * last))


def _find_resets(table: Table, slot: int, values: Floats) -> Bools:
    """Return which values of one series are resets, and remember since when it has not fallen."""
    last = np.append(table["previous"][slot, -1], values[:-1])
    fell, position = values < last, np.arange(1, len(values) + 1)
    since = np.maximum.accumulate(np.where(fell, position, 0))  # the position of the last fall; 0: before these points
    total = np.cumsum(values > last)
    rises = total - np.where(since > 0, total[since - 1], 0) + np.where(since > 0, 0, table["rises"][slot])
    rising = position - since + np.where(since > 0, 0, table["rising"][slot])
    before = [np.append(table[name][slot], column[:-1]) for name, column in (("rising", rising), ("rises", rises))]
    table["rising"][slot], table["rises"][slot] = rising[-1], rises[-1]
    return _is_reset(values, last, *before)


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


def _memory(age: Ints, count: Ints) -> Floats:
    """Return the time in which the remembered changes of series with `count` points halve."""
    memory: Floats = np.maximum(MEMORY_POINTS * (age / count), MEMORY)
    return memory


def _usual(peaks: Floats, peaked: Ints, times: Ints, spread: Floats, memory: Floats) -> Floats:
    """Return the usual change [k] by the remembered changes [k, PEAKS], each halved by time and weighed by rank."""
    complete = _complete(peaks, spread)
    ascending = np.sort(_decay(complete, peaked, times, memory), axis=1)
    tail = TAIL * np.log(complete / complete.min(axis=1, keepdims=True)).mean(axis=1)
    usual = (ascending * RANK_WEIGHTS).max(axis=1) * (1 + np.minimum(tail, MAX_TAIL))
    return np.asarray(np.maximum(usual, MIN_USUAL * spread))


def _complete(peaks: Floats, spread: Floats) -> Floats:
    """Return the remembered changes; those that a series does not have yet follow its spread."""
    return np.where(peaks > 0, peaks, PRIOR * spread[:, None])


def _decay(peaks: Floats, peaked: Ints, times: Ints, memory: Floats) -> Floats:
    decayed: Floats = peaks * np.exp2(-np.maximum(times[:, None] - peaked, 0) / memory[:, None])
    return decayed


def _last_seen(peaks: Floats, peaked: Ints, distance: Floats) -> Ints:
    """Return when each change [k] was last reached by a remembered one [k, PEAKS]; 0: never."""
    seen: Ints = np.where(peaks >= np.maximum(distance, TINY)[:, None], peaked, 0).max(axis=1)
    return seen


def _remember(table: Table, slots: Ints, times: Ints, spread: Floats, memory: Floats) -> None:
    """Remember the largest change of an episode that has ended in place of the least one."""
    decayed = _decay(_complete(table["peaks"][slots], spread), table["peaked"][slots], times, memory)
    least = decayed.argmin(axis=1)
    larger = table["peak"][slots] > decayed.min(axis=1)
    slots, least = slots[larger], least[larger]
    table["peaks"][slots, least] = table["peak"][slots]
    table["peaked"][slots, least] = table["peak_time"][slots]


def _usual_along(
    table: Table, slot: int, times: Ints, distance: Floats, spread: Floats, memory: Floats
) -> tuple[Floats, Ints, Bools]:
    """Return the usual change and the time of the last one as large, of each point; where episodes begin."""
    usual, seen, begins = np.empty(len(times)), np.empty(len(times), np.int64), np.zeros(len(times), np.bool_)
    peak, points, peak_time = float(table["peak"][slot]), int(table["peak_points"][slot]), int(table["peak_time"][slot])
    known = 0  # points whose usual change is known, because the remembered changes stay the same

    def fill(until: int) -> None:
        part, peaks, peaked = slice(known, until), table["peaks"][slot][None], table["peaked"][slot][None]
        usual[part] = _usual(peaks, peaked, times[part], spread[part], memory[part])
        seen[part] = _last_seen(peaks, peaked, distance[part])

    for position, (time, size) in enumerate(zip(times.tolist(), distance.tolist(), strict=True)):
        points += 1
        if peak > 0 and (points >= EPISODE_POINTS or time - peak_time >= EPISODE_TIME):
            fill(position)
            table["peak"][slot], table["peak_time"][slot] = peak, peak_time
            end = slice(position, position + 1)
            _remember(table, np.array([slot]), times[end], spread[end], memory[end])
            known, begins[position], peak = position, True, 0.0
        if size > peak:
            peak, points, peak_time = size, 0, time
    fill(len(times))
    table["peak"][slot], table["peak_points"][slot], table["peak_time"][slot] = peak, points, peak_time
    return usual, seen, begins


def _to_changes(
    size: Floats,
    mean: Floats,
    middle: Floats,
    known: Bools,
    distance: Floats,
    usual: Floats,
    seen: Ints,
    begins: Bools,
    age: Ints,
) -> Changes:
    ratio = np.minimum(distance / usual, LARGEST_RATIO) / (1 + YOUNG / np.maximum(age, 1))
    return Changes(size, np.where(known, usual, np.nan), np.where(known, middle + mean, np.nan), ratio, seen, begins)
