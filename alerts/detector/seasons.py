"""What a series has shown at this time of the day and at this hour of the week, and which of the two tells more."""

from dataclasses import dataclass
from typing import Final

import numpy as np

from alerts.detector.state import HALF_HOURS, HOURS, Bools, Ints, Shorts, Singles, Table

DAY: Final = 86_400_000_000  # µs
NEIGHBOURS: Final = np.array([-1, 0, 1])
SEEN: Final = 2  # days, or weeks, before a band is known
MISSED: Final = 4  # a band costs its width, and by so many times more what a value is outside of it
CLEARLY: Final = np.float32(0.3)  # the logarithm of what the band of the week is to cost less than that of the day
ENOUGH: Final = 10  # of what it costs less than that, in the sum of the hours, before the series is held to be weekly
FORGET: Final = np.float32(np.exp(-1 / 336))  # an hour, of that sum: two weeks


@dataclass(frozen=True, slots=True)
class Season:
    """A period in bins, and the record's columns of what was in them in the last turns."""

    period: int
    bins: int
    turns: str
    lows: str
    highs: str


OF_DAY: Final = Season(DAY, HALF_HOURS, "days", "day_lows", "day_highs")
OF_WEEK: Final = Season(7 * DAY, HOURS, "weeks", "week_lows", "week_highs")


@dataclass(frozen=True, slots=True)
class Band:
    """Least and greatest [k, 2] of the value and of its mean, and where they are known."""

    low: Shorts
    high: Shorts
    known: Bools
    begins: Bools  # where this is the first point of its bin in this turn

    def outside(self, pair: Shorts) -> Shorts:
        """How far [k, 2] above the band, or below it: less than 0."""
        beyond = np.maximum(pair - self.high, 0) + np.minimum(pair - self.low, 0)
        return np.where(self.known[:, None], beyond, np.int16(0))

    def cost(self, pair: Shorts) -> Singles:
        """How little the band says of the value [k], as a logarithm: it is wide, or wrong."""
        width = self.high[:, 0].astype(np.float32) - self.low[:, 0]
        missed = np.abs(self.outside(pair)[:, 0].astype(np.float32))
        cost: Singles = np.log(np.maximum(width + MISSED * missed, np.float32(1)))
        return cost


def expected(table: Table, slots: Ints, times: Ints, pair: Shorts) -> tuple[Band, Singles]:
    """The band of the hour of the week where the series is weekly, else of the time of day; how weekly [k], or 0.

    The points themselves are remembered, for the days and weeks to come.
    """
    day, week = (_band(table, slots, times, pair, season) for season in (OF_DAY, OF_WEEK))
    both, weekly = day.known & week.known, table["weekly"][slots]
    judged = both & week.begins  # once an hour, whatever the interval is
    if judged.any():
        better = weekly * FORGET + day.cost(pair) - week.cost(pair) - CLEARLY
        table["weekly"][slots] = np.where(judged, better, weekly)
    weekly = np.where(both & (weekly > ENOUGH), weekly, np.float32(0))
    low, high = (np.where(weekly[:, None] > 0, *sides) for sides in ((week.low, day.low), (week.high, day.high)))
    return Band(low, high, day.known, day.begins), weekly


def _band(table: Table, slots: Ints, times: Ints, pair: Shorts, season: Season) -> Band:
    """Of this bin and its neighbours in the turns before."""
    turns, lows, highs = table[season.turns], table[season.lows], table[season.highs]
    most, kept = np.iinfo(turns.dtype).max, turns.shape[2]
    turn, place = times // season.period, times % season.period * season.bins // season.period
    near = place[:, None] + NEIGHBOURS
    around = (slots[:, None], near % season.bins)
    age = (1 + turn[:, None] + near // season.bins)[..., None] - turns[around]
    age = np.where(turns[around] > 0, age % most, 0)
    fits = (age >= 1) & (age <= kept)
    low = np.where(fits[..., None], lows[around], np.int16(32_767)).min(axis=(1, 2))
    high = np.where(fits[..., None], highs[around], np.int16(-32_768)).max(axis=(1, 2))

    here, now = (slots, place, turn % kept), 1 + turn % most
    begins = turns[here] != now
    lows[here] = np.where(begins[:, None], pair, np.minimum(lows[here], pair))
    highs[here] = np.where(begins[:, None], pair, np.maximum(highs[here], pair))
    turns[here] = now
    return Band(low, high, fits.any(axis=1).sum(axis=1) >= SEEN, begins)
