"""What was measured before: for subjects that have to see it before their first new points, and of late ranges."""

from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from alerts.evaluation.rule_series_state import Subject
from metrics.query.accumulators import Floats, Ints
from metrics.storage.format.codec import Columns
from metrics.storage.format.layout import merge_by_encoding
from metrics.storage.read.plan import plan_read, snapshot
from metrics.storage.read.scan import read_points

AT_ONCE = 2000  # series that are read together


def warm(subjects: Sequence[tuple[Subject, int]]) -> None:
    """Let cold subjects see what was measured before their first new points, whose times (µs) are given."""
    reach = max(subject.watched.spec.lookback for subject, _ in subjects)
    series = (one.series for subject, _ in subjects for one in subject.inputs.values())
    start, end = min(first for _, first in subjects) - reach, max(first for _, first in subjects)
    held = columns_of(series, start, end)
    for subject, first in subjects:
        subject.warm(
            {
                place: _before(*one.points(held[one.series]), first)
                for place, one in subject.inputs.items()
                if one.series in held
            }
        )


def columns_of(series: Iterable[int], start: int, end: int) -> dict[int, Columns]:
    """The stored points of each of these series that has some, from one time to before another (µs)."""
    wanted = np.unique(np.fromiter(series, np.int64))
    return {
        int(number): columns.slice_series(at, at + 1)
        for columns in points(wanted, start, end)
        for at, number in enumerate(columns.ids)
    }


def points(series: Ints, start: int, end: int) -> Iterator[Columns]:
    """The stored points of series (ascending) from one time to before another (µs), each series once and in order."""
    for at in range(0, len(series), AT_ONCE):
        some = series[at : at + AT_ONCE]
        with snapshot() as connection:
            pieces = list(read_points(connection, plan_read(connection, some, start, end), whole=True))
        yield from merge_by_encoding(pieces)


def _before(times: Ints, values: Floats, end: int) -> tuple[Ints, Floats]:
    last = int(times.searchsorted(end))
    return times[:last], values[:last]
