"""Detector results as signals, which also carry the measured values and the expected range."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from alerts.conditions.thresholds import Signal, compare_scores
from alerts.detector.detector import MARK_SCORE, NOTIFY_SCORE, Detection, Detector
from alerts.detector.reasons import reason_text
from metrics.query.accumulators import Floats, Ints

Points = tuple[Ints, Floats]


@dataclass(slots=True)
class AnomalySignal(Signal):
    """Anomaly scores as `values`, with the measured values and the detector's result."""

    measured: Floats
    detection: Detection

    def after(self, watermark: int) -> "AnomalySignal":
        """Return the points later than a time (µs)."""
        later = slice(int(self.times.searchsorted(watermark, "right")), None)
        times, values, breach, recovered = (
            self.times[later],
            self.values[later],
            self.breach[later],
            self.recovered[later],
        )
        detection = Detection(**{name: column[later] for name, column in _columns(self.detection)})
        return AnomalySignal(times, values, breach, recovered, self.measured[later], detection)

    def reason(self, position: int) -> str:
        """Return why the point at this position is an anomaly."""
        return reason_text(int(self.detection.reason[position]))


def detect_by_rank(detector: Detector, slots: Mapping[int, int], points: Mapping[int, Points]) -> Iterator[Detection]:
    """Yield the results of the first point of each series, then of the second, and so on.

    Many series per step are much faster than one after the other. In each result the series are in the order of
    `longest_first`; series without further points are at its end and left out.
    """
    series = longest_first(points)
    lengths = np.array([len(points[number][0]) for number in series], np.int64)
    places = np.array([slots[number] for number in series], np.int64)
    for rank in range(int(lengths.max(initial=0))):
        active = series[: int((lengths > rank).sum())]
        times = np.array([points[number][0][rank] for number in active])
        values = np.array([points[number][1][rank] for number in active])
        yield detector.step(places[: len(active)], times, values)


def detect_together(
    detector: Detector, slots: Mapping[int, int], points: Mapping[int, Points]
) -> dict[int, AnomalySignal]:
    """Return the signal of each series' points."""
    series = longest_first(points)
    longest = max((len(times) for times, _ in points.values()), default=0)
    tables = {name: np.zeros((longest, len(series)), column.dtype) for name, column in _columns(Detection.blank(0))}
    for rank, detection in enumerate(detect_by_rank(detector, slots, points)):
        for name, column in _columns(detection):
            tables[name][rank, : len(column)] = column
    signals = {}
    for position, number in enumerate(series):
        times, values = points[number]
        detection = Detection(**{name: table[: len(times), position] for name, table in tables.items()})
        signals[number] = _to_signal(times, values, detection)
    return signals


def longest_first(points: Mapping[int, Points]) -> list[int]:
    return sorted(points, key=lambda number: -len(points[number][0]))


def _to_signal(times: Ints, values: Floats, detection: Detection) -> AnomalySignal:
    signal = compare_scores(times, detection.score, MARK_SCORE, NOTIFY_SCORE)
    # After a mark the score is low for some points, so a recovered value must be within the expected range, too.
    outside = (values < detection.low) | (values > detection.high)
    return AnomalySignal(signal.times, signal.values, signal.breach, signal.recovered & ~outside, values, detection)


def _columns(detection: Detection) -> Iterator[tuple[str, NDArray[Any]]]:
    for column in fields(detection):
        yield column.name, getattr(detection, column.name)
