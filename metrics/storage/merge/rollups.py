"""The table of rollups: what five minutes and hours of a day amounted to, kept longer than its points.

They are written with the day's final blocks, in the same transaction, for every series that the merge touched. So a
day of a bucket that has rollups has those of all its numeric series; while points wait to be merged into a day, its
rollups are out of date and questions read the points.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from metrics.storage.connection import Connection
from metrics.storage.format.codec import Columns, Ints
from metrics.storage.format.layout import SERIES_PER_BUCKET, day_of
from metrics.storage.format.rollup_codec import (
    RollupColumns,
    compute_rollup,
    decode_rollup,
    encode_rollup,
    merge_rollups,
)
from metrics.storage.merge.retention_policies import DEFAULT_POLICY, RetentionPolicy, is_day_expired, read_policies
from metrics.storage.shards import BlockId, shards_of_series
from metrics.storage.units import SECOND

FIVE_MINUTES, ONE_HOUR = 300, 3600  # seconds of an interval
RESOLUTIONS = (FIVE_MINUTES, ONE_HOUR)
# Intervals of one row, at the most. A row is decoded whole, and the chart of a series over months reads one of hours
# for each day; four times as many intervals would save 4 % of their bytes and take it twice as long.
MAX_ROW_INTERVALS = {FIVE_MINUTES: 4096, ONE_HOUR: 1024}
MIN_POINTS_PER_5M = 15  # points of five minutes, on average: rollups of fewer cost more than the points

_OVERLAPPING = """
SELECT id, payload FROM metrics_rollup WHERE shard = %s AND bucket = %s AND resolution = %s AND day = %s
  AND series_from <= %s AND series_to >= %s
"""
_INSERT = """
INSERT INTO metrics_rollup (shard, bucket, resolution, day, series_from, series_to, intervals, keep, payload)
VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s)
"""


class BucketDay(NamedTuple):
    """A day of a bucket."""

    shard: int
    bucket: int
    day: int


def stored_resolutions(connection: Connection, place: BucketDay) -> set[int]:
    """The resolutions of which a day has rollups."""
    found = connection.execute(
        "SELECT DISTINCT resolution FROM metrics_rollup WHERE shard = %s AND bucket = %s AND day = %s",
        (place.shard, place.bucket, place.day),
    )
    return {resolution for (resolution,) in found}


def choose_resolutions(points: Columns) -> set[int]:
    """The resolutions that a day is to have in which there are these points."""
    intervals = len(compute_rollup(points, FIVE_MINUTES * SECOND))
    return {FIVE_MINUTES, ONE_HOUR} if len(points) >= MIN_POINTS_PER_5M * intervals else {ONE_HOUR}


def delete_day(connection: Connection, place: BucketDay) -> None:
    """Remove the rollups of a day."""
    connection.execute(
        "DELETE FROM metrics_rollup WHERE shard = %s AND bucket = %s AND day = %s",
        (place.shard, place.bucket, place.day),
    )


def write_rollups(
    connection: Connection,
    place: BucketDay,
    points: Columns,
    kept: Mapping[int, RetentionPolicy],
    now: float,
    resolutions: set[int],
) -> None:
    """Make the rollups of series of whose day these are all points; what there was of them is replaced.

    A series whose points of that day may be gone already keeps the rollups that it has.
    """
    lasting = [
        not is_day_expired(place.day, kept.get(series, DEFAULT_POLICY).points, now) for series in points.ids.tolist()
    ]
    for resolution in resolutions:
        made = compute_rollup(points, resolution * SECOND).select_series(np.array(lasting, bool))
        if len(made.ids):
            _replace_rollup(connection, place, resolution, made, kept)


def _replace_rollup(
    connection: Connection, place: BucketDay, resolution: int, made: RollupColumns, kept: Mapping[int, RetentionPolicy]
) -> None:
    where = (place.shard, place.bucket, resolution, place.day, int(made.ids[-1]), int(made.ids[0]))
    rows = connection.execute(_OVERLAPPING, where, binary=True).fetchall()
    if rows:
        held = merge_rollups([decode_rollup(payload, resolution * SECOND) for _, payload in rows])
        held = held.select_series(~np.isin(held.ids, made.ids))
        kept = {**kept, **read_policies(connection, held.ids.tolist())}
        made = merge_rollups([held, made])
        delete_rows(connection, place.shard, [number for number, _ in rows])
    insert_rollup(connection, place, resolution, made, kept)


def insert_rollup(
    connection: Connection, place: BucketDay, resolution: int, made: RollupColumns, kept: Mapping[int, RetentionPolicy]
) -> None:
    """Store a summary, in rows of series that are kept equally long."""
    days = np.array(
        [rollup_retention_days(kept.get(series, DEFAULT_POLICY), resolution) for series in made.ids.tolist()]
    )
    with connection.cursor() as cursor:
        cursor.executemany(
            _INSERT,
            [
                (
                    *(place.shard, place.bucket, resolution, place.day),
                    *(int(row.ids[0]), int(row.ids[-1]), len(row), keep, encode_rollup(row)),
                )
                for keep in np.unique(days).tolist()
                for row in made.select_series(days == keep).split_rows(MAX_ROW_INTERVALS[resolution])
            ],
        )


def delete_rows(connection: Connection, shard: int, numbers: Sequence[int]) -> None:
    """Remove rows."""
    connection.execute("DELETE FROM metrics_rollup WHERE shard = %s AND id = ANY(%s)", (shard, list(numbers)))


def rollup_retention_days(policy: RetentionPolicy, resolution: int) -> int:
    """How long rollups of a resolution are kept: never less long than the points.

    Where a day of a bucket has rollups, questions take them for all series whose points are there.
    """
    return max(policy.points, policy.minutes if resolution == FIVE_MINUTES else policy.hours)


# --- reading ----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class RollupUse:
    """How a question may be answered from rollups.

    resolution  seconds of their intervals
    gone        µs: points of before are gone, and rollups are all there is
    instead     whether they may stand in for points that are still there
    thinned     to how many points the answer is thinned: hours will do for days that have no finer ones, and nothing
                stands in where there are no more points than that
    """

    resolution: int
    points_from: int
    replaces_points: bool
    max_points: int | None = None


class RollupRow(NamedTuple):
    """A row of rollups that a question would read."""

    shard: int
    id: int
    bucket: int
    day: int
    intervals: int
    series_from: int
    series_to: int
    resolution: int


_FIND = """
SELECT shard, id, bucket, day, intervals, series_from, series_to, resolution FROM metrics_rollup
WHERE shard = ANY(%(shards)s) AND bucket = ANY(%(buckets)s) AND resolution = ANY(%(resolutions)s)
  AND day BETWEEN %(first)s AND %(last)s AND series_from <= %(high)s AND series_to >= %(low)s
