"""Judge anomaly scores by labelled windows: caught windows, false events, F1 and delay.

A row is an alert if its score reaches a threshold; alerts at most GAP rows apart are one event. The first rows are not
judged: min(15 %, 750); a window that ends there does not count. An event that touches a window is right, any other is
false; a window is caught if an alert is in it. F1 of events: recall of windows, precision of events.
"""

from dataclasses import dataclass, field

import numpy as np

from alerts.detector.state import Bools, Floats, Ints
from benchmarks.nab_score import PROBATION

GAP = 10  # rows
MONTH = 30 * 86_400_000_000  # µs


@dataclass(slots=True)
class Verdict:
    """Counts of one or more series."""

    series: int = 0
    windows: int = 0
    caught: int = 0
    events: int = 0
    false: int = 0
    months: float = 0.0
    delays: list[int] = field(default_factory=list)  # rows from the first of a window to its first alert

    def __add__(self, other: "Verdict") -> "Verdict":
        return Verdict(
            self.series + other.series,
            self.windows + other.windows,
            self.caught + other.caught,
            self.events + other.events,
            self.false + other.false,
            self.months + other.months,
            self.delays + other.delays,
        )

    @property
    def recall(self) -> float:
        return self.caught / self.windows if self.windows else 0.0

    @property
    def false_per_month(self) -> float:
        return self.false / self.months if self.months else 0.0

    @property
    def f1(self) -> float:
        if not self.caught:
            return 0.0
        precision = (self.events - self.false) / self.events
        return 2 * self.recall * precision / (self.recall + precision)

    @property
    def delay(self) -> float:
        return float(np.median(self.delays)) if self.delays else float("nan")


def row_spans(times: Ints, windows: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """Return windows of (first, last) times as rows, without those that have no row."""
    spans = [
        (int(times.searchsorted(first, "left")), int(times.searchsorted(last, "right")) - 1) for first, last in windows
    ]
    return [(first, last) for first, last in spans if last >= first]


def judge(times: Ints, alerts: Bools, windows: list[tuple[int, int]]) -> Verdict:
    """Judge the alerts [rows] of one series; `windows` are (first, last) times."""
    share, most = PROBATION
    begin = min(int(share * len(times)), most)
    spans = [(max(first, begin), last) for first, last in row_spans(times, windows) if last >= begin]
    window_of = np.full(len(times), -1)
    for number, (first, last) in enumerate(spans):
        window_of[first : last + 1] = number
    rows = np.flatnonzero(alerts)
    rows = rows[rows >= begin]
    months = float(times[-1] - times[min(begin, len(times) - 1)]) / MONTH
    if not len(rows):
        return Verdict(1, len(spans), months=months)
    event = np.cumsum(np.append(1, np.diff(rows) > GAP))
    hits = window_of[rows] >= 0
    caught, first_hit = np.unique(window_of[rows[hits]], return_index=True)
    delays = [int(row - spans[number][0]) for number, row in zip(caught, rows[hits][first_hit], strict=True)]
    events = int(event[-1])
    return Verdict(1, len(spans), len(caught), events, events - len(np.unique(event[hits])), months, delays)


def judge_all(series: list[tuple[Ints, Floats, list[tuple[int, int]]]], threshold: float) -> Verdict:
    """Judge the scores of series, (times, scores, windows) each."""
    verdicts = (judge(times, scores >= threshold, windows) for times, scores, windows in series)
    return sum(verdicts, Verdict())


def judge_at_false_alarms(series: list[tuple[Ints, Floats, list[tuple[int, int]]]], most: int) -> Verdict:
    """Return the best result, of all thresholds, with at most this many false events."""
    scores = np.concatenate([scores for _, scores, _ in series])
    thresholds = np.unique(np.quantile(scores, 1 - np.geomspace(1e-6, 0.1, 60)))
    verdicts = (judge_all(series, float(threshold)) for threshold in thresholds if threshold > 0)
    allowed = [verdict for verdict in verdicts if verdict.false <= most]
    return max(allowed, key=lambda verdict: verdict.caught, default=Verdict(windows=judge_all(series, np.inf).windows))
