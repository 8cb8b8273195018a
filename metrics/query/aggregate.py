"""Aggregate points: one value per group and time bucket, in the stages plan, read and shape."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from metrics.query.accumulators import Accumulator, Delta, Floats, Ints
from metrics.query.edge_values import find_edge_values, find_previous_points
from metrics.query.gaps import EdgeValue, fill_gaps
from metrics.query.plan import (
    ReadReport,
    ReadRequest,
    check_limits,
    find_expired_points,
    open_read,
    point_limit,
    read_matching_points,
    split_by_tag,
)
from metrics.query.query import MAX_BUCKETS, Buckets, PagePosition, SeriesLabel, ValidQuery
from metrics.query.result import Page, ResolvedSeries, ResultSeries, skip_previous_pages
from metrics.query.time_buckets import split_by_bucket
from metrics.storage.connection import Connection
from metrics.storage.format.codec import Columns
from metrics.storage.format.contexts import unit_of
from metrics.storage.format.layout import select_points
from metrics.storage.format.rollup_codec import RollupColumns
from metrics.storage.read.plan import ReadPlan, plan_read
from metrics.storage.read.rollups import NO_ROLLUPS, choose_for_buckets, split_by_retention
from metrics.storage.read.scan import read_rollups
from metrics.storage.series_registry import SeriesRegistry, current_registry
from rest.errors import InvalidField

MAX_TAG_VALUES = 1_000  # that one query may group by

GroupKey = tuple[str | None, int]  # value of the tag, position of the group


@dataclass(frozen=True, slots=True)
class AggregationPlan:
    """Groups, time buckets and reads of an aggregation.

    series  in ascending order of id
    labels  of the groups, in the order of the result
    groups  int64[n]: position of each series' group among the labels
    rounds  (positions of series, their ids): a series of several groups is in one round for each
    rollup  seconds of the rollups that may be read; None: none
    """

    query: ValidQuery
    buckets: Buckets
    series: list[ResolvedSeries]
    labels: list[SeriesLabel]
    groups: Ints
    rounds: list[tuple[Ints, Ints]]
    request: ReadRequest
    rollup: int | None

    @property
    def buckets_per_group(self) -> int:
        return len(self.buckets.edges) - 1


@dataclass(slots=True)
class Aggregates:
    """Result of the read stage, by value of the tag to group by, or under None for all points.

    values      of each group and bucket, group by group; NaN if empty
    counts      points of each, likewise
    units       by value of the tag and group
    before      nearest values outside of the range, by value of the tag and group, where a gap at the edge of the range
                is filled from them; likewise `after`
    incomplete  messages about missing points
    """

    accumulators: dict[str | None, Accumulator]
    values: dict[str | None, Floats] = field(default_factory=dict)
    counts: dict[str | None, Ints] = field(default_factory=dict)
    units: dict[GroupKey, str] = field(default_factory=dict)
    before: dict[GroupKey, EdgeValue] = field(default_factory=dict)
    after: dict[GroupKey, EdgeValue] = field(default_factory=dict)
    incomplete: list[str] = field(default_factory=list)


# --- plan -------------------------------------------------------------------------------------------


def plan_aggregation(
    query: ValidQuery, buckets: Buckets, series: list[ResolvedSeries], registry: SeriesRegistry | None = None
) -> AggregationPlan:
    """Assign series to groups and choose what is read. Raises InvalidField for too many buckets.

    While a connection is borrowed, `registry` is one that is in memory.
    """
    edges, accumulator = buckets.edges, buckets.aggregation.accumulator
    series_labels = _group_labels(buckets, series)
    if query.after is not None and buckets.group_tag is None:
        remaining = set(skip_previous_pages(list(dict.fromkeys(series_labels)), query.after))
        series = [row for row, label in zip(series, series_labels, strict=True) if label in remaining]
        series_labels = [label for label in series_labels if label in remaining]
    labels = {label: position for position, label in enumerate(dict.fromkeys(series_labels))}
    if len(labels) * (len(edges) - 1) > MAX_BUCKETS:
        detail = f"{len(labels):,} groups of {len(edges) - 1:,} intervals are more than {MAX_BUCKETS:,} values"
        raise InvalidField("interval", f"{detail}; use a longer interval, fewer devices or group_by all")
    ids = np.array([row.id for row in series], np.int64)
    order = np.argsort(ids)
    ids = ids[order]
    repeat = np.arange(len(ids)) - np.searchsorted(ids, ids)  # 0 for the first group of a series, 1 for the second, …
    positions = [np.flatnonzero(repeat == number) for number in range(int(repeat.max()) + 1)]
    choice = NO_ROLLUPS
    if (
        query.filters is None
        and buckets.group_tag is None
        and (accumulator.rollup_stat or accumulator.accepts_rollup_ends)
    ):
        choice = choose_for_buckets(edges, replaces_points=accumulator.rollup_stat is not None)
    max_points = point_limit(accumulator.holds_values)
    return AggregationPlan(
        query,
        buckets,
        [series[position] for position in order.tolist()],
        list(labels),
        np.array([labels[label] for label in series_labels], np.int64)[order],
        [(of_round, ids[of_round]) for of_round in positions],
        ReadRequest(
            split_by_retention(series, choice, registry=registry), query.start, query.end, max_points, query.filters
        ),
        choice.resolution,
    )


def _group_labels(buckets: Buckets, series: list[ResolvedSeries]) -> list[SeriesLabel]:
    """Return the label of each series' group."""
    if buckets.group_by == "series":
        return [row.label for row in series]
    if buckets.group_by == "device":
        return [(row.device_id, buckets.metric, None) for row in series]
    if buckets.group_by == "group":
        return [(None, buckets.metric, row.group) for row in series]
    return [(buckets.device, buckets.metric, None)] * len(series)


