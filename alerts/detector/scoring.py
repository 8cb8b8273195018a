"""From surprise and novelty to scores: which points are marked, and which open an alert. Pure, one row per point."""

from dataclasses import dataclass, fields
from typing import Self

import numpy as np

from alerts.detector.features import EARLIER, MEAN, MEAN_OUTSIDE, VIEWS, of_value
from alerts.detector.novelty import NARROW
from alerts.detector.reasons import reasons
from alerts.detector.seasons import DAY, SeasonalRange
from alerts.detector.state import EARLY, Bools, Floats, Ints, Shorts, Singles, Table

MARK_SCORE = 0.5  # score of an anomaly that is marked in charts
NOTIFY_SCORE = 0.9  # score of an anomaly that opens an alert

MARK_SURPRISE = 4.5  # mean squared surprise of the views
FATIGUE_WEIGHT = 0.4  # a mark raises the surprise that the next one needs by this fraction
FATIGUE_DECAY = np.float32(np.exp(-1 / 4000))  # per point
COOLDOWN_POINTS = 80  # from a mark to the next, and from a notification to the next
MIN_NOVEL_VIEWS = 3  # views in which a point has to be novel for a notification
NOTIFY_NOVELTY = 0.15  # in fractions of the range of all earlier points
SHORT_SERIES = 300  # points of a series that needs twice the novelty, since its range still grows by noise
NOTIFY_LEVEL_SHIFT = 0.3  # the same, for a level outside the range of this hour of the week: one view is enough
MIN_WEEKLY_EVIDENCE = 120  # of a weekly profile, for notifications of level shifts
LEVEL_VIEW = VIEWS.index((MEAN, EARLIER))
MIN_STUCK_POINTS = 12  # without a change for a mark …
STUCK_FACTOR = 3  # … and this many times the longest run before; again as many for a notification
MIN_NOTIFY_POINTS = 400  # of a series before its first notification …
MIN_NOTIFY_DAYS = 3  # … and days


@dataclass(slots=True)
class Detection:
    """The result for some points, as columns of equal length.

    score   0 to 1
    low     of the expected range; NaN while it is unknown
    high    of the expected range
    reason  code for reasons.reason_text; 0 if the point is not marked
    warm    False while the series has too few points for a score
    """

    score: Floats
    low: Floats
    high: Floats
    reason: Ints
    warm: Bools

    @classmethod
    def blank(cls, points: int) -> Self:
        """Return the result of points without a score."""
        unknown = np.full(points, np.nan)
        return cls(np.zeros(points), unknown, unknown.copy(), np.zeros(points, np.int64), np.zeros(points, np.bool_))

    def part(self, where: slice) -> Self:
        """Return the result of some of the points."""
        return type(self)(**{column.name: getattr(self, column.name)[where] for column in fields(self)})

    def assign(self, where: Bools | Ints | slice, other: "Detection") -> None:
        """Copy another result into some positions."""
        for column in fields(self):
            getattr(self, column.name)[where] = getattr(other, column.name)


@dataclass(frozen=True, slots=True)
class Evidence:
    """What the scores of points depend on, besides the marks and notifications before them.

    strength     mean surprise of the views: from MARK_SURPRISE on a point is marked, if no other was shortly before
    gravity      from 1 on a point notifies, if no other did shortly before
    marks        marked in any case, since the value is stuck
    notifies     the same for a notification
    may_mark     whether there are enough points
    may_notify   the same for a notification
    level_shift  from 1 on the level is outside the range of the hour of the week
    """

    strength: Floats
    gravity: Floats
    marks: Bools
    notifies: Bools
    may_mark: Bools
    may_notify: Bools
    level_shift: Singles

    def score(self, strength: Floats, marked: Bools, grave: Bools) -> Floats:
        """Return the scores: from MARK_SCORE by the mean surprise of the views, from NOTIFY_SCORE by novelty."""
        calm = 0.99 * MARK_SCORE * np.minimum(strength, 1)
        mark = NOTIFY_SCORE - (NOTIFY_SCORE - MARK_SCORE) / np.maximum(strength, 1)
        notify = 1 - (1 - NOTIFY_SCORE) / np.maximum(self.gravity, 1)
        return np.where(grave, notify, np.where(marked, mark, calm))


def weigh(
    points: Ints, age: Ints, seen: tuple[Singles, Singles, Singles], unchanged: Singles, longest: Singles
) -> Evidence:
    """Return the evidence of points.

    points     points of the series, this one included
    age        µs since the first one
    seen       squared surprise [k, views], novelty [k, views] and level shift [k]
    unchanged  points since the value changed
    longest    of such runs that have ended
    """
    surprised, novelty, shift = seen
    third = np.partition(novelty, -MIN_NOVEL_VIEWS, axis=1)[:, -MIN_NOVEL_VIEWS].astype(np.float64)
    gravity = third / NOTIFY_NOVELTY / (1 + SHORT_SERIES / np.maximum(points, 1))
    return Evidence(
        strength=surprised.mean(axis=1, dtype=np.float64),
        gravity=np.maximum(gravity, shift),
        marks=_is_stuck(unchanged, longest, 1),
        notifies=_is_stuck(unchanged, longest, STUCK_FACTOR),
        may_mark=points > EARLY,
        may_notify=(points > MIN_NOTIFY_POINTS) & (age >= MIN_NOTIFY_DAYS * DAY),
        level_shift=shift,
    )


def _is_stuck(unchanged: Singles, longest: Singles, times: int) -> Bools:
    """Return where a run without change has just reached `times` the length of a mark."""
    enough = times * np.maximum(MIN_STUCK_POINTS, STUCK_FACTOR * (longest + 1))
    just_now: Bools = (unchanged >= enough) & (unchanged < enough + 1)
    return just_now


def level_shift(point_features: Shorts, weekly: Singles, least: Shorts, most: Shorts) -> Singles:
    """Return the distance [k] of the level from the range of this hour of the week; 1: notify.

    `least` and `most` [k, views, 2] are of all points up to this one.
    """
    reach = most[:, LEVEL_VIEW, 0].astype(np.float32) - least[:, LEVEL_VIEW, 0]
    away = np.abs(point_features[:, MEAN_OUTSIDE]) / np.maximum(reach, np.float32(NARROW))
    return np.where(weekly >= MIN_WEEKLY_EVIDENCE, away / np.float32(NOTIFY_LEVEL_SHIFT), np.float32(0))


def to_detection(
    table: Table,
    slots: Ints,
    score: Floats,
    evidence: Evidence,
    ranges: tuple[SeasonalRange, Shorts, Shorts],
    seen: tuple[Singles, Bools, Singles],
) -> Detection:
    """Return the result of points.

    ranges  the expected range; minimum and maximum of all points before, for as long as it is unknown
    seen    squared surprise [k, views], whether the point is above [k, views], and weekly evidence [k]
    """
    (band, minimum, maximum), (surprised, above, weekly) = ranges, seen
    stuck = evidence.marks | evidence.notifies
    reason = reasons(surprised, above, stuck, weekly > 0, evidence.level_shift >= 1)
    return Detection(
        score,
        of_value(table, slots, np.where(band.is_known, band.low[:, 0], minimum)),
        of_value(table, slots, np.where(band.is_known, band.high[:, 0], maximum)),
        np.where(score >= MARK_SCORE, reason, 0),
        np.ones(len(slots), np.bool_),
    )
