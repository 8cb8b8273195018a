"""Alert rules in plain Python, point by point: what the evaluator has to agree with."""

import operator
from dataclasses import dataclass, field

from alerts.evaluation.point_order import LATE

Value = float | str | bool
COMPARISONS = {
    ">": operator.gt,
    "<": operator.lt,
    ">=": operator.ge,
    "<=": operator.le,
    "==": operator.eq,
    "!=": operator.ne,
}


@dataclass(frozen=True)
class OracleRule:
    """A threshold rule; times in µs. `average`: the mean of the window is compared."""

    metric: str
    condition: str
    threshold: Value
    recovery: float | None = None
    trigger_count: int = 1
    window: int = 60_000_000
    average: bool = False

    def compare(self, value: Value) -> tuple[bool, bool]:
        """Return whether a value is a breach, and whether it is recovered."""
        compare = COMPARISONS[self.condition]
        breach = compare(value, self.threshold)
        recovered = not breach if self.recovery is None else not compare(value, self.recovery)
        return breach, recovered


@dataclass
class OracleState:
    """A rule on one series: its points in order of time, its breaches and its alerts (opened, resolved) in µs."""

    rule: OracleRule
    points: list[tuple[int, Value]] = field(default_factory=list)
    watermark: int = -(2**62)
    ended: int = -(2**62)
    breaches: list[int] = field(default_factory=list)
    alerts: list[tuple[int, int | None]] = field(default_factory=list)

    def add_commits(self, points: list[tuple[int, Value]], arrived: int) -> None:
        """Evaluate points in order of arrival; the last of a time counts, late and out-of-order ones do not."""
        for time, value in sorted(dict(points).items()):
            if time > self.watermark and time >= arrived - LATE:
                self.points.append((time, value))
                self._evaluate(time)
        if points:
            self.watermark = max([self.watermark, *(time for time, _ in self.points)])

    def _evaluate(self, time: int) -> None:
        rule, value = self.rule, self.points[-1][1]
        if rule.average:
            window = [float(each) for at, each in self.points if at > time - rule.window]
            value = sum(window) / len(window)
        breach, recovered = rule.compare(value)
        if breach:
            self.breaches.append(time)
        is_open = bool(self.alerts) and self.alerts[-1][1] is None
        if is_open and recovered:
            self.alerts[-1] = self.alerts[-1][0], time
            self.ended = time
        elif not is_open and breach:
            last = self.breaches[-rule.trigger_count :]
            if len(last) == rule.trigger_count and last[0] >= time - rule.window and last[0] > self.ended:
                self.alerts.append((time, None))
