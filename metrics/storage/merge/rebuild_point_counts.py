"""Counting a stretch of series anew: where it was never counted, or where a block went bad with what it held.

Merging goes on meanwhile. The counts begin at nothing in the very moment of a snapshot, and whatever moves from then
on is added to them as ever; what the snapshot holds is found by reading it, at leisure, and added at the end. A worker
that is killed leaves a stretch that is begun again.
"""

import time
from typing import Any

import numpy as np

from metrics.storage.connection import Connection, connect
from metrics.storage.format.codec import DamagedPayload, decode
from metrics.storage.format.layout import SERIES_PER_BUCKET
from metrics.storage.locks import lock_count_rebuild
from metrics.storage.merge import damaged_blocks, point_counts
from metrics.storage.merge.point_counts import COUNT_COLUMNS, HOUR, SERIES_PER_RANGE, CountChange

FETCH_ROWS = 1000  # rows that are fetched together
BUCKETS_PER_RANGE = SERIES_PER_RANGE // SERIES_PER_BUCKET  # of a stretch

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
    """Count what has to be counted anew, for about `budget` seconds; returns how many stretches were."""
    started, done = time.monotonic(), 0
    for shard, stretch in connection.execute(_PENDING).fetchall():
        if done and time.monotonic() - started > budget:  # every run gets further than the one before
            break
        with connect() as reader:
            done += lock_count_rebuild(reader, shard, stretch) and _rebuild_range(connection, reader, shard, stretch)
    return done


def _rebuild_range(connection: Connection, reader: Connection, shard: int, stretch: int) -> bool:
    with reader.transaction():
        with connection.transaction():
            nothing = point_counts.encode_counts(np.zeros(SERIES_PER_RANGE, np.int64))
            begun = connection.execute(_RESET, (nothing, shard, stretch)).fetchone()
            connection.execute(_DELETE_HOURS, (shard, stretch))
            # Now nobody else can move these counts: what is stored already will be read, all else be added.
            reader.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
            reader.execute("SELECT 1")
        change = CountChange(connection, shard)
        with reader.cursor("blocks", binary=True) as cursor:
            cursor.execute(_ROWS, (shard, stretch * BUCKETS_PER_RANGE, (stretch + 1) * BUCKETS_PER_RANGE))
            while rows := cursor.fetchmany(FETCH_ROWS):
                _count_rows(reader, shard, rows, change)
    with connection.transaction():
        change.apply()
        connection.execute(_DONE, (shard, stretch, begun and begun[0]))
    return True


def _count_rows(reader: Connection, shard: int, rows: list[tuple[Any, ...]], change: CountChange) -> None:
    """Add what is in these blocks; of those of the last hours every point is looked at."""
    whole = []
    for number, bucket, size, time_to, *block in rows:
        change.add_bytes(bucket, size)
        told = point_counts.count_block(*block) if time_to < change.first_hour * HOUR else None
        if told is None:
            whole.append(number)
        else:
            change.add_counts(*told)
    if whole:
        for number, payload in reader.execute(_PAYLOADS, (shard, whole), binary=True):
            try:
                for columns in decode(payload):
                    change.add(columns)
            except DamagedPayload:  # whoever meets it next sets it aside, and it is counted anew
                damaged_blocks.log_damage_once(damaged_blocks.block_name(1, (shard, number)))
