"""Texts of the reasons for anomalies, for charts and notifications: with figures that can be checked on the chart."""

from collections.abc import Callable

import numpy as np

from alerts.detector.features import BESIDE
from alerts.detector.state import Bools, Ints, Singles

# For each of features.VIEWS: the text for a point above the nearest state, and for one below.
VIEW_TEXTS = (
    ("above all earlier values", "below all earlier values"),
    ("above the range of this time of day in 7 days", "below the range of this time of day in 7 days"),
    ("unusual jump up from the 48 points before", "unusual drop from the 48 points before"),
    ("high for this time of day", "low for this time of day"),
    ("unusual peak for this time of day", "usual peak of this time of day is missing"),
    ("level shift up", "level shift down"),
)
OTHER_TEXTS = (
    (
        "level above the range of this time of day in 7 days",
        "level below the range of this time of day in 7 days",
    ),
    # Of the view of the expected range, if that is the range of the hour of the week.
    ("above the range of this hour of the week in 3 weeks", "below the range of this hour of the week in 3 weeks"),
    (
        "level above the range of this hour of the week in 3 weeks",
        "level below the range of this hour of the week in 3 weeks",
    ),
    ("no change for longer than ever before", "no change for longer than ever before"),
    ("jump up", "drop"),  # with the figures of the change
)
TEXTS = VIEW_TEXTS + OTHER_TEXTS
DAILY_LEVEL, WEEKLY_VALUE, WEEKLY_LEVEL, STUCK, CHANGE = range(len(VIEW_TEXTS), len(TEXTS))

MINUTE = 60_000_000  # µs
UNITS = (("week", 10_080 * MINUTE), ("day", 1_440 * MINUTE), ("hour", 60 * MINUTE), ("minute", MINUTE))


def view_reasons(surprise: Singles, above: Bools, weekly: Bools) -> Ints:
    """Return the reason codes [k], from 1: of the view with the highest surprise, and its side `above` [k, views]."""
    view = surprise.argmax(axis=1)
    return encode(np.where(weekly & (view == BESIDE), WEEKLY_VALUE, view), above[np.arange(len(view)), view])


def encode(text: Ints | int, above: Bools) -> Ints:
    """Return the codes of texts, by position in TEXTS, and sides."""
    return np.asarray(1 + 2 * np.asarray(text) + ~above, np.int64)


def short_number(value: float) -> str:
    """Return a number with three significant digits."""
    return f"{float(f'{value:.3g}'):,.10g}" if 1e-4 <= value < 1e15 else f"{value:.2e}"


def reason_text(
    code: int,
    change: float = 0.0,
    usual: float = 0.0,
    seen: int = 0,
    now: int = 0,
    write: Callable[[float], str] = short_number,
) -> str:
    """Return the text of a reason code; empty for 0.

    change  from the points before, with its sign
    usual   the largest change that is usual for the series now; 0 for the text without figures
    seen    time (µs) of the last change that was as large; 0: never
    now     time of the point
    write   returns the text of a number, such as with its unit
    """
    if not code:
        return ""
    text = TEXTS[(code - 1) // 2][(code - 1) % 2]
    if (code - 1) // 2 != CHANGE or not usual > 0:
        return text
    last = f"last seen {age_text(now - seen)} ago" if seen else "not seen before"
    return f"{text}: {_times(change, usual)} the largest usual change ({write(usual)}); {last}"


def _times(change: float, usual: float) -> str:
    times = abs(change) / usual
    return f"{times:.1f} ×" if times < 1000 else "over 1,000 ×"


def age_text(age: int) -> str:
    """Return a duration (µs) in its largest whole unit, from one minute on."""
    name, unit = next((pair for pair in UNITS if age >= pair[1]), UNITS[-1])
    number = max(age // unit, 1)
    return f"{number} {name}{'s' if number > 1 else ''}"


def merge_reasons(views: Ints, level: Ints, which: tuple[Bools, Bools, Bools], above: tuple[Bools, Bools]) -> Ints:
    """Return the reason codes of points.

    views  codes of the most surprising view
    level  text of a level outside the expected range
    which  where the change is the strongest evidence; where the level is; where a value is stuck
    above  the side of the change, and of the level
    """
    (changed, shifted, stuck), (rise, high) = which, above
    codes = np.where(stuck, encode(STUCK, high), np.where(shifted, encode(level, high), views))
    return np.where(changed, encode(CHANGE, rise), codes)
