"""Novelty of a point: its distance from all states of its series; surprise: how rare that distance is."""

import numpy as np

from alerts.detector.features import BESIDE, HIGHEST, OUTSIDE, TIME_OF_DAY, UNIT, VALUE, VIEWS
from alerts.detector.state import LEVELS, Bools, Ints, Shorts, Singles, Table

PAIRS = np.array(VIEWS)
COUNT = len(VIEWS)
# The views with time of day, adjacent so that a slice selects them without a copy. Time of day is circular.
ROUND = slice(VIEWS.index((VALUE, TIME_OF_DAY)), VIEWS.index((HIGHEST, TIME_OF_DAY)) + 1)
PAIRED = slice(VIEWS.index((OUTSIDE, OUTSIDE)) + 1, COUNT)  # the views of two different features, after the others
# A state is added if it is farther than this from all others, in fractions of the range of the view.
APART = np.array([0.02 if first == second else 0.04 for first, second in VIEWS], np.float32)
NARROW = 8  # minimum range for novelty
NOVELTY = (0.02 * 1.3 ** np.arange(LEVELS)).astype(np.float32)  # levels
BLANK = 100  # points without surprise, since the first are all novel
FORGET = np.float32(np.exp(-1 / 2000))  # per point, of the counts of novelty levels
HOLD = np.float32(0.8)  # decay of the squared surprise per point, so that views that react at different points add up
CACHED = 64  # series whose distances to all states are in the processor's cache together
WRAP = 2**15  # the clock of visits is set back by this


def surprise(table: Table, slots: Ints, features: Shorts) -> tuple[Singles, Bools]:
    """Return per view [k, views]: squared surprise, decaying; whether the point is above the nearest state."""
    seen = features[:, PAIRS]
    fresh = slots[table["points"][slots] == 0]
    if len(fresh):
        begin(table, fresh, seen[table["points"][slots] == 0])
    novelty, above = _novelty(table, slots, seen)
    counted = np.where(table["points"][slots, None] < BLANK, np.float32(0), novelty)

    level = novelty_level(counted)
    reached, total = table["reached"][slots], table["total"][slots]
    before = np.take_along_axis(reached, np.maximum(level, 0)[..., None], axis=2)[..., 0]
    squared = squared_surprise(level, total, before)
    table["reached"][slots] = reached * FORGET + (counted[..., None] >= NOVELTY)
    table["total"][slots] = total * FORGET + 1
    decaying = np.maximum(squared, table["held"][slots] * HOLD).astype(np.float32)
    table["held"][slots] = decaying
    return decaying, above


def novelty_level(novelty: Singles) -> Ints:
    """Return the highest of the levels that each novelty reaches; -1: none."""
    level: Ints = np.searchsorted(NOVELTY, novelty, side="right") - 1
    return level


def squared_surprise(level: Ints, total: Singles, before: Singles) -> Singles:
    """Return the squared surprise [k, views] of levels that `before` [k, views] of `total` [k] points reached."""
    squared: Singles = np.where(level >= 0, np.log((np.maximum(total, 1) + 1)[:, None] / (before + 1)), 0) ** 2
    return squared


def view_scale(minimum: Shorts, maximum: Shorts) -> Singles:
    """Return the factors [k, views, 2] from coordinates to fractions of their ranges."""
    scale: Singles = 1 / np.maximum(maximum.astype(np.float32) - minimum, np.float32(NARROW))
    scale[:, ROUND, 1] = np.float32(1 / UNIT)
    return scale


def above_expected(above: Bools, seen: Shorts) -> Bools:
    """Return whether points are above the nearest state, or above the expected range in the view of that range."""
    outside = seen[:, BESIDE, 0]
    above[:, BESIDE] = np.where(outside == 0, above[:, BESIDE], outside > 0)
    return above


def begin(table: Table, slots: Ints, seen: Shorts) -> None:
    """Fill all states with the first one, so that every distance is to a real state."""
    table["states"][slots] = seen[..., None]
    table["least"][slots] = table["most"][slots] = seen
    table["clock"][slots] = 0
    table["visited"][slots] = 0


def _novelty(table: Table, slots: Ints, seen: Shorts) -> tuple[Singles, Bools]:
    """Return the distance to the nearest state (maximum of both coordinates, in fractions of their ranges), and whether
    the point is above it or above the expected range."""
    minimum, maximum = table["least"][slots], table["most"][slots]
    novelty, nearest = _nearest(table, slots, seen, view_scale(minimum, maximum))
    view = np.arange(COUNT)
    above = above_expected(seen[..., 0] > table["states"][slots[:, None], view, 0, nearest], seen)

    clock = tick(table, slots)
    table["visited"][slots[:, None], view, nearest] = clock[:, None]
    row, new = np.nonzero(novelty > APART)
    if len(row):
        oldest = table["visited"][slots[row], new].argmin(axis=1)
        table["states"][slots[row], new, :, oldest] = seen[row, new]
        table["visited"][slots[row], new, oldest] = clock[row]
    table["least"][slots] = np.minimum(minimum, seen)
    table["most"][slots] = np.maximum(maximum, seen)
    return novelty, above


def _nearest(table: Table, slots: Ints, seen: Shorts, scale: Singles) -> tuple[Singles, Ints]:
    """Return distance and position of the nearest state, per view [k, views]."""
    novelty, nearest = np.empty((len(slots), COUNT), np.float32), np.empty((len(slots), COUNT), np.int64)
    view = np.arange(COUNT)
    for first in range(0, len(slots), CACHED):
        part = slice(first, first + CACHED)
        apart = table["states"][slots[part]]
        apart -= seen[part, ..., None]
        np.abs(apart, out=apart)
        around = apart[:, ROUND, 1]
        np.minimum(around, UNIT - around, out=around)
        distances = apart.astype(np.float32)
        distances *= scale[part, ..., None]
        distance = distances[:, :, 0]
        np.maximum(distance[:, PAIRED], distances[:, PAIRED, 1], out=distance[:, PAIRED])
        nearest[part] = distance.argmin(axis=2)
        novelty[part] = distance[np.arange(len(distance))[:, None], view, nearest[part]]
    return novelty, nearest


def tick(table: Table, slots: Ints) -> Shorts:
    """Advance the clocks of visits. Before an overflow the clock is set back, and the oldest visits become equal."""
    late = slots[table["clock"][slots] == 2 * WRAP - 1]
    if len(late):
        visited = table["visited"][late]
        table["visited"][late] = np.where(visited > WRAP, visited - WRAP, np.minimum(visited, 1))
        table["clock"][late] -= WRAP
    table["clock"][slots] += 1
    return table["clock"][slots]
