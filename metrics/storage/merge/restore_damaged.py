"""Restoring of quarantined blocks whose payload is intact again, for example from a backup."""

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

RESTORE_BATCH = 100  # blocks
_QUARANTINED = """
SELECT id, shard, seq_from, seq_to, payload FROM metrics_damagedblock ORDER BY id LIMIT %s
"""


def restore_readable_blocks(connection: Connection) -> int:
    """Restore quarantined blocks that can be decoded again; return how many."""
    restored = 0
    for number, shard, seq_from, seq_to, payload in connection.execute(
        _QUARANTINED, (RESTORE_BATCH,), binary=True
    ).fetchall():
        try:
            parts = decode(payload)
        except DamagedPayload:
            continue
        restored += _restore_block(connection, number, MergeRun(shard, DAY_LEVEL - 1, seq_from, seq_to), parts)
    return restored


def _select_existing_series(connection: Connection, part: Columns) -> Columns:
    """Return the points of series that were not deleted while the block was in quarantine."""
    rows = connection.execute("SELECT id FROM metrics_series WHERE id = ANY(%s)", (part.ids.tolist(),))
    return select_series(part, np.array([number for (number,) in rows], np.int64))


def _restore_block(connection: Connection, number: int, run: MergeRun, parts: list[Columns]) -> bool:
    """Restore a block, and make its days at once: among day blocks the sequence numbers decide which value is later."""
    with connection.transaction():
        days = sorted({(bucket, day) for part in parts for bucket, day, _ in split_by_day(part)})
        if not lock_unmerged_blocks(connection, run.shard) or not all(
            lock_day(connection, *bucket_day) for bucket_day in days
        ):
            return False  # another worker holds a lock; the next run tries again
        deleted = connection.execute("DELETE FROM metrics_damagedblock WHERE id = %s", (number,))
        if not deleted.rowcount:
            return False
        parts = [existing for part in parts if len(existing := _select_existing_series(connection, part))]
        change = CountChange(connection, run.shard)
        for columns in parts:
            insert_run(connection, columns, run, change)
            change.add(columns)
        change.apply()  # before the merges, which lock some of the same ranges
        for bucket, day in days:
            merge_day(connection, BucketDay(run.shard, bucket, day), DAY_LEVEL, database_time(connection))
        for bucket in dict(days):
            latest.restore_latest(connection, run.shard, bucket)
        return True
