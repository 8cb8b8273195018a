"""From points to what a condition makes of each of them: the value that is judged, whether it is a breach, whether it
is well. Live evaluation and backtests call the same functions, with a few points or with a year of them.

Pure: no Django, no database. Columns in, columns out; all times are µs since 1970, UTC.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from alerts.conditions.spec import Comparison
from metrics.query.accumulators import Floats, Ints

Bools = NDArray[np.bool_]


@dataclass(slots=True)
class Signal:
    """What a condition makes of points, one after the other.

    times   int64[n]
    values  float64[n]  what is compared with the threshold; NaN where that cannot be told
    breach  bool[n]     the condition is met
    clear   bool[n]     the value is well: not the opposite of a breach where there is a clear threshold
    """

    times: Ints
    values: Floats
    breach: Bools
    clear: Bools

    def __len__(self) -> int:
        return len(self.times)


def compared(comparison: Comparison, times: Ints, measured: Floats) -> Signal:
    """The signal of values that are compared with a threshold as they are."""
    assert comparison.threshold is not None
    threshold = 1.0 if isinstance(comparison.threshold, str) else float(comparison.threshold)
    breach = holds(comparison.op, measured, threshold)
    if comparison.clear is None:
        clear = ~breach & ~np.isnan(measured)
    else:
        clear = ~holds(comparison.op, measured, comparison.clear) & ~np.isnan(measured)
    return Signal(times, measured, breach, clear)


def scored(times: Ints, scores: Floats, mark: float, notify: float) -> Signal:
    """The signal of anomaly scores: a breach from the stricter threshold on, well below the one that marks charts."""
    return Signal(times, scores, scores >= notify, scores < mark)


def holds(op: str, values: Floats, threshold: float) -> Bools:
    """Where a comparison holds; nowhere where the value is NaN."""
    if op == "!=":
        unequal: Bools = (values != threshold) & ~np.isnan(values)
        return unequal
    compare = {">": np.greater, "<": np.less, ">=": np.greater_equal, "<=": np.less_equal, "==": np.equal}[op]
    found: Bools = compare(values, threshold)
    return found


def as_numbers(comparison: Comparison, values: NDArray[np.object_]) -> Floats:
    """Texts as numbers: 1 where they are the text of the threshold, else 0."""
    wanted = str(comparison.threshold).encode()
    return np.fromiter((value == wanted for value in values), np.float64, len(values))
