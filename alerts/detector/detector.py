"""Anomalies of many series side by side: each learns from its own past, point by point, and needs no tuning."""

from dataclasses import dataclass, fields
from typing import Final, Self

import numpy as np

from alerts.detector.features import EARLIER, LARGEST, MEAN, MEAN_OUTSIDE, VIEWS, features, of_value, settle
from alerts.detector.novelty import NARROW, surprise
from alerts.detector.reasons import reasons
from alerts.detector.seasons import DAY
from alerts.detector.state import EARLY, RECORD, Bools, Floats, Ints, Shorts, Singles, Table, packed, unpacked

MARK: Final = 0.5  # score from which a point is marked on the chart
NOTIFY: Final = 0.9  # score from which somebody is told

STRANGE: Final = 4.5  # mean squared surprise of the views that is marked
TIRING: Final = 0.4  # a mark raises what the next one needs by this share
RECOVERY: Final = np.float32(np.exp(-1 / 4000))  # of that, a point
REST: Final = 80  # points from a mark to the next, and from a notification to the next
AGREEING: Final = 3  # views that are all to find a point new before anybody is told
GRAVE: Final = 0.15  # how new: share of the range of all that was
YOUNG: Final = 300  # points of a series that has to be twice as grave: noise breaks young records by more
ASTRAY: Final = 0.3  # the same, of a level that is not what it was at this hour of the week, as one view may tell alone
SURELY: Final = 120  # how weekly a series is, before it may
LEVEL: Final = VIEWS.index((MEAN, EARLIER))
STUCK: Final = 12  # points without a change that are marked, if that is also so many times
LONGER: Final = 3  # as long as ever before; anybody is told after so many times more
SETTLED: Final = 400  # points before anybody is told
SETTLED_DAYS: Final = 3  # and days
TOGETHER: Final = 128  # series that are judged at once: what they need fits the processor's cache


@dataclass(slots=True)
class Judgement:
    """Columns of one length, a place for each point that was judged."""

    score: Floats  # 0 to 1
    low: Floats  # of the expected band, NaN where it is not known yet
    high: Floats
    reason: Ints  # for reasons.reason_text; 0 where nothing is marked
    warm: Bools  # False while the series is too young to be judged

    @classmethod
    def blank(cls, points: int) -> Self:
        """Of points that are not judged."""
        unknown = np.full(points, np.nan)
        return cls(np.zeros(points), unknown, unknown.copy(), np.zeros(points, np.int64), np.zeros(points, np.bool_))

    def put(self, where: Bools | slice, other: "Judgement") -> None:
        """Fill places by another judgement."""
        for column in fields(self):
            getattr(self, column.name)[where] = getattr(other, column.name)


