"""Plan of a read, made before anything is read: the blocks, unmerged commits and rollups that it will read."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray
from psycopg import IsolationLevel

from metrics.storage.connection import Connection, dedicated_connection, read_connection
from metrics.storage.errors import ReadTooLarge
from metrics.storage.format.codec import Ints
from metrics.storage.format.layout import DAY_LEVEL, bucket_of, day_of
from metrics.storage.merge import damaged_blocks
from metrics.storage.read import rollups
from metrics.storage.read.rollups import RollupRow, RollupUse
from metrics.storage.read.unmerged import UNMERGED_COMMITS, CommitGroup, join_groups
from metrics.storage.shards import BlockId, shards_of_series
from metrics.storage.units import DAY

MAX_BLOCKS = 200_000  # of one read

_BLOCKS = """
SELECT b.id, b.level, b.bucket, b.day, b.seq_to, b.points, b.series_from, b.series_to, b.time_from,
    b.time_to, b.shard
FROM metrics_block b
WHERE b.shard = ANY(%(shards)s) AND b.bucket = ANY(%(buckets)s) AND b.day BETWEEN %(first)s AND %(last)s
  AND b.series_from <= %(high)s AND b.series_to >= %(low)s AND b.time_to >= %(start)s AND b.time_from < %(end)s
