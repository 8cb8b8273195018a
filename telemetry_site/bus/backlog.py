"""Undelivered events of targets, and the transaction that holds the outbox back."""

from datetime import datetime
from typing import NamedTuple

from metrics.storage.connection import Connection
from telemetry_site.bus.targets.target import Stream, Target

MAX_COUNTED = 10_000  # events; a longer backlog is not counted to its end
HELD_BACK_AFTER = 20.0  # seconds that a transaction runs until it is reported

_LEFT_IN_BAND = """
SELECT 1 FROM metrics_event e
WHERE e.xid >= c.low::text::xid8 AND e.xid < c.high::text::xid8 AND e.id > c.last_id
"""
_BACKLOG = """
SELECT count(*), extract(epoch FROM now() - min(left_over.time))::float8 FROM metrics_eventcursor c, LATERAL (
    (SELECT e.time FROM metrics_event e
    WHERE e.xid >= c.low::text::xid8 AND e.xid < c.high::text::xid8 AND e.id > c.last_id LIMIT %(limit)s)
    UNION ALL
    (SELECT e.time FROM metrics_event e WHERE e.xid >= c.high::text::xid8 LIMIT %(limit)s)
) left_over WHERE c.name = %(name)s
"""
_REACHED = f"""
SELECT c.low >= %(until)s OR (c.high >= %(until)s AND NOT EXISTS ({_LEFT_IN_BAND}))
FROM metrics_eventcursor c WHERE c.name = %(name)s
"""  # noqa: S608 - a constant
_COMMITS_LEFT = """
SELECT EXISTS (
    SELECT 1 FROM metrics_head h LEFT JOIN bus_commitposition p ON p.shard = h.shard AND p.target = %s
    WHERE h.seq > coalesce(p.seq, -1)
)
"""
# Only transactions that have written hold the outbox back: they have an id, and `pg_snapshot_xmin` stops at the oldest.
# A session of another role hides its state, and its start is then unknown.
_OLDEST_TRANSACTION = """
SELECT pid, state, since FROM (
    SELECT pid, state, xact_start AS since, age(backend_xid) AS age FROM pg_stat_activity WHERE backend_xid IS NOT NULL
    UNION ALL
    SELECT NULL, 'prepared as ' || gid, prepared, age(transaction) FROM pg_prepared_xacts
) running WHERE since < clock_timestamp() - make_interval(secs => %s) ORDER BY age DESC LIMIT 1
"""


class Backlog(NamedTuple):
    """Events that a target has not received, and seconds since the oldest one was committed."""

    events: int
    seconds: float


class HeldBack(NamedTuple):
    """A transaction that has been running for long; events after it wait until it ends."""

    pid: int | None  # None: a prepared transaction
    state: str
    since: datetime

    def __str__(self) -> str:
        who = f"transaction of pid {self.pid} ({self.state})" if self.pid else f"transaction {self.state}"
        return f"outbox held back by {who} since {self.since:%Y-%m-%d %H:%M:%S} UTC"


def read_backlog(connection: Connection, name: str) -> Backlog:
    """Return the backlog of a target, counted up to MAX_COUNTED."""
    row = connection.execute(_BACKLOG, {"name": name, "limit": MAX_COUNTED}).fetchone()
    assert row is not None
    return Backlog(row[0], row[1] or 0.0)


def find_held_back(connection: Connection) -> HeldBack | None:
    """Return the oldest writing transaction if it has been running for HELD_BACK_AFTER."""
    row = connection.execute(_OLDEST_TRANSACTION, (HELD_BACK_AFTER,)).fetchone()
    return None if row is None else HeldBack(*row)


def is_drained(connection: Connection, target: Target, until: int) -> bool:
    """Return whether a target has received all events of transactions before `until`, and all commits."""
    row = connection.execute(_REACHED, {"until": until, "name": target.name}).fetchone()
    if row is None or not row[0]:
        return False
    if Stream.DATA not in target.streams:
        return True
    left = connection.execute(_COMMITS_LEFT, (target.name,)).fetchone()
    return left is not None and not left[0]
