"""One relay per target: the one whose connection holds the advisory lock of the target.

The lock ends with the connection. A leader that is frozen, or whose machine has disappeared, loses it after a while.
"""

import zlib

from metrics.storage.connection import Connection

LOCK_CLASS = 7211
FROZEN_AFTER = 60.0  # seconds without a statement; longer than any call of a target

_KEEPALIVES = """
SELECT set_config('tcp_keepalives_idle', '10', false), set_config('tcp_keepalives_interval', '5', false),
    set_config('tcp_keepalives_count', '2', false)
"""
_TERMINATE_FROZEN = """
SELECT pg_terminate_backend(pid) FROM pg_locks JOIN pg_stat_activity USING (pid)
WHERE locktype = 'advisory' AND classid = %s AND objid = %s AND granted AND pg_locks.database = datid
    AND state <> 'active' AND state_change < clock_timestamp() - make_interval(secs => %s)
"""


def take_lead(connection: Connection, name: str) -> bool:
    """Lock a target until the connection closes; False if another relay leads.

    A leader without a statement for FROZEN_AFTER is ended, so that the next attempt succeeds.
    """
    number = zlib.crc32(name.encode()) % 2**31
    connection.execute(_KEEPALIVES)
    row = connection.execute("SELECT pg_try_advisory_lock(%s, %s)", (LOCK_CLASS, number)).fetchone()
    if row is not None and row[0]:
        return True
    connection.execute(_TERMINATE_FROZEN, (LOCK_CLASS, number, FROZEN_AFTER))
    return False
