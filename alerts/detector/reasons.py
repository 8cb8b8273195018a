"""Texts of the reasons for anomalies, for charts and notifications."""

import numpy as np

from alerts.detector.features import BESIDE
from alerts.detector.state import Bools, Ints, Singles

# For each of features.VIEWS: the text for a point above the nearest state, and for one below.
VIEW_TEXTS = (
    ("above all earlier values", "below all earlier values"),
    ("above the range of this time of day in 7 days", "below the range of this time of day in 7 days"),
    (
        "level above the range of this time of day in 7 days",
        "level below the range of this time of day in 7 days",
    ),
    ("spike: a jump up from the 48 points before", "spike: a drop from the 48 points before"),
    ("high for this time of day", "low for this time of day"),
    ("more variance than usual at this time of day", "less variance than usual at this time of day"),
    ("unusual peak for this time of day", "usual peak of this time of day is missing"),
    ("level shift up", "level shift down"),
    ("no change for longer than ever before", "no change for longer than ever before"),
)
# For the two views of the expected range, if that is the one of the hour of the week.
WEEKLY_TEXTS = (
    ("above the range of this hour of the week in 3 weeks", "below the range of this hour of the week in 3 weeks"),
    (
        "level above the range of this hour of the week in 3 weeks",
        "level below the range of this hour of the week in 3 weeks",
    ),
)
TEXTS = VIEW_TEXTS + WEEKLY_TEXTS

VALUE_OUTSIDE, LEVEL_OUTSIDE = BESIDE  # views
UNCHANGED_VIEW = len(VIEW_TEXTS) - 1


def reasons(surprise: Singles, above: Bools, stuck: Bools, weekly: Bools, level_shift: Bools) -> Ints:
    """Return the reason codes [k], from 1: of the view with the highest surprise, and its side `above` [k, views].

    A stuck value [k], or a level outside the range of its hour of the week [k], takes precedence.
    """
    view = np.where(level_shift, LEVEL_OUTSIDE, np.where(stuck, UNCHANGED_VIEW, surprise.argmax(axis=1)))
    of_week = weekly & ((view == VALUE_OUTSIDE) | (view == LEVEL_OUTSIDE))
    text = np.where(of_week, view - VALUE_OUTSIDE + len(VIEW_TEXTS), view)
    return 1 + 2 * text + ~above[np.arange(len(view)), view]


def reason_text(code: int) -> str:
    """Return the text of a reason code; empty for 0."""
    return TEXTS[(code - 1) // 2][(code - 1) % 2] if code else ""
