"""What is judged: a rule with a device's metric, and how the one stands with the other."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from alerts.conditions.alert_lifecycle import NEVER, Standing, Turn, advance
from alerts.conditions.composite import Joined, join
from alerts.conditions.dispatch import judge
from alerts.conditions.spec import Comparison, Spec
from alerts.conditions.thresholds import Signal, as_numbers
from alerts.evaluation.anomaly_results import Detected
from alerts.evaluation.point_order import in_order
from alerts.models import Rule
from metrics.query.accumulators import Floats, Ints
from metrics.storage.format.codec import Columns

MOST_KEPT = 20_000  # points of a window; of a longer one the newest count


NOTHING = Signal(np.empty(0, np.int64), np.empty(0), np.empty(0, np.bool_), np.empty(0, np.bool_))

Key = tuple[int, int, str]  # rule, device, metric
Span = tuple[int, int]  # µs, from the first to the last


@dataclass(slots=True, eq=False)
class Watched:
    """A rule that is evaluated. `devices` are ids, `members` primary keys; both None: every device."""

    rule: Rule
    spec: Spec
    devices: frozenset[str] | None
    members: frozenset[int] | None

    @property
    def same(self) -> tuple[object, ...]:
        """What is evaluated, and of which devices: alike where nothing has to be looked at anew."""
        return self.rule.pk, self.rule.version, self.devices, self.members

    def covers(self, device: int, device_id: str) -> bool:
        if self.devices is None or self.members is None:
            return True
        return device_id in self.devices or device in self.members


@dataclass(slots=True, eq=False)
class Input:
    """The points of one series as a condition sees them.

    watermark      time of the last point that was judged, µs
    times, values  of the window up to there, where the condition needs them
    detected       what the detector of anomalies made of the points that are about to be judged
    """

    comparison: Comparison
    series: int
    watermark: int = NEVER
    times: Ints = field(default_factory=lambda: np.empty(0, np.int64))
    values: Floats = field(default_factory=lambda: np.empty(0))
    detected: Detected | None = None

    @property
    def is_plain(self) -> bool:
        """Whether a number says by itself whether it is a breach."""
        one = self.comparison
        return one.kind == "threshold" and not one.aggregation and not isinstance(one.threshold, str)

    def points(self, columns: Columns) -> tuple[Ints, Floats]:
        """The times and values of columns of this series alone, as the condition compares them."""
        if columns.is_numeric:
            return columns.times, columns.values
        return columns.times, as_numbers(self.comparison, columns.values)

    def warm(self, times: Ints, values: Floats) -> Signal:
        """Remember what was measured before; returns what it amounted to."""
        if self.comparison.kind == "anomaly":
            return NOTHING
        signal = judge(self.comparison, times, values, 0)
        self._keep(times, values)
        return signal

    def judge(self, times: Ints, values: Floats, arrived: int) -> tuple[Signal | None, Span | None]:
        """The signal of those new points that are in order, and from when to when there were others."""
        if self.comparison.kind == "anomaly":
            return self._taken(), None
        late, first = None, in_order(times, arrived, self.watermark)
        if first:
            late = int(times[0]), int(times[first - 1])
            times, values = times[first:], values[first:]
        if not len(times):
            return None, late
        self.watermark = int(times[-1])
        known = len(self.times)
        if known:
            times, values = np.concatenate((self.times, times)), np.concatenate((self.values, values))
        signal = judge(self.comparison, times, values, known)
        self._keep(times, values)
        return signal, late

    def _taken(self) -> Signal | None:
        """What the detector found, once."""
        found, self.detected = self.detected, None
        if found is None or not len(found := found.after(self.watermark)):
            return None
        self.watermark = int(found.times[-1])
        return found

    def _keep(self, times: Ints, values: Floats) -> None:
        if self.comparison.needs_window and len(times):
            first = int(times.searchsorted(times[-1] - self.comparison.window, "right"))
            first = max(first, len(times) - MOST_KEPT)
            self.times, self.values = times[first:].copy(), values[first:].copy()


class Outcome(NamedTuple):
    """What became of a subject's new points: the signal that was judged, and what it changed.

    late    by series: from when to when there were points that came too late or out of order
    """

    subject: "Subject"
    signal: Signal | None
    turns: list[Turn]
    late: dict[int, Span]


@dataclass(slots=True, eq=False)
class Subject:
    """A rule and a metric of a device, or with a composite a rule and a device.

    inputs    by the place of the condition; several with a composite alone
    standing  what is remembered from point to point
    alert     primary key of the open alert
    place     among the plain subjects of the watch; -1: it is none
    is_warm   whether what was measured before is known
    breached  when the condition was last met while an alert is open, µs
    worst     the value furthest beyond the threshold meanwhile
    """

    watched: Watched
    device: int
    device_id: str
    metric: str
    inputs: dict[int, Input] = field(default_factory=dict)
    standing: Standing = field(default_factory=Standing)
    joined: Joined | None = None
    alert: int | None = None
    place: int = -1
    is_warm: bool = False
    breached: int = NEVER
    worst: float | None = None

    @property
    def key(self) -> Key:
        return self.watched.rule.pk, self.device, self.metric

    @property
    def is_plain(self) -> bool:
        return self.joined is None and all(one.is_plain for one in self.inputs.values())

    @property
    def is_cold(self) -> bool:
        """Whether it has to see what was measured before, and has not."""
        return not self.is_warm and self.watched.spec.lookback > 0

    def warm(self, before: dict[int, tuple[Ints, Floats]]) -> None:
        """Remember what was measured before the first points that are judged, by place of the input."""
        self.is_warm = True
        spec = self.watched.spec
        signals = {place: self.inputs[place].warm(*points) for place, points in before.items()}
        if not signals:
            return
        signal = signals[0] if self.joined is None else self._joined(signals)
        if spec.trigger_count > 1:
            counted = signal.times[signal.breach & (signal.times > self.standing.ended)]
            self.standing.breaches = counted[len(counted) - min(spec.trigger_count - 1, len(counted)) :]

    def judge(self, points: Sequence[tuple[int, Ints, Floats]], arrived: int) -> Outcome:
        """Judge new points of some inputs, in order of time, that arrived at a time (µs)."""
        signals: dict[int, Signal] = {}
        late: dict[int, Span] = {}
        for place, times, values in points:
            signal, span = self.inputs[place].judge(times, values, arrived)
            if span is not None:
                late[self.inputs[place].series] = span
            if signal is not None:
                signals[place] = signal
        if not signals:
            return Outcome(self, None, [], late)
        judged = signals[0] if self.joined is None else self._joined(signals)
        return Outcome(self, judged, advance(self.watched.spec, self.standing, judged), late)

    def worse(self, values: Floats) -> float | None:
        """The worst of these values and the worst so far: the least where low ones are bad, else the greatest."""
        known = values[~np.isnan(values)]
        if not len(known):
            return self.worst
        low = self.watched.spec.conditions[0].op in ("<", "<=")
        worst = float(known.min() if low else known.max())
        return worst if self.worst is None else min(worst, self.worst) if low else max(worst, self.worst)

    def _joined(self, signals: dict[int, Signal]) -> Signal:
        assert self.joined is not None
        spec = self.watched.spec
        return join(spec, self.joined, [signals.get(place, NOTHING) for place in range(len(spec.conditions))])
