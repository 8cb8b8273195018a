"""Aggregate points: one value per group and time bucket, in the stages plan, read and shape."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from metrics.query.accumulators import Accumulator, Floats, Ints, fill_gaps
from metrics.query.plan import (
    ReadReport,
    ReadRequest,
    find_expired_points,
    open_read,
    point_limit,
    read_matching_points,
)
from metrics.query.query import MAX_BUCKETS, Buckets, PagePosition, SeriesLabel, ValidQuery
from metrics.query.result import Page, ResolvedSeries, ResultSeries, skip_previous_pages
from metrics.query.time_buckets import split_by_bucket
from metrics.storage.connection import Connection
from metrics.storage.format.codec import Columns
from metrics.storage.format.contexts import tags_of, unit_of
from metrics.storage.format.layout import select_points
from metrics.storage.format.rollup_codec import RollupColumns
from metrics.storage.read.plan import ReadPlan
from metrics.storage.read.rollups import NO_ROLLUPS, choose_for_buckets, split_by_retention
from metrics.storage.read.scan import read_rollups
from metrics.storage.series_registry import cached_registry
from rest.errors import InvalidField

MAX_TAG_VALUES = 1_000  # that one query may group by


@dataclass(frozen=True, slots=True)
class AggregationPlan:
    """Groups, time buckets and reads of an aggregation.

    labels  of the groups, in the order of the result
    groups  int64[n]: position of each series' group among the labels; series are in ascending order of id
    rounds  (positions of series, their ids): a series of several groups is in one round for each
    after   the last point of the previous page
    """

    buckets: Buckets
    labels: list[SeriesLabel]
    groups: Ints
    rounds: list[tuple[Ints, Ints]]
    request: ReadRequest
    limit: int
    after: PagePosition | None
    incomplete: list[str]

    @property
    def buckets_per_group(self) -> int:
        return len(self.buckets.edges) - 1


@dataclass(slots=True)
class Aggregates:
    """Result of the read stage: one accumulator per value of the tag to group by, or one for all; units by value and
    group."""

    accumulators: dict[str | None, Accumulator]
    units: dict[tuple[str | None, int], str] = field(default_factory=dict)


# --- plan -------------------------------------------------------------------------------------------


def plan_aggregation(query: ValidQuery, buckets: Buckets, series: list[ResolvedSeries]) -> AggregationPlan:
    """Assign series to groups and choose what is read. Raises InvalidField for too many buckets."""
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
        buckets,
        list(labels),
        np.array([labels[label] for label in series_labels], np.int64)[order],
        [(of_round, ids[of_round]) for of_round in positions],
        ReadRequest(split_by_retention(series, choice), query.start, query.end, max_points, query.filters),
        query.limit,
        query.after,
        find_expired_points(series, choice.resolution, query.start, query.end),
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
    with open_read(plan.request) as (connection, storage_plans):
        aggregates = accumulate(connection, plan, storage_plans)
        for storage_plan in storage_plans:
            report.add(storage_plan)
    return aggregates


def accumulate(connection: Connection, plan: AggregationPlan, storage_plans: Sequence[ReadPlan]) -> Aggregates:
    """Read rollups and points into accumulators. Raises InvalidField for too many values of the tag."""
    aggregates = Aggregates({})
    _accumulator_of(plan, aggregates, None)
    accumulator = plan.buckets.aggregation.accumulator
    stats = {"count", accumulator.rollup_stat} if accumulator.rollup_stat else {"count", "first", "last"}
    for storage_plan in storage_plans:
        for summary in read_rollups(connection, storage_plan, stats):
            _add_rollups(plan, aggregates, summary)
        for piece in read_matching_points(connection, storage_plan, plan.request, accumulator.needs_order):
            _add_points(plan, aggregates, piece)
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
        for tag_value, part in _split_by_tag(plan.buckets.group_tag, piece):
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


def shape_page(plan: AggregationPlan, aggregates: Aggregates) -> Page:
    """Return the groups after the previous page; the page ends where the limit is reached."""
    series: list[ResultSeries] = []
    room, after = plan.limit, plan.after
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
    """Yield every group with points, by value of the tag and then in the order of the plan."""
    buckets = plan.buckets_per_group
    by_tag = sorted(aggregates.accumulators.items(), key=lambda item: (item[0] is not None, item[0] or ""))
    for tag_value, accumulator in by_tag:
        values = accumulator.values()
        for group, (device_id, metric, name) in enumerate(plan.labels):
            part = slice(group * buckets, (group + 1) * buckets)
            counts = accumulator.count[part]
            if counts.any():
                label = (device_id, metric, name if tag_value is None else tag_value)
                unit = aggregates.units.get((tag_value, group)) or (cached_registry().unit(metric) if metric else None)
                yield _shape_group(plan.buckets, label, unit, values[part], counts)


def _shape_group(buckets: Buckets, label: SeriesLabel, unit: str | None, values: Floats, counts: Ints) -> ResultSeries:
    times = buckets.edges[:-1]
    if buckets.fill == "none":
        valid = ~np.isnan(values)
        times, values, counts = times[valid], values[valid], counts[valid]
    shown: list[Any] = fill_gaps(values, times, buckets.fill).tolist()
    if buckets.aggregation.name == "count":
        unit = None
        shown = [int(value) if value == value and value.is_integer() else value for value in shown]
    elif buckets.aggregation.name == "rate" and unit is not None:
        unit = f"{unit}/s"
    without_nan = [value if value == value else None for value in shown]
    return ResultSeries(label, unit, times.tolist(), without_nan, counts.tolist())
