"""Taking the points and rollups of deleted series out of the stored days, a bucket's day at a time.

No more of them arrive (metrics.storage.write.commit), so a processed day stays done. The rest of a row keeps
the row's place in the order of writes; merges, which hold the same lock, see the row as it was or without them.
"""

import logging

import numpy as np

from metrics.storage.connection import Connection
from metrics.storage.format.codec import DamagedPayload, Ints, decode
from metrics.storage.format.layout import select_series
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


def find_next_day(connection: Connection, place: BucketDay, series: Ints) -> int | None:
    """The first day after a place, of its bucket, in which there may be something of these series (ascending)."""
    wanted = {"shard": place.shard, "bucket": place.bucket, "after": place.day}
    wanted |= {"low": int(series[0]), "high": int(series[-1])}
    found = connection.execute(_NEXT_DAY_OF_BLOCKS, wanted).fetchall()
    for resolution in rollups.RESOLUTIONS:  # one by one, so that the index gives the first without counting the others
        found += connection.execute(_NEXT_DAY_OF_ROLLUPS, wanted | {"resolution": resolution}).fetchall()
    return min((day for (day,) in found if day is not None), default=None)


def delete_from_day(connection: Connection, place: BucketDay, series: Ints) -> Ints:
    """Take series (ascending) out of a day; returns the series of every point that went.

    In the caller's transaction, who holds the lock of the unit.
    """
    gone = _delete_points(connection, place, series)
    _delete_rollups(connection, place, series)
    return gone


def _delete_points(connection: Connection, place: BucketDay, series: Ints) -> Ints:
    gone, change = [NO_SERIES], CountChange(connection, place.shard)
    rows = connection.execute(_BLOCKS, (*place, int(series[-1]), int(series[0])), binary=True).fetchall()
    for number, level, seq_from, seq_to, keep, first, last, payload in rows:
        if not _has_series_between(series, first, last):
            continue
        try:
            parts = decode(payload)
        except DamagedPayload:
            damaged_blocks.quarantine_block(connection, 1, (place.shard, number))
            continue
        dead = [select_series(part, series) for part in parts]
        if not any(map(len, dead)):
            continue
        deleted = connection.execute("DELETE FROM metrics_block WHERE shard = %s AND id = %s", (place.shard, number))
        if not deleted.rowcount:  # retention was faster
            continue
        change.add_bytes(place.bucket, -len(payload))
        for part, some in zip(parts, dead, strict=True):
            gone.append(some.series())
            change.subtract(some)
            if len(left := select_series(part, np.setdiff1d(part.ids, series))):
                insert_run(connection, left, MergeRun(place.shard, level, seq_from, seq_to), change, keep)
    change.apply()
    return np.concatenate(gone)


def _delete_rollups(connection: Connection, place: BucketDay, series: Ints) -> None:
    rows = connection.execute(_ROLLUPS, (*place, int(series[-1]), int(series[0])), binary=True).fetchall()
    for number, resolution, first, last, payload in rows:
        if not _has_series_between(series, first, last):
            continue
        try:
            held = decode_rollup(payload, resolution * SECOND)
        except DamagedPayload:
            log.error("rollup %s is damaged: it stays as it is", number)
            continue
        dead = np.isin(held.ids, series)
        if not dead.any():
            continue
        rollups.delete_rows(connection, place.shard, [number])
        if not dead.all():
            left = held.select_series(~dead)
            rollups.insert_rollup(connection, place, resolution, left, read_policies(connection, left.ids.tolist()))


def _has_series_between(series: Ints, first: int, last: int) -> bool:
    """Whether one of these series lies between two."""
    return bool(series.searchsorted(first) < series.searchsorted(last, "right"))
