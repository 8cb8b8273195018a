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
    both, weekly = day.is_known & week.is_known, table["weekly"][slots]
    compared = both & week.begins  # once an hour at any interval
    if compared.any():
        better = weekly * FORGET + day.cost(pair) - week.cost(pair) - MIN_ADVANTAGE
        table["weekly"][slots] = np.where(compared, better, weekly)
    weekly = np.where(both & (weekly > MIN_WEEKLY_EVIDENCE), weekly, np.float32(0))
    low, high = (np.where(weekly[:, None] > 0, *sides) for sides in ((week.low, day.low), (week.high, day.high)))
    return SeasonalRange(low, high, day.is_known, day.begins), weekly


def _seasonal_range(table: Table, slots: Ints, times: Ints, pair: Shorts, season: Season) -> SeasonalRange:
    """Return the range of this bin and its neighbours in the earlier periods, and add the point."""
    turns, lows, highs = table[season.turns], table[season.lows], table[season.highs]
    max_turn, kept = np.iinfo(turns.dtype).max, turns.shape[2]
    turn, bin_index = times // season.period, times % season.period * season.bins // season.period
    near = bin_index[:, None] + NEIGHBOURS
    around = (slots[:, None], near % season.bins)
    age = (1 + turn[:, None] + near // season.bins)[..., None] - turns[around]
    age = np.where(turns[around] > 0, age % max_turn, 0)
    fits = (age >= 1) & (age <= kept)
    low = np.where(fits[..., None], lows[around], np.int16(32_767)).min(axis=(1, 2))
    high = np.where(fits[..., None], highs[around], np.int16(-32_768)).max(axis=(1, 2))

    bin_position, now = (slots, bin_index, turn % kept), 1 + turn % max_turn
    begins = turns[bin_position] != now
    lows[bin_position] = np.where(begins[:, None], pair, np.minimum(lows[bin_position], pair))
    highs[bin_position] = np.where(begins[:, None], pair, np.maximum(highs[bin_position], pair))
    turns[bin_position] = now
    return SeasonalRange(low, high, fits.any(axis=1).sum(axis=1) >= MIN_PERIODS, begins)
