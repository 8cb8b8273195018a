"""What is looked at of a series: its newest value and what is around it, on a scale that the series gave itself."""

from typing import Final

import numpy as np

from alerts.detector.seasons import DAY, Band, expected
from alerts.detector.state import RECENT, Bools, Floats, Ints, Shorts, Singles, Table

UNIT: Final = 1024  # of features as whole numbers: a thousandth of what asinh makes of a series' spread
LIMIT: Final = 15.9  # of features: differences of two fit 16 bits; as a value, 4 million times the spread
KNEE: Final = 2  # spreads from the centre up to which the scale is nearly linear; beyond, it is logarithmic
SHORT: Final = 6  # points of the means
LONG: Final = 24  # points of variance and maximum

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
BESIDE: Final = [VIEWS.index((OUTSIDE, OUTSIDE)), VIEWS.index((MEAN_OUTSIDE, MEAN_OUTSIDE))]  # those of a band


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


def features(table: Table, slots: Ints, times: Ints, values: Floats) -> tuple[Shorts, Band, Singles]:
    """Features [k, FEATURES] of one more point of each series; what was expected of it, and how weekly it is."""
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
    band, weekly = expected(table, slots, times, pair)
    whole[:, [OUTSIDE, MEAN_OUTSIDE]] = np.clip(band.outside(pair), -LIMIT * UNIT, LIMIT * UNIT)
    return whole, band, weekly


def _unchanged(table: Table, slots: Ints, same: Bools) -> Singles:
    """Points since the value changed; of those runs that end here, the longest is known."""
    before = table["unchanged"][slots]
    table["longest"][slots] = np.maximum(table["longest"][slots], np.where(same, 0, before))
    table["unchanged"][slots] = unchanged = np.where(same, before + 1, np.float32(0))
    return unchanged
