"""Retention: deletion of whole expired rows of points and rollups, by the policy of their metric.

A row of a finished day has series with equal retention and stores that retention. After a policy changes, the rows of
its metric are regrouped first (`metrics.storage.merge.apply_retention_policy`); until then their buckets are kept.
"""

from dataclasses import dataclass

from metrics.storage import shards
from metrics.storage.connection import Connection, database_time
from metrics.storage.format.codec import DamagedPayload
from metrics.storage.format.layout import SERIES_PER_BUCKET
from metrics.storage.merge import point_counts
from metrics.storage.merge.apply_retention_policy import buckets_to_regroup
from metrics.storage.merge.point_counts import COUNT_COLUMNS, SERIES_PER_RANGE, CountChange
from metrics.storage.merge.retention_policies import DAY_SECONDS, DEFAULT_POLICY

BATCH_ID_RETENTION_DAYS = 7  # a batch sent again within this time is not stored twice
JOURNAL_RETENTION_DAYS = 30  # the checksum chain can be verified from any line on

_EXPIRED = """
FROM {table} WHERE (day + 1 + {keep})::bigint * %(second)s <= %(now)s AND bucket <> ALL(%(waiting)s)
"""
# Before day blocks are made a row may have any metric, so it is kept for the longest retention of all metrics.
_RETENTION = {"metrics_block": "coalesce(keep, %(longest)s)", "metrics_rollup": "keep"}
_SIZE_COLUMN = {"metrics_block": "points", "metrics_rollup": "intervals"}
_EXPIRED_BLOCKS = f"""
SELECT id, bucket, octet_length(payload), {COUNT_COLUMNS}
{_EXPIRED.format(table="metrics_block", keep=_RETENTION["metrics_block"])} AND shard = %(shard)s LIMIT %(most)s
"""
_PAYLOADS = "SELECT id, payload FROM metrics_block WHERE shard = %s AND id = ANY(%s)"
_DELETE = "DELETE FROM metrics_block WHERE shard = %s AND id = ANY(%s) RETURNING id"
RETENTION_BATCH = 10_000  # rows of one statement, which bounds the memory for their counts
_OLD_LINES = (
    "DELETE FROM metrics_journal WHERE shard = %s AND seq < %s AND at < now() - make_interval(days => %s)",
    "DELETE FROM metrics_journalpack WHERE shard = %s AND seq_to < %s AND at_to < now() - make_interval(days => %s)",
)


@dataclass(frozen=True, slots=True)
class ExpiredRows:
    """Expired rows of a table."""

    table: str
    kept_days: int
    first_day: int  # since 1970
    last_day: int
    rows: int
    counted: int  # points, or intervals of rollups
    size: int  # bytes


def delete_expired(connection: Connection, now: float | None = None) -> int:
    """Delete expired points, rollups, batch ids and journal lines; return how many rows of points."""
    connection.execute(
        "DELETE FROM metrics_ingestedbatch WHERE at < now() - make_interval(days => %s)", (BATCH_ID_RETENTION_DAYS,)
    )
    # The last line stays, so that the chain still ends at its head if nothing was stored for long.
    for shard, seq in connection.execute("SELECT shard, seq FROM metrics_head").fetchall():
        for statement in _OLD_LINES:
            connection.execute(statement, (shard, seq, JOURNAL_RETENTION_DAYS))
    with connection.transaction():
        parameters = _expiry_parameters(connection, now)
        connection.execute(f"DELETE {_expired_condition('metrics_rollup')}", parameters)
        connection.execute("DELETE FROM metrics_damagedblock WHERE time_to < %(gone)s", parameters)
        deleted = sum(_delete_points(connection, shard, parameters) for shard in shards.all_shards())
    point_counts.delete_old_hours(connection)
    return deleted


def _delete_points(connection: Connection, shard: int, parameters: dict[str, object]) -> int:
    """Delete a shard's expired rows of points and update the counts; return how many rows."""
    change, deleted = CountChange(connection, shard), 0
    shard_parameters = parameters | {"shard": shard, "most": RETENTION_BATCH}
    while rows := connection.execute(_EXPIRED_BLOCKS, shard_parameters, binary=True).fetchall():
        expired = {row[0]: (row[1], row[2], point_counts.count_block(*row[3:])) for row in rows}
        unclear_ids = [number for number, (_, _, counts) in expired.items() if counts is None]
        payloads: dict[int, bytes] = dict(connection.execute(_PAYLOADS, (shard, unclear_ids), binary=True).fetchall())
        for (number,) in connection.execute(_DELETE, (shard, list(expired))).fetchall():
            bucket, size, counts = expired[number]
            change.add_bytes(bucket, -size)
            try:
                for series, lengths in point_counts.count_payload(payloads[number]) if counts is None else [counts]:
                    change.add_counts(series, -lengths)
            except DamagedPayload:
                point_counts.mark_for_rebuild(connection, shard, bucket * SERIES_PER_BUCKET // SERIES_PER_RANGE)
            deleted += 1
    change.apply()
    return deleted


def find_expired(connection: Connection, now: float | None = None) -> list[ExpiredRows]:
    """Return what `delete_expired` would delete of points and rollups."""
    with connection.transaction():
        parameters = _expiry_parameters(connection, now)
        return [
            ExpiredRows(table, *row)
            for table in _RETENTION
            for row in connection.execute(
                f"SELECT {_RETENTION[table]}, min(day), max(day), count(*), sum({_SIZE_COLUMN[table]}),"
                f" sum(pg_column_size(payload)) {_expired_condition(table)} GROUP BY 1 ORDER BY 1",
                parameters,
            )
        ]


def _expired_condition(table: str) -> str:
    return _EXPIRED.format(table=table, keep=_RETENTION[table])


def _expiry_parameters(connection: Connection, now: float | None) -> dict[str, object]:
    # The lock keeps a policy from being extended while its rows are deleted.
    connection.execute("LOCK TABLE metrics_metricdefinition IN SHARE MODE")
    row = connection.execute("SELECT max(retention_days) FROM metrics_metricdefinition").fetchone()
    now, longest = database_time(connection) if now is None else now, max(DEFAULT_POLICY.points, (row and row[0]) or 0)
    return {
        "longest": longest,
        "now": now,
        "gone": int((now - longest * DAY_SECONDS) * 1_000_000),
        "second": DAY_SECONDS,
        "waiting": buckets_to_regroup(connection),
    }
