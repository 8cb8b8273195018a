"""One metric of one device over a range as an answer shows it, and what a chart keeps of it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from metrics.query.latest import shown
from metrics.storage.format.codec import Columns, Ints, Kind


@dataclass(slots=True)
class Readings:
    """One metric of one device over a range, oldest first.

    times   int64[n], µs since 1970, UTC
    values  float64[n] (booleans as 0 and 1) where all are numbers, else a list of JSON values
    """

    times: Ints
    values: NDArray[np.float64] | list[Any]
    kinds: list[Kind]
    contexts: NDArray[np.int32] | None
    dictionary: Sequence[bytes]

    def __len__(self) -> int:
        return len(self.times)

    def kept(self, places: NDArray[np.intp]) -> "Readings":
        """Only the points at these places."""
        listed = isinstance(self.values, list)
        values: Any = [self.values[at] for at in places.tolist()] if listed else self.values[places]
        contexts = None if self.contexts is None else self.contexts[places]
        return Readings(self.times[places], values, self.kinds, contexts, self.dictionary)


def joined(columns: dict[int, Columns], kinds: dict[int, Kind]) -> Readings:
    if not columns:
        return Readings(np.empty(0, np.int64), np.empty(0), [], None, ())
    if len(columns) == 1:
        [(number, one)] = columns.items()
        kind = kinds[number]
        values: Any = one.values if one.is_numbers else [shown(value, kind) for value in one.values]
        if kind is Kind.BOOLEAN:
            values = one.values
        return Readings(one.times, values, [kind], one.contexts, one.dictionary)
    # A metric that was sent in several kinds of value: rare, so a list will do.
    rows = []
    for number, one in columns.items():
        for at in range(len(one)):
            entry = b"" if one.contexts is None else one.dictionary[one.contexts[at]]
            rows.append((int(one.times[at]), shown(one.values[at], kinds[number]), entry))
    rows.sort(key=lambda row: row[0])
    dictionary = sorted({row[2] for row in rows})
    return Readings(
        np.array([row[0] for row in rows], np.int64),
        [row[1] for row in rows],
        sorted({kinds[number] for number in columns}),
        np.array([dictionary.index(row[2]) for row in rows], np.int32),
        dictionary,
    )


def listed(readings: Readings) -> list[Any]:
    """The values as JSON shows them."""
    values = readings.values if isinstance(readings.values, list) else readings.values.tolist()
    return [bool(value) for value in values] if readings.kinds == [Kind.BOOLEAN] else values


def thinned(readings: Readings, most: int) -> Readings:
    """At most about `most` points that draw the same line: the least and the greatest of every stretch of time."""
    if isinstance(readings.values, list):
        return readings.kept(np.arange(0, len(readings), -(-len(readings) // most)))
    edges = np.linspace(readings.times[0], readings.times[-1] + 1, max(most // 2, 1) + 1).astype(np.int64)
    starts = np.unique(np.searchsorted(readings.times, edges[:-1]))
    lengths = np.diff([*starts, len(readings)])
    keep = [np.array([0, len(readings) - 1])]
    for extreme in (np.minimum, np.maximum):
        hits = np.flatnonzero(readings.values == np.repeat(extreme.reduceat(readings.values, starts), lengths))
        keep.append(hits[np.searchsorted(hits, starts)])
    return readings.kept(np.unique(np.concatenate(keep)))
