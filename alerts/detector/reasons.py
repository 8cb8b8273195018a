"""Why a point was marked, in words for the chart and the notification."""

from typing import Final

import numpy as np

from alerts.detector.features import BESIDE
from alerts.detector.state import Bools, Ints, Singles

# Of each view of features.VIEWS: what it says where the point stands above the nearest state that was, and below.
VIEWED: Final = (
    ("a value above any like it", "a value below any like it"),
    ("above what this time of day has shown in 7 days", "below what this time of day has shown in 7 days"),
    (
        "level above what this time of day has shown in 7 days",
        "level below what this time of day has shown in 7 days",
    ),
    ("spike: a jump up from the 48 points before", "spike: a drop from the 48 points before"),
    ("high for this time of day", "low for this time of day"),
    ("more variance than before at this time of day", "less variance than before at this time of day"),
    ("a peak that this time of day did not have", "the peak of this time of day is missing"),
    ("level shift up", "level shift down"),
    ("no change for longer than ever", "no change for longer than ever"),
)
# Of the two views of a band, where that is the one of the hour of the week.
WEEKLY: Final = (
    ("above what this hour of the week has shown in 3 weeks", "below what this hour of the week has shown in 3 weeks"),
    (
        "level above what this hour of the week has shown in 3 weeks",
        "level below what this hour of the week has shown in 3 weeks",
    ),
)
TEXTS: Final = VIEWED + WEEKLY

VALUE_OUTSIDE, LEVEL_OUTSIDE = BESIDE  # views
UNCHANGING: Final = len(VIEWED) - 1


def reasons(surprise: Singles, above: Bools, stuck: Bools, weekly: Bools, astray: Bools) -> Ints:
    """Codes [k] of the most surprised views, from 1; `above` [k, views] is the side of the nearest state, or the band.

    Where a value is stuck [k], or a level is not that of its hour of the week, that is the reason.
    """
    view = np.where(astray, LEVEL_OUTSIDE, np.where(stuck, UNCHANGING, surprise.argmax(axis=1)))
    of_week = weekly & ((view == VALUE_OUTSIDE) | (view == LEVEL_OUTSIDE))
    text = np.where(of_week, view - VALUE_OUTSIDE + len(VIEWED), view)
    return 1 + 2 * text + ~above[np.arange(len(view)), view]


def reason_text(code: int) -> str:
    """What a code of a judgement says; nothing for 0."""
    return TEXTS[(code - 1) // 2][(code - 1) % 2] if code else ""
