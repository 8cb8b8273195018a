"""PostgreSQL advisory locks. They end with their transaction or connection: a killed worker leaves none behind."""

import zlib

from metrics.storage.connection import Connection

_UNMERGED, _DAY, _JOURNAL, _COUNT_REBUILD, _EVALUATION = 7201, 7202, 7203, 7204, 7205  # lock classes
_DEVICE_STATES, _EVENT_TARGET, _STATUS_PAGE, _LATE_DATA = 7206, 7211, 7213, 7214

_TERMINATE_IDLE = """
SELECT pg_terminate_backend(pid) FROM pg_locks JOIN pg_stat_activity USING (pid)
WHERE locktype = 'advisory' AND classid = %s AND objid = %s AND granted AND pg_locks.database = datid
    AND state <> 'active' AND state_change < clock_timestamp() - make_interval(secs => %s)
"""
_KEEPALIVES = """
SELECT set_config('tcp_keepalives_idle', '10', false), set_config('tcp_keepalives_interval', '5', false),
    set_config('tcp_keepalives_count', '2', false)
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


def lock_status_page(connection: Connection, number: int) -> bool:
    """Lock the computation of the history of a status page; False if another session holds the lock."""
    return _try_lock(connection, _STATUS_PAGE, number)


def lock_late_data(connection: Connection) -> bool:
    """Lock the evaluation of late data; False if another session holds the lock."""
    return _try_lock(connection, _LATE_DATA, 0)


def lock_count_rebuild(connection: Connection, shard: int, count_range: int) -> bool:
    """Lock the rebuild of a count range until this connection closes; False if another session holds the lock."""
    return _try_session_lock(connection, _COUNT_REBUILD, count_range * 64 + shard)


def lock_evaluation(connection: Connection) -> bool:
    """Lock the evaluation of alert rules until this connection closes; False if another session holds the lock."""
    return _try_session_lock(connection, _EVALUATION, 0)


def terminate_idle_evaluator(connection: Connection, seconds: float) -> bool:
    """End the session that holds the evaluation lock if it ran no statement for `seconds`; True if one was ended.

    Otherwise a frozen process, or one on a machine that has vanished, would keep the lock.
    """
    return _terminate_idle(connection, _EVALUATION, 0, seconds)


def lock_event_target(connection: Connection, name: str) -> bool:
    """Lock a target of the event bus until this connection closes; False if another session holds the lock."""
    return _try_session_lock(connection, _EVENT_TARGET, zlib.crc32(name.encode()))


def terminate_idle_relay(connection: Connection, name: str, seconds: float) -> bool:
    """End the session that holds the lock of a target if it ran no statement for `seconds`; True if one was ended."""
    return _terminate_idle(connection, _EVENT_TARGET, zlib.crc32(name.encode()), seconds)


def release_locks_of_lost_client(connection: Connection) -> None:
    """Make PostgreSQL end this session, and its locks, within 20 seconds after its machine has disappeared."""
    connection.execute(_KEEPALIVES)


def _terminate_idle(connection: Connection, lock_class: int, number: int, seconds: float) -> bool:
    return connection.execute(_TERMINATE_IDLE, (lock_class, number % 2**31, seconds)).fetchone() is not None


def _try_session_lock(connection: Connection, lock_class: int, number: int) -> bool:
    row = connection.execute("SELECT pg_try_advisory_lock(%s, %s)", (lock_class, number % 2**31)).fetchone()
    return bool(row and row[0])


def _try_lock(connection: Connection, lock_class: int, number: int) -> bool:
    row = connection.execute("SELECT pg_try_advisory_xact_lock(%s, %s)", (lock_class, number % 2**31)).fetchone()
    return bool(row and row[0])
