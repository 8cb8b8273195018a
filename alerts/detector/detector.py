"""The anomaly detector: scores the points of many series side by side.

Each series learns from its own points, one by one, and needs no tuning.
"""

import numpy as np

from alerts.detector.changes import Changes, measure_changes, measure_changes_along
from alerts.detector.features import LARGEST, features, of_value, settle
from alerts.detector.novelty import surprise
from alerts.detector.reasons import view_reasons
from alerts.detector.scoring import (
    MIN_WEEKLY_EVIDENCE,
    Detection,
    Surprises,
    level_shifts,
    mark,
    mark_along,
    stuck_levels,
    to_detection,
    weigh,
)
from alerts.detector.series_run import surprises_along
from alerts.detector.state import EARLY, RECORD, Floats, Ints, Table, pack_state, unpack_state

SERIES_PER_STEP = 512  # fewer spend more time between array operations, more need more memory


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
        self._table["mark_strength"][slot] = self._table["gravity"][slot] = 0

    def run(self, slot: int, times: Ints, values: Floats) -> Detection:
        """Score the points of one series, times ascending: like one `step` after the other, and much faster.

        Points without a finite value are left out: they have no score and teach nothing.
        """
        finite = np.isfinite(values)
        if not finite.all():
            result = Detection.blank(len(times))
            result.assign(finite, self.run(slot, times[finite], values[finite]))
            return result
        count, age, changes, surprises = self.observe(slot, times, values)
        evidence = weigh(count, age, changes, surprises)
        marks = mark_along(self._table, slot, times, evidence, changes.begins)
        return to_detection(changes, surprises, evidence, *marks)

    def observe(self, slot: int, times: Ints, values: Floats) -> tuple[Ints, Ints, Changes, Surprises]:
        """Learn points of one series. Returns what `weigh` needs: their numbers, ages, changes and surprises."""
        table, values = self._table, np.clip(values, -LARGEST, LARGEST)
        count = int(table["count"][slot]) + 1 + np.arange(len(times))
        points = int(table["points"][slot])
        early, late = slice(0, max(EARLY - points, 0)), slice(max(EARLY - points, 0), None)
        changes = measure_changes_along(table, slot, times, values)
        surprises = Surprises.of_early(changes)
        if len(times[early]):
            self._gather(np.full(1, slot), times[early], values[early], points)
        if len(times[late]):
            surprises.assign(late, surprises_along(table, slot, times[late], values[late]))
        return count, times - table["began"][slot], changes, surprises

    def step(self, slots: Ints, times: Ints, values: Floats) -> Detection:
        """Score one point of each series: distinct slots [k], times [k] in µs since 1970 UTC, values [k].

        Points without a finite value are left out: they have no score and teach nothing.
        """
        result = Detection.blank(len(slots))
        finite = np.isfinite(values)
        if not finite.all():
            result.assign(finite, self.step(slots[finite], times[finite], values[finite]))
            return result
        for first in range(0, len(slots), SERIES_PER_STEP):
            batch = slice(first, first + SERIES_PER_STEP)
            result.assign(batch, self._step(slots[batch], times[batch], np.clip(values[batch], -LARGEST, LARGEST)))
        return result

    def _step(self, slots: Ints, times: Ints, values: Floats) -> Detection:
        table = self._table
        early = table["points"][slots] < EARLY
        changes = measure_changes(table, slots, times, values)
        if early.any():
            surprises = self._step_early(slots, times, values, changes)
        else:
            surprises = self._surprises(slots, times, values)
        evidence = weigh(table["count"][slots], times - table["began"][slots], changes, surprises)
        return to_detection(changes, surprises, evidence, *mark(table, slots, times, evidence, changes.begins))

    def _step_early(self, slots: Ints, times: Ints, values: Floats, changes: Changes) -> Surprises:
        """Keep the first points until there are enough to fix the series' scale, then learn them in order."""
        points = self._table["points"][slots]
        late = points >= EARLY
        surprises = Surprises.of_early(changes)
        for index in np.flatnonzero(~late).tolist():
            one = slice(index, index + 1)
            self._gather(slots[one], times[one], values[one], int(points[index]))
        if late.any():
            surprises.assign(late, self._surprises(slots[late], times[late], values[late]))
        return surprises

    def _gather(self, slot: Ints, times: Ints, values: Floats, points: int) -> None:
        """Keep early points of a series; with the last of them, fix its scale and learn all in order."""
        table, number = self._table, int(slot[0])
        after = points + len(times)
        table["times"][number, points:after] = times
        table["values"][number, points:after] = values
        table["points"][number] = after
        if after == EARLY:
            settle(table, slot)
            first_times, first_values = table["times"][number].copy(), table["values"][number].copy()
            table["points"][number] = 0  # the states take the place of the first points
            surprises_along(table, number, first_times, first_values)

    def _surprises(self, slots: Ints, times: Ints, values: Floats) -> Surprises:
        """Return what the states say about one point of each series, and add it to them."""
        table = self._table
        bounds = table["least"][slots, 0, 0], table["most"][slots, 0, 0]
        point_features, band, weekly = features(table, slots, times, values)
        surprised, above = surprise(table, slots, point_features)
        table["points"][slots] += 1
        low, high = (
            of_value(table, slots, np.where(band.is_known, side[:, 0], bound))
            for side, bound in zip((band.low, band.high), bounds, strict=True)
        )
        return Surprises(
            surprised.mean(axis=1, dtype=np.float64),
            low,
            high,
            view_reasons(surprised, above, weekly > 0),
            *level_shifts(point_features, table["least"][slots], table["most"][slots]),
            weekly >= MIN_WEEKLY_EVIDENCE,
            stuck_levels(table["unchanged"][slots], table["longest"][slots]),
        )
