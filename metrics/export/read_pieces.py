"""Read the result of a query in pieces that fit in memory, without a limit on their number.

Pieces follow the order of the result: devices and metrics as in the query, then time. Each has the position of the
next one, so another process can continue there. Short series of raw points are read together, a long series in spans
of time; aggregations are read for several groups together. The plan gives the size of a piece before the read.
"""

import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from itertools import groupby

import numpy as np

from metrics.export.rows import ExportSeries
from metrics.query.aggregate import accumulate, plan_aggregation, shape_groups
from metrics.query.plan import check_limits
from metrics.query.query import Buckets, Query, ValidQuery
from metrics.query.raw_points import combine_series
from metrics.query.result import ResolvedSeries, ResultSeries
from metrics.storage import series_registry
from metrics.storage.connection import Connection
from metrics.storage.format.codec import Columns, Kind, concatenate
from metrics.storage.format.contexts import write_context
from metrics.storage.read.plan import ReadPlan, plan_read, snapshot
from metrics.storage.read.rollups import PlanPiece
from metrics.storage.read.scan import read_points
from metrics.storage.units import SECOND

MAX_NUMERIC_POINTS = 250_000  # of a piece
MAX_LIST_POINTS = 20_000  # of a piece whose values are not one array: texts, which may be long, and mixed kinds
MAX_AGGREGATES = 250_000  # time buckets of a piece
MAX_HELD_POINTS = 1_000_000  # of a piece whose aggregation holds all values: percentiles
MAX_SNAPSHOT_AGE = 60.0  # seconds; an open snapshot keeps PostgreSQL from removing rows that commits replace

ExportPosition = tuple[int, int, int]  # position of the device and of the metric in the query, and a time (µs)
START: ExportPosition = (0, 0, 0)


@dataclass(slots=True)
class ExportPiece:
    """Some series of a result; the next piece begins at `next_position`."""

    series: list[ExportSeries]
    next_position: ExportPosition
    progress: float  # 0 to 1
    damaged: list[str] = field(default_factory=list)  # names of damaged blocks

    @property
    def incomplete(self) -> list[str]:
        """Messages about missing points."""
        return [f"{name} is damaged and was left out" for name in self.damaged]


@dataclass(frozen=True, slots=True)
class _SeriesSet:
    """Series that must be read together: those of one device and metric, or of all groups of an aggregation.

    position  of the device and of the metric in the query
    """

    position: tuple[int, int]
    series: list[ResolvedSeries]

    @property
    def is_numeric(self) -> bool:
        """Whether its values are one array of numbers."""
        return len(self.series) == 1 and self.series[0].kind.is_number


class PieceReader:
    """Iterates over the pieces from `start` on; `series` are those of the query, in order.

    All is read in one snapshot until that is too old; the next piece is then read in a new one. A caller that takes
    long over a piece calls `close_old_snapshot` now and then.
    """

    def __init__(self, query: Query, series: list[ResolvedSeries], start: ExportPosition = START) -> None:
        series_registry.current_registry()  # loads the units of metric definitions
        self._query, self._position, self._series_count = query.validate(), start, len(series)
        self._sets = list(_series_sets(query, series))
        self._snapshot = ExitStack()
        self._opened = 0.0
        self._is_old = False

    def __iter__(self) -> Iterator[ExportPiece]:
        while sets := [one_set for one_set in self._sets if one_set.position >= self._position[:2]]:
            with ExitStack() as self._snapshot:
                self._opened, self._is_old = time.monotonic(), False
                connection = self._snapshot.enter_context(snapshot(pooled=False))
                for piece in self._read(connection, sets):
                    self._position = piece.next_position
                    yield piece
                    self.close_old_snapshot()
                    if self._is_old:
                        break

    def close_old_snapshot(self) -> None:
        """Close the snapshot if it is too old. The piece that was read in it is in memory."""
        if time.monotonic() - self._opened > MAX_SNAPSHOT_AGE:
            self._is_old = True
            self._snapshot.close()

    def _read(self, connection: Connection, sets: list[_SeriesSet]) -> Iterator[ExportPiece]:
        done = 1 - len(sets) / len(self._sets)
        reader = _SnapshotReader(connection, self._query, sets, self._series_count, done)
        if self._query.buckets is not None:
            return reader.read_aggregated(self._query.buckets)
        start = self._position[2] if sets[0].position == self._position[:2] else 0
        return reader.read_raw(max(start, self._query.start))


def _series_sets(query: Query, series: list[ResolvedSeries]) -> Iterator[_SeriesSet]:
    devices = {device_id: position for position, device_id in enumerate(query.devices or ())}
    metrics = {metric: position for position, metric in enumerate(query.metrics)}

    def position_of(row: ResolvedSeries) -> tuple[int, int]:
        if query.group_by == "series":
            return devices[row.device_id], metrics[row.metric_name]
        return (devices[row.device_id], 0) if query.group_by == "device" else (0, 0)

    for position, rows in groupby(series, position_of):
        yield _SeriesSet(position, list(rows))


