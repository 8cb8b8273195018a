"""Fill gaps: time buckets without a value. Pure: numpy alone.

At the edges of a range, gaps continue from the nearest bucket outside of it, so that overlapping queries agree.
"""

from typing import NamedTuple

import numpy as np

from metrics.query.accumulators import Floats, Ints

Fill = str | float | None  # none, null, previous, linear or a number


class EdgeValue(NamedTuple):
    """The nearest bucket with a value before or after a range: its start (µs) and its value."""

    time: int
    value: float


def fill_gaps(
    values: Floats, times: Ints, fill: Fill, before: EdgeValue | None = None, after: EdgeValue | None = None
) -> Floats:
    """Return the values of one group with gaps (NaN) filled; the remaining NaN are shown as null."""
    gaps = np.isnan(values)
    if isinstance(fill, int | float):
        return np.where(gaps, float(fill), values)
    if fill not in ("previous", "linear"):
        return values
    edges = [edge for edge in (before, after) if edge is not None]
    known_times = np.concatenate((times[~gaps], [edge.time for edge in edges])).astype(np.int64)
    known_values = np.concatenate((values[~gaps], [edge.value for edge in edges]))
    if not len(known_times):
        return values
    order = np.argsort(known_times, kind="stable")
    known_times, known_values = known_times[order], known_values[order]
    if fill == "linear":
        return np.interp(times, known_times, known_values, left=np.nan, right=np.nan)
    previous = np.searchsorted(known_times, times, side="right") - 1
    return np.where(previous >= 0, known_values[previous], np.nan)
