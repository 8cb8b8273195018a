"""From changes and surprise to scores: which points are marked, and which open an alert. Pure, one row per point."""

from dataclasses import dataclass, fields
from typing import Self

import numpy as np

from alerts.detector.changes import Changes
from alerts.detector.features import EARLIER, LEVEL_OUTSIDE, MEAN, MEAN_OUTSIDE, UNIT, VIEWS
from alerts.detector.reasons import DAILY_LEVEL, WEEKLY_LEVEL, merge_reasons
from alerts.detector.seasons import DAY
from alerts.detector.sensitivity import LEAST_FACTOR, STRONGER, notifies
from alerts.detector.state import Bools, Floats, Ints, Shorts, Singles, Table

MARK_SCORE = 0.5  # score of an anomaly that is marked in charts
NOTIFY_SCORE = 0.9  # score of an anomaly that opens an alert

MARK_REST_POINTS = 120  # from a mark to the next, …
MARK_REST = DAY // 2  # … or, if shorter, this time; a mark that is STRONGER comes at once
MIN_WEEKLY_EVIDENCE = 120  # of a weekly profile, for notifications of level shifts
LEVEL_VIEW = VIEWS.index((MEAN, EARLIER))
MIN_STUCK_POINTS = 12  # without a change for a mark …
STUCK_FACTOR = 3  # … and this many times the longest run before; again as many for a notification
MIN_NOTIFY_POINTS = 20  # of a series before its first notification …
MIN_NOTIFY_AGE = 20 * DAY // 24  # … and its age


@dataclass(frozen=True, slots=True)
class Thresholds:
    """Thresholds of marks and notifications.

    mark_surprise  mean squared surprise of the views
    mark_change    times the usual change
    notify_change  the same for a notification
    mark_shift     distance of the mean of six values from the expected range, as a fraction of the range of all means
    notify_shift   the same of all six values, if the series has long been weekly
    """

    mark_surprise: float = 13.5
    mark_change: float = 1.9
    notify_change: float = 2.65
    mark_shift: float = 0.6
    notify_shift: float = 0.2


THRESHOLDS = Thresholds()


@dataclass(slots=True)
class Detection:
    """The result for some points, as columns of equal length.

    score           0 to 1
    low             of the expected range; NaN while it is unknown
    high            of the expected range
    reason          code for reasons.reason_text; 0 if the point is not marked and no rule can notify it
    gravity         of the point as a notification: 1 notifies at normal sensitivity
    gravity_before  the largest of this episode before the point; 0 at its beginning
    change          from the points before
    usual           the largest change that is usual for the series now; NaN while it is unknown
    seen            time (µs) of the last change that was as large; 0: none
    """

    score: Floats
    low: Floats
    high: Floats
    reason: Ints
    gravity: Floats
    gravity_before: Floats
    change: Floats
    usual: Floats
    seen: Ints

    @classmethod
    def blank(cls, points: int) -> Self:
        """Return the result of points without a score."""
        unknown, none, zeros = np.full(points, np.nan), np.zeros(points, np.int64), np.zeros(points)
        return cls(
            zeros.copy(), unknown.copy(), unknown.copy(), none.copy(), zeros.copy(), zeros.copy(), zeros, unknown, none
        )

    def part(self, where: slice) -> Self:
        """Return the result of some of the points."""
        return type(self)(**{column.name: getattr(self, column.name)[where] for column in fields(self)})

    def assign(self, where: Bools | Ints | slice, other: "Detection") -> None:
        """Copy another result into some positions."""
        for column in fields(self):
            getattr(self, column.name)[where] = getattr(other, column.name)


@dataclass(slots=True)
class Surprises:
    """Surprise of points by the remembered states of a series, as columns of equal length.

    surprise  mean squared surprise of the views
    low       of the expected range
    high      of the expected range
    reason    code of the most surprising view
    shift     distance of the mean from the expected range, as a fraction of the range of all means
    above     whether it is above the expected range
    level     the same distance of the nearest of the last values
    weekly    whether the series has long been weekly
    stuck     1 where a value is stuck for long enough for a mark, 2 for a notification
    """

    surprise: Floats
    low: Floats
    high: Floats
    reason: Ints
    shift: Floats
    above: Bools
    level: Floats
    weekly: Bools
    stuck: Ints

    @classmethod
    def of_early(cls, changes: Changes) -> Self:
        """Return those of the first points, which have no states: the expected range is that of usual changes."""
        points = len(changes.size)
        zeros, none, no = np.zeros(points), np.zeros(points, np.int64), np.zeros(points, np.bool_)
        low, high = changes.expected - changes.usual, changes.expected + changes.usual
        return cls(zeros, low, high, none, zeros.copy(), no, zeros.copy(), no.copy(), none.copy())

    @classmethod
    def join(cls, parts: list[Self]) -> Self:
        """Return the results of consecutive points as one."""
        columns = zip(*([getattr(part, column.name) for column in fields(cls)] for part in parts), strict=True)
        return cls(*(np.concatenate(column) for column in columns))

    def assign(self, where: Bools | slice, other: "Surprises") -> None:
        """Copy another result into some positions."""
        for column in fields(self):
            getattr(self, column.name)[where] = getattr(other, column.name)


@dataclass(frozen=True, slots=True)
class Evidence:
    """Evidence for the scores of points, without the marks and notifications before them.

    change    from 1 on the change is marked, if no other point was shortly before
    surprise  the same for the surprise of the views
    shift     the same for a level outside the expected range
    gravity   from 1 on a point notifies, if no other of this episode did
    stuck     marked in any case, since the value is stuck
    """

    change: Floats
    surprise: Floats
    shift: Floats
    gravity: Floats
    stuck: Bools

    @property
    def strength(self) -> Floats:
        """The strongest of change, surprise and shift."""
        return np.maximum(self.change, np.maximum(self.surprise, self.shift))


