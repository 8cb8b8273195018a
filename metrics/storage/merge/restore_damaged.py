"""Blocks that were set aside and whose payload is good again, restored from a backup, come back to their place."""

import numpy as np

from metrics.storage.connection import Connection, database_time
from metrics.storage.format.codec import Columns, DamagedPayload, decode
from metrics.storage.format.layout import DAY_LEVEL, select_series, split_by_day
from metrics.storage.locks import lock_day, lock_unmerged_blocks
from metrics.storage.merge.insert_blocks import MergeRun, insert_run
from metrics.storage.merge.merge_day import merge_day
from metrics.storage.merge.point_counts import CountChange
from metrics.storage.merge.rollups import BucketDay
from metrics.storage.read import latest

RESTORE_BATCH = 100  # blocks that are looked at in one go
_QUARANTINED = """
SELECT id, shard, seq_from, seq_to, payload FROM metrics_damagedblock ORDER BY id LIMIT %s
"""


def restore_readable_blocks(connection: Connection) -> int:
    """Put back what can be read again; returns how many blocks."""
    count = 0
    for number, shard, seq_from, seq_to, payload in connection.execute(
        _QUARANTINED, (RESTORE_BATCH,), binary=True
    ).fetchall():
        try:
            parts = decode(payload)
        except DamagedPayload:
            continue
        count += _restore_block(connection, number, MergeRun(shard, DAY_LEVEL - 1, seq_from, seq_to), parts)
    return count


def _select_existing_series(connection: Connection, part: Columns) -> Columns:
    """Without series that were deleted while the block was away."""
    rows = connection.execute("SELECT id FROM metrics_series WHERE id = ANY(%s)", (part.ids.tolist(),))
    return select_series(part, np.array([number for (number,) in rows], np.int64))


def _restore_block(connection: Connection, number: int, run: MergeRun, parts: list[Columns]) -> bool:
    """Its days are made at once: among finished rows, order of `seq` alone says whose value is the later one."""
    with connection.transaction():
        places = sorted({(bucket, day) for part in parts for bucket, day, _ in split_by_day(part)})
        if not lock_unmerged_blocks(connection, run.shard) or not all(lock_day(connection, *place) for place in places):
            return False  # the next time
        gone = connection.execute("DELETE FROM metrics_damagedblock WHERE id = %s", (number,))
        if not gone.rowcount:
            return False
        parts = [living for part in parts if len(living := _select_existing_series(connection, part))]
        change = CountChange(connection, run.shard)
        for columns in parts:
            insert_run(connection, columns, run, change)
            change.add(columns)
        change.apply()  # before the merges, which lock some of the same counts
        for bucket, day in places:
            merge_day(connection, BucketDay(run.shard, bucket, day), DAY_LEVEL, database_time(connection))
        for bucket in dict(places):
            latest.restore_latest(connection, run.shard, bucket)
        return True
