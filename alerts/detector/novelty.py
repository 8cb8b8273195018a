"""How new a point is: far from every state that its series was in, and how rarely that happens to this series."""

from typing import Final

import numpy as np

from alerts.detector.features import BESIDE, HIGHEST, TIME_OF_DAY, UNIT, VALUE, VIEWS
from alerts.detector.state import LEVELS, Bools, Ints, Shorts, Singles, Table

PAIRS: Final = np.array(VIEWS)
COUNT: Final = len(VIEWS)
# Views by time of day, side by side (a slice is no copy); midnight is near midnight.
ROUND: Final = slice(VIEWS.index((VALUE, TIME_OF_DAY)), VIEWS.index((HIGHEST, TIME_OF_DAY)) + 1)
# A state is remembered that is farther than this from all others, in shares of the range that the view has had.
APART: Final = np.array([0.02 if first == second else 0.04 for first, second in VIEWS], np.float32)
NARROW: Final = 8  # of a range that is smaller, novelty is measured as if it were this wide
NOVELTY: Final = (0.02 * 1.3 ** np.arange(LEVELS)).astype(np.float32)  # levels
BLANK: Final = 100  # points without surprise: the first are all new
FORGET: Final = np.float32(np.exp(-1 / 2000))  # a point, of how often which novelty was reached
HOLD: Final = np.float32(0.8)  # a point, of a squared surprise: views that differ a little in time are heard together
WRAP: Final = 2**15  # the clock of visits turns back by this


def surprise(table: Table, slots: Ints, features: Shorts) -> tuple[Singles, Singles, Bools]:
    """Squared surprise of each view [k, views], held for some points; its novelty; whether above the nearest state."""
    seen = features[:, PAIRS]
    fresh = slots[table["points"][slots] == 0]
    if len(fresh):
        _begin(table, fresh, seen[table["points"][slots] == 0])
    novelty, above = _novelty(table, slots, seen)
    counted = np.where(table["points"][slots, None] < BLANK, np.float32(0), novelty)

    level = np.searchsorted(NOVELTY, counted, side="right") - 1
    reached = table["reached"][slots]
    before = np.take_along_axis(reached, np.maximum(level, 0)[..., None], axis=2)[..., 0]
    total = table["total"][slots]
    found = np.where(level >= 0, np.log((np.maximum(total, 1) + 1)[:, None] / (before + 1)), 0) ** 2
    table["reached"][slots] = reached * FORGET + (counted[..., None] >= NOVELTY)
    table["total"][slots] = total * FORGET + 1
    held = np.maximum(found, table["held"][slots] * HOLD).astype(np.float32)
    table["held"][slots] = held
    return held, novelty, above


def _begin(table: Table, slots: Ints, seen: Shorts) -> None:
    """Every place for a state holds the first: so distances are always to states that were."""
    table["states"][slots] = seen[..., None]
    table["least"][slots] = table["most"][slots] = seen
    table["clock"][slots] = 0
    table["visited"][slots] = 0


def _novelty(table: Table, slots: Ints, seen: Shorts) -> tuple[Singles, Bools]:
    """Distance to the nearest state, the larger of the two coordinates' in shares of their ranges; whether above it,
    or above the band."""
    least, most = table["least"][slots], table["most"][slots]
    scale = 1 / np.maximum(most.astype(np.float32) - least, np.float32(NARROW))
    scale[:, ROUND, 1] = np.float32(1 / UNIT)
    apart = table["states"][slots]
    apart -= seen[..., None]
    np.abs(apart, out=apart)
    around = apart[:, ROUND, 1]
    apart[:, ROUND, 1] = np.minimum(around, UNIT - around)
    distance = apart[:, :, 0] * scale[:, :, 0, None]
    np.maximum(distance, apart[:, :, 1] * scale[:, :, 1, None], out=distance)
    nearest = distance.argmin(axis=2)
    novelty = np.take_along_axis(distance, nearest[..., None], axis=2)[..., 0]
    view = np.arange(COUNT)
    above = seen[..., 0] > table["states"][slots[:, None], view, 0, nearest]
    outside = seen[:, BESIDE, 0]
    above[:, BESIDE] = np.where(outside == 0, above[:, BESIDE], outside > 0)

    clock = _tick(table, slots)
    table["visited"][slots[:, None], view, nearest] = clock[:, None]
    row, new = np.nonzero(novelty > APART)
    if len(row):
        oldest = table["visited"][slots[row], new].argmin(axis=1)
        table["states"][slots[row], new, :, oldest] = seen[row, new]
        table["visited"][slots[row], new, oldest] = clock[row]
    table["least"][slots] = np.minimum(least, seen)
    table["most"][slots] = np.maximum(most, seen)
    return novelty, above


def _tick(table: Table, slots: Ints) -> Shorts:
    """One point more on the clocks of visits; where they are at their end, visits long ago become the same."""
    late = slots[table["clock"][slots] == 2 * WRAP - 1]
    if len(late):
        visited = table["visited"][late]
        table["visited"][late] = np.where(visited > WRAP, visited - WRAP, np.minimum(visited, 1))
        table["clock"][late] -= WRAP
    table["clock"][slots] += 1
    return table["clock"][slots]
