"""What is looked at of a series: its newest value and what is around it, on a scale that the series gave itself."""

from typing import Final

import numpy as np
import numpy.typing as npt

from alerts.detector.state import BINS, DAYS, RECENT, Bools, Floats, Ints, Shorts, Singles, Table

UNIT: Final = 1024  # of features as whole numbers: a thousandth of what asinh makes of a series' spread
LIMIT: Final = 15.9  # of features: differences of two fit 16 bits; as a value, 4 million times the spread
KNEE: Final = 2  # spreads from the centre up to which the scale is nearly linear; beyond, it is logarithmic
SHORT: Final = 6  # points of the means
LONG: Final = 24  # points of variance and maximum

SECOND: Final = 1_000_000
DAY: Final = 86_400 * SECOND
BIN: Final = DAY // BINS
NEIGHBOURS: Final = np.array([-1, 0, 1])
LARGEST: Final = 1e150  # of values: their squares are numbers, too

(VALUE, OUTSIDE, MEAN, MEAN_OUTSIDE, EARLIER, JUMP, DEVIATION, HIGHEST, UNCHANGED, TIME_OF_DAY) = range(10)
FEATURES: Final = 10

# Pairs whose states are remembered: alone, a feature is its own partner. novelty.py says what is made of them.
VIEWS: Final = (
    (VALUE, VALUE),
    (OUTSIDE, OUTSIDE),
    (MEAN_OUTSIDE, MEAN_OUTSIDE),
    (VALUE, JUMP),
    (VALUE, TIME_OF_DAY),
    (DEVIATION, TIME_OF_DAY),
    (HIGHEST, TIME_OF_DAY),
    (MEAN, EARLIER),
    (UNCHANGED, VALUE),
)


def settle(table: Table, slots: Ints) -> None:
    """Fix centre and spread of series by their first points: median, and median distance from it."""
    values = table["values"][slots]
    centre = np.median(values, axis=1)
    spread = np.median(np.abs(values - centre[:, None]), axis=1)
    fallback = values.std(axis=1) + 1e-9 * np.abs(centre) + 1e-12
    table["centre"][slots] = centre
    table["spread"][slots] = np.maximum(np.where(spread > 0, spread, fallback), 1 / LARGEST)


def own_scale(table: Table, slots: Ints, values: Floats) -> Singles:
    """Values as distances from the centre, logarithmic where they are far."""
    distance = (values - table["centre"][slots]) / table["spread"][slots] / KNEE
    own: Singles = np.clip(np.arcsinh(distance), -LIMIT, LIMIT).astype(np.float32)
    return own


def of_value(table: Table, slots: Ints, own: Shorts) -> Floats:
    """The values that stand at these places of the series' own scale."""
    far: Floats = np.sinh(own / UNIT) * KNEE * table["spread"][slots] + table["centre"][slots]
    return far


def features(table: Table, slots: Ints, times: Ints, values: Floats) -> tuple[Shorts, Shorts, Shorts, Bools]:
    """Features [k, FEATURES] of one more point of each series; the band of its time of day, and where there is one."""
    own = own_scale(table, slots, values)
    recent = table["recent"][slots]
    recent = np.where(table["points"][slots, None] == 0, own[:, None], recent)
    jump = own - recent[:, 1:].mean(axis=1)
    unchanged = _unchanged(table, slots, own == recent[:, -1])
    recent = np.concatenate([recent[:, 1:], own[:, None]], axis=1)
    table["recent"][slots] = recent

    long = recent[:, -LONG:]
    found = np.zeros((len(slots), FEATURES), np.float32)
    found[:, VALUE] = own
    found[:, MEAN] = recent[:, -SHORT:].mean(axis=1)
    found[:, EARLIER] = recent[:, RECENT - 1 - LONG]
    found[:, JUMP] = jump
    found[:, DEVIATION] = long.std(axis=1)
    found[:, HIGHEST] = long.max(axis=1)
    found[:, UNCHANGED] = np.log1p(unchanged)
    found[:, TIME_OF_DAY] = times % DAY / DAY
    whole = np.rint(np.clip(found, -LIMIT, LIMIT, out=found) * UNIT).astype(np.int16)

    pair = whole[:, [VALUE, MEAN]]
    low, high, known = _of_this_time_of_day(table, slots, times, pair)
    outside = np.maximum(pair - high, 0) + np.minimum(pair - low, 0)
    whole[:, [OUTSIDE, MEAN_OUTSIDE]] = np.where(known[:, None], np.clip(outside, -LIMIT * UNIT, LIMIT * UNIT), 0)
    return whole, low[:, 0], high[:, 0], known


def _unchanged(table: Table, slots: Ints, same: Bools) -> Singles:
    """Points since the value changed; of those runs that end here, the longest is known."""
    before = table["unchanged"][slots]
    table["longest"][slots] = np.maximum(table["longest"][slots], np.where(same, 0, before))
    table["unchanged"][slots] = unchanged = np.where(same, before + 1, np.float32(0))
    return unchanged


def _of_this_time_of_day(
    table: Table, slots: Ints, times: Ints, pair: npt.NDArray[np.int16]
) -> tuple[Shorts, Shorts, Bools]:
    """Least and greatest [k, 2] of this half hour and its neighbours in the days before, where two days are known.

    The point itself is remembered, for the days to come.
    """
    day, half_hour = 1 + times // DAY % 65_535, times % DAY // BIN
    near = (slots[:, None], (half_hour[:, None] + NEIGHBOURS) % BINS)
    age = day[:, None, None] - table["days"][near]
    fits = (age >= 1) & (age <= DAYS)
    known = fits.any(axis=1).sum(axis=1) >= 2
    low = np.where(fits[..., None], table["lows"][near], np.int16(32_767)).min(axis=(1, 2))
    high = np.where(fits[..., None], table["highs"][near], np.int16(-32_768)).max(axis=(1, 2))

    here = (slots, half_hour, day % DAYS)
    first = (table["days"][here] != day)[:, None]
    table["lows"][here] = np.where(first, pair, np.minimum(table["lows"][here], pair))
    table["highs"][here] = np.where(first, pair, np.maximum(table["highs"][here], pair))
    table["days"][here] = day
    return low, high, known