"""


def has_rollups(connection: Connection, series: Ints, resolution: int, start: int, end: int) -> bool:
    """Whether buckets of these series have rollups of a resolution from one time to another (µs)."""
    shards, buckets = np.unique(shards_of_series(series)).tolist(), np.unique(series // SERIES_PER_BUCKET).tolist()
    found = connection.execute(
        "SELECT 1 FROM metrics_rollup WHERE shard = ANY(%s) AND bucket = ANY(%s) AND resolution = %s"
        " AND day BETWEEN %s AND %s LIMIT 1",
        (shards, buckets, resolution, day_of(start), day_of(end - 1)),
    )
    return found.fetchone() is not None


def find_rollup_rows(connection: Connection, wanted: Mapping[str, object], rolling: RollupUse) -> list[RollupRow]:
    """Rows that may hold what is wanted: shards, buckets, first and last day, low and high series; of a day finer ones
    first."""
    resolutions = {rolling.resolution} if rolling.max_points is None else {rolling.resolution, ONE_HOUR}
    found = [RollupRow(*row) for row in connection.execute(_FIND, {**wanted, "resolutions": list(resolutions)})]
    return sorted(found, key=lambda row: (row.bucket, row.day, row.resolution, row.series_from))


def read_payloads(connection: Connection, rows: Sequence[RollupRow]) -> dict[BlockId, bytes]:
    """Payloads by (shard, id)."""
    found: dict[BlockId, bytes] = {}
    for shard in {row.shard for row in rows}:
        numbers = [row.id for row in rows if row.shard == shard]
        statement = "SELECT id, payload FROM metrics_rollup WHERE shard = %s AND id = ANY(%s)"
        for number, payload in connection.execute(statement, (shard, numbers), binary=True):
            found[shard, number] = payload
    return found


def coarsest_resolution(edges: Ints) -> int | None:
    """The coarsest resolution that these edges (µs), the first and the last apart, do not cut; None: both are cut."""
    for resolution in reversed(RESOLUTIONS):
        if not (edges[1:-1] % (resolution * SECOND)).any():
            return resolution
    return None
