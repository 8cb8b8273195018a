"""Reading of the next commits for live streams: in order, each once, without a gap."""

from collections.abc import Sequence
from typing import NamedTuple

from metrics.storage.connection import Connection, read_connection
from metrics.storage.format.codec import Columns
from metrics.storage.format.layout import UNMERGED, drop_removed_of_all, merge_by_encoding
from metrics.storage.read.block_cache import BlockKey, BlocksChanged, CommitCursor, read_blocks, read_heads
from metrics.storage.read.commit_stream import read_commit_headers
from metrics.streams.positions import Epoch, read_epoch

MAX_COMMITS = 200  # of a shard per read
MAX_POINTS = 500_000  # of all commits of a read, which has one commit at least


class StreamPosition(NamedTuple):
    """Where a follower is. `epoch` identifies the database."""

    epoch: Epoch
    cursor: CommitCursor


class NextCommits(NamedTuple):
    """Result of a read: the position after it and the points, merged: of points of one time the last write.

    is_behind  whether there are more commits
    is_lost    whether commits between the position and the ones before it were missed
    """

    position: StreamPosition
    parts: Sequence[Columns] = ()
    commits: int = 0
    is_behind: bool = False
    is_lost: bool = False


def read_next_commits(position: StreamPosition | None, verifies_epoch: bool = False) -> NextCommits:
    """Read the commits after a position; without one, only where the stream is now. Raises StorageUnavailable.

    `verifies_epoch` is to be set after a failure: another server may have taken over. A shard whose node fails is left
    out; it goes on from its place in the cursor.
    """
    with read_connection() as connection:
        heads = read_heads(connection)
        if position is None:
            return NextCommits(StreamPosition(read_epoch(connection), heads))
        before = position.cursor
        if any(seq < before.get(shard, 0) for shard, seq in heads.items()) or (
            verifies_epoch and read_epoch(connection) != position.epoch
        ):
            return _lost(connection, before)
        behind = {shard: before.get(shard, seq) for shard, seq in heads.items()}
        keys, reached = _choose_commits(connection, behind, heads)
        if reached is None:
            return _lost(connection, before)
        try:
            blocks = read_blocks(connection, keys, [])
        except BlocksChanged:  # merged and deleted meanwhile
            return _lost(connection, before)
    return NextCommits(
        StreamPosition(position.epoch, before | reached),
        # Merged, since passing on costs time per series: one part of many commits costs little more than one of each.
        # Before removals are dropped, since they say which kind of value of a metric was written last.
        drop_removed_of_all(merge_by_encoding([part for parts in blocks.values() for part in parts])),
        len(keys),
        is_behind=any(seq < heads[shard] for shard, seq in reached.items()),
    )


def _choose_commits(
    connection: Connection, cursor: CommitCursor, heads: CommitCursor
) -> tuple[list[BlockKey], CommitCursor | None]:
    """Return the next commits within the limits, and the cursor after them; None if the next one is gone."""
    keys: list[BlockKey] = []
    reached, points = dict(cursor), 0
    for shard, seq in cursor.items():
        if seq == heads[shard]:
            continue
        headers = read_commit_headers(connection, shard, seq, MAX_COMMITS)
        if not headers:
            return [], None
        for header in headers:
            if header.seq != reached[shard] + 1:
                return [], None
            if keys and points + header.points > MAX_POINTS:
                break
            keys.append((UNMERGED, (shard, header.seq)))
            reached[shard], points = header.seq, points + header.points
    return keys, reached


def _lost(connection: Connection, cursor: CommitCursor) -> NextCommits:
    heads = read_heads(connection)
    return NextCommits(StreamPosition(read_epoch(connection), cursor | heads), is_lost=True)
