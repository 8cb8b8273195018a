"""Blocks that were set aside and whose payload is good again, restored from a backup, come back to their place."""

import numpy as np

from metrics.storage.connection import Connection, clock
from metrics.storage.format.codec import Columns, DamagedPayload, decode
from metrics.storage.format.layout import SETTLED, of_series, units
from metrics.storage.locks import lock_unit, lock_young
from metrics.storage.merge.insert_blocks import Run, insert_run
from metrics.storage.merge.merge_day import merge_unit
from metrics.storage.merge.point_counts import Change
from metrics.storage.merge.rollups import Place
from metrics.storage.read import latest

AT_ONCE = 100  # blocks that are looked at in one go
_SET_ASIDE = """
SELECT id, shard, seq_from, seq_to, payload FROM metrics_damagedblock ORDER BY id LIMIT %s
"""


def put_back_mended(connection: Connection) -> int:
    """Put back what can be read again; returns how many blocks."""
    count = 0
    for number, shard, seq_from, seq_to, payload in connection.execute(_SET_ASIDE, (AT_ONCE,), binary=True).fetchall():
        try:
            parts = decode(payload)
        except DamagedPayload:
            continue
        count += _put_back(connection, number, Run(shard, SETTLED - 1, seq_from, seq_to), parts)
    return count


def _living(connection: Connection, part: Columns) -> Columns:
    """Without series that were deleted while the block was away."""
    rows = connection.execute("SELECT id FROM metrics_series WHERE id = ANY(%s)", (part.ids.tolist(),))
    return of_series(part, np.array([number for (number,) in rows], np.int64))


def _put_back(connection: Connection, number: int, run: Run, parts: list[Columns]) -> bool:
    """Its days are made at once: among finished rows, order of `seq` alone says whose value is the later one."""
    with connection.transaction():
        places = sorted({(bucket, day) for part in parts for bucket, day, _ in units(part)})
        if not lock_young(connection, run.shard) or not all(lock_unit(connection, *place) for place in places):
            return False  # the next time
        gone = connection.execute("DELETE FROM metrics_damagedblock WHERE id = %s", (number,))
        if not gone.rowcount:
            return False
        parts = [living for part in parts if len(living := _living(connection, part))]
        change = Change(connection, run.shard)
        for columns in parts:
            insert_run(connection, columns, run, change)
            change.add(columns)
        change.apply()  # before the merges, which lock some of the same counts
        for bucket, day in places:
            merge_unit(connection, Place(run.shard, bucket, day), SETTLED, clock(connection))
        for bucket in dict(places):
            latest.put_back(connection, run.shard, bucket)
        return True
