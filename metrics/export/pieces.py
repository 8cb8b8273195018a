"""A question's whole answer, piece by piece: as much at once as fits in memory, and with no end to how many.

Pieces come in the order of the answer: by device and metric as they were asked for, then by time. Each tells where to
go on, so that whoever wrote it down may be killed and another goes on from there. Points as they are are read several
series together where these are short, and stretch by stretch of time where one is long; what they amount to is
folded several groups together. How much a piece will hold is known from the plan, before anything is read.
"""

import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from itertools import groupby

import numpy as np

from metrics.export.rows import Line
from metrics.query.accumulators import parse_percentile
from metrics.query.aggregate import plan_aggregation, read_aggregates, shape_groups
from metrics.query.downsample import combine_series
from metrics.query.plan import PlanPiece, check_limits, point_limit
from metrics.query.query import Query
from metrics.query.result import ResolvedSeries, ResultSeries, apply_filters
from metrics.storage import series_registry
from metrics.storage.connection import Connection
from metrics.storage.format.codec import Columns, Kind, concatenate
from metrics.storage.format.contexts import write_context
from metrics.storage.read.plan import ReadPlan, plan_read, snapshot
from metrics.storage.read.scan import read_points
from metrics.storage.units import SECOND

NUMBERS_AT_ONCE = 250_000  # points of a piece
LISTED_AT_ONCE = 20_000  # points of a piece whose values are no array: texts, which may be long, and mixtures
VALUES_AT_ONCE = 250_000  # intervals of a piece
HELD_AT_ONCE = 1_000_000  # points of a piece whose values are held until it is folded: percentiles
SNAPSHOT_KEPT = 60.0  # seconds; an older one would keep PostgreSQL from clearing away what every commit leaves behind

Place = tuple[int, int, int]  # the device's and the metric's place in the question, and a time (µs)
BEGINNING: Place = (0, 0, 0)


@dataclass(slots=True)
class Piece:
    """Some lines of an answer; `after` is where the next piece begins."""

    lines: list[Line]
    after: Place
    progress: float  # 0 to 1
    damaged: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class _Lot:
    """Series that must be read together: those of one line."""

    place: tuple[int, int]
    series: list[ResolvedSeries]

    @property
    def is_columns(self) -> bool:
        """Whether its values are one array of numbers."""
        return len(self.series) == 1 and self.series[0].kind.is_number


class Pieces:
    """The answer from `begin` on. `found` are the question's series, in their order.

    All of it is read in one snapshot, unless that grows old: then the next piece is read in a new one. Whoever takes
    long over a piece calls `let_go_when_old` now and then.
    """

    def __init__(self, question: Query, found: list[ResolvedSeries], begin: Place = BEGINNING) -> None:
        series_registry.current_registry()  # whose units are shown where points have none
        self._question, self._begin, self._all = question, begin, len(found)
        self._lots = list(_lots(question, found))
        self._held = ExitStack()
        self._opened = 0.0
        self._is_old = False

    def __iter__(self) -> Iterator[Piece]:
        while lots := [lot for lot in self._lots if lot.place >= self._begin[:2]]:
            with ExitStack() as self._held:
                self._opened, self._is_old = time.monotonic(), False
                connection = self._held.enter_context(snapshot(pooled=False))
                for piece in self._read(connection, lots):
                    self._begin = piece.after
                    yield piece
                    self.let_go_when_old()
                    if self._is_old:
                        break

    def let_go_when_old(self) -> None:
        """Close the snapshot where it has been open for long. What it was read for is in memory."""
        if time.monotonic() - self._opened > SNAPSHOT_KEPT:
            self._is_old = True
            self._held.close()

    def _read(self, connection: Connection, lots: list[_Lot]) -> Iterator[Piece]:
        reading = _Reading(connection, self._question, lots, self._all, 1 - len(lots) / len(self._lots))
        if self._question.aggregation is not None:
            return reading.amounts()
        low = self._begin[2] if lots[0].place == self._begin[:2] else 0
        return reading.points(max(low, self._question.start_us))


def _lots(question: Query, found: list[ResolvedSeries]) -> Iterator[_Lot]:
    devices = {device_id: place for place, device_id in enumerate(question.devices or ())}
    metrics = {metric: place for place, metric in enumerate(question.metrics)}

    def place(one: ResolvedSeries) -> tuple[int, int]:
        if question.group_by == "series":
            return devices[one.device_id], metrics[one.metric_name]
        return (devices[one.device_id], 0) if question.group_by == "device" else (0, 0)

    for where, some in groupby(found, place):
        yield _Lot(where, list(some))


