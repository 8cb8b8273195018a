"""What points amount to: one value for every group and interval."""

from collections.abc import Iterator
from typing import Any

import numpy as np

from metrics.query.accumulators import Floats, Fold, Ints
from metrics.query.aggregations import cut, filled, fold
from metrics.query.choose_rollups import for_fold, left_out, shares
from metrics.query.limits import counted, kept_most, priced
from metrics.query.query import MOST_SLOTS, Label, Question
from metrics.query.result import Answer, Asked, Group, filtered, from_cursor, tags_in, unit_in
from metrics.storage.connection import Connection
from metrics.storage.format.codec import Columns
from metrics.storage.format.layout import select_points
from metrics.storage.format.rollup_codec import RollupColumns
from metrics.storage.read.plan import ReadPlan
from metrics.storage.read.scan import read_points, read_rollups
from metrics.storage.series_registry import cached_registry
from metrics.storage.units import SECOND
from rest.errors import InvalidField

MOST_TAGS = 1_000  # values of a tag that one question may group by


def aggregated(question: Question, found: list[Asked]) -> Answer:
    """One value for every group and interval."""
    after = question.begins_after()
    if after is not None and question.tag is None:
        labels = _labels(question, found)
        kept = set(from_cursor(list(dict.fromkeys(labels)), after))
        found = [one for one, label in zip(found, labels, strict=True) if label in kept]
    folding = Folding(question, found)
    answer = Answer(question, missing=folding.missing)
    length = question.length()
    answer.interval = None if length is None else length // SECOND

    def read(connection: Connection, plans: list[ReadPlan]) -> None:
        for planned in plans:
            folding.read(connection, planned)
            answer.note(planned)

    priced(question, folding.shares, read, kept_most(question))
    skipping = after is not None
    for group in folding.groups_found():
        if skipping and after is not None:
            if group.label != after[0]:
                continue
            skipping = False
            group = _cut_group(group, int(np.searchsorted(group.times, after[1], side="right")), len(group.times))
        room = question.limit - answer.count
        if len(group.times) > room:
            group = _cut_group(group, 0, room)
            answer.groups += [group] if room else []
            last = answer.groups[-1]
            answer.next_cursor = question.cursor_after(last.label, last.times[-1])
            break
        answer.groups += [group] if group.times else []
    return answer


def _cut_group(group: Group, low: int, high: int) -> Group:
    counts = None if group.counts is None else group.counts[low:high]
    return Group(group.label, group.unit, group.times[low:high], group.values[low:high], counts)


def _labels(question: Question, found: list[Asked]) -> list[Label]:
    """What each series is grouped under."""
    if question.group_by == "series":
        return [one.label for one in found]
    metric = question.metrics[0] if len(question.metrics) == 1 else None
    if question.group_by == "device":
        return [(one.device_id, metric, None) for one in found]
    if question.group_by == "group":
        return [(None, metric, one.group) for one in found]
    device = question.devices[0] if question.devices is not None and len(question.devices) == 1 else None
    return [(device, metric, None)] * len(found)


