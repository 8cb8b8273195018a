"""From signals to episodes: when an alert is raised, and when it is well again.

An alert is raised by the first breach that is the `trigger_count`-th within the window, all of them after the episode
before ended, and not within the cooldown after that one was triggered. It ends with the first value that is well.
What comes in pieces ends in the same episodes as what comes at once: a Standing is all that is remembered in between.
"""

from bisect import bisect_left, bisect_right
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from alerts.conditions.spec import Spec
from alerts.conditions.thresholds import Signal
from metrics.query.accumulators import Ints

NEVER = -(2**61)


def _none() -> Ints:
    return np.empty(0, np.int64)


@dataclass(slots=True)
class Standing:
    """How a rule stands with a series; times in µs.

    breaches   int64[< trigger_count] times of the last breaches
    is_open    whether there is an alert
    triggered  when the last alert was triggered, open or not
    ended      when it ended: breaches up to then count no more
    """

    breaches: Ints = field(default_factory=_none)
    is_open: bool = False
    triggered: int = NEVER
    ended: int = NEVER


class Turn(NamedTuple):
    """An alert is raised, or well again, with the point at a place of the signal."""

    raised: bool
    at: int


def advance(spec: Spec, standing: Standing, signal: Signal) -> list[Turn]:
    """What a signal changes, in order; `standing` is moved on."""
    enough, begun = _enough(spec, standing, signal)
    well = np.flatnonzero(signal.clear) if spec.auto_resolve else _none()
    # Lists: where values come and go there are many turns, and bisecting a list is far faster than a search by numpy.
    places, times, firsts = enough.tolist(), signal.times[enough].tolist(), begun.tolist()
    ends, end_times = well.tolist(), signal.times[well].tolist()
    turns: list[Turn] = []
    at = 0
    while True:
        if standing.is_open:
            found = bisect_left(ends, at)
            if found == len(ends):
                return turns
            at, standing.ended = ends[found], end_times[found]
        else:
            cooled = bisect_left(times, standing.triggered + spec.cooldown)
            found = max(bisect_left(places, at), cooled, bisect_right(firsts, standing.ended))
            if found >= len(places):
                return turns
            at, standing.triggered = places[found], times[found]
        standing.is_open = not standing.is_open
        turns.append(Turn(standing.is_open, at))
        at += 1


def closed_by_time(spec: Spec, signal: Signal, until: int) -> Signal:
    """A signal with what the clock adds to it: well again wherever there was no further breach for as long as the
    rule waits, up to a time. For history; live, the clock itself tells."""
    if spec.timeout is None or not spec.auto_resolve:
        return signal
    breaches = signal.times[signal.breach]
    given_up = breaches + spec.timeout
    given_up = given_up[given_up < np.append(breaches[1:], until)]
    at = signal.times.searchsorted(given_up)
    return Signal(
        np.insert(signal.times, at, given_up),
        np.insert(signal.values, at, np.nan),
        np.insert(signal.breach, at, False),
        np.insert(signal.clear, at, True),
    )


def _enough(spec: Spec, standing: Standing, signal: Signal) -> tuple[Ints, Ints]:
    """Places of the breaches that are one too many, and the time of the first that each of them counts with.

    Remembers the last breaches for the next signal.
    """
    places = np.flatnonzero(signal.breach)
    known, before = len(standing.breaches), spec.trigger_count - 1
    times = np.concatenate((standing.breaches, signal.times[places]))
    standing.breaches = times[len(times) - min(before, len(times)) :]
    new = np.arange(max(before, known), len(times))
    firsts = times[new - before]
    together = times[new] - firsts <= spec.window
    return places[new[together] - known], firsts[together]
