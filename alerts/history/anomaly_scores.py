"""What the detector of anomalies makes of a stretch of one series: what it expected, what it marks, and why."""

from dataclasses import dataclass
from datetime import datetime

import numpy as np

from alerts.conditions.spec import read_spec
from alerts.conditions.thresholds import Signal
from alerts.detector.detector import MARK, NOTIFY
from alerts.evaluation.anomaly_results import Detected
from alerts.history.replay import history, replay
from alerts.rules.scope import Scope
from metrics.storage.units import to_datetime
from rest.caller import Caller

MOST_BAND = 500  # places of a band: of more points as many are told


@dataclass(frozen=True, slots=True)
class Expected:
    """From a time on until the next, a value was expected to be within this."""

    at: datetime
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Mark:
    """A point that is unlike what its series did before; `notifies` where a rule of anomaly would tell of it."""

    at: datetime
    value: float
    score: float
    reason: str
    notifies: bool


@dataclass(frozen=True, slots=True)
class Strangeness:
    points: int
    band: list[Expected]
    marks: list[Mark]


def strangeness(device_id: str, metric: str, start: datetime, end: datetime, caller: Caller) -> Strangeness:
    """Of a metric of a device that a caller sees, from one time to before another, learnt from what was before.

    Raises Unanswerable where that would be too much to look through.
    """
    spec = read_spec({"kind": "anomaly", "metric_name": metric})
    found: list[Signal] = []
    replay(history(spec, Scope(caller, [device_id]), start, end), lambda subject, signal, points: found.append(signal))
    one = found[0] if found else None
    return _told(one) if isinstance(one, Detected) else Strangeness(0, [], [])


def _told(found: Detected) -> Strangeness:
    judged = found.judgement
    known = np.flatnonzero(~np.isnan(judged.low))
    some = known[:: -(-len(known) // MOST_BAND) or 1].tolist()
    band = [Expected(to_datetime(found.times[at]), float(judged.low[at]), float(judged.high[at])) for at in some]
    marks = [
        Mark(
            to_datetime(found.times[at]),
            float(found.measured[at]),
            float(judged.score[at]),
            found.reason(at),
            bool(judged.score[at] >= NOTIFY),
        )
        for at in np.flatnonzero(judged.score >= MARK).tolist()
    ]
    return Strangeness(len(found), band, marks)
