"""Aggregate points: one value per group and time bucket, in the stages plan, read and shape."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from metrics.query.accumulators import Accumulator, Floats, Ints, accumulator_class, create_accumulator, fill_gaps
from metrics.query.plan import (
    PlanPiece,
    choose_rollups,
    find_expired_points,
    limit_points,
    open_read,
    plan_pieces,
    point_limit,
)
from metrics.query.query import MAX_BUCKETS, Query, SeriesLabel
from metrics.query.result import (
    QueryResult,
    ResolvedSeries,
    ResultSeries,
    apply_filters,
    skip_previous_pages,
    tags_of,
    unit_of,
)
from metrics.query.time_buckets import split_by_bucket
from metrics.storage.connection import Connection
from metrics.storage.format.codec import Columns
from metrics.storage.format.layout import select_points
from metrics.storage.format.rollup_codec import RollupColumns
from metrics.storage.read.plan import ReadPlan
from metrics.storage.read.scan import read_points, read_rollups
from metrics.storage.series_registry import cached_registry
from metrics.storage.units import SECOND
from rest.errors import InvalidField

MAX_TAG_VALUES = 1_000  # that one query may group by


@dataclass(frozen=True, slots=True)
class AggregationPlan:
    """Groups, time buckets and reads of an aggregation.

    edges   µs: of the time buckets
    labels  of the groups, in the order of the result
    groups  int64[n]: position of each series' group among the labels; series are in ascending order of id
    rounds  (positions of series, their ids): a series of several groups is in one round for each
    """

    query: Query
    accumulator: type[Accumulator]
    edges: Ints
    labels: list[SeriesLabel]
    groups: Ints
    rounds: list[tuple[Ints, Ints]]
    pieces: list[PlanPiece]
    max_points: int
    incomplete: list[str]

    @property
    def buckets_per_group(self) -> int:
        return len(self.edges) - 1


@dataclass(slots=True)
class Aggregates:
    """Result of the read stage: one accumulator per value of the tag to group by, or one for all; units by value and
    group."""

    accumulators: dict[str | None, Accumulator]
    units: dict[tuple[str | None, int], str] = field(default_factory=dict)


def aggregate(query: Query, series: list[ResolvedSeries]) -> QueryResult:
    """Return one value per group and time bucket."""
    cursor = query.decode_cursor()
    if cursor is not None and query.group_tag is None:
        labels = _group_labels(query, series)
        remaining = set(skip_previous_pages(list(dict.fromkeys(labels)), cursor))
        series = [row for row, label in zip(series, labels, strict=True) if label in remaining]
    plan = plan_aggregation(query, series)
    interval = query.interval_us()
    result = QueryResult(query, interval=None if interval is None else interval // SECOND, incomplete=plan.incomplete)
    with open_read(query, plan.pieces, plan.max_points) as (connection, storage_plans):
        aggregates = read_aggregates(connection, plan, storage_plans)
        for storage_plan in storage_plans:
            result.add_read(storage_plan)
    _fill_page(result, shape_groups(plan, aggregates), cursor)
    return result


# --- plan -------------------------------------------------------------------------------------------


def plan_aggregation(query: Query, series: list[ResolvedSeries]) -> AggregationPlan:
    """Assign series to groups and choose what is read. Raises InvalidField for too many buckets."""
    series_labels = _group_labels(query, series)
    labels = {label: position for position, label in enumerate(dict.fromkeys(series_labels))}
    edges = query.edges()
    if len(labels) * (len(edges) - 1) > MAX_BUCKETS:
        detail = f"{len(labels):,} groups of {len(edges) - 1:,} intervals are more than {MAX_BUCKETS:,} values"
        raise InvalidField("interval", f"{detail}; use a longer interval, fewer devices or group_by all")
    ids = np.array([row.id for row in series], np.int64)
    order = np.argsort(ids)
    ids = ids[order]
    repeat = np.arange(len(ids)) - np.searchsorted(ids, ids)  # 0 for the first group of a series, 1 for the second, …
    positions = [np.flatnonzero(repeat == number) for number in range(int(repeat.max()) + 1)]
    accumulator = accumulator_class(query.aggregation or "")
    choice = choose_rollups(query, accumulator, edges)
    return AggregationPlan(
        query,
        accumulator,
        edges,
        list(labels),
        np.array([labels[label] for label in series_labels], np.int64)[order],
        [(of_round, ids[of_round]) for of_round in positions],
        plan_pieces(series, choice),
        point_limit(query),
        find_expired_points(query, series, choice.resolution),
    )


def _group_labels(query: Query, series: list[ResolvedSeries]) -> list[SeriesLabel]:
    """Return the label of each series' group."""
    if query.group_by == "series":
        return [row.label for row in series]
    metric = query.metrics[0] if len(query.metrics) == 1 else None
    if query.group_by == "device":
        return [(row.device_id, metric, None) for row in series]
    if query.group_by == "group":
        return [(None, metric, row.group) for row in series]
    device = query.devices[0] if query.devices is not None and len(query.devices) == 1 else None
    return [(device, metric, None)] * len(series)


