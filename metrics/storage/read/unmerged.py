"""Unmerged commits: found and cached in groups.

Under load hundreds of commits wait for a merge, and nearly every read searches them. So the first read of
GROUP_COMMITS neighbouring commits merges them in memory, and later reads search a few dozen parts instead of
hundreds. Like commits, groups never change; once one of its commits is merged, a group is no longer used and its
remaining commits are read one by one, because some of the merged commits may have been deleted.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from metrics.storage.connection import Connection
from metrics.storage.format.codec import Columns, Ints
from metrics.storage.format.layout import COMMIT_GROUP, UNMERGED, merge_by_encoding
from metrics.storage.read.block_cache import BlockKey, decoded_blocks, read_blocks
from metrics.storage.shards import BlockId
from metrics.storage.units import DAY

GROUP_COMMITS = 16  # commits
MAX_GROUP_POINTS = 200_000  # larger commits are never numerous
FETCH_GROUPS = 8  # groups that are read with one statement

# Grouped by first and last day too, so that a late point does not mark the days in between as changed. Both tables are
# filtered by shard: inside a UNION, Citus does not derive one filter from the other.
UNMERGED_COMMITS = f"""
SELECT y.shard, min(y.seq), max(y.seq), sum(y.points)::bigint, min(y.time_from), max(y.time_to)
FROM metrics_young y JOIN metrics_merged m ON m.shard = y.shard
WHERE y.shard = ANY(%(shards)s) AND m.shard = ANY(%(shards)s) AND y.seq > m.seq
  AND y.time_to >= %(start)s AND y.time_from < %(end)s
GROUP BY y.shard, y.seq / {GROUP_COMMITS}, y.time_from / {DAY}, y.time_to / {DAY}
"""  # noqa: S608 - constants


class CommitGroup(NamedTuple):
    """Neighbouring commits of a shard, from `first` to `last`; times in µs."""

    shard: int
    first: int
    last: int
    points: int
    time_from: int
    time_to: int

    @property
    def keys(self) -> list[BlockKey]:
        return [(UNMERGED, (self.shard, seq)) for seq in range(self.first, self.last + 1)]

    @property
    def is_complete(self) -> bool:
        return self.last - self.first == GROUP_COMMITS - 1 and self.points <= MAX_GROUP_POINTS


def join_groups(rows: Iterable[CommitGroup]) -> list[CommitGroup]:
    """Join the rows of UNMERGED_COMMITS that belong to group group, oldest first.

    Commits between two unmerged commits are unmerged too: a merge takes the oldest.
    """
    joined: dict[BlockId, CommitGroup] = {}
    for group in rows:
        key = group.shard, group.first // GROUP_COMMITS
        if (existing := joined.get(key)) is not None:
            group = CommitGroup(
                group.shard,
                min(existing.first, group.first),
                max(existing.last, group.last),
                existing.points + group.points,
                min(existing.time_from, group.time_from),
                max(existing.time_to, group.time_to),
            )
        joined[key] = group
    return sorted(joined.values())


def read_unmerged(
    connection: Connection, groups: Sequence[CommitGroup], damaged: list[str], only_series: Ints | None = None
) -> Iterator[tuple[int, CommitGroup, list[Columns]]]:
    """Yield (last commit, its group, parts) of these groups in their order, so that later ones win.

    Damaged commits are left out and their names added to `damaged`. With `only_series` points of other series may be
    left out, and nothing is cached. Raises BlocksChanged.
    """
    for offset in range(0, len(groups), FETCH_GROUPS):
        batch = groups[offset : offset + FETCH_GROUPS]
        decoded = {
            group: parts
            for group in batch
            if group.is_complete and (parts := decoded_blocks.get(_key(group))) is not None
        }
        damaged_before = len(damaged)
        by_key = read_blocks(
            connection, [key for group in batch if group not in decoded for key in group.keys], damaged, only_series
        )
        for group in batch:
            if group not in decoded and group.is_complete and only_series is None and len(damaged) == damaged_before:
                decoded[group] = merge_by_encoding([part for key in group.keys for part in by_key[key]])
                decoded_blocks.put(_key(group), decoded[group])
            if group in decoded:
                yield group.last, group, decoded[group]
            else:
                yield from ((key[1][1], group, by_key[key]) for key in group.keys)


def _key(group: CommitGroup) -> BlockKey:
    return COMMIT_GROUP, (group.shard, group.first // GROUP_COMMITS)
