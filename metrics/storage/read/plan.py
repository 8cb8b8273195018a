"""What a question will read, told before anything is read: which blocks, which commits, which rollups."""

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
from metrics.storage.merge import damaged_blocks, rollups
from metrics.storage.merge.rollups import RollupRow, RollupUse
from metrics.storage.read.unmerged import UNMERGED_COMMITS, CommitGroup, join_groups
from metrics.storage.shards import BlockId, shards_of_series
from metrics.storage.units import DAY

MAX_BLOCKS = 200_000  # of one question

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
    """What a question would read, and in the end what it did."""

    series: Ints  # ascending
    start: int
    end: int
    unmerged: list[CommitGroup]
    unmerged_points: int
    blocks: list[PlannedBlock]  # by bucket, day and age
    points: int  # of all these blocks, and intervals of rollups
    rollup_rows: list[RollupRow] = field(default_factory=list)  # by bucket and day
    rollup_use: RollupUse | None = None
    rollups_from: int = 0  # µs
    damaged: list[str] = field(default_factory=list)
    caches_blocks: bool = True  # whether what it decodes is kept for the next question
    unmerged_points_in_range: float = 0.0  # about how many young points are in the range

    @property
    def unmerged_commits(self) -> int:
        return sum(one.last - one.first + 1 for one in self.unmerged)

    @property
    def rollup_intervals(self) -> int:
        """Intervals in the rollups that are read."""
        return sum(row.intervals for row in self.rollup_rows)

    def estimated_points(self, unmerged_fraction: float) -> int:
        """About how many points there are of these series in this range, where `young` is their share of young ones."""
        rest = self.rollup_intervals + self.unmerged_points_in_range * unmerged_fraction
        if not self.blocks:
            return int(rest)
        columns = ("points", "series_from", "series_to", "time_from", "time_to")
        points, low, high, first, last = np.array([[getattr(one, name) for one in self.blocks] for name in columns])
        wanted = self.series.searchsorted(high, "right") - self.series.searchsorted(low)
        return int(
            (points * wanted / (high - low + 1) * _overlap_fraction(first, last, self.start, self.end)).sum() + rest
        )

    def levels(self) -> dict[str, int]:
        """How many blocks of each level."""
        found: dict[str, int] = {}
        for block in self.blocks:
            found[str(block.level)] = found.get(str(block.level), 0) + 1
        return found


@contextmanager
def snapshot(pooled: bool = True) -> Iterator[Connection]:
    """A connection on which every statement sees the same blocks; not `pooled`: one that may be kept for long."""
    with (
        read_connection() if pooled else dedicated_connection() as connection,
        _repeatable_read(connection),
        connection.transaction(),
    ):
        yield connection


@contextmanager
def _repeatable_read(connection: Connection) -> Iterator[None]:
    """BEGIN itself says how, which is a round trip less than to say it afterwards."""
    connection.isolation_level, connection.read_only = IsolationLevel.REPEATABLE_READ, True
    try:
        yield
    finally:
        if not connection.closed:
            connection.isolation_level = connection.read_only = None


def plan_read(connection: Connection, series: Ints, start: int, end: int, rolling: RollupUse | None = None) -> ReadPlan:
    """Which blocks may hold points of these series (ascending) from `start` to before `end` (µs), and which rollups
    take their place."""
    asked_from = start
    if rolling is not None:
        start = min(max(start, rolling.points_from), end)
    wanted = {
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
    young = [CommitGroup(*row) for row in connection.execute(UNMERGED_COMMITS, wanted) if row[0] in wanted["shards"]]
    rows = connection.execute(_BLOCKS, wanted).fetchall()
    if len(rows) > MAX_BLOCKS:
        raise ReadTooLarge(f"the question would read more than {MAX_BLOCKS:,} blocks; ask for less time")
    blocks = _select_rows_with_series(series, [PlannedBlock(*row) for row in rows])
    blocks.sort(key=lambda block: (block.bucket, block.day, block.seq_to, block.id))
    unmerged_points = sum(one.points for one in young)
    points = unmerged_points + sum(block.points for block in blocks)
    planned = ReadPlan(series, start, end, join_groups(young), unmerged_points, blocks, points)
    planned.damaged = damaged_blocks.damaged_in_range(connection, wanted)
    count, first, last = np.array([one[3:] for one in young], np.int64).reshape(-1, 3).T
    planned.unmerged_points_in_range = float((count * _overlap_fraction(first, last, start, end)).sum())
    if rolling is not None:
        rows_found = rollups.find_rollup_rows(connection, wanted | {"first": day_of(asked_from)}, rolling)
        stale = {day for one in young for day in range(day_of(one.time_from), day_of(one.time_to) + 1)}
        _apply_rollups(planned, _select_rows_with_series(series, rows_found), stale, rolling, asked_from)
    return planned


def _apply_rollups(
    planned: ReadPlan, found: list[RollupRow], stale: set[int], rolling: RollupUse, asked_from: int
) -> None:
    """Let rollups take the place of blocks, of days that are not out of date."""
    if rolling.max_points is not None and planned.estimated_points(unmerged_fraction=1.0) <= rolling.max_points:
        rolling = replace(rolling, replaces_points=False)
    planned.rollup_use, planned.rollups_from = rolling, asked_from
    planned.rollup_rows = _choose_rollup_rows(rolling, found, planned.blocks, stale, (planned.start, planned.end))
    taken = {(row.bucket, row.day) for row in planned.rollup_rows}
    planned.points += planned.rollup_intervals - sum(
        block.points for block in planned.blocks if (block.bucket, block.day) in taken
    )
    planned.blocks = [block for block in planned.blocks if (block.bucket, block.day) not in taken]


def _overlap_fraction(first: Ints, last: Ints, start: int, end: int) -> NDArray[np.float64]:
    """How much of what reaches from `first` to `last` lies in a range."""
    share: NDArray[np.float64] = (np.minimum(last, end - 1) - np.maximum(first, start) + 1) / (last - first + 1)
    return share


def _select_rows_with_series(series: Ints, found: list[_RowT]) -> list[_RowT]:
    """Those rows in whose reach one of these series is."""
    if not found:
        return []
    reach = np.array([(one.series_from, one.series_to) for one in found])
    some = np.searchsorted(series, reach[:, 0]) < np.searchsorted(series, reach[:, 1], side="right")
    return [found[at] for at in np.flatnonzero(some).tolist()]


def _choose_rollup_rows(
    rolling: RollupUse, found: list[RollupRow], blocks: list[PlannedBlock], stale: set[int], points: tuple[int, int]
) -> list[RollupRow]:
    """The rollups to read: all of days whose points are gone, and those of whole days that are up to date where that
    is less to read."""
    cost: dict[tuple[int, int], int] = {}
    for block in blocks:
        place = (block.bucket, block.day)
        cost[place] = cost.get(place, 0) + block.points
        if block.level < DAY_LEVEL:
            stale.add(block.day)
    for row in found:
        cost[row.bucket, row.day] = cost.get((row.bucket, row.day), 0) - row.intervals
    first, last = -(-points[0] // DAY), points[1] // DAY
    return [
        row
        for row in found
        if (row.day + 1) * DAY <= rolling.points_from
        or (
            rolling.replaces_points
            and first <= row.day < last
            and row.day not in stale
            and cost[row.bucket, row.day] >= 0
        )
    ]
