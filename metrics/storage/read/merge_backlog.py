"""What the workers have still to do: how far merging, rollups and retention are."""

from dataclasses import dataclass

from metrics.storage.connection import Connection
from metrics.storage.format.layout import DAY_LEVEL
from metrics.storage.merge.apply_retention_policy import changed_policies
from metrics.storage.merge.retention import find_expired

_UNMERGED = """
SELECT count(*), coalesce(sum(y.points), 0), coalesce(extract(epoch FROM now() - min(y.at)), 0)::float8
FROM metrics_young y JOIN metrics_merged m USING (shard) WHERE y.seq > m.seq
"""
_UNFINISHED_DAYS = """
SELECT count(*) FROM (SELECT DISTINCT shard, bucket, day FROM metrics_block
    WHERE level < %s AND day < floor(extract(epoch FROM now()) / 86400)) units
"""
_WORKER = "worker"


@dataclass(frozen=True, slots=True)
class UnmergedBacklog:
    """Commits and their points that are not merged, and how long the oldest has waited (seconds)."""

    commits: int
    points: int
    oldest_seconds: float


@dataclass(frozen=True, slots=True)
class WorkerBacklog(UnmergedBacklog):
    """And days of buckets that are over and not made yet, metrics whose new policy is not applied, rows that are past
    their retention."""

    unfinished_days: int
    policies_to_apply: list[str]
    rows_to_drop: int


def read_unmerged_backlog(connection: Connection) -> UnmergedBacklog:
    """What waits to be merged, of all shards: as fast as a health check asks for it."""
    row = connection.execute(_UNMERGED).fetchone()
    assert row is not None
    commits, points, oldest = row
    return UnmergedBacklog(commits, int(points), oldest)


def read_worker_backlog(connection: Connection) -> WorkerBacklog:
    """The backlog of all shards."""
    to_merge = read_unmerged_backlog(connection)
    row = connection.execute(_UNFINISHED_DAYS, (DAY_LEVEL,)).fetchone()
    assert row is not None
    to_drop = sum(one.rows for one in find_expired(connection))
    return WorkerBacklog(
        to_merge.commits, to_merge.points, to_merge.oldest_seconds, row[0], changed_policies(connection), to_drop
    )


def record_heartbeat(connection: Connection) -> None:
    """A worker is alive."""
    connection.execute(
        "INSERT INTO metrics_heartbeat (name, at) VALUES (%s, now()) ON CONFLICT (name) DO UPDATE SET at = now()",
        (_WORKER,),
    )


def seconds_since_heartbeat(connection: Connection) -> float | None:
    """Seconds since a worker was heard of; None: never."""
    row = connection.execute(
        "SELECT extract(epoch FROM now() - at)::float8 FROM metrics_heartbeat WHERE name = %s", (_WORKER,)
    ).fetchone()
    return row[0] if row else None
