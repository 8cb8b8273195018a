"""From points to signals: for each point the compared value, whether it breaches, and whether it is recovered.

Live evaluation and backtests call the same functions, with a few points or with a year of them. Pure: no Django, no
database. Columns in, columns out; all times are µs since 1970, UTC.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from alerts.conditions.spec import ConditionSpec
from metrics.query.accumulators import Floats, Ints

Bools = NDArray[np.bool_]


@dataclass(slots=True)
class Signal:
    """The result of a condition for consecutive points.

    times      int64[n]
    values     float64[n]  the value compared with the threshold; NaN if it is undefined
    breach     bool[n]     the condition is met
    recovered  bool[n]     with a recovery threshold, a value can be neither a breach nor recovered
    """

    times: Ints
    values: Floats
    breach: Bools
    recovered: Bools

    def __len__(self) -> int:
        return len(self.times)


def compare_values(condition: ConditionSpec, times: Ints, values: Floats) -> Signal:
    """Compare values with the condition's threshold and recovery threshold."""
    assert condition.threshold is not None
    threshold = 1.0 if isinstance(condition.threshold, str) else float(condition.threshold)
    breach = compare(condition.op, values, threshold)
    if condition.recovery_threshold is None:
        recovered = ~breach & ~np.isnan(values)
    else:
        recovered = ~compare(condition.op, values, condition.recovery_threshold) & ~np.isnan(values)
    return Signal(times, values, breach, recovered)


def compare(op: str, values: Floats, threshold: float) -> Bools:
    """Return where a comparison is true; it is false for NaN."""
    if op == "!=":
        unequal: Bools = (values != threshold) & ~np.isnan(values)
        return unequal
    compare_all = {">": np.greater, "<": np.less, ">=": np.greater_equal, "<=": np.less_equal, "==": np.equal}[op]
    result: Bools = compare_all(values, threshold)
    return result


def as_numbers(condition: ConditionSpec, values: NDArray[np.object_]) -> Floats:
    """Return 1 for each text that equals the threshold, else 0."""
    threshold = str(condition.threshold).encode()
    return np.fromiter((value == threshold for value in values), np.float64, len(values))