# --- read -------------------------------------------------------------------------------------------


def read_aggregates(connection: Connection, plan: AggregationPlan, storage_plans: Sequence[ReadPlan]) -> Aggregates:
    """Read rollups and points into accumulators. Raises InvalidField for too many values of the tag."""
    aggregates = Aggregates({})
    _accumulator_of(plan, aggregates, None)
    stats = {"count", plan.accumulator.rollup_stat} if plan.accumulator.rollup_stat else {"count", "first", "last"}
    for storage_plan in storage_plans:
        for summary in read_rollups(connection, storage_plan, stats):
            _add_rollups(plan, aggregates, summary)
        pieces = read_points(connection, storage_plan, plan.accumulator.needs_order)
        for piece in limit_points(plan.query, pieces, plan.max_points):
            _add_points(plan, aggregates, piece)
    return aggregates


def _accumulator_of(plan: AggregationPlan, aggregates: Aggregates, tag_value: str | None) -> Accumulator:
    accumulators = aggregates.accumulators
    if tag_value not in accumulators:
        if len(accumulators) > MAX_TAG_VALUES:
            raise InvalidField("group_by", f"the tag has more than {MAX_TAG_VALUES:,} values")
        buckets = len(plan.labels) * plan.buckets_per_group
        accumulators[tag_value] = create_accumulator(plan.query.aggregation or "", buckets, len(plan.groups))
    return accumulators[tag_value]


def _add_points(plan: AggregationPlan, aggregates: Aggregates, piece: Columns) -> None:
    matching = apply_filters(piece, plan.query)
    if matching is None:
        return
    for tag_value, part, positions in _parts(plan, matching):
        groups = plan.groups[positions]
        runs = split_by_bucket(part, plan.edges, positions, groups)
        _accumulator_of(plan, aggregates, tag_value).add(part, runs)
        if part.contexts is not None:
            last_contexts = part.contexts[part.offsets[1:] - 1]
            for group, context in zip(groups.tolist(), last_contexts.tolist(), strict=True):
                if unit := unit_of(part.dictionary[context]):
                    aggregates.units[tag_value, group] = unit


def _add_rollups(plan: AggregationPlan, aggregates: Aggregates, summary: RollupColumns) -> None:
    """Add rollups; none spans two time buckets."""
    for positions, ids in plan.rounds:
        found = np.minimum(np.searchsorted(ids, summary.ids), len(ids) - 1)
        mask = ids[found] == summary.ids
        if mask.any():
            _add_summary(plan, aggregates, summary.select_series(mask), positions[found[mask]])


def _add_summary(plan: AggregationPlan, aggregates: Aggregates, summary: RollupColumns, positions: Ints) -> None:
    accumulator = aggregates.accumulators[None]
    counts = summary.stats["count"]
    if accumulator.rollup_stat:
        part = summary.statistic_points(accumulator.rollup_stat)
    else:
        part, counts = summary.first_last_points()
    groups = plan.groups[positions]
    runs = split_by_bucket(part, plan.edges, positions, groups)
    runs.counts = np.add.reduceat(counts, runs.starts)
    accumulator.add(part, runs)
    for group, context in zip(groups.tolist(), summary.units, strict=True):
        if unit := unit_of(context):
            aggregates.units.setdefault((None, group), unit)


