"""Conditions on several metrics of one device, joined at event time.

A condition is as its last point says until the next one, but no longer than its window: then it is unknown. With `and`,
all have to hold, and one that is well again is enough to be well; with `or` the other way round. What is unknown is
neither. Pure.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from alerts.conditions.spec import Spec
from alerts.conditions.thresholds import Bools, Signal
from metrics.query.accumulators import Floats, Ints

NEVER = -(2**61)


class Last(NamedTuple):
    """What the last point of a condition said."""

    time: int = NEVER
    value: float = np.nan
    breach: bool = False
    clear: bool = False


@dataclass(slots=True)
class Joined:
    """What is remembered of a device between two pieces: the last of each condition, and up to when it was judged."""

    last: list[Last] = field(default_factory=list)
    judged: int = NEVER


class _Held(NamedTuple):
    """A condition at some times: false and false where it is unknown."""

    values: Floats
    breach: Bools
    clear: Bools


def join(spec: Spec, joined: Joined, signals: Sequence[Signal]) -> Signal:
    """The signal of a composite from those of its conditions, in their order; `joined` is moved on.

    It has a point wherever one of them has. The value is that of the first condition that holds, or else is known. A
    point that comes after later ones of another metric tells of the time that was reached by then.
    """
    times = np.unique(np.maximum(np.concatenate([signal.times for signal in signals]), joined.judged))
    before = joined.last or [Last()] * len(signals)
    held = [
        _held(last, signal, times, condition.window)
        for last, signal, condition in zip(before, signals, spec.conditions, strict=True)
    ]
    joined.last = [_last(last, signal) for last, signal in zip(before, signals, strict=True)]
    breached, well = (np.logical_and, np.logical_or) if spec.every else (np.logical_or, np.logical_and)
    breach: Bools = breached.reduce([one.breach for one in held])
    clear: Bools = well.reduce([one.clear for one in held])
    joined.judged = int(times[-1]) if len(times) else joined.judged
    return Signal(times, _told(held), breach, clear)


def _held(last: Last, signal: Signal, times: Ints, window: int) -> _Held:
    since = np.concatenate(([last.time], signal.times))
    at = since.searchsorted(times, "right") - 1
    known = (at >= 0) & (times - since[at] < window)
    return _Held(
        np.where(known, np.concatenate(([last.value], signal.values))[at], np.nan),
        known & np.concatenate(([last.breach], signal.breach))[at],
        known & np.concatenate(([last.clear], signal.clear))[at],
    )


def _last(last: Last, signal: Signal) -> Last:
    if not len(signal):
        return last
    return Last(int(signal.times[-1]), float(signal.values[-1]), bool(signal.breach[-1]), bool(signal.clear[-1]))


def _told(held: Sequence[_Held]) -> Floats:
    found = np.full(len(held[0].values), np.nan)
    for one in reversed(held):
        found = np.where(np.isnan(one.values), found, one.values)
    for one in reversed(held):
        found = np.where(one.breach, one.values, found)
    return found
