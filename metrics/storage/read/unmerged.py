"""Commits that are not merged yet: found, and remembered, by the stretch.

Under load hundreds of commits wait for a merge, and nearly every read has to look through them. So the first read of
STRETCH neighbours puts them together in memory, as a merge would, and those after it look into a few dozen parts
instead of hundreds. Like commits, stretches never change; once one of its commits is merged, a stretch is no longer
read, and what is left of it is read commit by commit: of what is merged some may have been deleted.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from metrics.storage.connection import Connection
from metrics.storage.format.codec import Columns, Ints
from metrics.storage.format.layout import merge_by_encoding
from metrics.storage.read.block_cache import BlockKey, decoded_blocks, read_blocks
from metrics.storage.shards import BlockId
from metrics.storage.units import DAY

GROUP_COMMITS = 16  # commits
MAX_GROUP_POINTS = 200_000  # points of a stretch that is put together; of larger commits never many wait
FETCH_GROUPS = 8  # stretches that are fetched together

# By the days that they reach over too, so that a late point makes no days in between look touched.
UNMERGED_COMMITS = f"""
SELECT y.shard, min(y.seq), max(y.seq), sum(y.points)::bigint, min(y.time_from), max(y.time_to)
FROM metrics_young y JOIN metrics_merged m USING (shard)
WHERE y.seq > m.seq AND y.time_to >= %(start)s AND y.time_from < %(end)s
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
        return [(0, (self.shard, seq)) for seq in range(self.first, self.last + 1)]

    @property
    def is_complete(self) -> bool:
        return self.last - self.first == GROUP_COMMITS - 1 and self.points <= MAX_GROUP_POINTS


def join_groups(found: Iterable[CommitGroup]) -> list[CommitGroup]:
    """Rows of WAITING with those of one stretch as one, oldest first.

    What stands between two commits that wait does wait too: a merge takes the oldest.
    """
    joined: dict[BlockId, CommitGroup] = {}
    for one in found:
        place = one.shard, one.first // GROUP_COMMITS
        if (held := joined.get(place)) is not None:
            one = CommitGroup(
                one.shard,
                min(held.first, one.first),
                max(held.last, one.last),
                held.points + one.points,
                min(held.time_from, one.time_from),
                max(held.time_to, one.time_to),
            )
        joined[place] = one
    return sorted(joined.values())


def read_unmerged(
    connection: Connection, wanted: Sequence[CommitGroup], damaged: list[str], alone: Ints | None = None
) -> Iterator[tuple[int, CommitGroup, list[Columns]]]:
    """(last commit, its stretch, points) of what is in these stretches, in their order, and so that the later wins.

    Damaged commits are left out, and named. With `alone` (series) nothing of others needs to be there, and nothing
    is remembered. Raises Gone.
    """
    for at in range(0, len(wanted), FETCH_GROUPS):
        some = wanted[at : at + FETCH_GROUPS]
        whole = {one: found for one in some if one.is_complete and (found := decoded_blocks.get(_key(one))) is not None}
        before = len(damaged)
        held = read_blocks(connection, [key for one in some if one not in whole for key in one.keys], damaged, alone)
        for one in some:
            if one not in whole and one.is_complete and alone is None and len(damaged) == before:
                whole[one] = merge_by_encoding([part for key in one.keys for part in held[key]])
                decoded_blocks.put(_key(one), whole[one])
            if one in whole:
                yield one.last, one, whole[one]
            else:
                yield from ((key[1][1], one, held[key]) for key in one.keys)


def _key(stretch: CommitGroup) -> BlockKey:
    return 2, (stretch.shard, stretch.first // GROUP_COMMITS)
