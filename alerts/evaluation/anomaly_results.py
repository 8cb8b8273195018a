"""What the detector of anomalies made of points, as a signal that knows what was expected."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from alerts.conditions.thresholds import Signal, scored
from alerts.detector.detector import MARK, NOTIFY, Detector, Judgement
from alerts.detector.reasons import reason_text
from metrics.query.accumulators import Floats, Ints

Points = tuple[Ints, Floats]


@dataclass(slots=True)
class Detected(Signal):
    """The scores of points, with what was measured, and what the detector expected."""

    measured: Floats
    judgement: Judgement

    def after(self, watermark: int) -> "Detected":
        """Of points later than a time (µs)."""
        at = slice(int(self.times.searchsorted(watermark, "right")), None)
        times, values, breach, clear = self.times[at], self.values[at], self.breach[at], self.clear[at]
        judgement = Judgement(**{name: column[at] for name, column in _columns(self.judgement)})
        return Detected(times, values, breach, clear, self.measured[at], judgement)

    def reason(self, at: int) -> str:
        """Why the point at a place is one."""
        return reason_text(int(self.judgement.reason[at]))


def rounds(detector: Detector, slots: Mapping[int, int], points: Mapping[int, Points]) -> Iterator[Judgement]:
    """The judgements of the first point of each series, then of the second, and so on: series side by side, those with
    the most points first, which is many times as fast as one after the other."""
    numbers = longest_first(points)
    lengths = np.array([len(points[number][0]) for number in numbers], np.int64)
    places = np.array([slots[number] for number in numbers], np.int64)
    for at in range(int(lengths.max(initial=0))):
        some = numbers[: int((lengths > at).sum())]
        times, values = (np.array([points[number][column][at] for number in some]) for column in (0, 1))
        yield detector.step(places[: len(some)], times, values)


def judge_together(detector: Detector, slots: Mapping[int, int], points: Mapping[int, Points]) -> dict[int, Detected]:
    """What the detector makes of the points of series."""
    numbers = longest_first(points)
    longest = max((len(times) for times, _ in points.values()), default=0)
    whole = {name: np.zeros((longest, len(numbers)), column.dtype) for name, column in _columns(Judgement.blank(0))}
    for at, judged in enumerate(rounds(detector, slots, points)):
        for name, column in _columns(judged):
            whole[name][at, : len(column)] = column
    found = {}
    for place, number in enumerate(numbers):
        times, values = points[number]
        judgement = Judgement(**{name: table[: len(times), place] for name, table in whole.items()})
        found[number] = _signal(times, values, judgement)
    return found


def longest_first(points: Mapping[int, Points]) -> list[int]:
    return sorted(points, key=lambda number: -len(points[number][0]))


def _signal(times: Ints, values: Floats, judged: Judgement) -> Detected:
    signal = scored(times, judged.score, MARK, NOTIFY)
    # A score soon rests after a mark; well is what is expected again, too.
    outside = (values < judged.low) | (values > judged.high)
    return Detected(signal.times, signal.values, signal.breach, signal.clear & ~outside, values, judged)


def _columns(judged: Judgement) -> Iterator[tuple[str, NDArray[Any]]]:
    for column in fields(judged):
        yield column.name, getattr(judged, column.name)