# --- read -------------------------------------------------------------------------------------------


def read_aggregates(plan: AggregationPlan, report: ReadReport) -> Aggregates:
    """Read the groups of a plan, and add to the report what was read.

    Raises InvalidField over a limit or for too many values of the tag, or Overloaded.
    """
    report.incomplete += find_expired_points(plan.series, plan.rollup, plan.query.start, plan.query.end)
    with open_read(plan.request) as (connection, storage_plans):
        aggregates = accumulate(connection, plan, storage_plans)
        for storage_plan in storage_plans:
            report.add(storage_plan)
    report.incomplete += dict.fromkeys(aggregates.incomplete)
    return aggregates


def accumulate(connection: Connection, plan: AggregationPlan, storage_plans: Sequence[ReadPlan]) -> Aggregates:
    """Read rollups and points into accumulators, and the values outside of the range that its edges continue from.

    Raises InvalidField for too many values of the tag.
    """
    aggregates = Aggregates({})
    _accumulator_of(plan, aggregates, None)
    accumulator, fill = plan.buckets.aggregation.accumulator, plan.buckets.fill
    if issubclass(accumulator, Delta):
        for tag_value, points in find_previous_points(connection, plan, aggregates).items():
            of_tag = _accumulator_of(plan, aggregates, tag_value)
            assert isinstance(of_tag, Delta)
            of_tag.continue_from(*points)
    stats = {"count", accumulator.rollup_stat} if accumulator.rollup_stat else {"count", "first", "last"}
    for storage_plan in storage_plans:
        for summary in read_rollups(connection, storage_plan, stats):
            _add_rollups(plan, aggregates, summary)
        for piece in read_matching_points(connection, storage_plan, plan.request, accumulator.needs_order):
            _add_points(plan, aggregates, piece)
    for tag_value, of_tag in aggregates.accumulators.items():
        aggregates.values[tag_value], aggregates.counts[tag_value] = of_tag.values(), of_tag.count
    if plan.buckets.interval is not None and fill in ("previous", "linear"):
        aggregates.before = find_edge_values(connection, plan, aggregates, _aggregate_part, forward=False)
        if fill == "linear":
            aggregates.after = find_edge_values(connection, plan, aggregates, _aggregate_part, forward=True)
    return aggregates


def _accumulator_of(plan: AggregationPlan, aggregates: Aggregates, tag_value: str | None) -> Accumulator:
    accumulators = aggregates.accumulators
    if tag_value not in accumulators:
        if len(accumulators) > MAX_TAG_VALUES:
            raise InvalidField("group_by", f"the tag has more than {MAX_TAG_VALUES:,} values")
        buckets = len(plan.labels) * plan.buckets_per_group
        accumulators[tag_value] = plan.buckets.aggregation.create_accumulator(buckets, len(plan.groups))
    return accumulators[tag_value]


def _add_points(plan: AggregationPlan, aggregates: Aggregates, piece: Columns) -> None:
    for tag_value, part, positions in _parts(plan, piece):
        groups = plan.groups[positions]
        runs = split_by_bucket(part, plan.buckets.edges, positions, groups)
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
    runs = split_by_bucket(part, plan.buckets.edges, positions, groups)
    runs.counts = np.add.reduceat(counts, runs.starts)
    accumulator.add(part, runs)
    for group, context in zip(groups.tolist(), summary.units, strict=True):
        if unit := unit_of(context):
            aggregates.units.setdefault((None, group), unit)


