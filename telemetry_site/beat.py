"""Celery beat with a leader: one of the beats that share a database schedules tasks; if it ends, another takes over.

The leader holds an advisory lock of PostgreSQL, which ends with its connection.
"""

import logging
from typing import Any

import psycopg
from celery.beat import PersistentScheduler

from metrics.storage.connection import Connection, connect
from metrics.storage.locks import release_locks_of_lost_client

log = logging.getLogger(__name__)

LOCK_KEY = 0x62656174
RETRY_INTERVAL = 1.0  # seconds until a beat that does not lead tries again


class LeaderScheduler(PersistentScheduler):
    """Schedules tasks only while it holds the leader lock."""

    _lock_connection: Connection | None = None

    def tick(self, *arguments: Any, **options: Any) -> float:
        """Send the due tasks if this beat leads; return the seconds until the next call."""
        if not self._leads():
            return RETRY_INTERVAL
        interval: float = super().tick(*arguments, **options)
        return interval

    def close(self) -> None:
        """Release the lock and save the schedule."""
        self._release()
        super().close()

    def _leads(self) -> bool:
        try:
            if self._lock_connection is not None:
                self._lock_connection.execute("")  # raises if the session has ended, and the lock with it
                return True
            self._lock_connection = _acquire()
        except psycopg.Error as error:
            log.warning("no tasks are scheduled, the database is unavailable: %s", str(error).split("\n")[0])
            self._release()
        return self._lock_connection is not None

    def _release(self) -> None:
        if self._lock_connection is not None:
            self._lock_connection.close()
            self._lock_connection = None


def _acquire() -> Connection | None:
    """Return a connection that holds the lock, or None if another beat leads."""
    connection = connect(statement_timeout="5s")
    try:
        release_locks_of_lost_client(connection)
        row = connection.execute("SELECT pg_try_advisory_lock(%s)", (LOCK_KEY,)).fetchone()
    except BaseException:
        connection.close()
        raise
    if row is None or not row[0]:
        connection.close()
        return None
    log.info("this beat schedules the tasks")
    return connection
