"""Who may do what at a time: advisory locks that end with their transaction, so that a killed worker holds none."""

from metrics.storage.connection import Connection

_YOUNG, _UNIT, _JOURNAL, _RECOUNT, _EVALUATION = 7201, 7202, 7203, 7204, 7205  # classes

_TERMINATE_IDLE = """
SELECT pg_terminate_backend(pid) FROM pg_locks JOIN pg_stat_activity USING (pid)
WHERE locktype = 'advisory' AND classid = %s AND granted AND pg_locks.database = datid
    AND state <> 'active' AND state_change < clock_timestamp() - make_interval(secs => %s)
"""


def lock_unmerged_blocks(connection: Connection, shard: int) -> bool:
    """The merging of a shard's young blocks; False where somebody else is at it."""
    return _try_lock(connection, _YOUNG, shard)


def lock_day(connection: Connection, bucket: int, day: int) -> bool:
    """The merged blocks and rollups of a bucket's day; False where somebody else is at them."""
    return _try_lock(connection, _UNIT, bucket * 100_003 + day)


def lock_journal(connection: Connection, shard: int) -> bool:
    """The packing of a shard's journal; False where somebody else is at it."""
    return _try_lock(connection, _JOURNAL, shard)


def lock_count_rebuild(connection: Connection, shard: int, stretch: int) -> bool:
    """The counting anew of a stretch, until this connection is closed; False where somebody else is at it."""
    number = (stretch * 64 + shard) % 2**31
    row = connection.execute("SELECT pg_try_advisory_lock(%s, %s)", (_RECOUNT, number)).fetchone()
    return bool(row and row[0])


def lock_evaluation(connection: Connection) -> bool:
    """The judging of what is stored, until this connection is closed; False where somebody else is at it."""
    row = connection.execute("SELECT pg_try_advisory_lock(%s, 0)", (_EVALUATION,)).fetchone()
    return bool(row and row[0])


def terminate_idle_evaluator(connection: Connection, seconds: float) -> bool:
    """End the session that holds the lock of evaluation, if nothing was asked on it for so long; True where one was.

    A process that is frozen, or on a machine that is gone without a word, would otherwise keep it.
    """
    found = connection.execute(_TERMINATE_IDLE, (_EVALUATION, seconds)).fetchone()
    return found is not None


def _try_lock(connection: Connection, kind: int, number: int) -> bool:
    row = connection.execute("SELECT pg_try_advisory_xact_lock(%s, %s)", (kind, number % 2**31)).fetchone()
    return bool(row and row[0])
