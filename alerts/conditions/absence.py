"""When something was not heard that should have been, as history tells it. Pure.

A series, or a device, is absent from its deadline until it is heard again. Live, the clock tells (alerts.evaluation).
"""

import numpy as np

from alerts.conditions.spec import SECOND
from alerts.conditions.thresholds import Signal
from metrics.query.accumulators import Ints


def heard_again(times: Ints, since: int, until: int, expected: int, grace: int) -> Signal:
    """The signal of what was heard at these times (µs, ascending), from `since` to `until`: a breach at each deadline
    that was missed, well wherever it is heard. The values are the seconds without a measurement."""
    heard = np.concatenate(([since], times))
    deadlines = heard + (expected + grace)
    missed = deadlines < np.append(times, until)
    late = deadlines[missed]
    order = np.argsort(np.concatenate((late, times)), kind="stable")
    breach = np.concatenate((np.ones(len(late), bool), np.zeros(len(times), bool)))[order]
    quiet = np.concatenate((np.full(len(late), expected + grace), times - heard[:-1]))[order]
    return Signal(np.concatenate((late, times))[order], quiet / SECOND, breach, ~breach)
