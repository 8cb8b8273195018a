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
from metrics.storage.format.layout import by_encoding
from metrics.storage.read.block_cache import Key, blocks, decoded
from metrics.storage.shards import Number
from metrics.storage.units import DAY

STRETCH = 16  # commits
LARGEST = 200_000  # points of a stretch that is put together; of larger commits never many wait
AT_ONCE = 8  # stretches that are fetched together

# By the days that they reach over too, so that a late point makes no days in between look touched.
WAITING = f"""
SELECT y.shard, min(y.seq), max(y.seq), sum(y.points)::bigint, min(y.time_from), max(y.time_to)
FROM metrics_young y JOIN metrics_merged m USING (shard)
WHERE y.seq > m.seq AND y.time_to >= %(start)s AND y.time_from < %(end)s
GROUP BY y.shard, y.seq / {STRETCH}, y.time_from / {DAY}, y.time_to / {DAY}
"""  # noqa: S608 - constants


class Stretch(NamedTuple):
    """Neighbouring commits of a shard, from `first` to `last`; times in µs."""

    shard: int
    first: int
    last: int
    points: int
    time_from: int
    time_to: int

    @property
    def keys(self) -> list[Key]:
        return [(0, (self.shard, seq)) for seq in range(self.first, self.last + 1)]

    @property
    def is_whole(self) -> bool:
        return self.last - self.first == STRETCH - 1 and self.points <= LARGEST


def stretches(found: Iterable[Stretch]) -> list[Stretch]:
    """Rows of WAITING with those of one stretch as one, oldest first.

    What stands between two commits that wait does wait too: a merge takes the oldest.
    """
    joined: dict[Number, Stretch] = {}
    for one in found:
        place = one.shard, one.first // STRETCH
        if (held := joined.get(place)) is not None:
            one = Stretch(
                one.shard,
                min(held.first, one.first),
                max(held.last, one.last),
                held.points + one.points,
                min(held.time_from, one.time_from),
                max(held.time_to, one.time_to),
            )
        joined[place] = one
    return sorted(joined.values())


def parts(
    connection: Connection, wanted: Sequence[Stretch], damaged: list[str], alone: Ints | None = None
) -> Iterator[tuple[int, Stretch, list[Columns]]]:
    """(last commit, its stretch, points) of what is in these stretches, in their order, and so that the later wins.

    Damaged commits are left out, and named. With `alone` (series) nothing of others needs to be there, and nothing
    is remembered. Raises Gone.
    """
    for at in range(0, len(wanted), AT_ONCE):
        some = wanted[at : at + AT_ONCE]
        whole = {one: found for one in some if one.is_whole and (found := decoded.get(_key(one))) is not None}
        before = len(damaged)
        held = blocks(connection, [key for one in some if one not in whole for key in one.keys], damaged, alone)
        for one in some:
            if one not in whole and one.is_whole and alone is None and len(damaged) == before:
                whole[one] = by_encoding([part for key in one.keys for part in held[key]])
                decoded.put(_key(one), whole[one])
            if one in whole:
                yield one.last, one, whole[one]
            else:
                yield from ((key[1][1], one, held[key]) for key in one.keys)


def _key(stretch: Stretch) -> Key:
    return 2, (stretch.shard, stretch.first // STRETCH)
