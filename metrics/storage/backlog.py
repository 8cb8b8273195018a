"""What the workers have still to do: how far merging, rollups and retention are."""

from dataclasses import dataclass

from metrics.storage.blocks import SETTLED
from metrics.storage.connection import Connection
from metrics.storage.regroup import changed_policies
from metrics.storage.retention import expired

_BACKLOG = """
SELECT count(*), coalesce(sum(y.points), 0), coalesce(extract(epoch FROM now() - min(y.at)), 0)::float8,
    (SELECT count(*) FROM (SELECT DISTINCT shard, bucket, day FROM metrics_block
     WHERE level < %s AND day < floor(extract(epoch FROM now()) / 86400)) units)
FROM metrics_young y JOIN metrics_merged m USING (shard) WHERE y.seq > m.seq
"""


@dataclass(frozen=True, slots=True)
class Backlog:
    """Commits and their points that are not merged, how long the oldest has waited (seconds), days of buckets that are
    over and not made yet, metrics whose new policy is not applied, rows that are past their retention."""

    commits: int
    points: int
    oldest_seconds: float
    days_to_make: int
    policies_to_apply: list[str]
    rows_to_drop: int


def backlog(connection: Connection) -> Backlog:
    """The backlog of all shards."""
    row = connection.execute(_BACKLOG, (SETTLED,)).fetchone()
    assert row is not None
    commits, points, oldest, days = row
    to_drop = sum(one.rows for one in expired(connection))
    return Backlog(commits, int(points), float(oldest), days, changed_policies(connection), to_drop)
