"""Raw points: series by series and page by page, in the stages plan, read and shape (with downsampling for charts)."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from metrics.query.plan import (
    BatchTooLarge,
    PointFilter,
    ReadReport,
    ReadRequest,
    find_expired_points,
    open_read,
    point_limit,
    read_matching_points,
)
from metrics.query.query import PagePosition, SeriesLabel, ValidQuery
from metrics.query.result import Page, ResolvedSeries, ResultSeries, skip_previous_pages
from metrics.storage.connection import Connection
from metrics.storage.format.codec import NO_CONTEXT, Columns, Ints, Kind, concatenate
from metrics.storage.format.contexts import unit_of
from metrics.storage.format.json_values import to_json_value
from metrics.storage.read.plan import ReadPlan
from metrics.storage.read.rollups import NO_ROLLUPS, RollupChoice, choose_for_chart, split_by_retention
from metrics.storage.read.scan import read_rollups
from metrics.storage.series_registry import current_registry

READ_BATCH_POINTS = 2_000_000  # of the blocks of several series that are read together


@dataclass(frozen=True, slots=True)
class RawPlan:
    """Sources of a page of raw points.

    series   by label; a metric that was sent in several kinds of value is several series
    labels   of this page and those after it, in order
    after    the last point of the previous page, of the first label
    """

    start: int
    end: int
    series: dict[SeriesLabel, list[ResolvedSeries]]
    labels: list[SeriesLabel]
    after: PagePosition | None
    limit: int
    max_points: int | None
    rollups: RollupChoice
    filters: PointFilter | None
    incomplete: list[str]


@dataclass(slots=True)
class RawPoints:
    """Points of one metric of one device, oldest first.

    times       int64[n], µs since 1970, UTC
    values      float64[n] (booleans as 0 and 1) if all are numbers, else a list of JSON values
    kinds       of the series that they come from: several if the metric was sent in several kinds of value
    contexts    int32[n]: position of each point's unit, tags and metadata in the dictionary; None: points have none
    """

    times: Ints
    values: NDArray[np.float64] | list[Any]
    kinds: list[Kind]
    contexts: NDArray[np.int32] | None
    dictionary: Sequence[bytes]

    def __len__(self) -> int:
        return len(self.times)

    def at(self, positions: NDArray[np.intp]) -> "RawPoints":
        """Return only the points at these positions."""
        is_list = isinstance(self.values, list)
        values: Any = [self.values[position] for position in positions.tolist()] if is_list else self.values[positions]
        contexts = None if self.contexts is None else self.contexts[positions]
        return RawPoints(self.times[positions], values, self.kinds, contexts, self.dictionary)

    def json_values(self) -> list[Any]:
        """Return the values as JSON shows them."""
        values = self.values if isinstance(self.values, list) else self.values.tolist()
        return [bool(value) for value in values] if self.kinds == [Kind.BOOLEAN] else values


# --- plan -------------------------------------------------------------------------------------------


def plan_raw_points(query: ValidQuery, series: list[ResolvedSeries]) -> RawPlan:
    """Choose the rollups, and the series of this page and those after it."""
    by_label: dict[SeriesLabel, list[ResolvedSeries]] = {}
    for row in series:
        by_label.setdefault(row.label, []).append(row)
    choice, incomplete = NO_ROLLUPS, []
    if query.max_points is not None and query.filters is None:
        choice = choose_for_chart(query.end - query.start, query.max_points)
    else:
        incomplete = find_expired_points(series, None, query.start, query.end)
    return RawPlan(
        query.start,
        query.end,
        by_label,
        skip_previous_pages(list(by_label), query.after),
        query.after,
        query.limit,
        query.max_points,
        choice,
        query.filters,
        incomplete,
    )


# --- read -------------------------------------------------------------------------------------------


def read_raw_points(plan: RawPlan, report: ReadReport) -> Iterator[tuple[SeriesLabel, dict[int, Columns]]]:
    """Yield the points of every label by series id, in order, and add to the report what was read.

    Series are read in batches that double in size; nothing is read of those after the page. Raises InvalidField over
    a limit, or Overloaded.
    """
    first, batch_size, count = 0, 1, 0
    while first < len(plan.labels):
        batch_size = min(batch_size, len(plan.labels) - first)
        labels = plan.labels[first : first + batch_size]
        try:
            columns = _read_batch(plan, labels, count, report)
        except BatchTooLarge:
            batch_size //= 2
            continue
        for label in labels:
            of_label = {row.id: columns[row.id] for row in plan.series[label] if row.id in columns}
            count += sum(map(len, of_label.values()))
            yield label, of_label
        first, batch_size = first + batch_size, batch_size * 2


def _read_batch(plan: RawPlan, labels: list[SeriesLabel], delivered: int, report: ReadReport) -> dict[int, Columns]:
    """Return the points by series id; of a single series only the days that the page needs after `delivered` points."""
    series = [row for label in labels for row in plan.series[label]]
    needed = plan.limit - delivered + 1 if len(series) == 1 and plan.max_points is None else None
    start = plan.start
    if plan.after is not None and plan.after.label == labels[0]:  # the first series is always read alone
        start = plan.after.time + 1
    request = ReadRequest(
        split_by_retention(series, plan.rollups, plan.max_points),
        start,
        plan.end,
        point_limit(holds_points=True),
        plan.filters,
        is_partial=needed is not None,
        max_block_points=READ_BATCH_POINTS if len(labels) > 1 else None,
    )
    columns: dict[int, list[Columns]] = {}
    count = 0
    with open_read(request) as (connection, storage_plans):
        for storage_plan in storage_plans:
            for part in _read_parts(connection, storage_plan, request):
                for position, series_id in enumerate(part.ids.tolist()):
                    columns.setdefault(series_id, []).append(part.slice_series(position, position + 1))
                count += len(part)
                if needed is not None and count >= needed:
                    break
            report.add(storage_plan)
    return {series_id: concatenate(parts) for series_id, parts in columns.items()}


def _read_parts(connection: Connection, storage_plan: ReadPlan, request: ReadRequest) -> Iterator[Columns]:
    """Yield the points of a plan; rollups are represented by their minimum and maximum."""
    for summary in read_rollups(connection, storage_plan, ("count", "least", "greatest")):
        yield summary.min_max_points()
    yield from read_matching_points(connection, storage_plan, request, whole=True)


# --- shape ------------------------------------------------------------------------------------------


def shape_raw_points(plan: RawPlan, read: Iterable[tuple[SeriesLabel, dict[int, Columns]]]) -> Page:
    """Return the series of a page, downsampled to `max_points` each; the page ends where the limit is reached."""
    series: list[ResultSeries] = []
    room = plan.limit
    for label, columns in read:
        points = combine_series(columns, {row.id: row.kind for row in plan.series[label]})
        if plan.max_points is not None and len(points) > plan.max_points:
            points = downsample(points, plan.max_points)
        fits = len(points) <= room
        if not fits:
            points = points.at(np.arange(room))
        if len(points):
            series.append(_shape_series(label, points))
            room -= len(points)
        if not fits:
            return Page(series, PagePosition(series[-1].label, series[-1].times[-1]))
    return Page(series)


def combine_series(columns: dict[int, Columns], kinds: dict[int, Kind]) -> RawPoints:
    """Return the points of all series (by id) of one metric of one device."""
    if not columns:
        return RawPoints(np.empty(0, np.int64), np.empty(0), [], None, ())
    if len(columns) == 1:
        [(series_id, points)] = columns.items()
        kind = kinds[series_id]
        values: Any = points.values if points.is_numeric else [to_json_value(value, kind) for value in points.values]
        if kind is Kind.BOOLEAN:
            values = points.values
        return RawPoints(points.times, values, [kind], points.contexts, points.dictionary)
    # A metric that was sent in several kinds of value is rare, so a list is fast enough.
    rows = []
    for series_id, points in columns.items():
        for position in range(len(points)):
            context = b"" if points.contexts is None else points.dictionary[points.contexts[position]]
            value = to_json_value(points.values[position], kinds[series_id])
            rows.append((int(points.times[position]), value, context))
    rows.sort(key=lambda row: row[0])
    dictionary = sorted({row[2] for row in rows})
    return RawPoints(
        np.array([row[0] for row in rows], np.int64),
        [row[1] for row in rows],
        sorted({kinds[series_id] for series_id in columns}),
        np.array([dictionary.index(row[2]) for row in rows], np.int32),
        dictionary,
    )


def _shape_series(label: SeriesLabel, points: RawPoints) -> ResultSeries:
    contexts = [NO_CONTEXT] * len(points)
    if points.contexts is not None:
        contexts = [points.dictionary[position] for position in points.contexts.tolist()]
    unit = unit_of(contexts[-1]) or current_registry().unit(label[1] or "")
    return ResultSeries(label, unit, points.times.tolist(), points.json_values(), contexts=contexts)


def downsample(points: RawPoints, max_points: int) -> RawPoints:
    """Return at most about `max_points` that draw the same line: the minimum and the maximum of equal spans of time."""
    if isinstance(points.values, list):
        return points.at(np.arange(0, len(points), -(-len(points) // max_points)))
    edges = np.linspace(points.times[0], points.times[-1] + 1, max(max_points // 2, 1) + 1).astype(np.int64)
    starts = np.unique(np.searchsorted(points.times, edges[:-1]))
    lengths = np.diff([*starts, len(points)])
    positions = [np.array([0, len(points) - 1])]
    for extreme in (np.minimum, np.maximum):
        matches = np.flatnonzero(points.values == np.repeat(extreme.reduceat(points.values, starts), lengths))
        positions.append(matches[np.searchsorted(matches, starts)])
    return points.at(np.unique(np.concatenate(positions)))
