"""PostgreSQL advisory locks. They end with their transaction, so that a killed worker leaves none behind."""

from metrics.storage.connection import Connection

_UNMERGED, _DAY, _JOURNAL, _COUNT_REBUILD, _EVALUATION = 7201, 7202, 7203, 7204, 7205  # lock classes
_DEVICE_STATES = 7206

_TERMINATE_IDLE = """
SELECT pg_terminate_backend(pid) FROM pg_locks JOIN pg_stat_activity USING (pid)
WHERE locktype = 'advisory' AND classid = %s AND granted AND pg_locks.database = datid
    AND state <> 'active' AND state_change < clock_timestamp() - make_interval(secs => %s)
"""


def lock_unmerged_blocks(connection: Connection, shard: int) -> bool:
    """Lock the merging of a shard's unmerged blocks; False if another session holds the lock."""
    return _try_lock(connection, _UNMERGED, shard)


def lock_day(connection: Connection, bucket: int, day: int) -> bool:
    """Lock the merged blocks and rollups of a bucket's day; False if another session holds the lock."""
    return _try_lock(connection, _DAY, bucket * 100_003 + day)


def lock_journal(connection: Connection, shard: int) -> bool:
    """Lock the packing of a shard's journal; False if another session holds the lock."""
    return _try_lock(connection, _JOURNAL, shard)


def lock_device_states(connection: Connection) -> bool:
    """Lock the recording of silent devices; False if another session holds the lock."""
    return _try_lock(connection, _DEVICE_STATES, 0)


def lock_count_rebuild(connection: Connection, shard: int, count_range: int) -> bool:
    """Lock the rebuild of a count range until this connection closes; False if another session holds the lock."""
    number = (count_range * 64 + shard) % 2**31
    row = connection.execute("SELECT pg_try_advisory_lock(%s, %s)", (_COUNT_REBUILD, number)).fetchone()
    return bool(row and row[0])


def lock_evaluation(connection: Connection) -> bool:
    """Lock the evaluation of alert rules until this connection closes; False if another session holds the lock."""
    row = connection.execute("SELECT pg_try_advisory_lock(%s, 0)", (_EVALUATION,)).fetchone()
    return bool(row and row[0])


def terminate_idle_evaluator(connection: Connection, seconds: float) -> bool:
    """End the session that holds the evaluation lock if it ran no statement for `seconds`; True if one was ended.

    Otherwise a frozen process, or one on a machine that has vanished, would keep the lock.
    """
    return connection.execute(_TERMINATE_IDLE, (_EVALUATION, seconds)).fetchone() is not None


def _try_lock(connection: Connection, lock_class: int, number: int) -> bool:
    row = connection.execute("SELECT pg_try_advisory_xact_lock(%s, %s)", (lock_class, number % 2**31)).fetchone()
    return bool(row and row[0])
