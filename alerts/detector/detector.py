"""The anomaly detector: scores the points of many series side by side.

Each series learns from its own points, one by one, and needs no tuning.
"""

import numpy as np

from alerts.detector.features import LARGEST, features, settle
from alerts.detector.novelty import surprise
from alerts.detector.scoring import (
    COOLDOWN_POINTS,
    FATIGUE_DECAY,
    FATIGUE_WEIGHT,
    MARK_SURPRISE,
    Detection,
    level_shift,
    to_detection,
    weigh,
)
from alerts.detector.series_run import score_run
from alerts.detector.state import EARLY, RECORD, Floats, Ints, Table, pack_state, unpack_state

SERIES_PER_STEP = 128  # whose state fits the processor's cache


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
        """Score the points of one series, times ascending: like one `step` after the other, and much faster."""
        table, result, values = self._table, Detection.blank(len(times)), np.clip(values, -LARGEST, LARGEST)
        points = int(table["points"][slot])
        early, late = slice(0, max(EARLY - points, 0)), slice(max(EARLY - points, 0), None)
        if kept := len(times[early]):
            table["times"][slot, points : points + kept] = times[early]
            table["values"][slot, points : points + kept] = values[early]
            table["points"][slot] = points + kept
            if points + kept == EARLY:
                self._settle(slot)
        result.assign(late, score_run(table, slot, times[late], values[late]))
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
        for slot in slots[points + 1 == EARLY].tolist():
            self._settle(slot)

    def _settle(self, slot: int) -> None:
        """Fix the scale of a series from its first points, and learn them in order."""
        table = self._table
        settle(table, np.array([slot]))
        times, values = table["times"][slot].copy(), table["values"][slot].copy()  # in the place of the states
        table["points"][slot] = 0
        score_run(table, slot, times, values)

    def _score_points(self, slots: Ints, times: Ints, values: Floats) -> Detection:
        table = self._table
        table["began"][slots] = np.where(table["points"][slots] == 0, times, table["began"][slots])
        bounds = table["least"][slots, 0, 0], table["most"][slots, 0, 0]
        point_features, band, weekly = features(table, slots, times, values)
        surprised, novelty, above = surprise(table, slots, point_features)
        table["points"][slots] += 1
        shift = level_shift(point_features, weekly, table["least"][slots], table["most"][slots])
        age, runs = times - table["began"][slots], (table["unchanged"][slots], table["longest"][slots])
        evidence = weigh(table["points"][slots], age, (surprised, novelty, shift), *runs)
        fatigue = table["fatigue"][slots] * FATIGUE_DECAY
        strength = evidence.strength / (MARK_SURPRISE * (1 + FATIGUE_WEIGHT * fatigue))
        rest, quiet = np.maximum(table["rest"][slots] - 1, 0), np.maximum(table["quiet"][slots] - 1, 0)
        marked = ((strength >= 1) & (rest == 0) | evidence.marks) & evidence.may_mark
        grave = ((evidence.gravity >= 1) & (quiet == 0) | evidence.notifies) & evidence.may_notify
        table["fatigue"][slots] = fatigue + marked
        table["rest"][slots] = np.where(marked, COOLDOWN_POINTS, rest)
        table["quiet"][slots] = np.where(grave, COOLDOWN_POINTS, quiet)
        score = evidence.score(strength, marked, grave)
        return to_detection(table, slots, score, evidence, (band, *bounds), (surprised, above, weekly))
