"""Letting go of what is past its retention: whole rows, of points and of rollups, each by its metric's policy.

A row of a finished day holds series that are kept equally long, and says how long. When a policy changes, the rows
of its metric are regrouped first (`metrics.storage.merge.apply_retention_policy`); their buckets are kept until then.
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

BATCH_ID_RETENTION_DAYS = 7  # how long a batch id is remembered
JOURNAL_RETENTION_DAYS = 30  # how long it is known who sent what; the chain can be followed from any entry on

_EXPIRED = """
FROM {table} WHERE (day + 1 + {keep})::bigint * %(second)s <= %(now)s AND bucket <> ALL(%(waiting)s)
"""
# What is not yet made into a finished day may hold any metric, so it is kept as long as the one that is kept longest.
_RETENTION = {"metrics_block": "coalesce(keep, %(longest)s)", "metrics_rollup": "keep"}
_SIZE_COLUMN = {"metrics_block": "points", "metrics_rollup": "intervals"}
_EXPIRED_BLOCKS = f"""
SELECT id, bucket, octet_length(payload), {COUNT_COLUMNS}
{_EXPIRED.format(table="metrics_block", keep=_RETENTION["metrics_block"])} AND shard = %(shard)s LIMIT %(most)s
"""
_PAYLOADS = "SELECT id, payload FROM metrics_block WHERE shard = %s AND id = ANY(%s)"
_DELETE = "DELETE FROM metrics_block WHERE shard = %s AND id = ANY(%s) RETURNING id"
RETENTION_BATCH = (
    10_000  # rows of points that go in one statement, for the memory that it takes to count what they held
)
_OLD_LINES = (
    "DELETE FROM metrics_journal WHERE shard = %s AND seq < %s AND at < now() - make_interval(days => %s)",
    "DELETE FROM metrics_journalpack WHERE shard = %s AND seq_to < %s AND at_to < now() - make_interval(days => %s)",
)


@dataclass(frozen=True, slots=True)
class ExpiredRows:
    """Rows of a table that are past their retention."""

    table: str
    kept_days: int
    first_day: int  # since 1970
    last_day: int
    rows: int
    counted: int  # points, or intervals of rollups
    size: int  # bytes


def delete_expired(connection: Connection, now: float | None = None) -> int:
    """Delete what is past its retention, old batch ids and journal entries too; returns the rows of points deleted."""
    connection.execute(
        "DELETE FROM metrics_ingestedbatch WHERE at < now() - make_interval(days => %s)", (BATCH_ID_RETENTION_DAYS,)
    )
    # The last line stays: of a site to which nothing was sent for long, the chain still ends where its head is.
    for shard, seq in connection.execute("SELECT shard, seq FROM metrics_head").fetchall():
        for statement in _OLD_LINES:
            connection.execute(statement, (shard, seq, JOURNAL_RETENTION_DAYS))
    with connection.transaction():
        given = _expiry_parameters(connection, now)
        connection.execute(f"DELETE {_expired_condition('metrics_rollup')}", given)
        connection.execute("DELETE FROM metrics_damagedblock WHERE time_to < %(gone)s", given)
        dropped = sum(_delete_points(connection, shard, given) for shard in shards.all_shards())
    point_counts.delete_old_hours(connection)
    return dropped


def _delete_points(connection: Connection, shard: int, given: dict[str, object]) -> int:
    """Delete a shard's rows of points, and take them off the counts; returns how many."""
    change, total = CountChange(connection, shard), 0
    wanted = given | {"shard": shard, "most": RETENTION_BATCH}
    while found := connection.execute(_EXPIRED_BLOCKS, wanted, binary=True).fetchall():
        held = {row[0]: (row[1], row[2], point_counts.count_block(*row[3:])) for row in found}
        unclear = [number for number, (_, _, told) in held.items() if told is None]
        whole: dict[int, bytes] = dict(connection.execute(_PAYLOADS, (shard, unclear), binary=True).fetchall())
        for (number,) in connection.execute(_DELETE, (shard, list(held))).fetchall():
            bucket, size, told = held[number]
            change.add_bytes(bucket, -size)
            try:
                for series, lengths in point_counts.count_payload(whole[number]) if told is None else [told]:
                    change.add_counts(series, -lengths)
            except DamagedPayload:
                point_counts.mark_for_rebuild(connection, shard, bucket * SERIES_PER_BUCKET // SERIES_PER_RANGE)
            total += 1
    change.apply()
    return total


def find_expired(connection: Connection, now: float | None = None) -> list[ExpiredRows]:
    """What `drop_expired` would delete of points and rollups."""
    with connection.transaction():
        given = _expiry_parameters(connection, now)
        return [
            ExpiredRows(table, *row)
            for table in _RETENTION
            for row in connection.execute(
                f"SELECT {_RETENTION[table]}, min(day), max(day), count(*), sum({_SIZE_COLUMN[table]}),"
                f" sum(pg_column_size(payload)) {_expired_condition(table)} GROUP BY 1 ORDER BY 1",
                given,
            )
        ]


def _expired_condition(table: str) -> str:
    return _EXPIRED.format(table=table, keep=_RETENTION[table])


def _expiry_parameters(connection: Connection, now: float | None) -> dict[str, object]:
    # A policy that is made longer just now must not lose what it means to keep.
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
