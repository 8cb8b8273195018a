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
from metrics.storage.shards import BlockId

CACHE_BYTES = 40 * 1024 * 1024
MAX_ATTEMPTS = 5  # a merge may delete a block between finding and fetching it

# An array is found once and then looked up by index, also where the condition stands beside an OR.
IN_GROUPS = """d.id = ANY(ARRAY(
    SELECT m.device_id FROM metrics_device_groups m JOIN metrics_devicegroup g ON g.id = m.devicegroup_id
    WHERE g.name = ANY(%(groups)s)))"""
_READ_PAYLOADS = (
    "SELECT seq, payload FROM metrics_young WHERE shard = %s AND seq = ANY(%s)",
    "SELECT id, payload FROM metrics_block WHERE shard = %s AND id = ANY(%s)",
)

BlockKey = tuple[int, BlockId]  # 0 young, 1 merged, 2 a stretch of young ones (metrics.storage.read.unmerged)
CommitCursor = dict[int, int]  # shard: the last commit that was read


class BlocksChanged(Exception):
    """A block was merged away between finding and fetching it."""


class _DecodedBlockCache:
    """Decoded blocks, the least used forgotten first."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._size = 0
        self._blocks: OrderedDict[BlockKey, tuple[list[Columns], int]] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, key: BlockKey) -> list[Columns] | None:
        with self._lock:
            found = self._blocks.get(key)
            if found is None:
                return None
            self._blocks.move_to_end(key)
            return found[0]

    def put(self, key: BlockKey, parts: list[Columns]) -> None:
        size = sum(map(_memory_size, parts))
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


def _memory_size(part: Columns) -> int:
    """About how much memory a part takes."""
    if not part.is_numeric:
        return 200 * len(part)
    columns = (part.ids, part.offsets, part.times, part.values, part.contexts)
    return 1000 + sum(column.nbytes for column in columns if column is not None)


decoded_blocks = _DecodedBlockCache(CACHE_BYTES)


def clear_block_cache() -> None:
    """Drop decoded blocks: between tests, whose numbers may be alike."""
    decoded_blocks.clear()
    damaged_blocks.reset_logged_damage()


def cache_commit(number: BlockId, parts: list[Columns]) -> None:
    """Keep a commit of this process decoded, since the next read wants it."""
    decoded_blocks.put((0, number), parts)


def read_commits_after(
    connection: Connection, cursor: CommitCursor, most: int = 200
) -> list[tuple[BlockId, list[Columns]]]:
    """The commits after a cursor with their parts, in order within each shard: what a follower reads.

    Shards that the cursor does not name are left out; from each at most `most` commits. Of a damaged one there are
    no parts.
    """
    numbers: list[BlockId] = []
    for shard, seq in sorted(cursor.items()):
        rows = connection.execute(
            "SELECT shard, seq FROM metrics_young WHERE shard = %s AND seq > %s ORDER BY seq LIMIT %s",
            (shard, seq, most),
        )
        numbers += rows.fetchall()
    held = {number: parts for number in numbers if (parts := decoded_blocks.get((0, number))) is not None}
    held |= _read_uncached(connection, 0, [number for number in numbers if number not in held], [])
    return [(number, held[number]) for number in numbers if number in held]


def read_heads(connection: Connection) -> CommitCursor:
    """The last commit's number of every shard."""
    return dict(connection.execute("SELECT shard, seq FROM metrics_head").fetchall())


def read_payloads(connection: Connection, source: int, numbers: Iterable[BlockId]) -> Iterator[tuple[BlockId, bytes]]:
    """What is in these blocks, those of them that are still there, a statement for each shard."""
    by_shard: dict[int, list[int]] = {}
    for shard, number in numbers:
        by_shard.setdefault(shard, []).append(number)
    for shard, some in by_shard.items():
        for number, payload in connection.execute(_READ_PAYLOADS[source], (shard, some), binary=True):
            yield (shard, number), payload


def read_blocks(
    connection: Connection, keys: list[BlockKey], damaged: list[str], alone: Ints | None = None
) -> dict[BlockKey, list[Columns]]:
    """Decoded blocks by key, in the order of the keys; damaged ones are empty, and named. Raises Gone.

    `alone` are the series that are wanted of them, where the others are not worth decoding.
    """
    held: dict[BlockKey, list[Columns]] = {}
    for key in keys:
        if (parts := decoded_blocks.get(key)) is not None:
            held[key] = parts
    for source in (0, 1):
        missing = [number for where, number in keys if where == source and (where, number) not in held]
        found = _read_uncached(connection, source, missing, damaged, alone)
        held |= {(source, number): parts for number, parts in found.items()}
    if len(held) < len(keys):
        raise BlocksChanged
    return {key: held[key] for key in keys}


def _read_uncached(
    connection: Connection, source: int, numbers: list[BlockId], damaged: list[str], alone: Ints | None = None
) -> dict[BlockId, list[Columns]]:
    found: dict[BlockId, list[Columns]] = {}
    for number, payload in read_payloads(connection, source, numbers):
        try:
            found[number] = decode(payload, alone)
            if alone is None:
                decoded_blocks.put((source, number), found[number])
        except DamagedPayload:
            found[number] = []
            damaged.append(damaged_blocks.report_damaged_block(source, number))
    return found