def _parts(plan: AggregationPlan, piece: Columns) -> Iterator[tuple[str | None, Columns, Ints]]:
    """Yield (value of the tag, points, positions of their series in the plan)."""
    if len(plan.rounds) == 1:
        ids = plan.rounds[0][1]
        for tag_value, part in _split_by_tag(plan.query.group_tag, piece):
            yield tag_value, part, np.searchsorted(ids, part.ids)
        return
    for positions, ids in plan.rounds:
        found = np.minimum(np.searchsorted(ids, piece.ids), len(ids) - 1)
        mask = ids[found] == piece.ids
        if mask.any():
            part = piece if mask.all() else select_points(piece, np.repeat(mask, np.diff(piece.offsets)))
            yield None, part, positions[found[mask]]


def _split_by_tag(tag: str | None, piece: Columns) -> Iterator[tuple[str | None, Columns]]:
    if tag is None or piece.contexts is None:
        yield None, piece
        return
    values = [_tag_text(tags_of(context).get(tag)) for context in piece.dictionary]
    for value in dict.fromkeys(values):
        mask = np.array([entry == value for entry in values], bool)[piece.contexts]
        if mask.any():
            yield value, piece if mask.all() else select_points(piece, mask)


def _tag_text(value: Any) -> str | None:
    return value if value is None or isinstance(value, str) else str(value)


# --- shape ------------------------------------------------------------------------------------------


def shape_groups(plan: AggregationPlan, aggregates: Aggregates) -> Iterator[ResultSeries]:
    """Yield every group with points, by value of the tag and then in the order of the plan."""
    buckets, times = plan.buckets_per_group, plan.edges[:-1]
    by_tag = sorted(aggregates.accumulators.items(), key=lambda item: (item[0] is not None, item[0] or ""))
    for tag_value, accumulator in by_tag:
        values = accumulator.values()
        for group, (device_id, metric, name) in enumerate(plan.labels):
            part = slice(group * buckets, (group + 1) * buckets)
            counts = accumulator.count[part]
            if counts.any():
                label = (device_id, metric, name if tag_value is None else tag_value)
                unit = aggregates.units.get((tag_value, group)) or (cached_registry().unit(metric) if metric else None)
                yield _shape_group(plan.query, label, unit, times, values[part], counts)


def _shape_group(
    query: Query, label: SeriesLabel, unit: str | None, times: Ints, values: Floats, counts: Ints
) -> ResultSeries:
    if query.fill == "none":
        valid = ~np.isnan(values)
        times, values, counts = times[valid], values[valid], counts[valid]
    shown: list[Any] = fill_gaps(values, times, query.fill).tolist()
    if query.aggregation == "count":
        unit = None
        shown = [int(value) if value == value and value.is_integer() else value for value in shown]
    elif query.aggregation == "rate" and unit is not None:
        unit = f"{unit}/s"
    without_nan = [value if value == value else None for value in shown]
    return ResultSeries(label, unit, times.tolist(), without_nan, counts.tolist())


def _fill_page(result: QueryResult, groups: Iterator[ResultSeries], cursor: tuple[SeriesLabel, int] | None) -> None:
    """Add the groups after the cursor to the result until its limit; set the cursor of the next page."""
    for group in groups:
        if cursor is not None:
            if group.label != cursor[0]:
                continue
            first = int(np.searchsorted(group.times, cursor[1], side="right"))
            group, cursor = group.between(first, len(group.times)), None
        room = result.query.limit - result.count
        if len(group.times) > room:
            if room:
                result.series.append(group.between(0, room))
            last = result.series[-1]
            result.next_cursor = result.query.encode_cursor(last.label, last.times[-1])
            return
        if group.times:
            result.series.append(group)
