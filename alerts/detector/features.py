"""Features of a series' newest point and the points before it, on the scale of the series."""

import numpy as np

from alerts.detector.seasons import DAY, SeasonalRange, expected
from alerts.detector.state import RECENT, Bools, Floats, Ints, Shorts, Singles, Table

UNIT = 1024  # features are integers in units of 1/1024
LIMIT = 15.9  # of features, so that differences fit 16 bits; as a value 4 million times the spread
KNEE = 2  # spreads from the centre: nearly linear up to here, logarithmic beyond
SHORT = 6  # points of means
LONG = 24  # points of the maximum

LARGEST = 1e150  # of values, so that their squares are finite

(VALUE, OUTSIDE, MEAN, MEAN_OUTSIDE, EARLIER, JUMP, HIGHEST, TIME_OF_DAY, LEAST, MOST, LEVEL_OUTSIDE) = range(11)
FEATURES = 11
PAIR = [VALUE, MEAN]  # features with an expected range

# Pairs of features whose states are kept (see novelty.py); a single feature is paired with itself.
VIEWS = (
    (VALUE, VALUE),
    (OUTSIDE, OUTSIDE),
    (VALUE, JUMP),
    (VALUE, TIME_OF_DAY),
    (HIGHEST, TIME_OF_DAY),
    (MEAN, EARLIER),
)
BESIDE = VIEWS.index((OUTSIDE, OUTSIDE))  # the view of the expected range


def settle(table: Table, slots: Ints) -> None:
    """Set centre and spread of series from their first points: median and median absolute deviation."""
    values = table["values"][slots]
    centre = np.median(values, axis=1)
    spread = np.median(np.abs(values - centre[:, None]), axis=1)
    fallback = values.std(axis=1) + 1e-9 * np.abs(centre) + 1e-12
    table["centre"][slots] = centre
    table["spread"][slots] = np.maximum(np.where(spread > 0, spread, fallback), 1 / LARGEST)


def own_scale(table: Table, slots: Ints, values: Floats) -> Singles:
    """Return values on the series' own scale: distances from the centre, logarithmic far from it."""
    distance = (values - table["centre"][slots]) / table["spread"][slots] / KNEE
    own: Singles = np.clip(np.arcsinh(distance), -LIMIT, LIMIT).astype(np.float32)
    return own


def of_value(table: Table, slots: Ints, own: Shorts) -> Floats:
    """Return values from the series' own scale."""
    far: Floats = np.sinh(own / UNIT) * KNEE * table["spread"][slots] + table["centre"][slots]
    return far


def features(table: Table, slots: Ints, times: Ints, values: Floats) -> tuple[Shorts, SeasonalRange, Singles]:
    """Return the features [k, FEATURES] of one point per series, the expected range, and the weekly evidence."""
    own = own_scale(table, slots, values)
    earlier = table["recent"][slots]
    earlier = np.where(table["points"][slots, None] == 0, own[:, None], earlier)
    _count_unchanged(table, slots, own == earlier[:, -1])
    recent = np.concatenate([earlier[:, 1:], own[:, None]], axis=1)
    table["recent"][slots] = recent
    rounded = describe(times, earlier, recent)
    band, weekly = expected(table, slots, times, rounded[:, PAIR])
    return add_outside(rounded, band), band, weekly


def describe(times: Ints, earlier: Singles, recent: Singles) -> Shorts:
    """Return the features [k, FEATURES] of points, still without those of the expected range.

    earlier  [k, RECENT]  values before the point, on the series' own scale
    recent   [k, RECENT]  the same values from the second on, and the point's own
    """
    own = recent[:, -1]
    row = np.zeros((len(own), FEATURES), np.float32)
    row[:, VALUE] = own
    row[:, MEAN] = recent[:, -SHORT:].mean(axis=1)
    row[:, LEAST] = recent[:, -SHORT:].min(axis=1)
    row[:, MOST] = recent[:, -SHORT:].max(axis=1)
    row[:, EARLIER] = recent[:, RECENT - 1 - LONG]
    row[:, JUMP] = own - earlier[:, 1:].mean(axis=1)
    row[:, HIGHEST] = recent[:, -LONG:].max(axis=1)
    row[:, TIME_OF_DAY] = times % DAY / DAY
    rounded: Shorts = np.rint(np.clip(row, -LIMIT, LIMIT, out=row) * UNIT).astype(np.int16)
    return rounded


def add_outside(rounded: Shorts, band: SeasonalRange) -> Shorts:
    """Fill the features of the expected range. Returns the same array.

    A level is as far outside as the nearest of its values, so that one value is no level.
    """
    value, mean = band.outside(rounded[:, PAIR]).T
    above = np.maximum(rounded[:, LEAST] - band.high[:, 1], 0)
    below = np.minimum(rounded[:, MOST] - band.low[:, 1], 0)
    level = np.where(mean > 0, above, np.where(mean < 0, below, 0))
    for feature, distance in ((OUTSIDE, value), (MEAN_OUTSIDE, mean), (LEVEL_OUTSIDE, level)):
        rounded[:, feature] = np.clip(distance, -LIMIT * UNIT, LIMIT * UNIT)
    return rounded


def _count_unchanged(table: Table, slots: Ints, same: Bools) -> None:
    """Update the points since the value changed, and the longest such run that has ended."""
    before = table["unchanged"][slots]
    table["longest"][slots] = np.maximum(table["longest"][slots], np.where(same, 0, before))
    table["unchanged"][slots] = np.where(same, before + 1, np.float32(0))
