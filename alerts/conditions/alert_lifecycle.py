"""From signals to alerts: when an alert is opened and when it has recovered.

An alert is opened by the breach that is the `trigger_count`-th within the evaluation window, all of them after the end
of the alert before, and not within the cooldown after that one was triggered. It ends with the first recovered value.
A signal in parts gives the same alerts as the whole: LifecycleState is all that is kept between parts.
"""

from bisect import bisect_left, bisect_right
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from alerts.conditions.spec import RuleSpec
from alerts.conditions.thresholds import Signal
from metrics.query.accumulators import Ints

NEVER = -(2**61)


def _no_times() -> Ints:
    return np.empty(0, np.int64)


@dataclass(slots=True)
class LifecycleState:
    """Breaches and alert of a rule and series so far; times in µs.

    breaches   int64[< trigger_count] times of the last breaches
    is_open    whether there is an open alert
    triggered  when the last alert was triggered, open or not
    ended      when it ended: earlier breaches no longer count
    """

    breaches: Ints = field(default_factory=_no_times)
    is_open: bool = False
    triggered: int = NEVER
    ended: int = NEVER


class Transition(NamedTuple):
    """An alert is opened, or has recovered, at this position of the signal."""

    opened: bool
    position: int


def advance(spec: RuleSpec, state: LifecycleState, signal: Signal) -> list[Transition]:
    """Return the transitions of a signal in order, and update the state."""
    triggers, first_breaches = _find_triggers(spec, state, signal)
    recovered = np.flatnonzero(signal.recovered) if spec.auto_resolve else _no_times()
    # Lists: there can be many transitions, and bisecting a list is much faster than searching a numpy array.
    trigger_positions, trigger_times = triggers.tolist(), signal.times[triggers].tolist()
    window_starts = first_breaches.tolist()
    recovery_positions, recovery_times = recovered.tolist(), signal.times[recovered].tolist()
    transitions: list[Transition] = []
    position = 0
    while True:
        if state.is_open:
            index = bisect_left(recovery_positions, position)
            if index == len(recovery_positions):
                return transitions
            position, state.ended = recovery_positions[index], recovery_times[index]
        else:
            index = max(
                bisect_left(trigger_positions, position),
                bisect_left(trigger_times, state.triggered + spec.cooldown),
                bisect_right(window_starts, state.ended),
            )
            if index >= len(trigger_positions):
                return transitions
            position, state.triggered = trigger_positions[index], trigger_times[index]
        state.is_open = not state.is_open
        transitions.append(Transition(state.is_open, position))
        position += 1


def add_timeouts(spec: RuleSpec, signal: Signal, until: int) -> Signal:
    """Insert a recovered value wherever no breach followed within the rule's timeout, up to `until` (µs).

    For replays; live, the clock resolves these alerts.
    """
    if spec.timeout is None or not spec.auto_resolve:
        return signal
    breaches = signal.times[signal.breach]
    timeouts = breaches + spec.timeout
    timeouts = timeouts[timeouts < np.append(breaches[1:], until)]
    positions = signal.times.searchsorted(timeouts)
    return Signal(
        np.insert(signal.times, positions, timeouts),
        np.insert(signal.values, positions, np.nan),
        np.insert(signal.breach, positions, False),
        np.insert(signal.recovered, positions, True),
    )


def _find_triggers(spec: RuleSpec, state: LifecycleState, signal: Signal) -> tuple[Ints, Ints]:
    """Return the positions of the breaches that complete a trigger count, and the time of the first of each count.

    Keeps the last breaches in the state for the next signal.
    """
    positions = np.flatnonzero(signal.breach)
    stored_count, earlier_count = len(state.breaches), spec.trigger_count - 1
    times = np.concatenate((state.breaches, signal.times[positions]))
    state.breaches = times[len(times) - min(earlier_count, len(times)) :]
    last = np.arange(max(earlier_count, stored_count), len(times))
    first_times = times[last - earlier_count]
    within_window = times[last] - first_times <= spec.window
    return positions[last[within_window] - stored_count], first_times[within_window]