class Detector:
    """Many series side by side, each with a clock of its own. State is arrays [series, …]."""

    def __init__(self, capacity: int = 0) -> None:
        self._table: Table = np.zeros(capacity, RECORD)
        self._free = list(range(capacity))[::-1]

    def add(self, state: bytes | None = None) -> int:
        """A slot for one more series, fresh or from `state`; raises BadState."""
        record = np.zeros(1, RECORD)[0] if state is None else unpacked(state)
        if not self._free:
            before, after = len(self._table), max(16, 2 * len(self._table))
            table = np.zeros(after, RECORD)  # to concatenate would take apart what overlaps
            table[:before] = self._table
            self._table, self._free = table, list(range(before, after))[::-1]
        slot = self._free.pop()
        self._table[slot] = record
        return slot

    def remove(self, slot: int) -> None:
        """Forget a series; its slot may be given to another."""
        self._free.append(slot)

    def dump(self, slot: int) -> bytes:
        """All that is known of a series, for `add` of a later process: less than 20 KB."""
        return packed(self._table[slot])

    def rouse(self, slot: int) -> None:
        """Let the next strange point be marked and told of, whatever was found before it."""
        self._table["rest"][slot] = self._table["quiet"][slot] = 0

    def run(self, slot: int, times: Ints, values: Floats) -> Judgement:
        """Many points of one series, in the order of their times."""
        found, one = Judgement.blank(len(times)), np.array([slot])
        for place in range(len(times)):
            here = slice(place, place + 1)
            found.put(here, self._step(one, times[here], values[here]))
        return found

    def step(self, slots: Ints, times: Ints, values: Floats) -> Judgement:
        """One point of each series: slots [k] without repetition, times [k] in µs since 1970 UTC, finite values [k]."""
        found = Judgement.blank(len(slots))
        for place in range(0, len(slots), TOGETHER):
            here = slice(place, place + TOGETHER)
            found.put(here, self._step(slots[here], times[here], values[here]))
        return found

    def _step(self, slots: Ints, times: Ints, values: Floats) -> Judgement:
        values = np.clip(values, -LARGEST, LARGEST)
        early = self._table["points"][slots] < EARLY
        if not early.any():
            return self._judge(slots, times, values)
        found = Judgement.blank(len(slots))
        self._gather(slots[early], times[early], values[early])
        if not early.all():
            late = ~early
            found.put(late, self._judge(slots[late], times[late], values[late]))
        return found

    def _gather(self, slots: Ints, times: Ints, values: Floats) -> None:
        """The first points are kept until they fix the series' scale, and are then learned from in their order."""
        table, points = self._table, self._table["points"][slots]
        table["times"][slots, points] = times
        table["values"][slots, points] = values
        table["points"][slots] = points + 1
        ready = slots[points + 1 == EARLY]
        if len(ready):
            settle(table, ready)
            past, learned = table["times"][ready], table["values"][ready]
            table["points"][ready] = 0
            for place in range(EARLY):
                self._judge(ready, past[:, place], learned[:, place])

    def _judge(self, slots: Ints, times: Ints, values: Floats) -> Judgement:
        table = self._table
        table["began"][slots] = np.where(table["points"][slots] == 0, times, table["began"][slots])
        least, most = table["least"][slots, 0, 0], table["most"][slots, 0, 0]
        found, band, weekly = features(table, slots, times, values)
        surprised, novelty, above = surprise(table, slots, found)
        table["points"][slots] += 1
        astray = self._astray(slots, found, weekly)
        score = self._score(slots, times, surprised, novelty, astray)
        stuck = self._stuck(slots, 1) | self._stuck(slots, LONGER)
        return Judgement(
            score,
            of_value(table, slots, np.where(band.known, band.low[:, 0], least)),  # of all times, before there is a band
            of_value(table, slots, np.where(band.known, band.high[:, 0], most)),
            np.where(score >= MARK, reasons(surprised, above, stuck, weekly > 0, astray >= 1), 0),
            np.ones(len(slots), np.bool_),
        )

    def _astray(self, slots: Ints, found: Shorts, weekly: Singles) -> Singles:
        """How far [k] the level is from what it was at this hour of the week, from 1 where that is grave."""
        table = self._table
        reach = table["most"][slots, LEVEL, 0].astype(np.float32) - table["least"][slots, LEVEL, 0]
        away = np.abs(found[:, MEAN_OUTSIDE]) / np.maximum(reach, np.float32(NARROW))
        return np.where(weekly >= SURELY, away / np.float32(ASTRAY), np.float32(0))

    def _score(self, slots: Ints, times: Ints, surprised: Singles, novelty: Singles, astray: Singles) -> Floats:
        """From MARK on by how surprised all views are; from NOTIFY on by how far from all they know some views are."""
        table = self._table
        fatigue = table["fatigue"][slots] * RECOVERY
        strength = surprised.mean(axis=1, dtype=np.float64) / (STRANGE * (1 + TIRING * fatigue))
        rest = np.maximum(table["rest"][slots] - 1, 0)
        marked = ((strength >= 1) & (rest == 0) | self._stuck(slots, 1)) & (table["points"][slots] > EARLY)

        gravity = np.partition(novelty, -AGREEING, axis=1)[:, -AGREEING].astype(np.float64) / GRAVE
        gravity /= 1 + YOUNG / np.maximum(table["points"][slots], 1)
        gravity = np.maximum(gravity, astray)
        quiet = np.maximum(table["quiet"][slots] - 1, 0)
        settled = (table["points"][slots] > SETTLED) & (times - table["began"][slots] >= SETTLED_DAYS * DAY)
        grave = ((gravity >= 1) & (quiet == 0) | self._stuck(slots, LONGER)) & settled

        table["fatigue"][slots] = fatigue + marked
        table["rest"][slots] = np.where(marked, REST, rest)
        table["quiet"][slots] = np.where(grave, REST, quiet)
        calm = 0.99 * MARK * np.minimum(strength, 1)
        mark = NOTIFY - (NOTIFY - MARK) / np.maximum(strength, 1)
        return np.where(grave, 1 - (1 - NOTIFY) / np.maximum(gravity, 1), np.where(marked, mark, calm))

    def _stuck(self, slots: Ints, times: int) -> Bools:
        """Where the value has just now stood still for so many times what is marked: once in each such run."""
        run, longest = self._table["unchanged"][slots], self._table["longest"][slots]
        enough = times * np.maximum(STUCK, LONGER * (longest + 1))
        just_now: Bools = (run >= enough) & (run < enough + 1)
        return just_now
