"""The scoring rules of the Numenta Anomaly Benchmark (https://github.com/numenta/NAB), as published.

A window is caught by the first alarm within it, and counts more the earlier that is; an alarm outside costs more the
farther it is past a window; a window without an alarm costs. Rows of the probationary period count for nothing. 0 is
what a detector gets that never alarms, 100 one that alarms at the first row of each window only.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

import numpy as np

from alerts.detector.state import Bools, Ints

PROBATION: Final = (0.15, 750)  # share of the rows; rows at the most


@dataclass(frozen=True, slots=True)
class Profile:
    name: str
    false_alarm: float
    missed: float
    caught: float = 1.0


PROFILES: Final = (Profile("standard", 0.11, 1.0), Profile("low FP", 0.22, 1.0), Profile("low FN", 0.11, 2.0))


@dataclass(slots=True)
class Tally:
    """What came of the alarms over some recordings; tallies add up."""

    caught: list[float] = field(default_factory=list)  # worth of each window that was caught, up to 1
    false_alarms: list[float] = field(default_factory=list)  # cost of each, from -1 to 0
    windows: int = 0

    def __add__(self, other: "Tally") -> "Tally":
        return Tally(self.caught + other.caught, self.false_alarms + other.false_alarms, self.windows + other.windows)

    def raw(self, profile: Profile) -> float:
        missed = self.windows - len(self.caught)
        gained = profile.caught * sum(self.caught) + profile.false_alarm * sum(self.false_alarms)
        return gained - profile.missed * missed

    def score(self, profile: Profile) -> float | None:
        """0 of no alarms to 100 of perfect ones; None of recordings without windows."""
        null, perfect = -profile.missed * self.windows, profile.caught * self.windows
        return 100 * (self.raw(profile) - null) / (perfect - null) if self.windows else None


def worth(place: float) -> float:
    """Of an alarm: -1 is a window's first row, 0 its end, beyond that are rows past it."""
    return -1.0 if place > 3 else 2 / (1 + float(np.exp(5 * place))) - 1


def tally(times: Ints, alarms: Bools, windows: Iterable[tuple[int, int]]) -> Tally:
    """What came of the alarms of one recording; windows are first and last times."""
    spans = [np.flatnonzero((times >= first) & (times <= last)) for first, last in windows]
    spans = [(int(rows[0]), int(rows[-1])) for rows in spans if len(rows)]
    share, most = PROBATION
    rows = np.flatnonzero(alarms)
    best: dict[tuple[int, int], float] = {}
    false_alarms = []
    for row in rows[rows >= min(int(share * len(times)), most)].tolist():
        around = next((span for span in spans if span[0] <= row <= span[1]), None)
        if around:
            first, last = around
            here = worth(-(last - row + 1) / (last - first + 1)) / worth(-1.0)
            best[around] = max(here, best.get(around, here))
        else:
            before = max((span for span in spans if span[1] < row), default=None)
            false_alarms.append(worth((row - before[1]) / max(before[1] - before[0], 1)) if before else -1.0)
    return Tally(list(best.values()), false_alarms, len(spans))
