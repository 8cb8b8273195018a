"""Read raw points: series by series, page by page, optionally downsampled."""

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np

from metrics.query.downsample import RawPoints, combine_series, downsample
from metrics.query.plan import (
    MAX_READ_POINTS,
    PlanPiece,
    choose_chart_rollups,
    find_expired_points,
    limit_points,
    open_read,
    plan_pieces,
    point_limit,
)
from metrics.query.query import Query, SeriesLabel
from metrics.query.result import QueryResult, ResolvedSeries, ResultSeries, apply_filters, skip_previous_pages, unit_of
from metrics.storage.connection import Connection
from metrics.storage.format.codec import NO_CONTEXT, Columns, concatenate
from metrics.storage.read.plan import ReadPlan, plan_read, snapshot
from metrics.storage.read.scan import read_points, read_rollups
from metrics.storage.series_registry import cached_registry
from metrics.storage.units import to_datetime

READ_BATCH_POINTS = 2_000_000  # of the blocks of several series that are read together


def read_raw_points(query: Query, series: list[ResolvedSeries]) -> QueryResult:
    """Return the points of every series, in order. Series are read in batches that double in size."""
    by_label: dict[SeriesLabel, list[ResolvedSeries]] = {}
    for row in series:  # a metric that was sent in several kinds of value is several series
        by_label.setdefault(row.label, []).append(row)
    result, cursor = QueryResult(query), query.decode_cursor()
    choice = choose_chart_rollups(query)
    if choice.resolution is None:
        result.incomplete += find_expired_points(query, series, None)
    labels = skip_previous_pages(list(by_label), cursor)
    first, batch_size = 0, 1
    while first < len(labels):
        batch_size = min(batch_size, len(labels) - first)
        batch = labels[first : first + batch_size]
        batch_series = [row for label in batch for row in by_label[label]]
        pieces = plan_pieces(batch_series, choice, query.max_points)
        if batch_size > 1 and _merged_points(query, pieces) > READ_BATCH_POINTS:
            batch_size //= 2
            continue
        needed = query.limit - result.count + 1 if len(batch_series) == 1 and query.max_points is None else None
        columns = _read_columns(_after_cursor(query, batch[0], cursor), pieces, needed, result)
        for label in batch:
            kinds = {row.id: row.kind for row in by_label[label] if row.id in columns}
            points = combine_series({series_id: columns[series_id] for series_id in kinds}, kinds)
            if not _add_series(result, label, points):
                return result
        first, batch_size = first + batch_size, batch_size * 2
    return result


def _merged_points(query: Query, pieces: Sequence[PlanPiece]) -> int:
    with snapshot() as connection:
        plans = [plan_read(connection, piece.ids, query.start_us, query.end_us, piece.rollup_use) for piece in pieces]
    return sum(storage_plan.points - storage_plan.unmerged_points for storage_plan in plans)


def _after_cursor(query: Query, label: SeriesLabel, cursor: tuple[SeriesLabel, int] | None) -> Query:
    """Return the query without the points of previous pages; the first series is always read alone."""
    if cursor is None or cursor[0] != label:
        return query
    return replace(query, start=to_datetime(cursor[1] + 1))


def _read_columns(
    query: Query, pieces: Sequence[PlanPiece], needed: int | None, result: QueryResult
) -> dict[int, Columns]:
    """Return the points by series id; of a single series only as many days as have `needed` points."""
    columns: dict[int, list[Columns]] = {}
    count = 0
    max_points = point_limit(query) if needed is None else MAX_READ_POINTS
    with open_read(query, pieces, max_points) as (connection, storage_plans):
        for storage_plan in storage_plans:
            for part in _read_parts(connection, storage_plan, query):
                for position, series_id in enumerate(part.ids.tolist()):
                    columns.setdefault(series_id, []).append(part.slice_series(position, position + 1))
                count += len(part)
                if needed is not None and count >= needed:
                    break
            result.add_read(storage_plan)
    return {series_id: concatenate(parts) for series_id, parts in columns.items()}


def _read_parts(connection: Connection, storage_plan: ReadPlan, query: Query) -> Iterator[Columns]:
    """Yield the points of a plan; rollups are represented by their minimum and maximum."""
    for summary in read_rollups(connection, storage_plan, ("count", "least", "greatest")):
        yield summary.min_max_points()
    for piece in limit_points(query, read_points(connection, storage_plan, whole=True), point_limit(query)):
        if (matching := apply_filters(piece, query)) is not None:
            yield matching


def _add_series(result: QueryResult, label: SeriesLabel, points: RawPoints) -> bool:
    """Add a series as far as the limit allows; return False if it did not fit."""
    query = result.query
    if query.max_points is not None and len(points) > query.max_points:
        points = downsample(points, query.max_points)
    if not len(points):
        return True
    room = query.limit - result.count
    fits = len(points) <= room
    if not fits:
        points = points.at(np.arange(room))
    if len(points):
        contexts = [NO_CONTEXT] * len(points)
        if points.contexts is not None:
            contexts = [points.dictionary[position] for position in points.contexts.tolist()]
        unit = unit_of(contexts[-1]) or cached_registry().unit(label[1] or "")
        result.series.append(ResultSeries(label, unit, points.times.tolist(), points.json_values(), contexts=contexts))
    if not fits:
        last = result.series[-1]
        result.next_cursor = query.encode_cursor(last.label, last.times[-1])
    return fits
