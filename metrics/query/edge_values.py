"""Values outside of a range that its edges continue from: the previous point and the nearest buckets with a value."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import numpy as np

from metrics.query.accumulators import Floats, Ints
from metrics.query.gaps import EdgeValue
from metrics.query.neighbours import NearestPoints, NeighbourSearch
from metrics.query.result import ResolvedSeries
from metrics.query.time_buckets import bucket_edges
from metrics.storage.connection import Connection
from metrics.storage.units import SECOND

if TYPE_CHECKING:
    from metrics.query.aggregate import Aggregates, AggregationPlan, GroupKey

MAX_EDGE_BUCKETS = 500  # different time buckets outside of a range, from which its groups are filled

AggregatePart = Callable[
    [Connection, "AggregationPlan", tuple[int, int], list[ResolvedSeries]], tuple["AggregationPlan", "Aggregates"]
]
"""Aggregates series in one bucket outside of the range."""


def find_previous_points(
    connection: Connection, plan: AggregationPlan, aggregates: Aggregates
) -> dict[str | None, tuple[Ints, Ints, Floats]]:
    """Return (positions of series, times, values) of the last points before the range, by value of the tag."""
    first_round, _ = plan.rounds[0]
    search = _search_neighbours(connection, plan, aggregates, first_round, forward=False)
    previous = {}
    for tag_value, points in search.by_tag.items():
        at = search.ids.searchsorted(np.concatenate([ids for _, ids in plan.rounds]))
        positions, found = np.concatenate([positions for positions, _ in plan.rounds]), points.found[at]
        previous[tag_value] = positions[found], points.times[at[found]], points.values[at[found]]
    return previous


def find_edge_values(
    connection: Connection,
    plan: AggregationPlan,
    aggregates: Aggregates,
    aggregate_part: AggregatePart,
    forward: bool,
) -> dict[GroupKey, EdgeValue]:
    """Return the nearest values outside of the range of the groups whose bucket at this edge is empty."""
    size, at_edge = plan.buckets_per_group, -1 if forward else 0
    empty = {value: np.isnan(values.reshape(-1, size)[:, at_edge]) for value, values in aggregates.values.items()}
    some_empty = (
        np.any([*empty.values()], axis=0) if plan.buckets.group_tag is None else np.ones(len(plan.labels), bool)
    )
    needed = np.flatnonzero(some_empty[plan.groups])
    if not len(needed):
        return {}
    _, firsts = np.unique([plan.series[position].id for position in needed.tolist()], return_index=True)
    search = _search_neighbours(connection, plan, aggregates, needed[firsts], forward)
    keys_by_bucket: dict[tuple[int, int], set[GroupKey]] = {}
    for tag_value, points in search.by_tag.items():
        for group, time in _nearest_times(plan, search.ids, points, forward).items():
            if tag_value not in empty or empty[tag_value][group]:
                keys_by_bucket.setdefault(_bucket_outside(plan, time, forward), set()).add((tag_value, group))
    buckets = sorted(keys_by_bucket, reverse=not forward)
    if len(buckets) > MAX_EDGE_BUCKETS:
        message = (
            f"gaps at the edge of the range are filled from the nearest {MAX_EDGE_BUCKETS:,} buckets outside of it"
        )
        aggregates.incomplete.append(message)
    edge_values: dict[GroupKey, EdgeValue] = {}
    for bucket in buckets[:MAX_EDGE_BUCKETS]:
        keys = keys_by_bucket[bucket]
        groups = {group for _, group in keys}
        series = [row for row, group in zip(plan.series, plan.groups.tolist(), strict=True) if group in groups]
        part, result = aggregate_part(connection, plan, bucket, series)
        aggregates.incomplete += result.incomplete
        start = _bucket_around(plan, bucket[0])[0]
        for key, value, unit in _values_of_part(plan, part, result):
            if key in keys:
                edge_values[key] = EdgeValue(start, value)
                if unit is not None:
                    aggregates.units.setdefault(key, unit)
    return edge_values


def _search_neighbours(
    connection: Connection, plan: AggregationPlan, aggregates: Aggregates, positions: Ints, forward: bool
) -> NeighbourSearch:
    series = [plan.series[position] for position in positions.tolist()]
    edge = plan.query.end if forward else plan.query.start
    search = NeighbourSearch(connection, series, edge, forward, plan.query.filters, plan.buckets.group_tag).run()
    aggregates.incomplete += [f"{name} is damaged and was left out" for name in search.damaged]
    if search.skipped:
        aggregates.incomplete.append("too many points outside of the range to search all of them for its edges")
    return search


def _nearest_times(plan: AggregationPlan, ids: Ints, points: NearestPoints, forward: bool) -> dict[int, int]:
    """Return the time of the nearest point of each group that has one."""
    nearest: dict[int, int] = {}
    choose = min if forward else max
    for row, group in zip(plan.series, plan.groups.tolist(), strict=True):
        at = int(ids.searchsorted(row.id))
        if at < len(ids) and ids[at] == row.id and points.found[at]:
            time = int(points.times[at])
            nearest[group] = choose(nearest.get(group, time), time)
    return nearest


def _bucket_outside(plan: AggregationPlan, time: int, forward: bool) -> tuple[int, int]:
    """Return the start and end of the bucket of a time, without its part inside of the range."""
    low, high = _bucket_around(plan, time)
    return (max(low, plan.query.end), high) if forward else (low, min(high, plan.query.start))


def _bucket_around(plan: AggregationPlan, time: int) -> tuple[int, int]:
    assert plan.buckets.interval is not None
    low, high = bucket_edges(time, time + 1, plan.buckets.interval * SECOND, plan.buckets.zone).tolist()
    return low, high


def _values_of_part(
    plan: AggregationPlan, part: AggregationPlan, result: Aggregates
) -> Iterator[tuple[GroupKey, float, str | None]]:
    """Yield (value of the tag and group, value, unit) of the groups that have a value in the bucket of a part."""
    positions = {label: position for position, label in enumerate(plan.labels)}
    for tag_value, values in result.values.items():
        for group, (label, value) in enumerate(zip(part.labels, values.tolist(), strict=True)):
            if value == value:
                yield (tag_value, positions[label]), value, result.units.get((tag_value, group))
