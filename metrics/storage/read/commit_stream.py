"""The stream of commits, for readers that follow it: its state, and the commits after a position."""

from typing import NamedTuple

from metrics.storage import shards
from metrics.storage.connection import Connection
from metrics.storage.read.block_cache import CommitCursor

_STATE = """
SELECT (SELECT number FROM metrics_revision), (extract(epoch FROM clock_timestamp()) * 1000000)::bigint, shard, seq
FROM metrics_head WHERE shard = ANY(%s)
"""
_COMMITS_AFTER = """
SELECT seq, points, (extract(epoch FROM at) * 1000000)::bigint FROM metrics_young
WHERE shard = %s AND seq > %s ORDER BY seq LIMIT %s
"""


class StreamState(NamedTuple):
    """One snapshot of the database: revision of device groups, its clock (µs), and the last commit of each shard."""

    revision: int
    now: int
    heads: CommitCursor


class CommitHeader(NamedTuple):
    """Sequence number, number of points and commit time (µs) of an unmerged commit."""

    seq: int
    points: int
    committed_at: int


def read_stream_state(connection: Connection) -> StreamState:
    """Return the state of the stream in one snapshot; a shard whose node fails is left out."""
    rows = shards.read_reachable(connection, lambda those: connection.execute(_STATE, (those,)).fetchall())
    revision, now = rows[0][:2]
    return StreamState(revision, now, {shard: seq for *_, shard, seq in rows})


def read_commit_headers(connection: Connection, shard: int, after: int, limit: int) -> list[CommitHeader]:
    """Return the unmerged commits of a shard after a sequence number, in order."""
    return [CommitHeader(*row) for row in connection.execute(_COMMITS_AFTER, (shard, after, limit))]
