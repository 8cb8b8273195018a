"""Rollups of five minutes and hours, which are kept longer than the points of their day.

They are written with the day blocks, in the same transaction, for every series that the merge changed. So a bucket's
day with rollups has those of all its numeric series; while unmerged points of a day exist, its rollups are stale and
queries read the points.
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

FIVE_MINUTES, ONE_HOUR = 300, 3600  # seconds
RESOLUTIONS = (FIVE_MINUTES, ONE_HOUR)
# A row is decoded as a whole, and the chart of one series over months reads an hourly row for each day; four times as
# many intervals would save 4 % of the bytes and take twice as long.
MAX_ROW_INTERVALS = {FIVE_MINUTES: 4096, ONE_HOUR: 1024}
MIN_POINTS_PER_5M = 15  # average points per interval; with fewer, rollups take more bytes than the points

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


def stored_resolutions(connection: Connection, bucket_day: BucketDay) -> set[int]:
    """Return the resolutions of a day's stored rollups."""
    rows = connection.execute(
        "SELECT DISTINCT resolution FROM metrics_rollup WHERE shard = %s AND bucket = %s AND day = %s",
        (bucket_day.shard, bucket_day.bucket, bucket_day.day),
    )
    return {resolution for (resolution,) in rows}


def choose_resolutions(points: Columns) -> set[int]:
    """Return the resolutions of the rollups to make of a day with these points."""
    intervals = len(compute_rollup(points, FIVE_MINUTES * SECOND))
    return {FIVE_MINUTES, ONE_HOUR} if len(points) >= MIN_POINTS_PER_5M * intervals else {ONE_HOUR}


def delete_day(connection: Connection, bucket_day: BucketDay) -> None:
    """Delete the rollups of a day."""
    connection.execute(
        "DELETE FROM metrics_rollup WHERE shard = %s AND bucket = %s AND day = %s",
        (bucket_day.shard, bucket_day.bucket, bucket_day.day),
    )


def write_rollups(
    connection: Connection,
    bucket_day: BucketDay,
    points: Columns,
    policies: Mapping[int, RetentionPolicy],
    now: float,
    resolutions: set[int],
) -> None:
    """Replace the rollups of series with these points, which are all their points of the day.

    A series whose points of that day may have expired keeps its stored rollups.
    """
    is_kept = [
        not is_day_expired(bucket_day.day, policies.get(series, DEFAULT_POLICY).points, now)
        for series in points.ids.tolist()
    ]
    for resolution in resolutions:
        rollup = compute_rollup(points, resolution * SECOND).select_series(np.array(is_kept, bool))
        if len(rollup.ids):
            _replace_rollup(connection, bucket_day, resolution, rollup, policies)


def _replace_rollup(
    connection: Connection,
    bucket_day: BucketDay,
    resolution: int,
    rollup: RollupColumns,
    policies: Mapping[int, RetentionPolicy],
) -> None:
    parameters = (
        bucket_day.shard,
        bucket_day.bucket,
        resolution,
        bucket_day.day,
        int(rollup.ids[-1]),
        int(rollup.ids[0]),
    )
    rows = connection.execute(_OVERLAPPING, parameters, binary=True).fetchall()
    if rows:
        stored = merge_rollups([decode_rollup(payload, resolution * SECOND) for _, payload in rows])
        stored = stored.select_series(~np.isin(stored.ids, rollup.ids))
        policies = {**policies, **read_policies(connection, stored.ids.tolist())}
        rollup = merge_rollups([stored, rollup])
        delete_rows(connection, bucket_day.shard, [number for number, _ in rows])
    insert_rollup(connection, bucket_day, resolution, rollup, policies)


def insert_rollup(
    connection: Connection,
    bucket_day: BucketDay,
    resolution: int,
    rollup: RollupColumns,
    policies: Mapping[int, RetentionPolicy],
) -> None:
    """Insert a rollup in rows of series with equal retention."""
    days = np.array(
        [rollup_retention_days(policies.get(series, DEFAULT_POLICY), resolution) for series in rollup.ids.tolist()]
    )
    with connection.cursor() as cursor:
        cursor.executemany(
            _INSERT,
            [
                (
                    *(bucket_day.shard, bucket_day.bucket, resolution, bucket_day.day),
                    *(int(row.ids[0]), int(row.ids[-1]), len(row), keep, encode_rollup(row)),
                )
                for keep in np.unique(days).tolist()
                for row in rollup.select_series(days == keep).split_rows(MAX_ROW_INTERVALS[resolution])
            ],
        )


def delete_rows(connection: Connection, shard: int, ids: Sequence[int]) -> None:
    """Delete rollup rows."""
    connection.execute("DELETE FROM metrics_rollup WHERE shard = %s AND id = ANY(%s)", (shard, list(ids)))


def rollup_retention_days(policy: RetentionPolicy, resolution: int) -> int:
    """Return the retention in days of rollups of a resolution: at least that of the points.

    Queries of a day with rollups use them for all series whose points exist.
    """
    return max(policy.points, policy.minutes if resolution == FIVE_MINUTES else policy.hours)


@dataclass(frozen=True, slots=True)
class RollupUse:
    """How a query may use rollups.

    resolution       seconds of their intervals
    points_from      µs; older points have expired, so only rollups are left
    replaces_points  whether rollups may replace points that still exist
    max_points       number of points that the result is downsampled to: hourly rollups suffice for days without finer
                     ones, and rollups replace nothing if there are no more points than that
    """

    resolution: int
    points_from: int
    replaces_points: bool
    max_points: int | None = None


class RollupRow(NamedTuple):
    """A row of rollups without its payload."""

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
    """Return whether buckets of these series have rollups of a resolution from `start` to before `end` (µs)."""
    shards, buckets = np.unique(shards_of_series(series)).tolist(), np.unique(series // SERIES_PER_BUCKET).tolist()
    rows = connection.execute(
        "SELECT 1 FROM metrics_rollup WHERE shard = ANY(%s) AND bucket = ANY(%s) AND resolution = %s"
        " AND day BETWEEN %s AND %s LIMIT 1",
        (shards, buckets, resolution, day_of(start), day_of(end - 1)),
    )
    return rows.fetchone() is not None


def find_rollup_rows(
    connection: Connection, parameters: Mapping[str, object], rollup_use: RollupUse
) -> list[RollupRow]:
    """Return the rows of the requested shards, buckets, days and series, the finer resolution of a day first."""
    resolutions = {rollup_use.resolution} if rollup_use.max_points is None else {rollup_use.resolution, ONE_HOUR}
    rows = [RollupRow(*row) for row in connection.execute(_FIND, {**parameters, "resolutions": list(resolutions)})]
    return sorted(rows, key=lambda row: (row.bucket, row.day, row.resolution, row.series_from))


def read_payloads(connection: Connection, rows: Sequence[RollupRow]) -> dict[BlockId, bytes]:
    """Return the payloads of these rows by (shard, id)."""
    payloads: dict[BlockId, bytes] = {}
    for shard in {row.shard for row in rows}:
        ids = [row.id for row in rows if row.shard == shard]
        statement = "SELECT id, payload FROM metrics_rollup WHERE shard = %s AND id = ANY(%s)"
        for number, payload in connection.execute(statement, (shard, ids), binary=True):
            payloads[shard, number] = payload
    return payloads


def coarsest_resolution(edges: Ints) -> int | None:
    """Return the coarsest resolution that divides all edges (µs) but the first and last; None if none does."""
    for resolution in reversed(RESOLUTIONS):
        if not (edges[1:-1] % (resolution * SECOND)).any():
            return resolution
    return None
