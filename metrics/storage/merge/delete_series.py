"""Deletion of the points and rollups of deleted series from the stored days, one bucket and day at a time.

No more points of them arrive (metrics.storage.write.commit), so a processed day stays done. The remaining points of
a row keep its place in the commit order; merges hold the same lock, so they see a row before or after the deletion.
"""

import logging

import numpy as np

from metrics.storage.connection import Connection
from metrics.storage.format.codec import DamagedPayload, Ints, decode
from metrics.storage.format.layout import MERGED, select_series
from metrics.storage.format.rollup_codec import decode_rollup
from metrics.storage.merge import damaged_blocks, rollups
from metrics.storage.merge.insert_blocks import MergeRun, insert_run
from metrics.storage.merge.point_counts import CountChange
from metrics.storage.merge.retention_policies import read_policies
from metrics.storage.merge.rollups import BucketDay
from metrics.storage.units import SECOND

log = logging.getLogger(__name__)

_NEXT_DAY = """
SELECT min(day) FROM {table} WHERE shard = %(shard)s AND bucket = %(bucket)s AND day > %(after)s
    AND series_from <= %(high)s AND series_to >= %(low)s"""
_NEXT_DAY_OF_BLOCKS = _NEXT_DAY.format(table="metrics_block")
_NEXT_DAY_OF_ROLLUPS = _NEXT_DAY.format(table="metrics_rollup") + " AND resolution = %(resolution)s"
_BLOCKS = """
SELECT id, level, seq_from, seq_to, keep, series_from, series_to, payload FROM metrics_block
WHERE shard = %s AND bucket = %s AND day = %s AND series_from <= %s AND series_to >= %s ORDER BY id
"""
_ROLLUPS = """
SELECT id, resolution, series_from, series_to, payload FROM metrics_rollup
WHERE shard = %s AND bucket = %s AND day = %s AND series_from <= %s AND series_to >= %s ORDER BY id
"""
NO_SERIES: Ints = np.empty(0, np.int64)


def find_next_day(connection: Connection, bucket_day: BucketDay, series: Ints) -> int | None:
    """Return the next day of the bucket, after this one, that may have data of these series (ascending)."""
    parameters = {"shard": bucket_day.shard, "bucket": bucket_day.bucket, "after": bucket_day.day}
    parameters |= {"low": int(series[0]), "high": int(series[-1])}
    days = connection.execute(_NEXT_DAY_OF_BLOCKS, parameters).fetchall()
    for resolution in rollups.RESOLUTIONS:  # one by one, so that the index finds the first day
        days += connection.execute(_NEXT_DAY_OF_ROLLUPS, parameters | {"resolution": resolution}).fetchall()
    return min((day for (day,) in days if day is not None), default=None)


def delete_from_day(connection: Connection, bucket_day: BucketDay, series: Ints) -> Ints:
    """Delete series (ascending) from a day; return the series of every deleted point.

    The caller holds the lock of the day, and its transaction includes the deletion.
    """
    deleted = _delete_points(connection, bucket_day, series)
    _delete_rollups(connection, bucket_day, series)
    return deleted


def _delete_points(connection: Connection, bucket_day: BucketDay, series: Ints) -> Ints:
    deleted_series, change = [NO_SERIES], CountChange(connection, bucket_day.shard)
    rows = connection.execute(_BLOCKS, (*bucket_day, int(series[-1]), int(series[0])), binary=True).fetchall()
    for number, level, seq_from, seq_to, keep, first, last, payload in rows:
        if not _has_series_between(series, first, last):
            continue
        try:
            parts = decode(payload)
        except DamagedPayload:
            damaged_blocks.quarantine_block(connection, MERGED, (bucket_day.shard, number))
            continue
        deleted_parts = [select_series(part, series) for part in parts]
        if not any(map(len, deleted_parts)):
            continue
        result = connection.execute(
            "DELETE FROM metrics_block WHERE shard = %s AND id = %s", (bucket_day.shard, number)
        )
        if not result.rowcount:  # retention has deleted it meanwhile
            continue
        change.add_bytes(bucket_day.bucket, -len(payload))
        for part, deleted_part in zip(parts, deleted_parts, strict=True):
            deleted_series.append(deleted_part.series())
            change.subtract(deleted_part)
            if len(remaining := select_series(part, np.setdiff1d(part.ids, series))):
                insert_run(connection, remaining, MergeRun(bucket_day.shard, level, seq_from, seq_to), change, keep)
    change.apply()
    return np.concatenate(deleted_series)


def _delete_rollups(connection: Connection, bucket_day: BucketDay, series: Ints) -> None:
    rows = connection.execute(_ROLLUPS, (*bucket_day, int(series[-1]), int(series[0])), binary=True).fetchall()
    for number, resolution, first, last, payload in rows:
        if not _has_series_between(series, first, last):
            continue
        try:
            rollup = decode_rollup(payload, resolution * SECOND)
        except DamagedPayload:
            log.error("rollup %s is damaged and was not changed", number)
            continue
        is_deleted = np.isin(rollup.ids, series)
        if not is_deleted.any():
            continue
        rollups.delete_rows(connection, bucket_day.shard, [number])
        if not is_deleted.all():
            remaining = rollup.select_series(~is_deleted)
            rollups.insert_rollup(
                connection, bucket_day, resolution, remaining, read_policies(connection, remaining.ids.tolist())
            )


def _has_series_between(series: Ints, first: int, last: int) -> bool:
    """Return whether one of these series is in a range."""
    return bool(series.searchsorted(first) < series.searchsorted(last, "right"))
