"""Rebuild of the point counts of a range: if it was never counted, or lost a damaged block.

Merging continues meanwhile. The counts are set to zero at the moment of a snapshot, and later changes are added as
always; the points in the snapshot are counted by reading it, and added at the end. If a worker is killed, the rebuild
of its range starts again.
"""

import time
from typing import Any

import numpy as np

from metrics.storage.connection import Connection, connect
from metrics.storage.format.codec import DamagedPayload, decode
from metrics.storage.format.layout import MERGED, SERIES_PER_BUCKET
from metrics.storage.locks import lock_count_rebuild
from metrics.storage.merge import damaged_blocks, point_counts
from metrics.storage.merge.point_counts import COUNT_COLUMNS, HOUR, SERIES_PER_RANGE, CountChange

FETCH_ROWS = 1000
BUCKETS_PER_RANGE = SERIES_PER_RANGE // SERIES_PER_BUCKET

_PENDING = "SELECT shard, stretch FROM metrics_count WHERE hour = 0 AND pending IS NOT NULL ORDER BY shard, stretch"
_RESET = """
UPDATE metrics_count SET pending = txid_current(), points = 0, bytes = 0, payload = %s
WHERE shard = %s AND stretch = %s AND hour = 0 RETURNING pending
"""
_DELETE_HOURS = "DELETE FROM metrics_count WHERE shard = %s AND stretch = %s AND hour <> 0"
_DONE = "UPDATE metrics_count SET pending = NULL WHERE shard = %s AND stretch = %s AND hour = 0 AND pending = %s"
_ROWS = f"""
SELECT id, bucket, octet_length(payload), time_to, {COUNT_COLUMNS} FROM metrics_block
WHERE shard = %s AND bucket >= %s AND bucket < %s
"""  # noqa: S608 - a constant with a constant in it
_PAYLOADS = "SELECT id, payload FROM metrics_block WHERE shard = %s AND id = ANY(%s)"


def rebuild_counts(connection: Connection, budget: float = 25.0) -> int:
    """Rebuild marked ranges for about `budget` seconds; return how many were rebuilt."""
    started, rebuilt = time.monotonic(), 0
    for shard, count_range in connection.execute(_PENDING).fetchall():
        if rebuilt and time.monotonic() - started > budget:  # at least one range per run
            break
        with connect() as reader:
            rebuilt += lock_count_rebuild(reader, shard, count_range) and _rebuild_range(
                connection, reader, shard, count_range
            )
    return rebuilt


def _rebuild_range(connection: Connection, reader: Connection, shard: int, count_range: int) -> bool:
    with reader.transaction():
        with connection.transaction():
            zeros = point_counts.encode_counts(np.zeros(SERIES_PER_RANGE, np.int64))
            started = connection.execute(_RESET, (zeros, shard, count_range)).fetchone()
            connection.execute(_DELETE_HOURS, (shard, count_range))
            # The row is locked, so the snapshot has exactly the points that are not added to the counts from now on.
            reader.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
            reader.execute("SELECT 1")
        change = CountChange(connection, shard)
        with reader.cursor("blocks", binary=True) as cursor:
            cursor.execute(_ROWS, (shard, count_range * BUCKETS_PER_RANGE, (count_range + 1) * BUCKETS_PER_RANGE))
            while rows := cursor.fetchmany(FETCH_ROWS):
                _count_rows(reader, shard, rows, change)
    with connection.transaction():
        change.apply()
        connection.execute(_DONE, (shard, count_range, started and started[0]))
    return True


def _count_rows(reader: Connection, shard: int, rows: list[tuple[Any, ...]], change: CountChange) -> None:
    """Add the points of these blocks; of blocks of the last hours every point is read."""
    unclear = []
    for number, bucket, size, time_to, *block in rows:
        change.add_bytes(bucket, size)
        counts = point_counts.count_block(*block) if time_to < change.first_hour * HOUR else None
        if counts is None:
            unclear.append(number)
        else:
            change.add_counts(*counts)
    if unclear:
        for number, payload in reader.execute(_PAYLOADS, (shard, unclear), binary=True):
            try:
                for columns in decode(payload):
                    change.add(columns)
            except DamagedPayload:  # quarantined by the next reader, which marks the range again
                damaged_blocks.log_damage_once(damaged_blocks.block_name(MERGED, (shard, number)))
