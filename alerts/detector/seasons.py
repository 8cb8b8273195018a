"""Seasonal profiles: the range of a series by time of day and by hour of the week, and which of both to use."""

from dataclasses import dataclass

import numpy as np

from alerts.detector.state import HALF_HOURS, HOURS, Bools, Ints, Shorts, Singles, Table

DAY = 86_400_000_000  # µs
NEIGHBOURS = np.array([-1, 0, 1])
MIN_PERIODS = 2  # days, or weeks, before a range is known
MISS_WEIGHT = 4  # the cost of a range is its width plus this many times the distance of a value outside
MIN_ADVANTAGE = np.float32(0.3)  # of the weekly range over the daily one, as a logarithm of costs
MIN_WEEKLY_EVIDENCE = 10  # sum of advantages per hour, from which on a series is weekly
FORGET = np.float32(np.exp(-1 / 336))  # decay of that sum per hour: two weeks


@dataclass(frozen=True, slots=True)
class Season:
    """A period in bins, and the record fields with the ranges of its last repetitions."""

    period: int
    bins: int
    turns: str
    lows: str
    highs: str


OF_DAY = Season(DAY, HALF_HOURS, "days", "day_lows", "day_highs")
OF_WEEK = Season(7 * DAY, HOURS, "weeks", "week_lows", "week_highs")


@dataclass(frozen=True, slots=True)
class SeasonalRange:
    """Minimum and maximum [k, 2] of the value and of its mean, and where they are known."""

    low: Shorts
    high: Shorts
    is_known: Bools
    begins: Bools  # whether this is the first point of its bin in this period

    def outside(self, pair: Shorts) -> Shorts:
        """Return the distance [k, 2] above the range, or below it (negative)."""
        beyond = np.maximum(pair - self.high, 0) + np.minimum(pair - self.low, 0)
        return np.where(self.is_known[:, None], beyond, np.int16(0))

    def cost(self, pair: Shorts) -> Singles:
        """Return the cost [k] of the range for the value, as a logarithm: a wide or wrong range costs more."""
        width = self.high[:, 0].astype(np.float32) - self.low[:, 0]
        missed = np.abs(self.outside(pair)[:, 0].astype(np.float32))
        cost: Singles = np.log(np.maximum(width + MISS_WEIGHT * missed, np.float32(1)))
        return cost


def expected(table: Table, slots: Ints, times: Ints, pair: Shorts) -> tuple[SeasonalRange, Singles]:
    """Return the range of the hour of the week for weekly series, else of the time of day; and the weekly evidence [k].

    Adds the points to the profiles.
    """
    day, week = (_seasonal_range(table, slots, times, pair, season) for season in (OF_DAY, OF_WEEK))
    weekly = table["weekly"][slots]
    compared = day.is_known & week.is_known & week.begins  # once an hour at any interval
    if compared.any():
        after = _compare(weekly, day.cost(pair), week.cost(pair))
        table["weekly"][slots] = np.where(compared, after, weekly)
    return _choose(day, week, weekly)


def _compare(weekly: Singles, day_cost: Singles, week_cost: Singles) -> Singles:
    """Return the weekly evidence after one more hour: it grows if the weekly range costs less, by MIN_ADVANTAGE."""
    compared: Singles = weekly * FORGET + day_cost - week_cost - MIN_ADVANTAGE
    return compared


def _choose(day: SeasonalRange, week: SeasonalRange, weekly: Singles) -> tuple[SeasonalRange, Singles]:
    """Return the range to use, and the weekly evidence [k] where the weekly one is used, else 0."""
    weekly = np.where(day.is_known & week.is_known & (weekly > MIN_WEEKLY_EVIDENCE), weekly, np.float32(0))
    low, high = (np.where(weekly[:, None] > 0, *sides) for sides in ((week.low, day.low), (week.high, day.high)))
    return SeasonalRange(low, high, day.is_known, day.begins), weekly


