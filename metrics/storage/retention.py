"""Letting go of what is past its retention: whole rows, of points and of rollups, each by its metric's policy.

A row of a finished day holds series that are kept equally long, and says how long. When a policy changes, the rows
of its metric are grouped anew (`metrics.storage.regroup`); until that is done nothing of their buckets goes.
"""

from dataclasses import dataclass

from metrics.storage.connection import Connection, clock
from metrics.storage.policies import DAY_SECONDS, DEFAULT
from metrics.storage.regroup import buckets_to_regroup

BATCHES_KEPT_DAYS = 7  # how long a batch id is remembered
JOURNAL_KEPT_DAYS = 30  # how long it is known who sent what; the chain can be followed from any entry on

_EXPIRED = """
FROM {table} WHERE (day + 1 + {keep})::bigint * %(second)s <= %(now)s AND bucket <> ALL(%(waiting)s)
"""
# What is not yet made into a finished day may hold any metric, so it is kept as long as the one that is kept longest.
_KEEP = {"metrics_block": "coalesce(keep, %(longest)s)", "metrics_rollup": "keep"}
_COUNTED = {"metrics_block": "points", "metrics_rollup": "intervals"}


@dataclass(frozen=True, slots=True)
class Expired:
    """Rows of a table that are past their retention."""

    table: str
    kept_days: int
    first_day: int  # since 1970
    last_day: int
    rows: int
    counted: int  # points, or intervals of rollups
    size: int  # bytes


def drop_expired(connection: Connection, now: float | None = None) -> int:
    """Delete what is past its retention, old batch ids and journal entries too; returns the rows of points deleted."""
    connection.execute(
        "DELETE FROM metrics_ingestedbatch WHERE at < now() - make_interval(days => %s)", (BATCHES_KEPT_DAYS,)
    )
    connection.execute("DELETE FROM metrics_journal WHERE at < now() - make_interval(days => %s)", (JOURNAL_KEPT_DAYS,))
    connection.execute(
        "DELETE FROM metrics_journalpack WHERE at_to < now() - make_interval(days => %s)", (JOURNAL_KEPT_DAYS,)
    )
    with connection.transaction():
        given = _given(connection, now)
        connection.execute(f"DELETE {_expired('metrics_rollup')}", given)
        connection.execute("DELETE FROM metrics_damagedblock WHERE time_to < %(gone)s", given)
        return connection.execute(f"DELETE {_expired('metrics_block')}", given).rowcount


def expired(connection: Connection, now: float | None = None) -> list[Expired]:
    """What `drop_expired` would delete of points and rollups."""
    with connection.transaction():
        given = _given(connection, now)
        return [
            Expired(table, *row)
            for table in _KEEP
            for row in connection.execute(
                f"SELECT {_KEEP[table]}, min(day), max(day), count(*), sum({_COUNTED[table]}),"
                f" sum(pg_column_size(payload)) {_expired(table)} GROUP BY 1 ORDER BY 1",
                given,
            )
        ]


def _expired(table: str) -> str:
    return _EXPIRED.format(table=table, keep=_KEEP[table])


def _given(connection: Connection, now: float | None) -> dict[str, object]:
    # A policy that is made longer just now must not lose what it means to keep.
    connection.execute("LOCK TABLE metrics_metricdefinition IN SHARE MODE")
    row = connection.execute("SELECT max(retention_days) FROM metrics_metricdefinition").fetchone()
    now, longest = clock(connection) if now is None else now, max(DEFAULT.points, (row and row[0]) or 0)
    return {
        "longest": longest,
        "now": now,
        "gone": int((now - longest * DAY_SECONDS) * 1_000_000),
        "second": DAY_SECONDS,
        "waiting": buckets_to_regroup(connection),
    }
