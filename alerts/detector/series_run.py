"""Scores of many points of one series.

The arithmetic is that of `Detector.step`, but across the points of one series instead of across series. Only what one
point changes for the next is computed point by point: the states of the views, decaying counts, and the marks. Results
and stored state are the same to the last bit.
"""

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from alerts.detector import novelty
from alerts.detector.features import PAIR, UNIT, add_outside, describe, of_value, own_scale
from alerts.detector.novelty import APART, BLANK, COUNT, FORGET, HOLD, PAIRS, ROUND, WRAP
from alerts.detector.reasons import view_reasons
from alerts.detector.scoring import MIN_WEEKLY_EVIDENCE, Surprises, level_shifts, stuck_levels
from alerts.detector.seasons import expected_along
from alerts.detector.state import LEVELS, RECENT, STATES, Bools, Floats, Ints, Shorts, Singles, Table

CHUNK = 1024  # points whose intermediate results are in memory together


def surprises_along(table: Table, slot: int, times: Ints, values: Floats) -> Surprises:
    """Return what the states say about points of one series, times ascending, and add the points to the states."""
    parts = [
        _surprises_of_chunk(table, slot, times[first : first + CHUNK], values[first : first + CHUNK])
        for first in range(0, len(times), CHUNK)
    ]
    return Surprises.join(parts)


def _surprises_of_chunk(table: Table, slot: int, times: Ints, values: Floats) -> Surprises:
    slots = np.full(len(times), slot)
    points = int(table["points"][slot]) + np.arange(len(times))  # before each one
    earlier, recent, unchanged, longest = _recent_values(table, slot, own_scale(table, slots, values))
    rounded = describe(times, earlier, recent)
    band, weekly = expected_along(table, slot, times, rounded[:, PAIR])
    seen = add_outside(rounded, band)[:, PAIRS]
    if points[0] == 0:
        novelty.begin(table, slots[:1], seen[:1])
    least = np.minimum.accumulate(np.concatenate((table["least"][slot][None], seen)))
    most = np.maximum.accumulate(np.concatenate((table["most"][slot][None], seen)))
    distances, above = _visit_states(table, slot, seen, novelty.view_scale(least[:-1], most[:-1]))
    surprised = _surprise(table, slot, np.where(points[:, None] < BLANK, np.float32(0), distances))
    table["least"][slot], table["most"][slot] = least[-1], most[-1]
    table["points"][slot] = points[-1] + 1
    return Surprises(
        surprised.mean(axis=1, dtype=np.float64),
        of_value(table, slots, np.where(band.is_known, band.low[:, 0], least[:-1, 0, 0])),
        of_value(table, slots, np.where(band.is_known, band.high[:, 0], most[:-1, 0, 0])),
        view_reasons(surprised, above, weekly > 0),
        *level_shifts(rounded, least[1:], most[1:]),
        weekly >= MIN_WEEKLY_EVIDENCE,
        stuck_levels(unchanged, longest),
    )


def _recent_values(table: Table, slot: int, own: Singles) -> tuple[Singles, Singles, Singles, Singles]:
    """Return the values before each point, and those up to it [n, RECENT]; the points without change [n] so far, and
    the longest run before.
    """
    before = np.full(RECENT, own[0]) if table["points"][slot] == 0 else table["recent"][slot]
    line = np.concatenate((before, own))
    table["recent"][slot] = line[-RECENT:]
    windows = np.ascontiguousarray(sliding_window_view(line, RECENT))

    position, same = np.arange(len(own)), own == line[RECENT - 1 : -1]
    changed = np.maximum.accumulate(np.where(same, -1, position))
    first = table["unchanged"][slot]
    unchanged = np.where(changed < 0, first + position + 1, position - changed).astype(np.float32)
    ended = np.where(same, np.float32(0), np.append(first, unchanged[:-1]))
    longest = np.maximum.accumulate(np.maximum(ended, table["longest"][slot]))
    table["unchanged"][slot], table["longest"][slot] = unchanged[-1], longest[-1]
    return windows[:-1], windows[1:], unchanged, longest


def _visit_states(table: Table, slot: int, seen: Shorts, scale: Singles) -> tuple[Singles, Bools]:
    """Return novelty and side of each point [n, views], as novelty.surprise does; add the novel ones to the states."""
    states, visited = table["states"][slot], table["visited"][slot]
    view = np.arange(COUNT)
    novelties, above = np.empty((len(seen), COUNT), np.float32), np.empty((len(seen), COUNT), np.bool_)
    apart, across = np.empty_like(states), np.empty_like(states[ROUND, 1])
    around, unit = apart[ROUND, 1], np.int16(UNIT)
    distance, other = np.empty((2, COUNT, STATES), np.float32)
    clock = int(table["clock"][slot])
    for position, (point, factors) in enumerate(zip(seen, scale[..., None], strict=True)):
        np.subtract(states, point[..., None], out=apart)
        np.abs(apart, out=apart)
        np.subtract(unit, around, out=across)
        np.minimum(around, across, out=around)
        np.multiply(apart[:, 0], factors[:, 0], out=distance)
        np.multiply(apart[:, 1], factors[:, 1], out=other)
        np.maximum(distance, other, out=distance)
        nearest = distance.argmin(axis=1)
        novelties[position] = novel = distance[view, nearest]
        above[position] = point[:, 0] > states[view, 0, nearest]
        if clock == 2 * WRAP - 1:
            table["clock"][slot] = clock
            clock = int(novelty.tick(table, np.array([slot]))[0])
        else:
            clock += 1
        visited[view, nearest] = clock
        new = np.flatnonzero(novel > APART)
        if len(new):
            oldest = visited[new].argmin(axis=1)
            states[new, :, oldest] = point[new]
            visited[new, oldest] = clock
    table["clock"][slot] = clock
    return novelties, novelty.above_expected(above, seen)


def _surprise(table: Table, slot: int, counted: Singles) -> Singles:
    """Return the squared surprise of points [n, views], as novelty.surprise does, and update its counts."""
    reached = COUNT * LEVELS
    counts = np.empty((len(counted) + 1, reached + 1), np.float32)  # reached levels and all points, before each point
    counts[0] = np.append(table["reached"][slot], table["total"][slot])
    added = np.ones((len(counted), reached + 1), np.float32)
    added[:, :reached] = (counted[..., None] >= novelty.NOVELTY).reshape(-1, reached)
    for before, after, more in zip(counts[:-1], counts[1:], added, strict=True):
        np.multiply(before, FORGET, out=after)
        np.add(after, more, out=after)
    table["reached"][slot], table["total"][slot] = counts[-1, :reached].reshape(COUNT, LEVELS), counts[-1, reached]

    level = novelty.novelty_level(counted)
    by_level = counts[:-1, :reached].reshape(-1, COUNT, LEVELS)
    before = np.take_along_axis(by_level, np.maximum(level, 0)[..., None], axis=2)[..., 0]
    surprised = novelty.squared_surprise(level, counts[:-1, reached], before)
    held = table["held"][slot]
    for squared in surprised:
        np.maximum(squared, held * HOLD, out=squared)
        held = squared
    table["held"][slot] = held
    return surprised
