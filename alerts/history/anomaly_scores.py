"""Anomaly scores of a series over a time range: expected range, anomalies and their reasons."""

from dataclasses import dataclass
from datetime import datetime

import numpy as np

from alerts.conditions.spec import read_spec
from alerts.detector.scoring import MARK_SCORE
from alerts.evaluation.anomaly_results import AnomalySignal
from alerts.history.replay import plan_replay, replay
from alerts.rules.scope import RuleScope
from metrics.storage.units import to_datetime
from rest.caller import Caller

MAX_RANGES = 500  # expected ranges in an answer
MAX_SCORED = 12_000  # points to learn from included: half a second


@dataclass(frozen=True, slots=True)
class ExpectedRange:
    """The expected range of values from a time until the next one."""

    at: datetime
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Anomaly:
    """A point with a score of at least MARK_SCORE. `notifies`: an anomaly rule would open an alert."""

    at: datetime
    value: float
    score: float
    reason: str
    notifies: bool


@dataclass(frozen=True, slots=True)
class AnomalyScores:
    """The number of scored points, the expected ranges, and the anomalies."""

    points: int
    ranges: list[ExpectedRange]
    anomalies: list[Anomaly]


def read_anomaly_scores(device_id: str, metric: str, start: datetime, end: datetime, caller: Caller) -> AnomalyScores:
    """Score a metric of a device visible to the caller, from start until before end, learning from the points before.

    Of more than MAX_SCORED points, the most extreme one of each part of the time is scored. Raises InvalidField if
    there are more than can be read.
    """
    spec = read_spec({"kind": "anomaly", "metric_name": metric})
    plan = plan_replay(spec, RuleScope(caller, [device_id]), start, end)
    plan.thin_to = MAX_SCORED
    for replayed in replay(plan):
        if isinstance(replayed.signal, AnomalySignal):
            return _to_scores(replayed.signal)
    return AnomalyScores(0, [], [])


def _to_scores(signal: AnomalySignal) -> AnomalyScores:
    detection = signal.detection
    with_range = np.flatnonzero(~np.isnan(detection.low))
    thinned = with_range[:: -(-len(with_range) // MAX_RANGES) or 1].tolist()
    ranges = [
        ExpectedRange(
            to_datetime(signal.times[position]), float(detection.low[position]), float(detection.high[position])
        )
        for position in thinned
    ]
    anomalies = [
        Anomaly(
            to_datetime(signal.times[position]),
            float(signal.measured[position]),
            float(detection.score[position]),
            signal.reason(position),
            bool(signal.breach[position]),
        )
        for position in np.flatnonzero((detection.score >= MARK_SCORE) | signal.breach).tolist()
    ]
    return AnomalyScores(len(signal), ranges, anomalies)
