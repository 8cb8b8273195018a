"""The anomaly detector: scores the points of many series side by side.

Each series learns from its own points, one by one, and needs no tuning.
"""

from dataclasses import dataclass, fields
from typing import Self

import numpy as np

from alerts.detector.features import EARLIER, LARGEST, MEAN, MEAN_OUTSIDE, VIEWS, features, of_value, settle
from alerts.detector.novelty import NARROW, surprise
from alerts.detector.reasons import reasons
from alerts.detector.seasons import DAY
from alerts.detector.state import EARLY, RECORD, Bools, Floats, Ints, Shorts, Singles, Table, pack_state, unpack_state

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
SERIES_PER_STEP = 128  # whose state fits the processor's cache


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

    def assign(self, where: Bools | slice, other: "Detection") -> None:
        """Copy another result into some positions."""
        for column in fields(self):
            getattr(self, column.name)[where] = getattr(other, column.name)


class Detector:
    """The state of many series, as arrays [series, …]. Each series has its own clock."""

    def __init__(self, capacity: int = 0) -> None:
        self._table: Table = np.zeros(capacity, RECORD)
        self._free = list(range(capacity))[::-1]

    def add(self, state: bytes | None = None) -> int:
        """Return the slot of a new series, empty or with a stored state. Raises InvalidState."""
        record = np.zeros(1, RECORD)[0] if state is None else unpack_state(state)
        if not self._free:
            before, after = len(self._table), max(16, 2 * len(self._table))
            table = np.zeros(after, RECORD)  # np.concatenate would separate the overlapping fields
            table[:before] = self._table
            self._table, self._free = table, list(range(before, after))[::-1]
        slot = self._free.pop()
        self._table[slot] = record
        return slot

    def remove(self, slot: int) -> None:
        """Remove a series; its slot may be used for another."""
        self._free.append(slot)

    def dump(self, slot: int) -> bytes:
        """Return the state of a series for `add`: less than 20 KB."""
        return pack_state(self._table[slot])

    def reset_cooldown(self, slot: int) -> None:
        """Let the next anomaly be marked and notified, whenever the last one was."""
        self._table["rest"][slot] = self._table["quiet"][slot] = 0

    def run(self, slot: int, times: Ints, values: Floats) -> Detection:
        """Score the points of one series, times ascending."""
        result, slots = Detection.blank(len(times)), np.array([slot])
        for position in range(len(times)):
            point = slice(position, position + 1)
            result.assign(point, self._step(slots, times[point], values[point]))
        return result

    def step(self, slots: Ints, times: Ints, values: Floats) -> Detection:
        """Score one point of each series: distinct slots [k], times [k] in µs since 1970 UTC, finite values [k]."""
        result = Detection.blank(len(slots))
        for first in range(0, len(slots), SERIES_PER_STEP):
            batch = slice(first, first + SERIES_PER_STEP)
            result.assign(batch, self._step(slots[batch], times[batch], values[batch]))
        return result

    def _step(self, slots: Ints, times: Ints, values: Floats) -> Detection:
        values = np.clip(values, -LARGEST, LARGEST)
        early = self._table["points"][slots] < EARLY
        if not early.any():
            return self._score_points(slots, times, values)
        result = Detection.blank(len(slots))
        self._gather(slots[early], times[early], values[early])
        if not early.all():
            late = ~early
            result.assign(late, self._score_points(slots[late], times[late], values[late]))
        return result

    def _gather(self, slots: Ints, times: Ints, values: Floats) -> None:
        """Keep the first points until there are enough to fix the series' scale, then learn them in order."""
        table, points = self._table, self._table["points"][slots]
        table["times"][slots, points] = times
        table["values"][slots, points] = values
        table["points"][slots] = points + 1
        ready = slots[points + 1 == EARLY]
        if len(ready):
            settle(table, ready)
            past, learned = table["times"][ready], table["values"][ready]
            table["points"][ready] = 0
            for position in range(EARLY):
                self._score_points(ready, past[:, position], learned[:, position])

    def _score_points(self, slots: Ints, times: Ints, values: Floats) -> Detection:
        table = self._table
        table["began"][slots] = np.where(table["points"][slots] == 0, times, table["began"][slots])
        minimum, maximum = table["least"][slots, 0, 0], table["most"][slots, 0, 0]
        point_features, band, weekly = features(table, slots, times, values)
        surprised, novelty, above = surprise(table, slots, point_features)
        table["points"][slots] += 1
        level_shift = self._level_shift(slots, point_features, weekly)
        score = self._score(slots, times, surprised, novelty, level_shift)
        stuck = self._stuck(slots, 1) | self._stuck(slots, STUCK_FACTOR)
        return Detection(
            score,
            of_value(
                table, slots, np.where(band.is_known, band.low[:, 0], minimum)
            ),  # of all points while the expected range is unknown
            of_value(table, slots, np.where(band.is_known, band.high[:, 0], maximum)),
            np.where(score >= MARK_SCORE, reasons(surprised, above, stuck, weekly > 0, level_shift >= 1), 0),
            np.ones(len(slots), np.bool_),
        )

    def _level_shift(self, slots: Ints, point_features: Shorts, weekly: Singles) -> Singles:
        """Return the distance [k] of the level from the range of this hour of the week; 1: notify."""
        table = self._table
        reach = table["most"][slots, LEVEL_VIEW, 0].astype(np.float32) - table["least"][slots, LEVEL_VIEW, 0]
        away = np.abs(point_features[:, MEAN_OUTSIDE]) / np.maximum(reach, np.float32(NARROW))
        return np.where(weekly >= MIN_WEEKLY_EVIDENCE, away / np.float32(NOTIFY_LEVEL_SHIFT), np.float32(0))

    def _score(self, slots: Ints, times: Ints, surprised: Singles, novelty: Singles, level_shift: Singles) -> Floats:
        """Return the score [k]: from MARK_SCORE by the mean surprise of the views, from NOTIFY_SCORE by novelty."""
        table = self._table
        fatigue = table["fatigue"][slots] * FATIGUE_DECAY
        strength = surprised.mean(axis=1, dtype=np.float64) / (MARK_SURPRISE * (1 + FATIGUE_WEIGHT * fatigue))
        rest = np.maximum(table["rest"][slots] - 1, 0)
        marked = ((strength >= 1) & (rest == 0) | self._stuck(slots, 1)) & (table["points"][slots] > EARLY)

        gravity = (
            np.partition(novelty, -MIN_NOVEL_VIEWS, axis=1)[:, -MIN_NOVEL_VIEWS].astype(np.float64) / NOTIFY_NOVELTY
        )
        gravity /= 1 + SHORT_SERIES / np.maximum(table["points"][slots], 1)
        gravity = np.maximum(gravity, level_shift)
        quiet = np.maximum(table["quiet"][slots] - 1, 0)
        settled = (table["points"][slots] > MIN_NOTIFY_POINTS) & (
            times - table["began"][slots] >= MIN_NOTIFY_DAYS * DAY
        )
        grave = ((gravity >= 1) & (quiet == 0) | self._stuck(slots, STUCK_FACTOR)) & settled

        table["fatigue"][slots] = fatigue + marked
        table["rest"][slots] = np.where(marked, COOLDOWN_POINTS, rest)
        table["quiet"][slots] = np.where(grave, COOLDOWN_POINTS, quiet)
        calm = 0.99 * MARK_SCORE * np.minimum(strength, 1)
        mark = NOTIFY_SCORE - (NOTIFY_SCORE - MARK_SCORE) / np.maximum(strength, 1)
        return np.where(grave, 1 - (1 - NOTIFY_SCORE) / np.maximum(gravity, 1), np.where(marked, mark, calm))

    def _stuck(self, slots: Ints, times: int) -> Bools:
        """Return where a run without change has just reached `times` the length of a mark."""
        run, longest = self._table["unchanged"][slots], self._table["longest"][slots]
        enough = times * np.maximum(MIN_STUCK_POINTS, STUCK_FACTOR * (longest + 1))
        just_now: Bools = (run >= enough) & (run < enough + 1)
        return just_now
