"""The backlog of the workers: merging, rollups and retention."""

from dataclasses import dataclass

from metrics.storage import shards
from metrics.storage.connection import Connection
from metrics.storage.format.layout import DAY_LEVEL
from metrics.storage.merge.apply_retention_policy import changed_policies
from metrics.storage.merge.retention import find_expired

_UNMERGED = """
SELECT count(*), coalesce(sum(y.points), 0), coalesce(extract(epoch FROM now() - min(y.at)), 0)::float8
FROM metrics_young y JOIN metrics_merged m ON m.shard = y.shard WHERE m.shard = ANY(%s) AND y.seq > m.seq
"""
_UNFINISHED_DAYS = """
SELECT count(*) FROM (SELECT DISTINCT shard, bucket, day FROM metrics_block
    WHERE shard = ANY(%s) AND level < %s AND day < floor(extract(epoch FROM now()) / 86400)) days
"""
_WORKER = "worker"


@dataclass(frozen=True, slots=True)
class UnmergedBacklog:
    """Unmerged commits, their points, and the age of the oldest in seconds."""

    commits: int
    points: int
    oldest_seconds: float


@dataclass(frozen=True, slots=True)
class WorkerBacklog(UnmergedBacklog):
    """The unmerged backlog, past days without day blocks, metrics with a policy to apply, and expired rows."""

    days_to_make: int
    policies_to_apply: list[str]
    rows_to_drop: int


def read_unmerged_backlog(connection: Connection) -> UnmergedBacklog:
    """Return the unmerged backlog of all shards; fast enough for health checks."""
    row = connection.execute(_UNMERGED, (list(shards.all_shards()),)).fetchone()
    assert row is not None
    commits, points, oldest = row
    return UnmergedBacklog(commits, int(points), oldest)


def read_worker_backlog(connection: Connection) -> WorkerBacklog:
    """Return the backlog of all shards."""
    unmerged = read_unmerged_backlog(connection)
    row = connection.execute(_UNFINISHED_DAYS, (list(shards.all_shards()), DAY_LEVEL)).fetchone()
    assert row is not None
    expired_rows = sum(rows.rows for rows in find_expired(connection))
    return WorkerBacklog(
        unmerged.commits, unmerged.points, unmerged.oldest_seconds, row[0], changed_policies(connection), expired_rows
    )


def record_heartbeat(connection: Connection) -> None:
    """Record that a worker is alive."""
    connection.execute(
        "INSERT INTO metrics_heartbeat (name, at) VALUES (%s, now()) ON CONFLICT (name) DO UPDATE SET at = now()",
        (_WORKER,),
    )


def seconds_since_heartbeat(connection: Connection) -> float | None:
    """Return the seconds since the last heartbeat of a worker; None if there was none."""
    row = connection.execute(
        "SELECT extract(epoch FROM now() - at)::float8 FROM metrics_heartbeat WHERE name = %s", (_WORKER,)
    ).fetchone()
    return row[0] if row else None
