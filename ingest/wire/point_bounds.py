"""The limits of a point: the bounds of its metric definition and the time window in which it is accepted.

Three forms of one check: `find_violation` decides about a point and words the error; `find_outside_limits` (columns)
and `all_within_limits` (short lists) find out cheaply whether it has to be called at all.
"""

from collections.abc import Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from ingest.wire.batch import RejectionCause, RejectionReason
from metrics.value_text import MINUS, number_text

MINUTE = 60_000_000  # µs
DAY = 1440 * MINUTE
MAX_CLOCK_AHEAD = 5 * MINUTE  # how far the clock of a device may be ahead
TOO_EARLY: RejectionCause = (
    RejectionReason.TOO_EARLY,
    "timestamp",
    f"must be at most {MAX_CLOCK_AHEAD // MINUTE} minutes in the future",
)


class SeriesLimits(Protocol):
    """Bounds and retention (µs) of each series.

    has_bounds          whether any series has bounds
    shortest_retention  of all series
    """

    low: NDArray[np.float64]
    high: NDArray[np.float64]
    retention: NDArray[np.int64]
    has_bounds: bool
    shortest_retention: int


def find_violation(
    metric: str, value: float | bytes, time: int, now: int, low: float, high: float, retention: int
) -> RejectionCause | None:
    """Return why a point is outside its limits, or None. Times are in µs; bytes have no bounds."""
    if isinstance(value, float) and not low <= value <= high:
        side, limit = ("above the maximum", high) if value > high else ("below the minimum", low)
        detail = f"{number_text(value, limit)} is {side} {number_text(limit, value)} of {metric}"
        return RejectionReason.OUT_OF_BOUNDS, "value", detail.replace(MINUS, "-")  # for logs and terminals
    if time > now + MAX_CLOCK_AHEAD:
        return TOO_EARLY
    if time < now - retention:
        detail = f"older than the retention of {metric}: at most {retention // DAY} days are accepted"
        return RejectionReason.TOO_OLD, "timestamp", detail
    return None


def find_outside_limits(
    values: NDArray[np.float64], times: NDArray[np.int64], rows: NDArray[np.int64], now: int, limits: SeriesLimits
) -> list[int]:
    """Return the positions of the points outside their limits. `rows` are indices in `limits`; NaN has no bounds."""
    positions: set[int] = set()
    if limits.has_bounds:
        positions.update(np.flatnonzero((values < limits.low[rows]) | (values > limits.high[rows])).tolist())
    if len(times) and (
        np.maximum.reduce(times) > now + MAX_CLOCK_AHEAD or np.minimum.reduce(times) < now - limits.shortest_retention
    ):
        outside = (times > now + MAX_CLOCK_AHEAD) | (times < now - limits.retention[rows])
        positions.update(np.flatnonzero(outside).tolist())
    return sorted(positions)


def all_within_limits(
    values: Sequence[float], times: Sequence[int], rows: Sequence[int], now: int, limits: SeriesLimits
) -> bool:
    """Return whether all points of a few are within their limits; for up to some dozens faster than columns."""
    low, high, retention = limits.low, limits.high, limits.retention
    for value, time, index in zip(values, times, rows, strict=True):
        if not -MAX_CLOCK_AHEAD <= now - time <= retention[index] or not low[index] <= value <= high[index]:
            return False
    return True
