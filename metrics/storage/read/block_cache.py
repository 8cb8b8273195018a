"""Fetching blocks, young and merged, and remembering what is in them.

A block never changes, so each process keeps decoded ones by their number. Where two blocks hold the same series and
time the later one (by `seq`) wins, wherever it lives; nothing else needs to be known about merging.
"""

import threading
from collections import OrderedDict
from collections.abc import Iterable, Iterator

from metrics.storage.connection import Connection
from metrics.storage.format.codec import Columns, DamagedPayload, Ints, decode
from metrics.storage.merge import damaged_blocks
from metrics.storage.shards import Number

CACHE_BYTES = 40 * 1024 * 1024
TRIES = 5  # a merge may delete a block between finding and fetching it

# An array is found once and then looked up by index, also where the condition stands beside an OR.
IN_GROUPS = """d.id = ANY(ARRAY(
    SELECT m.device_id FROM metrics_device_groups m JOIN metrics_devicegroup g ON g.id = m.devicegroup_id
    WHERE g.name = ANY(%(groups)s)))"""
_FETCH = (
    "SELECT seq, payload FROM metrics_young WHERE shard = %s AND seq = ANY(%s)",
    "SELECT id, payload FROM metrics_block WHERE shard = %s AND id = ANY(%s)",
)

Key = tuple[int, Number]  # 0 young, 1 merged, 2 a stretch of young ones (metrics.storage.read.unmerged)
Cursor = dict[int, int]  # shard: the last commit that was read


class Gone(Exception):
    """A block was merged away between finding and fetching it."""


class _Decoded:
    """Decoded blocks, the least used forgotten first."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._size = 0
        self._blocks: OrderedDict[Key, tuple[list[Columns], int]] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, key: Key) -> list[Columns] | None:
        with self._lock:
            found = self._blocks.get(key)
            if found is None:
                return None
            self._blocks.move_to_end(key)
            return found[0]

    def put(self, key: Key, parts: list[Columns]) -> None:
        size = sum(map(_bytes_of, parts))
        with self._lock:
            if key in self._blocks:
                return
            self._blocks[key] = (parts, size)
            self._size += size
            while self._size > self._limit and len(self._blocks) > 1:
                self._size -= self._blocks.popitem(last=False)[1][1]

    def clear(self) -> None:
        with self._lock:
            self._blocks.clear()
            self._size = 0


def _bytes_of(part: Columns) -> int:
    """About how much memory a part takes."""
    if not part.is_numbers:
        return 200 * len(part)
    columns = (part.ids, part.offsets, part.times, part.values, part.contexts)
    return 1000 + sum(column.nbytes for column in columns if column is not None)


decoded = _Decoded(CACHE_BYTES)


def forget() -> None:
    """Drop decoded blocks: between tests, whose numbers may be alike."""
    decoded.clear()
    damaged_blocks.forget()


def remember(number: Number, parts: list[Columns]) -> None:
    """Keep a commit of this process decoded, since the next read wants it."""
    decoded.put((0, number), parts)


def young_after(connection: Connection, cursor: Cursor, most: int = 200) -> list[tuple[Number, list[Columns]]]:
    """The commits after a cursor with their parts, in order within each shard: what a follower reads.

    Shards that the cursor does not name are left out; from each at most `most` commits. Of a damaged one there are
    no parts.
    """
    numbers: list[Number] = []
    for shard, seq in sorted(cursor.items()):
        rows = connection.execute(
            "SELECT shard, seq FROM metrics_young WHERE shard = %s AND seq > %s ORDER BY seq LIMIT %s",
            (shard, seq, most),
        )
        numbers += rows.fetchall()
    held = {number: parts for number in numbers if (parts := decoded.get((0, number))) is not None}
    held |= _fetch(connection, 0, [number for number in numbers if number not in held], [])
    return [(number, held[number]) for number in numbers if number in held]


def heads(connection: Connection) -> Cursor:
    """The last commit's number of every shard."""
    return dict(connection.execute("SELECT shard, seq FROM metrics_head").fetchall())


def payloads(connection: Connection, source: int, numbers: Iterable[Number]) -> Iterator[tuple[Number, bytes]]:
    """What is in these blocks, those of them that are still there, a statement for each shard."""
    by_shard: dict[int, list[int]] = {}
    for shard, number in numbers:
        by_shard.setdefault(shard, []).append(number)
    for shard, some in by_shard.items():
        for number, payload in connection.execute(_FETCH[source], (shard, some), binary=True):
            yield (shard, number), payload


def blocks(
    connection: Connection, keys: list[Key], damaged: list[str], alone: Ints | None = None
) -> dict[Key, list[Columns]]:
    """Decoded blocks by key, in the order of the keys; damaged ones are empty, and named. Raises Gone.

    `alone` are the series that are wanted of them, where the others are not worth decoding.
    """
    held: dict[Key, list[Columns]] = {}
    for key in keys:
        if (parts := decoded.get(key)) is not None:
            held[key] = parts
    for source in (0, 1):
        missing = [number for where, number in keys if where == source and (where, number) not in held]
        found = _fetch(connection, source, missing, damaged, alone)
        held |= {(source, number): parts for number, parts in found.items()}
    if len(held) < len(keys):
        raise Gone
    return {key: held[key] for key in keys}


def _fetch(
    connection: Connection, source: int, numbers: list[Number], damaged: list[str], alone: Ints | None = None
) -> dict[Number, list[Columns]]:
    found: dict[Number, list[Columns]] = {}
    for number, payload in payloads(connection, source, numbers):
        try:
            found[number] = decode(payload, alone)
            if alone is None:
                decoded.put((source, number), found[number])
        except DamagedPayload:
            found[number] = []
            damaged.append(damaged_blocks.note(source, number))
    return found
