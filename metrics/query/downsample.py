"""Raw points of one metric of one device, and their downsampling for a chart."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from metrics.query.latest import to_json_value
from metrics.storage.format.codec import Columns, Ints, Kind


@dataclass(slots=True)
class RawPoints:
    """Points of one metric of one device, oldest first.

    times       int64[n], µs since 1970, UTC
    values      float64[n] (booleans as 0 and 1) if all are numbers, else a list of JSON values
    kinds       of the series that they come from: several if the metric was sent in several kinds of value
    contexts    int32[n]: position of each point's unit, tags and metadata in the dictionary; None: points have none
    """

    times: Ints
    values: NDArray[np.float64] | list[Any]
    kinds: list[Kind]
    contexts: NDArray[np.int32] | None
    dictionary: Sequence[bytes]

    def __len__(self) -> int:
        return len(self.times)

    def at(self, positions: NDArray[np.intp]) -> "RawPoints":
        """Return only the points at these positions."""
        is_list = isinstance(self.values, list)
        values: Any = [self.values[position] for position in positions.tolist()] if is_list else self.values[positions]
        contexts = None if self.contexts is None else self.contexts[positions]
        return RawPoints(self.times[positions], values, self.kinds, contexts, self.dictionary)

    def json_values(self) -> list[Any]:
        """Return the values as JSON shows them."""
        values = self.values if isinstance(self.values, list) else self.values.tolist()
        return [bool(value) for value in values] if self.kinds == [Kind.BOOLEAN] else values


def combine_series(columns: dict[int, Columns], kinds: dict[int, Kind]) -> RawPoints:
    """Return the points of all series (by id) of one metric of one device."""
    if not columns:
        return RawPoints(np.empty(0, np.int64), np.empty(0), [], None, ())
    if len(columns) == 1:
        [(series_id, points)] = columns.items()
        kind = kinds[series_id]
        values: Any = points.values if points.is_numeric else [to_json_value(value, kind) for value in points.values]
        if kind is Kind.BOOLEAN:
            values = points.values
        return RawPoints(points.times, values, [kind], points.contexts, points.dictionary)
    # A metric that was sent in several kinds of value is rare, so a list is fast enough.
    rows = []
    for series_id, points in columns.items():
        for position in range(len(points)):
            context = b"" if points.contexts is None else points.dictionary[points.contexts[position]]
            value = to_json_value(points.values[position], kinds[series_id])
            rows.append((int(points.times[position]), value, context))
    rows.sort(key=lambda row: row[0])
    dictionary = sorted({row[2] for row in rows})
    return RawPoints(
        np.array([row[0] for row in rows], np.int64),
        [row[1] for row in rows],
        sorted({kinds[series_id] for series_id in columns}),
        np.array([dictionary.index(row[2]) for row in rows], np.int32),
        dictionary,
    )


def downsample(points: RawPoints, max_points: int) -> RawPoints:
    """Return at most about `max_points` that draw the same line: the minimum and the maximum of equal spans of time."""
    if isinstance(points.values, list):
        return points.at(np.arange(0, len(points), -(-len(points) // max_points)))
    edges = np.linspace(points.times[0], points.times[-1] + 1, max(max_points // 2, 1) + 1).astype(np.int64)
    starts = np.unique(np.searchsorted(points.times, edges[:-1]))
    lengths = np.diff([*starts, len(points)])
    positions = [np.array([0, len(points) - 1])]
    for extreme in (np.minimum, np.maximum):
        matches = np.flatnonzero(points.values == np.repeat(extreme.reduceat(points.values, starts), lengths))
        positions.append(matches[np.searchsorted(matches, starts)])
    return points.at(np.unique(np.concatenate(positions)))
