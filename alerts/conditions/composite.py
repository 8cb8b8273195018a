"""Composite conditions: conditions on several metrics of one device, joined by event time.

The result of a condition's last point is valid until its next point, at most for its window; after that it is unknown.
With `and`, all conditions have to be met, and one recovered condition is enough to recover; with `or` the reverse. An
unknown condition is neither met nor recovered. Pure.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from alerts.conditions.alert_lifecycle import NEVER
from alerts.conditions.spec import RuleSpec
from alerts.conditions.thresholds import Bools, Signal
from metrics.query.accumulators import Floats, Ints


class LastResult(NamedTuple):
    """The result of a condition's last point."""

    time: int = NEVER
    value: float = np.nan
    breach: bool = False
    recovered: bool = False


@dataclass(slots=True)
class CompositeState:
    """Kept between two parts of the signals: the last result of each condition, and the last joined time (µs)."""

    last: list[LastResult] = field(default_factory=list)
    joined_until: int = NEVER


class _AlignedResults(NamedTuple):
    """The results of one condition at the joined times; NaN, False and False where it is unknown."""

    values: Floats
    breach: Bools
    recovered: Bools


def join(spec: RuleSpec, state: CompositeState, signals: Sequence[Signal]) -> Signal:
    """Return the signal of a composite from those of its conditions, in their order, and update the state.

    It has a point at the time of every point. The value is that of the first condition that is met, else of the first
    that is known. A point that comes after later ones of another metric counts from the time joined so far.
    """
    times = np.unique(np.maximum(np.concatenate([signal.times for signal in signals]), state.joined_until))
    last_results = state.last or [LastResult()] * len(signals)
    aligned = [
        _align(last, signal, times, condition.window)
        for last, signal, condition in zip(last_results, signals, spec.conditions, strict=True)
    ]
    state.last = [_last_result(last, signal) for last, signal in zip(last_results, signals, strict=True)]
    join_breaches, join_recovered = (np.logical_and, np.logical_or) if spec.every else (np.logical_or, np.logical_and)
    breach: Bools = join_breaches.reduce([results.breach for results in aligned])
    recovered: Bools = join_recovered.reduce([results.recovered for results in aligned])
    state.joined_until = int(times[-1]) if len(times) else state.joined_until
    return Signal(times, _first_values(aligned), breach, recovered)


def _align(last: LastResult, signal: Signal, times: Ints, window: int) -> _AlignedResults:
    since = np.concatenate(([last.time], signal.times))
    positions = since.searchsorted(times, "right") - 1
    is_current = (positions >= 0) & (times - since[positions] < window)
    return _AlignedResults(
        np.where(is_current, np.concatenate(([last.value], signal.values))[positions], np.nan),
        is_current & np.concatenate(([last.breach], signal.breach))[positions],
        is_current & np.concatenate(([last.recovered], signal.recovered))[positions],
    )


def _last_result(last: LastResult, signal: Signal) -> LastResult:
    if not len(signal):
        return last
    time, value = int(signal.times[-1]), float(signal.values[-1])
    return LastResult(time, value, bool(signal.breach[-1]), bool(signal.recovered[-1]))


def _first_values(aligned: Sequence[_AlignedResults]) -> Floats:
    values = np.full(len(aligned[0].values), np.nan)
    for results in reversed(aligned):
        values = np.where(np.isnan(results.values), values, results.values)
    for results in reversed(aligned):
        values = np.where(results.breach, results.values, values)
    return values
