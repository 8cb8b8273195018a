"""The result of a query, and which points of a piece belong to it."""

from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import numpy as np

from metrics.query.query import Query, SeriesLabel
from metrics.storage.format.codec import Columns, Kind
from metrics.storage.format.contexts import read_context
from metrics.storage.format.layout import select_points
from metrics.storage.read.plan import ReadPlan
from rest.errors import InvalidField


@dataclass(frozen=True, slots=True)
class ResolvedSeries:
    """A series of a query.

    group  the device group that it is read for: a query by groups reads a series once per group of its device
    """

    id: int
    kind: Kind
    device_id: str
    metric_name: str
    group: str | None = None

    @property
    def label(self) -> SeriesLabel:
        return self.device_id, self.metric_name, None


@dataclass(slots=True)
class ResultSeries:
    """One series of a result, or one group of aggregated series.

    times     µs since 1970, UTC; of aggregated series where their time buckets begin
    counts    aggregated: points of each time bucket
    contexts  raw: encoded unit, tags and metadata of each point
    """

    label: SeriesLabel
    unit: str | None
    times: list[int]
    values: list[Any]
    counts: list[int] | None = None
    contexts: list[bytes] | None = None

    def between(self, low: int, high: int) -> "ResultSeries":
        """Return the aggregated values at the positions from `low` to before `high`."""
        counts = None if self.counts is None else self.counts[low:high]
        return ResultSeries(self.label, self.unit, self.times[low:high], self.values[low:high], counts)


@dataclass(slots=True)
class QueryResult:
    """Result of a query.

    interval    seconds of a time bucket; None: the whole range, or raw points
    incomplete  messages about missing points
    read        counts of blocks, points and rollups, for `explain`
    """

    query: Query
    series: list[ResultSeries] = field(default_factory=list)
    interval: int | None = None
    next_cursor: str | None = None
    incomplete: list[str] = field(default_factory=list)
    read: dict[str, Any] = field(default_factory=dict)

    @property
    def count(self) -> int:
        return sum(len(series.times) for series in self.series)

    def add_read(self, plan: ReadPlan) -> None:
        """Add the counts of a plan to `read`, and its damaged blocks to `incomplete`."""
        self.incomplete += [f"{name} is damaged and was left out" for name in plan.damaged]
        for name in ("series", "young_blocks", "points_in_blocks", "intervals_in_rollups"):
            self.read.setdefault(name, 0)
        for name in ("blocks_by_level", "rollups_by_seconds"):
            self.read.setdefault(name, {})
        self.read["series"] += len(plan.series)
        self.read["young_blocks"] += plan.unmerged_commits
        self.read["points_in_blocks"] += plan.points - plan.rollup_intervals
        self.read["intervals_in_rollups"] += plan.rollup_intervals
        if plan.rollup_use is not None:
            rollups = self.read["rollups_by_seconds"]
            rollups.setdefault(str(plan.rollup_use.resolution), 0)
            for row in plan.rollup_rows:
                rollups[str(row.resolution)] = rollups.get(str(row.resolution), 0) + 1
        levels = self.read["blocks_by_level"]
        for level, blocks in plan.levels().items():
            levels[level] = levels.get(level, 0) + blocks


def apply_filters(piece: Columns, query: Query) -> Columns | None:
    """Return the points of a piece that pass the filters of a query; None if there are none."""
    if not query.has_filters:
        return piece
    mask = np.ones(len(piece), bool)
    if query.min_value is not None:
        mask &= piece.values >= query.min_value
    if query.max_value is not None:
        mask &= piece.values <= query.max_value
    if query.tags:
        if piece.contexts is None:
            return None
        matches = [query.tags.items() <= tags_of(entry).items() for entry in piece.dictionary]
        mask &= np.array(matches, bool)[piece.contexts]
    if mask.all():
        return piece
    return select_points(piece, mask) if mask.any() else None


@lru_cache(10_000)
def unit_of(context: bytes) -> str | None:
    return read_context(context)[0]


@lru_cache(10_000)
def tags_of(context: bytes) -> dict[str, Any]:
    return read_context(context)[1]


def skip_previous_pages(labels: list[SeriesLabel], cursor: tuple[SeriesLabel, int] | None) -> list[SeriesLabel]:
    """Return the labels from the one on in which the previous page ended. Raises InvalidField if that is gone."""
    if cursor is None:
        return labels
    if cursor[0] not in labels:
        raise InvalidField("cursor", "the last series of the previous page no longer exists; query again without it")
    return labels[labels.index(cursor[0]) :]
