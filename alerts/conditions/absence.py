"""No-data conditions on stored points. Pure. Live, the clock decides (alerts.evaluation.absence)."""

import numpy as np

from alerts.conditions.spec import SECOND
from alerts.conditions.thresholds import Signal
from metrics.query.accumulators import Ints


def evaluate_absence(times: Ints, since: int, until: int, expected: int, grace: int) -> Signal:
    """Return a signal with a breach at every missed deadline and a recovered value at every point.

    times int64[n] in µs, ascending, from `since` until `until`. The values are the seconds since the point before.
    """
    previous = np.concatenate(([since], times))
    deadlines = previous + (expected + grace)
    missed = deadlines[deadlines < np.append(times, until)]
    order = np.argsort(np.concatenate((missed, times)), kind="stable")
    breach = np.concatenate((np.ones(len(missed), bool), np.zeros(len(times), bool)))[order]
    elapsed = np.concatenate((np.full(len(missed), expected + grace), times - previous[:-1]))[order]
    return Signal(np.concatenate((missed, times))[order], elapsed / SECOND, breach, ~breach)
