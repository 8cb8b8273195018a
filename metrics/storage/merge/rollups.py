"""Rollups of five minutes and hours, which are kept longer than the points of their day.

They are written with the day blocks, in the same transaction, for every series that the merge changed. So a bucket's
day with rollups has those of all its numeric series; while unmerged points of a day exist, its rollups are stale and
queries read the points.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from metrics.storage.connection import Connection
from metrics.storage.format.codec import Columns, Ints
from metrics.storage.format.layout import drop_removed
from metrics.storage.format.rollup_codec import (
    RollupColumns,
    compute_rollup,
    decode_rollup,
    encode_rollup,
    merge_rollups,
)
from metrics.storage.merge.retention_policies import DEFAULT_POLICY, RetentionPolicy, is_day_expired, read_policies
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
    """Replace the rollups of series with these points, which are all their points and removals of the day.

    A series whose points of that day may have expired keeps its stored rollups.
    """
    is_replaced = [
        not is_day_expired(bucket_day.day, policies.get(series, DEFAULT_POLICY).points, now)
        for series in points.ids.tolist()
    ]
    series, points = points.ids[is_replaced], drop_removed(points)
    for resolution in resolutions if len(series) else ():
        rollup = compute_rollup(points, resolution * SECOND)
        rollup = rollup.select_series(np.isin(rollup.ids, series))
        _replace_rollup(connection, bucket_day, resolution, series, rollup, policies)


def _replace_rollup(
    connection: Connection,
    bucket_day: BucketDay,
    resolution: int,
    series: Ints,
    rollup: RollupColumns,
    policies: Mapping[int, RetentionPolicy],
) -> None:
    """Store the rollup of these series instead of the stored one."""
    parameters = (
        bucket_day.shard,
        bucket_day.bucket,
        resolution,
        bucket_day.day,
        int(series[-1]),
        int(series[0]),
    )
    rows = connection.execute(_OVERLAPPING, parameters, binary=True).fetchall()
    if rows:
        stored = merge_rollups([decode_rollup(payload, resolution * SECOND) for _, payload in rows])
        stored = stored.select_series(~np.isin(stored.ids, series))
        policies = {**policies, **read_policies(connection, stored.ids.tolist())}
        if len(stored):
            rollup = merge_rollups([stored, rollup]) if len(rollup) else stored
        delete_rows(connection, bucket_day.shard, [number for number, _ in rows])
    if len(rollup):
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