def _seasonal_range(table: Table, slots: Ints, times: Ints, pair: Shorts, season: Season) -> SeasonalRange:
    """Return the range of this bin and its neighbours in the earlier periods, and add the point."""
    turns, lows, highs = table[season.turns], table[season.lows], table[season.highs]
    max_turn, kept = np.iinfo(turns.dtype).max, turns.shape[2]
    turn, bin_index = times // season.period, times % season.period * season.bins // season.period
    near = bin_index[:, None] + NEIGHBOURS
    around = (slots[:, None], near % season.bins)
    known_turns, near_turn = turns[around].astype(np.int32), (1 + turn[:, None] + near // season.bins) % max_turn
    age = near_turn[..., None].astype(np.int32) - known_turns
    age += np.int32(max_turn) * (age < 0)
    fits = (age >= 1) & (age <= kept) & (known_turns > 0)
    low = _turns_first(lows[around], fits, 32_767).min(axis=0)
    high = _turns_first(highs[around], fits, -32_768).max(axis=0)

    bin_position, now = (slots, bin_index, turn % kept), 1 + turn % max_turn
    begins = turns[bin_position] != now
    lows[bin_position] = np.where(begins[:, None], pair, np.minimum(lows[bin_position], pair))
    highs[bin_position] = np.where(begins[:, None], pair, np.maximum(highs[bin_position], pair))
    turns[bin_position] = now
    return SeasonalRange(low, high, fits.any(axis=1).sum(axis=1) >= MIN_PERIODS, begins)


def _turns_first(bounds: Shorts, fits: Bools, other: int) -> Shorts:
    """Return bounds [k, neighbours, turns, 2] as [neighbours · turns, k, 2], with another value where none fits.

    In this order the extremes along the first axis are several times faster.
    """
    pairs = np.where(fits, bounds.view(np.int32)[..., 0], np.full(2, other, np.int16).view(np.int32))
    return np.ascontiguousarray(pairs.reshape(len(pairs), -1).T).view(np.int16).reshape(-1, len(pairs), 2)


def expected_along(table: Table, slot: int, times: Ints, pair: Shorts) -> tuple[SeasonalRange, Singles]:
    """Return what `expected` does, for points of one series instead of one point per series."""
    day, week = (_ranges_along(table, slot, times, pair, season) for season in (OF_DAY, OF_WEEK))
    evidence = np.full(len(times) + 1, table["weekly"][slot])  # before each point
    compared = np.flatnonzero(day.is_known & week.is_known & week.begins)
    costs = zip(day.cost(pair)[compared], week.cost(pair)[compared], strict=True)
    for position, (day_cost, week_cost) in zip(compared.tolist(), costs, strict=True):
        evidence[position + 1 :] = _compare(evidence[position], day_cost, week_cost)
    table["weekly"][slot] = evidence[-1]
    return _choose(day, week, evidence[:-1])


def _ranges_along(table: Table, slot: int, times: Ints, pair: Shorts, season: Season) -> SeasonalRange:
    """Return what `_seasonal_range` does, for points of one series.

    The range changes only with the first and the second point of a bin, so it is computed for these. Bins are numbered
    through all periods: as long as a bin has not been seen again in `kept` periods, its range is in the table.
    """
    turns, lows, highs = (table[name][slot] for name in (season.turns, season.lows, season.highs))
    max_turn, kept = np.iinfo(turns.dtype).max, turns.shape[1]
    bins = times // season.period * season.bins + times % season.period * season.bins // season.period
    first = np.flatnonzero(np.append(True, bins[1:] != bins[:-1]))
    own = bins[first]

    place, row = np.nonzero(turns)
    turn = own[0] // season.bins
    age = (1 + turn - turns[place, row].astype(np.int64)) % max_turn
    numbers = (turn - age) * season.bins + place
    bin_lows, bin_highs = np.minimum.reduceat(pair, first), np.maximum.reduceat(pair, first)
    begins = np.zeros(len(times), np.bool_)
    begins[first] = True
    if len(present := np.flatnonzero(numbers == own[0])):
        begins[0] = False
        bin_lows[0] = np.minimum(bin_lows[0], lows[place[present[0]], row[present[0]]])
        bin_highs[0] = np.maximum(bin_highs[0], highs[place[present[0]], row[present[0]]])
    stored = np.flatnonzero(numbers != own[0])
    stored = stored[np.argsort(numbers[stored])]
    numbers = np.concatenate((numbers[stored], own))
    all_lows = np.concatenate((lows[place[stored], row[stored]], bin_lows))
    all_highs = np.concatenate((highs[place[stored], row[stored]], bin_highs))

    ages = np.arange(1, kept + 1)
    near = own[:, None, None] + NEIGHBOURS[:, None] - ages * season.bins
    position = np.minimum(numbers.searchsorted(near), len(numbers) - 1)
    fits = numbers[position] == near
    previous = own - 1
    has_previous = numbers[np.minimum(numbers.searchsorted(previous), len(numbers) - 1)] == previous
    fits[:, 0, -1] &= ~has_previous  # its place in the table was taken by this period
    known, low, high = [], [], []
    for is_first in (True, False):
        fits[:, 1, -1] &= is_first  # so was this one, by the first point
        known.append(_is_known(near // season.bins % kept, fits, kept))
        low.append(np.where(fits[..., None], all_lows[position], np.int16(32_767)).min(axis=(1, 2)))
        high.append(np.where(fits[..., None], all_highs[position], np.int16(-32_768)).max(axis=(1, 2)))

    bin_of_point = np.cumsum(np.append(False, bins[1:] != bins[:-1]))
    later = (~begins).astype(np.int64)
    place, row = own % season.bins, own // season.bins % kept
    lows[place, row], highs[place, row], turns[place, row] = bin_lows, bin_highs, 1 + own // season.bins % max_turn
    return SeasonalRange(
        np.array(low)[later, bin_of_point], np.array(high)[later, bin_of_point],
        np.array(known)[later, bin_of_point], begins,
    )  # fmt: skip


def _is_known(places: Ints, fits: Bools, kept: int) -> Bools:
    """Return whether enough places of the table [k, neighbours, kept] have a range that fits."""
    present = np.zeros((len(fits), kept), np.bool_)
    rows = np.arange(len(fits))[:, None]
    for place, fit in zip(places.transpose(1, 0, 2), fits.transpose(1, 0, 2), strict=True):
        present[rows, place] |= fit
    known: Bools = present.sum(axis=1) >= MIN_PERIODS
    return known
