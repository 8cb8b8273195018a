"""Read stored points for evaluation: the windows before the first new points, and the ranges of late data."""

from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from alerts.evaluation.rule_series_state import RuleSeriesState
from metrics.query.accumulators import Floats, Ints
from metrics.storage.format.codec import Columns
from metrics.storage.format.layout import merge_by_encoding
from metrics.storage.read.plan import plan_read, snapshot
from metrics.storage.read.scan import read_points

SERIES_BATCH = 2000  # series per read


def load_windows(states: Sequence[tuple[RuleSeriesState, int]]) -> None:
    """Load the points that each state needs from before its first new point (time in µs)."""
    lookback = max(state.watched.spec.lookback for state, _ in states)
    series = (source.series for state, _ in states for source in state.inputs.values())
    start, end = min(first for _, first in states) - lookback, max(first for _, first in states)
    columns = read_columns(series, start, end)
    for state, first in states:
        state.load_history(
            {
                position: _before(*source.read_points(columns[source.series]), first)
                for position, source in state.inputs.items()
                if source.series in columns
            }
        )


def read_columns(series: Iterable[int], start: int, end: int) -> dict[int, Columns]:
    """Return the points from start until before end (µs) of each series that has any."""
    ids = np.unique(np.fromiter(series, np.int64))
    return {
        int(number): columns.slice_series(position, position + 1)
        for parts in iterate_columns(ids, start, end)
        for columns in parts
        for position, number in enumerate(columns.ids)
    }


def iterate_columns(series: Ints, start: int, end: int) -> Iterator[list[Columns]]:
    """Yield the points of some series (ascending) at a time, from start until before end (µs): numbers, then others.

    Each series comes once, its times ascending.
    """
    for position in range(0, len(series), SERIES_BATCH):
        batch = series[position : position + SERIES_BATCH]
        with snapshot() as connection:
            parts = list(read_points(connection, plan_read(connection, batch, start, end), whole=True))
        yield merge_by_encoding(parts)


def _before(times: Ints, values: Floats, end: int) -> tuple[Ints, Floats]:
    last = int(times.searchsorted(end))
    return times[:last], values[:last]