def _parts(plan: AggregationPlan, piece: Columns) -> Iterator[tuple[str | None, Columns, Ints]]:
    """Yield (value of the tag, points, positions of their series in the plan)."""
    if len(plan.rounds) == 1:
        ids = plan.rounds[0][1]
        for tag_value, part in split_by_tag(plan.buckets.group_tag, piece):
            yield tag_value, part, np.searchsorted(ids, part.ids)
        return
    for positions, ids in plan.rounds:
        found = np.minimum(np.searchsorted(ids, piece.ids), len(ids) - 1)
        mask = ids[found] == piece.ids
        if mask.any():
            part = piece if mask.all() else select_points(piece, np.repeat(mask, np.diff(piece.offsets)))
            yield None, part, positions[found[mask]]


def _aggregate_part(
    connection: Connection, plan: AggregationPlan, bucket: tuple[int, int], series: list[ResolvedSeries]
) -> tuple[AggregationPlan, Aggregates]:
    """Aggregate these series in one bucket outside of the range."""
    low, high = bucket
    query = replace(plan.query, start=low, end=high, after=None)
    one_bucket = replace(plan.buckets, edges=np.array(bucket, np.int64), fill="none")
    part = plan_aggregation(query, one_bucket, series, current_registry())
    storage_plans = [plan_read(connection, piece.ids, low, high, piece.rollup_use) for piece in part.request.pieces]
    check_limits(part.request, storage_plans)
    return part, accumulate(connection, part, storage_plans)


# --- shape ------------------------------------------------------------------------------------------


def shape_page(plan: AggregationPlan, aggregates: Aggregates) -> Page:
    """Return the groups after the previous page; the page ends where the limit is reached."""
    series: list[ResultSeries] = []
    room, after = plan.query.limit, plan.query.after
    for group in shape_groups(plan, aggregates):
        if after is not None:
            if group.label != after.label:
                continue
            first = int(np.searchsorted(group.times, after.time, side="right"))
            group, after = group.between(first, len(group.times)), None
        if len(group.times) > room:
            if room:
                series.append(group.between(0, room))
            return Page(series, PagePosition(series[-1].label, series[-1].times[-1]))
        if group.times:
            series.append(group)
            room -= len(group.times)
    return Page(series)


def shape_groups(plan: AggregationPlan, aggregates: Aggregates) -> Iterator[ResultSeries]:
    """Yield every group with values, by value of the tag and then in the order of the plan."""
    size = plan.buckets_per_group
    edge_keys = {*aggregates.before, *aggregates.after}
    empty, none = np.full(size * len(plan.labels), np.nan), np.zeros(size * len(plan.labels), np.int64)
    tag_values = {*aggregates.values, *(tag_value for tag_value, _ in edge_keys)}
    for tag_value in sorted(tag_values, key=lambda value: (value is not None, value or "")):
        values, counts = aggregates.values.get(tag_value, empty), aggregates.counts.get(tag_value, none)
        for group in range(len(plan.labels)):
            part = slice(group * size, (group + 1) * size)
            if counts[part].any() or (tag_value, group) in edge_keys:
                shaped = _shape_group(plan, aggregates, (tag_value, group), values[part], counts[part])
                if counts[part].any() or any(value is not None for value in shaped.values):
                    yield shaped


def _shape_group(
    plan: AggregationPlan, aggregates: Aggregates, key: GroupKey, values: Floats, counts: Ints
) -> ResultSeries:
    (tag_value, group), buckets = key, plan.buckets
    device_id, metric, name = plan.labels[group]
    unit = aggregates.units.get(key) or (current_registry().unit(metric) if metric else None)
    times = buckets.edges[:-1]
    if buckets.fill == "none":
        valid = ~np.isnan(values)
        times, values, counts = times[valid], values[valid], counts[valid]
    else:
        values = fill_gaps(values, times, buckets.fill, aggregates.before.get(key), aggregates.after.get(key))
    shown: list[Any] = values.tolist()
    if buckets.aggregation.name == "count":
        unit = None
        shown = [int(value) if value == value and value.is_integer() else value for value in shown]
    elif buckets.aggregation.name == "rate" and unit is not None:
        unit = f"{unit}/s"
    without_nan = [value if value == value else None for value in shown]
    label = (device_id, metric, name if tag_value is None else tag_value)
    return ResultSeries(label, unit, times.tolist(), without_nan, counts.tolist())