LIMIT %(most)s
"""


class PlannedBlock(NamedTuple):
    """A row of merged blocks without its payload."""

    id: int
    level: int
    bucket: int
    day: int
    seq_to: int
    points: int
    series_from: int
    series_to: int
    time_from: int
    time_to: int
    shard: int

    @property
    def number(self) -> BlockId:
        return self.shard, self.id


_RowT = TypeVar("_RowT", PlannedBlock, RollupRow)


@dataclass(slots=True)
class ReadPlan:
    """The blocks, unmerged commits and rollups of a read; after the read, the damaged blocks that were left out."""

    series: Ints  # ascending
    start: int
    end: int
    unmerged: list[CommitGroup]
    unmerged_points: int
    blocks: list[PlannedBlock]  # by bucket, day and sequence number
    points: int  # of all blocks and commits, and intervals of rollups
    rollup_rows: list[RollupRow] = field(default_factory=list)  # by bucket and day
    rollup_use: RollupUse | None = None
    rollups_from: int = 0  # µs
    damaged: list[str] = field(default_factory=list)
    caches_blocks: bool = True  # whether decoded blocks are cached
    unmerged_points_in_range: float = 0.0  # estimated unmerged points in the time range

    @property
    def unmerged_commits(self) -> int:
        return sum(group.last - group.first + 1 for group in self.unmerged)

    @property
    def rollup_intervals(self) -> int:
        """The number of rollup intervals that are read."""
        return sum(row.intervals for row in self.rollup_rows)

    def estimated_points(self, unmerged_fraction: float) -> int:
        """Estimate the points of these series in this range; a fraction of the unmerged points is theirs."""
        other_points = self.rollup_intervals + self.unmerged_points_in_range * unmerged_fraction
        if not self.blocks:
            return int(other_points)
        columns = ("points", "series_from", "series_to", "time_from", "time_to")
        points, low, high, first, last = np.array([[getattr(block, name) for block in self.blocks] for name in columns])
        series_in_range = self.series.searchsorted(high, "right") - self.series.searchsorted(low)
        return int(
            (points * series_in_range / (high - low + 1) * _overlap_fraction(first, last, self.start, self.end)).sum()
            + other_points
        )

    def levels(self) -> dict[str, int]:
        """Return the number of blocks of each level."""
        counts: dict[str, int] = {}
        for block in self.blocks:
            counts[str(block.level)] = counts.get(str(block.level), 0) + 1
        return counts


@contextmanager
def snapshot(pooled: bool = True) -> Iterator[Connection]:
    """Borrow a connection on which every statement sees the same blocks.

    With `pooled` false the connection is opened for this read alone and may be kept for minutes.
    """
    with (
        read_connection() if pooled else dedicated_connection() as connection,
        _repeatable_read(connection),
        connection.transaction(),
    ):
        yield connection


@contextmanager
def _repeatable_read(connection: Connection) -> Iterator[None]:
    """Set the isolation level for BEGIN, which saves a round trip over SET TRANSACTION."""
    connection.isolation_level, connection.read_only = IsolationLevel.REPEATABLE_READ, True
    try:
        yield
    finally:
        if not connection.closed:
            connection.isolation_level = connection.read_only = None


def plan_read(
    connection: Connection, series: Ints, start: int, end: int, rollup_use: RollupUse | None = None
) -> ReadPlan:
    """Plan the read of these series (ascending) from `start` to before `end` (µs).

    With `rollup_use`, rollups replace blocks where they may. Raises ReadTooLarge.
    """
    requested_start = start
    if rollup_use is not None:
        start = min(max(start, rollup_use.points_from), end)
    parameters = {
        "start": start,
        "end": end,
        "buckets": sorted(set(map(bucket_of, series.tolist()))),
        "shards": np.unique(shards_of_series(series)).tolist(),
        "first": day_of(start),
        "last": day_of(end - 1),
        "low": int(series[0]),
        "high": int(series[-1]),
        "most": MAX_BLOCKS + 1,
    }
    groups = [CommitGroup(*row) for row in connection.execute(UNMERGED_COMMITS, parameters)]
    rows = connection.execute(_BLOCKS, parameters).fetchall()
    if len(rows) > MAX_BLOCKS:
        raise ReadTooLarge(f"the question would read more than {MAX_BLOCKS:,} blocks; ask for less time")
    blocks = _select_rows_with_series(series, [PlannedBlock(*row) for row in rows])
    blocks.sort(key=lambda block: (block.bucket, block.day, block.seq_to, block.id))
    unmerged_points = sum(group.points for group in groups)
    points = unmerged_points + sum(block.points for block in blocks)
    planned = ReadPlan(series, start, end, join_groups(groups), unmerged_points, blocks, points)
    planned.damaged = damaged_blocks.damaged_in_range(connection, parameters)
    count, first, last = np.array([group[3:] for group in groups], np.int64).reshape(-1, 3).T
    planned.unmerged_points_in_range = float((count * _overlap_fraction(first, last, start, end)).sum())
    if rollup_use is not None:
        rows_found = rollups.find_rollup_rows(connection, parameters | {"first": day_of(requested_start)}, rollup_use)
        stale = {day for group in groups for day in range(day_of(group.time_from), day_of(group.time_to) + 1)}
        _apply_rollups(planned, _select_rows_with_series(series, rows_found), stale, rollup_use, requested_start)
    return planned


def _apply_rollups(
    planned: ReadPlan, rows: list[RollupRow], stale: set[int], rollup_use: RollupUse, requested_start: int
) -> None:
    """Replace blocks by rollups on days whose rollups are up to date."""
    if rollup_use.max_points is not None and planned.estimated_points(unmerged_fraction=1.0) <= rollup_use.max_points:
        rollup_use = replace(rollup_use, replaces_points=False)
    planned.rollup_use, planned.rollups_from = rollup_use, requested_start
    planned.rollup_rows = _choose_rollup_rows(rollup_use, rows, planned.blocks, stale, (planned.start, planned.end))
    replaced = {(row.bucket, row.day) for row in planned.rollup_rows}
    planned.points += planned.rollup_intervals - sum(
        block.points for block in planned.blocks if (block.bucket, block.day) in replaced
    )
    planned.blocks = [block for block in planned.blocks if (block.bucket, block.day) not in replaced]


def _overlap_fraction(first: Ints, last: Ints, start: int, end: int) -> NDArray[np.float64]:
    """Return which fraction of each range `first` to `last` lies between `start` and `end`."""
    fraction: NDArray[np.float64] = (np.minimum(last, end - 1) - np.maximum(first, start) + 1) / (last - first + 1)
    return fraction


def _select_rows_with_series(series: Ints, rows: list[_RowT]) -> list[_RowT]:
    """Return the rows whose series range includes one of these series."""
    if not rows:
        return []
    ranges = np.array([(row.series_from, row.series_to) for row in rows])
    included = np.searchsorted(series, ranges[:, 0]) < np.searchsorted(series, ranges[:, 1], side="right")
    return [rows[at] for at in np.flatnonzero(included).tolist()]


def _choose_rollup_rows(
    rollup_use: RollupUse, rows: list[RollupRow], blocks: list[PlannedBlock], stale: set[int], points: tuple[int, int]
) -> list[RollupRow]:
    """Return the rollup rows to read instead of points.

    These are all rows of days whose points have expired, and the rows of complete, up-to-date days that have no more
    intervals than points.
    """
    cost: dict[tuple[int, int], int] = {}
    for block in blocks:
        bucket_day = (block.bucket, block.day)
        cost[bucket_day] = cost.get(bucket_day, 0) + block.points
        if block.level < DAY_LEVEL:
            stale.add(block.day)
    for row in rows:
        cost[row.bucket, row.day] = cost.get((row.bucket, row.day), 0) - row.intervals
    first, last = -(-points[0] // DAY), points[1] // DAY
    return [
        row
        for row in rows
        if (row.day + 1) * DAY <= rollup_use.points_from
        or (
            rollup_use.replaces_points
            and first <= row.day < last
            and row.day not in stale
            and cost[row.bucket, row.day] >= 0
        )
    ]
