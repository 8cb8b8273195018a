"""Scoring rules of the Numenta Anomaly Benchmark (https://github.com/numenta/NAB), as published.

The first alarm in a window catches it and scores higher the earlier it is. An alarm outside of windows costs more the
farther it is behind the last window, and a missed window costs too. Rows of the probationary period are ignored. A
detector without alarms scores 0; one with an alarm at the first row of each window and no others scores 100.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np

from alerts.detector.state import Bools, Ints

PROBATION = (0.15, 750)  # share of the rows, at most this many rows


@dataclass(frozen=True, slots=True)
class Profile:
    name: str
    false_alarm: float
    missed: float
    caught: float = 1.0


PROFILES = (Profile("standard", 0.11, 1.0), Profile("low FP", 0.22, 1.0), Profile("low FN", 0.11, 2.0))


@dataclass(slots=True)
class AlarmScore:
    """Sum of the caught windows and false alarms of recordings."""

    caught: list[float] = field(default_factory=list)  # weight of each caught window, up to 1
    false_alarms: list[float] = field(default_factory=list)  # weight of each, -1 to 0
    windows: int = 0

    def __add__(self, other: "AlarmScore") -> "AlarmScore":
        return AlarmScore(
            self.caught + other.caught, self.false_alarms + other.false_alarms, self.windows + other.windows
        )

    def raw(self, profile: Profile) -> float:
        missed = self.windows - len(self.caught)
        gained = profile.caught * sum(self.caught) + profile.false_alarm * sum(self.false_alarms)
        return gained - profile.missed * missed

    def score(self, profile: Profile) -> float | None:
        """Return the score, 0 (no alarms) to 100 (perfect), or None without windows."""
        null, perfect = -profile.missed * self.windows, profile.caught * self.windows
        return 100 * (self.raw(profile) - null) / (perfect - null) if self.windows else None


def weigh_position(position: float) -> float:
    """Return the weight of an alarm by its position.

    position  -1 is the first row of a window, 0 its end, above 0 is behind it
    """
    return -1.0 if position > 3 else 2 / (1 + float(np.exp(5 * position))) - 1


def score_alarms(times: Ints, alarms: Bools, windows: Iterable[tuple[int, int]]) -> AlarmScore:
    """Score the alarms of one recording; `windows` are (first, last) times."""
    spans = [np.flatnonzero((times >= first) & (times <= last)) for first, last in windows]
    spans = [(int(rows[0]), int(rows[-1])) for rows in spans if len(rows)]
    share, max_rows = PROBATION
    rows = np.flatnonzero(alarms)
    best: dict[tuple[int, int], float] = {}
    false_alarms = []
    for row in rows[rows >= min(int(share * len(times)), max_rows)].tolist():
        window = next((span for span in spans if span[0] <= row <= span[1]), None)
        if window:
            first, last = window
            weight = weigh_position(-(last - row + 1) / (last - first + 1)) / weigh_position(-1.0)
            best[window] = max(weight, best.get(window, weight))
        else:
            before = max((span for span in spans if span[1] < row), default=None)
            false_alarms.append(weigh_position((row - before[1]) / max(before[1] - before[0], 1)) if before else -1.0)
    return AlarmScore(list(best.values()), false_alarms, len(spans))