class _Reading:
    """One pass over the lots, in one snapshot."""

    def __init__(self, connection: Connection, question: Query, lots: list[_Lot], series: int, passed: float) -> None:
        self.connection, self.question = connection, question
        self.lots, self.all, self.passed = lots, series, passed

    def _progress(self, lots: float) -> float:
        return self.passed + (1 - self.passed) * lots / len(self.lots)

    def points(self, low: int) -> Iterator[Piece]:
        """Points as they are. While there is room to spare, the next piece is twice as wide, then twice as long."""
        at, width, high = 0, 1, self.question.end_us
        whole = span = high - self.question.start_us
        while at < len(self.lots):
            lots = self.lots[at : at + width]
            end = high if len(lots) > 1 else min(low + span, high)
            planned = self._planned(_as_they_are(lots), low, end)
            most = NUMBERS_AT_ONCE if all(lot.is_columns for lot in lots) else LISTED_AT_ONCE
            expected = self._expected(planned)
            if expected > most and len(lots) > 1:
                width = len(lots) // 2
                continue
            if expected > most and span > SECOND:
                span = min(span, end - low) // 2 + 1
                continue
            lines = self._lines(planned, lots)
            roomy = expected * 2 <= most
            if end < high:
                passed, low = (end - self.question.start_us) / whole, end
                after = (*lots[0].place, end)
            else:
                at, low, passed = at + len(lots), self.question.start_us, 0.0
                after = (*self.lots[at].place, low) if at < len(self.lots) else (*_beyond(lots[-1].place), low)
                width = width * 2 if roomy and span >= whole else width
            span = min(span * 2, whole) if roomy else span
            yield Piece(lines, after, self._progress(at + passed), planned.damaged)

    def amounts(self) -> Iterator[Piece]:
        """What points amount to."""
        intervals = len(self.question.edges()) - 1
        holds = parse_percentile(self.question.aggregation or "") is not None
        at, widest = 0, max(1, VALUES_AT_ONCE // intervals)
        width = 1 if holds else widest
        while at < len(self.lots):
            lots = self.lots[at : at + width]
            plan = plan_aggregation(self.question, [one for lot in lots for one in lot.series])
            plans = [self._planned(one, self.question.start_us, self.question.end_us) for one in plan.pieces]
            expected = sum(map(self._expected, plans)) if holds else 0
            if expected > HELD_AT_ONCE and len(lots) > 1:
                width = len(lots) // 2
                continue
            check_limits(self.question, plans, point_limit(self.question))
            aggregates = read_aggregates(self.connection, plan, plans)
            lines = [_amounts(self.question, group) for group in shape_groups(plan, aggregates)]
            at += len(lots)
            if expected * 2 <= HELD_AT_ONCE:
                width = min(width * 2, widest)
            after = self.lots[at].place if at < len(self.lots) else _beyond(lots[-1].place)
            damaged = [name for planned in plans for name in planned.damaged]
            yield Piece(lines, (*after, self.question.start_us), self._progress(at), damaged)

    def _planned(self, piece: PlanPiece, low: int, high: int) -> ReadPlan:
        planned = plan_read(self.connection, piece.ids, low, high, piece.rolling)
        planned.remembers = False  # an export reads everything once: others' blocks are worth more
        return planned

    def _expected(self, planned: ReadPlan) -> int:
        return planned.expected(young=len(planned.series) / self.all)

    def _lines(self, planned: ReadPlan, lots: list[_Lot]) -> list[Line]:
        parts: dict[int, list[Columns]] = {}
        for piece in read_points(self.connection, planned, whole=True):
            kept = apply_filters(piece, self.question)
            if kept is not None:
                for place, number in enumerate(kept.ids.tolist()):
                    parts.setdefault(number, []).append(kept.part(place, place + 1))
        lines = (_points(lot, {one.id: parts.pop(one.id) for one in lot.series if one.id in parts}) for lot in lots)
        return [line for line in lines if len(line)]


def _as_they_are(lots: list[_Lot]) -> PlanPiece:
    return PlanPiece(np.array(sorted(one.id for lot in lots for one in lot.series), np.int64), None)


def _beyond(place: tuple[int, int]) -> tuple[int, int]:
    return place[0], place[1] + 1


def _points(lot: _Lot, parts: dict[int, list[Columns]]) -> Line:
    columns = {number: concatenate(some) for number, some in parts.items()}
    readings = combine_series(columns, {one.id: one.kind for one in lot.series if one.id in columns})
    one = lot.series[0]
    line = Line(one.device_id, one.metric_name, readings.times, readings.values)
    line.unit = series_registry.cached_registry().unit(one.metric_name)
    line.is_boolean = readings.kinds == [Kind.BOOLEAN]
    if readings.contexts is not None:
        line.contexts, line.dictionary = readings.contexts, readings.dictionary
    return line


def _amounts(question: Query, group: ResultSeries) -> Line:
    device_id, metric_name, value = group.label
    tags = None if question.group_tag is None else {question.group_tag: value}
    entry = write_context(group.unit, tags, None)
    return Line(device_id, metric_name, np.array(group.times, np.int64), group.values, dictionary=(entry,))
