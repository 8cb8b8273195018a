"""Detector results as signals, which also carry the measured values and the expected range."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import numpy as np

from alerts.conditions.thresholds import Signal
from alerts.detector.detector import Detector
from alerts.detector.reasons import reason_text, short_number
from alerts.detector.scoring import MARK_SCORE, NOTIFY_SCORE, Detection
from alerts.detector.sensitivity import FACTORS, Sensitivity, notifies
from metrics.query.accumulators import Floats, Ints

MIN_RUN_POINTS = 16

Points = tuple[Ints, Floats]


@dataclass(slots=True)
class AnomalySignal(Signal):
    """Anomaly scores as `values`, with the measured values and the detector's result.

    adjustment  factor of the series' notification threshold, by feedback
    """

    measured: Floats
    detection: Detection
    adjustment: float = 1.0

    def after(self, watermark: int) -> "AnomalySignal":
        """Return the points later than a time (µs)."""
        later = slice(int(self.times.searchsorted(watermark, "right")), None)
        return AnomalySignal(
            self.times[later],
            self.values[later],
            self.breach[later],
            self.recovered[later],
            self.measured[later],
            self.detection.part(later),
            self.adjustment,
        )

    def at(self, sensitivity: Sensitivity) -> "AnomalySignal":
        """Return the signal for a rule's sensitivity."""
        factor = FACTORS[sensitivity] * self.adjustment
        breach = notifies(self.detection.gravity, self.detection.gravity_before, factor)
        return replace(self, breach=breach, recovered=self.recovered & ~breach)

    def reason(self, position: int, write: Callable[[float], str] = short_number) -> str:
        """Return why the point at this position is an anomaly, with figures that can be checked on the chart."""
        detection = self.detection
        return reason_text(
            int(detection.reason[position]),
            float(detection.change[position]),
            float(detection.usual[position]),
            int(detection.seen[position]),
            int(self.times[position]),
            write,
        )


def detect_together(
    detector: Detector, slots: Mapping[int, int], points: Mapping[int, Points]
) -> dict[int, AnomalySignal]:
    """Return the signal of each series' points.

    Long runs are scored series by series, and the few points of many series side by side: either is the faster one.
    """
    detections = {
        number: detector.run(slots[number], times, values)
        for number, (times, values) in points.items()
        if len(times) >= MIN_RUN_POINTS
    }
    detections |= _detect_by_rank(
        detector, slots, {number: columns for number, columns in points.items() if number not in detections}
    )
    return {number: _to_signal(times, values, detections[number]) for number, (times, values) in points.items()}


def _detect_by_rank(detector: Detector, slots: Mapping[int, int], points: Mapping[int, Points]) -> dict[int, Detection]:
    """Score the first point of each series, then the second, and so on."""
    series = sorted(points, key=lambda number: -len(points[number][0]))
    lengths = np.array([len(points[number][0]) for number in series], np.int64)
    places = np.array([slots[number] for number in series], np.int64)
    offsets = np.cumsum(lengths) - lengths  # of each series' points in the result
    result = Detection.blank(int(lengths.sum()))
    for rank in range(int(lengths.max(initial=0))):
        active = series[: int((lengths > rank).sum())]
        times = np.array([points[number][0][rank] for number in active])
        values = np.array([points[number][1][rank] for number in active])
        result.assign(offsets[: len(active)] + rank, detector.step(places[: len(active)], times, values))
    ends = (offsets + lengths).tolist()
    return {
        number: result.part(slice(first, end))
        for number, first, end in zip(series, offsets.tolist(), ends, strict=True)
    }


def _to_signal(times: Ints, values: Floats, detection: Detection) -> AnomalySignal:
    score = detection.score
    # After a mark the score is low for some points, so a recovered value must be within the expected range, too.
    outside = (values < detection.low) | (values > detection.high)
    return AnomalySignal(times, score, score >= NOTIFY_SCORE, (score < MARK_SCORE) & ~outside, values, detection)
