"""Points in order of arrival, and the block that they become."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from metrics.storage.format.codec import Columns, Ints, Values, arrange_points, concatenate


@dataclass(slots=True)
class IncomingPoints:
    """Points of one encoding in order of arrival.

    series int64[n], times int64[n] in µs, values and contexts as in Columns. Lists are for single points: a hundred
    of them become arrays faster together than one by one.
    """

    series: Ints | list[int]
    times: Ints | list[int]
    values: Values | list[float]
    contexts: NDArray[np.int32] | None = None
    dictionary: Sequence[bytes] = ()


def build_block(arrivals: Sequence[IncomingPoints]) -> list[Columns]:
    """Arrange incoming points, in order of arrival, as the parts of a block: numbers separate from other values."""
    parts = []
    for numbers in (True, False):
        same_encoding = [
            incoming
            for incoming in arrivals
            if (isinstance(incoming.values, list) or incoming.values.dtype != object) is numbers
        ]
        if same_encoding:
            parts.append(_merge_incoming(same_encoding))
    return parts


def _merge_incoming(group: list[IncomingPoints]) -> Columns:
    if len(group) == 1 or any(incoming.contexts is not None for incoming in group):
        return concatenate([_arrange_incoming(incoming) for incoming in group])
    if all(isinstance(incoming.values, list) for incoming in group):
        return arrange_points(
            np.array([number for incoming in group for number in incoming.series], np.int64),
            np.array([time for incoming in group for time in incoming.times], np.int64),
            np.array([value for incoming in group for value in incoming.values], np.float64),
        )
    return arrange_points(
        np.concatenate([incoming.series for incoming in group]),
        np.concatenate([incoming.times for incoming in group]),
        np.concatenate([incoming.values for incoming in group]),
    )


def _arrange_incoming(incoming: IncomingPoints) -> Columns:
    series, times = np.asarray(incoming.series, np.int64), np.asarray(incoming.times, np.int64)
    return arrange_points(series, times, np.asarray(incoming.values), incoming.contexts, incoming.dictionary)