class Folding:
    """The folds of one question: one for all groups, or one for every value of the tag to group by."""

    def __init__(self, question: Question, found: list[Asked]) -> None:
        labels = _labels(question, found)
        places = {label: place for place, label in enumerate(dict.fromkeys(labels))}
        ids = np.array([one.id for one in found], np.int64)
        order = np.argsort(ids)
        self.question = question
        self.edges = question.edges()
        ids = ids[order]
        self.ids = np.unique(ids)
        self._asked = len(ids)
        # A series of several groups passes by once for each: (places, ids) of the first time, of the second, and so on.
        times = np.arange(len(ids)) - np.searchsorted(ids, ids)
        rounds = [np.flatnonzero(times == number) for number in range(int(times.max()) + 1)]
        self._rounds = [(places, ids[places]) for places in rounds]
        self._groups = np.array([places[label] for label in labels], np.int64)[order]
        self._labels = list(places)
        self._folds: dict[str | None, Fold] = {}
        self._units: dict[tuple[str | None, int], str] = {}
        self._check_size()
        self._fold = self._fold_of(None)
        self._stats = {"count", self._fold.stat} if self._fold.stat else {"count", "first", "last"}
        resolution, instead = for_fold(question, self.edges, self._fold)
        self.shares = shares(found, resolution, instead)
        self.missing = left_out(question, found, resolution)

    def _check_size(self) -> None:
        groups, intervals = len(self._labels), len(self.edges) - 1
        if groups * intervals > MOST_SLOTS:
            detail = f"{groups:,} groups of {intervals:,} intervals are over {MOST_SLOTS:,} values"
            raise InvalidField("interval", f"{detail}; ask for longer intervals, fewer devices or group_by all")

    def read(self, connection: Connection, planned: ReadPlan) -> None:
        """Fold everything that a plan, of one of the shares, reads."""
        for summary in read_rollups(connection, planned, self._stats):
            self._add_rolled(summary)
        pieces = read_points(connection, planned, self._fold.needs_order)
        for piece in counted(self.question, pieces, kept_most(self.question)):
            self._add(piece)

    def _fold_of(self, value: str | None) -> Fold:
        if value not in self._folds:
            if len(self._folds) > MOST_TAGS:
                raise InvalidField("group_by", f"the tag has more than {MOST_TAGS:,} values")
            slots = len(self._labels) * (len(self.edges) - 1)
            self._folds[value] = fold(self.question.aggregation or "", slots, self._asked)
        return self._folds[value]

    def _add(self, piece: Columns) -> None:
        kept = filtered(piece, self.question)
        if kept is None:
            return
        for value, part, places in self._placed(kept):
            groups = self._groups[places]
            self._fold_of(value).add(part, cut(part, self.edges, places, groups))
            if part.contexts is not None:
                for group, at in zip(groups.tolist(), part.contexts[part.offsets[1:] - 1].tolist(), strict=True):
                    if unit := unit_in(part.dictionary[at]):
                        self._units[value, group] = unit

    def _add_rolled(self, summary: RollupColumns) -> None:
        """Intervals of rollups, none of which an edge cuts."""
        for places, asked in self._rounds:
            at = np.minimum(np.searchsorted(asked, summary.ids), len(asked) - 1)
            here = asked[at] == summary.ids
            if here.any():
                self._fold_summary(summary.of(here), places[at[here]])

    def _fold_summary(self, summary: RollupColumns, places: Ints) -> None:
        counts = summary.stats["count"]
        if self._fold.stat:
            part = summary.values(self._fold.stat)
        else:
            part, counts = summary.ends()
        groups = self._groups[places]
        runs = cut(part, self.edges, places, groups)
        runs.counts = np.add.reduceat(counts, runs.starts)
        self._fold.add(part, runs)
        for group, entry in zip(groups.tolist(), summary.units, strict=True):
            if unit := unit_in(entry):
                self._units.setdefault((None, group), unit)

    def _placed(self, piece: Columns) -> Iterator[tuple[str | None, Columns, Ints]]:
        """(value of the tag, points, places of their series among all that are asked for)."""
        if len(self._rounds) == 1:
            for value, part in self._by_tag(piece):
                yield value, part, np.searchsorted(self.ids, part.ids)
            return
        for places, asked in self._rounds:
            at = np.minimum(np.searchsorted(asked, piece.ids), len(asked) - 1)
            here = asked[at] == piece.ids
            if here.any():
                part = piece if here.all() else select_points(piece, np.repeat(here, np.diff(piece.offsets)))
                yield None, part, places[at[here]]

    def _by_tag(self, piece: Columns) -> Iterator[tuple[str | None, Columns]]:
        name = self.question.tag
        if name is None or piece.contexts is None:
            yield None, piece
            return
        values = [_text(tags_in(entry).get(name)) for entry in piece.dictionary]
        for value in dict.fromkeys(values):
            mask = np.array([one == value for one in values], bool)[piece.contexts]
            if mask.any():
                yield value, piece if mask.all() else select_points(piece, mask)

    def groups_found(self) -> Iterator[Group]:
        intervals, times = len(self.edges) - 1, self.edges[:-1]
        for value, one in sorted(self._folds.items(), key=lambda item: (item[0] is not None, item[0] or "")):
            values = one.values()
            for place, (device_id, metric, name) in enumerate(self._labels):
                part = slice(place * intervals, (place + 1) * intervals)
                counts = one.count[part]
                if counts.any():
                    unit = self._unit(value, place, metric)
                    yield self._group(
                        (device_id, metric, name if value is None else value), unit, times, values[part], counts
                    )

    def _group(self, label: Label, unit: str | None, times: Ints, values: Floats, counts: Ints) -> Group:
        if self.question.fill == "none":
            known = ~np.isnan(values)
            times, values, counts = times[known], values[known], counts[known]
        shown: list[Any] = filled(values, times, self.question.fill).tolist()
        if self.question.aggregation == "count":
            shown = [int(value) if value == value and value.is_integer() else value for value in shown]
        return Group(
            label,
            unit,
            times.tolist(),
            [value if value == value else None for value in shown],
            counts.tolist(),
        )

    def _unit(self, value: str | None, place: int, metric: str | None) -> str | None:
        unit = self._units.get((value, place)) or (cached_registry().unit(metric) if metric else None)
        if self.question.aggregation == "count" or unit is None:
            return None
        return f"{unit}/s" if self.question.aggregation == "rate" else unit


def _text(value: Any) -> str | None:
    return value if value is None or isinstance(value, str) else str(value)