def weigh(
    points: Ints, age: Ints, changes: Changes, surprises: Surprises, thresholds: Thresholds = THRESHOLDS
) -> Evidence:
    """Return the evidence of points. `points` of the series, these included; `age` in µs since the first one."""
    may_notify = (points >= MIN_NOTIFY_POINTS) & (age >= MIN_NOTIFY_AGE)
    weekly_shift = np.where(surprises.weekly, surprises.level / thresholds.notify_shift, 0.0)
    gravity = np.maximum(changes.ratio / thresholds.notify_change, weekly_shift)
    surprise, shift = (
        surprises.surprise / thresholds.mark_surprise,
        np.maximum(surprises.shift / thresholds.mark_shift, weekly_shift),
    )
    return Evidence(
        changes.ratio / thresholds.mark_change,
        surprise,
        shift,
        np.where(may_notify, np.maximum(gravity, surprises.stuck == 2), 0.0),
        surprises.stuck > 0,
    )


def mark(table: Table, slots: Ints, times: Ints, evidence: Evidence, begins: Bools) -> tuple[Bools, Floats]:
    """Return which points [k] are marked, and the largest gravity of their episode before; remember both."""
    points, last = table["mark_points"][slots] + 1, table["mark_strength"][slots]
    rested = (points >= MARK_REST_POINTS) | (times - table["marked_at"][slots] >= MARK_REST)
    marked = (evidence.strength >= 1) & (rested | (evidence.strength >= STRONGER * last)) | evidence.stuck
    table["mark_points"][slots] = np.where(marked, 0, points)
    table["marked_at"][slots] = np.where(marked, times, table["marked_at"][slots])
    table["mark_strength"][slots] = np.where(marked, evidence.strength, last)
    before = np.where(begins, 0.0, table["gravity"][slots])
    table["gravity"][slots] = np.maximum(before, evidence.gravity)
    return marked, before


def mark_along(table: Table, slot: int, times: Ints, evidence: Evidence, begins: Bools) -> tuple[Bools, Floats]:
    """Return what `mark` does, for points of one series."""
    marked, before = np.zeros(len(times), np.bool_), np.empty(len(times))
    points, marked_at = int(table["mark_points"][slot]), int(table["marked_at"][slot])
    last, largest = float(table["mark_strength"][slot]), float(table["gravity"][slot])
    columns = (times, evidence.strength, evidence.gravity, evidence.stuck, begins)
    rows = zip(*(column.tolist() for column in columns), strict=True)
    for position, (time, strength, gravity, stuck, begin) in enumerate(rows):
        points += 1
        rested = points >= MARK_REST_POINTS or time - marked_at >= MARK_REST
        if stuck or (strength >= 1 and (rested or strength >= STRONGER * last)):
            marked[position], points, marked_at, last = True, 0, time, strength
        before[position] = largest = 0.0 if begin else largest
        largest = max(largest, gravity)
    table["mark_points"][slot], table["marked_at"][slot] = points, marked_at
    table["mark_strength"][slot], table["gravity"][slot] = last, largest
    return marked, before


def to_detection(
    changes: Changes, surprises: Surprises, evidence: Evidence, marked: Bools, gravity_before: Floats
) -> Detection:
    """Return the result of points."""
    notified, strength = notifies(evidence.gravity, gravity_before), evidence.strength
    calm = 0.99 * MARK_SCORE * np.minimum(strength, 1)
    mark_score = NOTIFY_SCORE - (NOTIFY_SCORE - MARK_SCORE) / np.maximum(strength, 1)
    notify_score = 1 - (1 - NOTIFY_SCORE) / np.maximum(evidence.gravity, 1)
    reason = merge_reasons(
        surprises.reason,
        np.where(surprises.weekly, WEEKLY_LEVEL, DAILY_LEVEL),
        ((evidence.change >= strength) & (strength >= 1), evidence.shift > evidence.surprise, evidence.stuck),
        (changes.size > 0, surprises.above),
    )
    return Detection(
        np.where(notified, notify_score, np.where(marked, mark_score, calm)),
        surprises.low,
        surprises.high,
        np.where(marked | (evidence.gravity >= LEAST_FACTOR), reason, 0),
        evidence.gravity,
        gravity_before,
        changes.size,
        changes.usual,
        changes.seen,
    )


def stuck_levels(unchanged: Singles, longest: Singles) -> Ints:
    """Return 1 where a run without change has just reached the length of a mark, 2 that of a notification."""
    mark_length = np.maximum(MIN_STUCK_POINTS, STUCK_FACTOR * (longest + 1))
    level = np.zeros(len(unchanged), np.int64)
    for times in (1, STUCK_FACTOR):
        enough = times * mark_length
        level[(unchanged >= enough) & (unchanged < enough + 1)] = 1 if times == 1 else 2
    return level


def level_shifts(point_features: Shorts, least: Shorts, most: Shorts) -> tuple[Floats, Bools, Floats]:
    """Return `shift`, `above` and `level` of Surprises. `least` and `most` [k, views, 2] are of all points so far."""
    reach = np.maximum(most[:, LEVEL_VIEW, 0].astype(np.float64) - least[:, LEVEL_VIEW, 0], float(UNIT))
    mean, level = point_features[:, MEAN_OUTSIDE], point_features[:, LEVEL_OUTSIDE]
    return np.abs(mean) / reach, mean > 0, np.abs(level) / reach