class _SnapshotReader:
    """Reads sets of series in one snapshot; `done` is the share of the export that was read before."""

    def __init__(
        self, connection: Connection, query: ValidQuery, sets: list[_SeriesSet], series_count: int, done: float
    ) -> None:
        self.connection, self.query = connection, query
        self.sets, self.series_count, self.done = sets, series_count, done

    def _progress(self, sets_read: float) -> float:
        return self.done + (1 - self.done) * sets_read / len(self.sets)

    def read_raw(self, start: int) -> Iterator[ExportPiece]:
        """Yield raw points. A piece that is at most half full doubles the number of series, or the span of time."""
        first, width, query_end = 0, 1, self.query.end
        whole = span = query_end - self.query.start
        while first < len(self.sets):
            sets = self.sets[first : first + width]
            end = query_end if len(sets) > 1 else min(start + span, query_end)
            storage_plan = self._plan(_raw_piece(sets), start, end)
            max_points = MAX_NUMERIC_POINTS if all(one_set.is_numeric for one_set in sets) else MAX_LIST_POINTS
            expected = self._expected_points(storage_plan)
            if expected > max_points and len(sets) > 1:
                width = len(sets) // 2
                continue
            if expected > max_points and span > SECOND:
                span = min(span, end - start) // 2 + 1
                continue
            series = self._read_series(storage_plan, sets)
            has_room = expected * 2 <= max_points
            if end < query_end:
                partial, start = (end - self.query.start) / whole, end
                next_position = (*sets[0].position, end)
            else:
                first, start, partial = first + len(sets), self.query.start, 0.0
                next_position = (*self._next_set_position(first, sets), start)
                width = width * 2 if has_room and span >= whole else width
            span = min(span * 2, whole) if has_room else span
            yield ExportPiece(series, next_position, self._progress(first + partial), storage_plan.damaged)

    def read_aggregated(self, buckets: Buckets) -> Iterator[ExportPiece]:
        """Yield aggregated values."""
        holds_values = buckets.aggregation.accumulator.holds_values
        first, max_width = 0, max(1, MAX_AGGREGATES // (len(buckets.edges) - 1))
        width = 1 if holds_values else max_width
        while first < len(self.sets):
            sets = self.sets[first : first + width]
            aggregation = plan_aggregation(self.query, buckets, [row for one_set in sets for row in one_set.series])
            plans = [self._plan(piece, self.query.start, self.query.end) for piece in aggregation.request.pieces]
            expected = sum(map(self._expected_points, plans)) if holds_values else 0
            if expected > MAX_HELD_POINTS and len(sets) > 1:
                width = len(sets) // 2
                continue
            check_limits(aggregation.request, plans)
            aggregates = accumulate(self.connection, aggregation, plans)
            series = [_from_result(buckets.group_tag, group) for group in shape_groups(aggregation, aggregates)]
            first += len(sets)
            if expected * 2 <= MAX_HELD_POINTS:
                width = min(width * 2, max_width)
            next_position = (*self._next_set_position(first, sets), self.query.start)
            damaged = [name for storage_plan in plans for name in storage_plan.damaged]
            yield ExportPiece(series, next_position, self._progress(first), damaged)

    def _next_set_position(self, first: int, read: list[_SeriesSet]) -> tuple[int, int]:
        """Return the position of the set at `first`; past the last one that was read if there is none."""
        if first < len(self.sets):
            return self.sets[first].position
        device, metric = read[-1].position
        return device, metric + 1

    def _plan(self, piece: PlanPiece, start: int, end: int) -> ReadPlan:
        storage_plan = plan_read(self.connection, piece.ids, start, end, piece.rollup_use)
        storage_plan.caches_blocks = False  # an export reads each block once: cached blocks of others are worth more
        return storage_plan

    def _expected_points(self, storage_plan: ReadPlan) -> int:
        return storage_plan.estimated_points(unmerged_fraction=len(storage_plan.series) / self.series_count)

    def _read_series(self, storage_plan: ReadPlan, sets: list[_SeriesSet]) -> list[ExportSeries]:
        parts: dict[int, list[Columns]] = {}
        for piece in read_points(self.connection, storage_plan, whole=True):
            matching = piece if self.query.filters is None else self.query.filters.select(piece)
            if matching is not None:
                for position, series_id in enumerate(matching.ids.tolist()):
                    parts.setdefault(series_id, []).append(matching.slice_series(position, position + 1))
        all_series = (
            _from_points(one_set, {row.id: parts.pop(row.id) for row in one_set.series if row.id in parts})
            for one_set in sets
        )
        return [series for series in all_series if len(series)]


def _raw_piece(sets: list[_SeriesSet]) -> PlanPiece:
    return PlanPiece(np.array(sorted(row.id for one_set in sets for row in one_set.series), np.int64))


def _from_points(series_set: _SeriesSet, parts: dict[int, list[Columns]]) -> ExportSeries:
    columns = {series_id: concatenate(series_parts) for series_id, series_parts in parts.items()}
    points = combine_series(columns, {row.id: row.kind for row in series_set.series if row.id in columns})
    row = series_set.series[0]
    series = ExportSeries(row.device_id, row.metric_name, points.times, points.values)
    series.unit = series_registry.current_registry().unit(row.metric_name)
    series.is_boolean = points.kinds == [Kind.BOOLEAN]
    if points.contexts is not None:
        series.contexts, series.dictionary = points.contexts, points.dictionary
    return series


def _from_result(group_tag: str | None, group: ResultSeries) -> ExportSeries:
    device_id, metric_name, tag_value = group.label
    tags = None if group_tag is None else {group_tag: tag_value}
    context = write_context(group.unit, tags, None)
    times = np.array(group.times, np.int64)
    return ExportSeries(device_id, metric_name, times, group.values, dictionary=(context,))
