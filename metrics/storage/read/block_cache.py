"""Reading of blocks, unmerged and merged, with a cache of decoded blocks.

A block never changes, so each process keeps decoded blocks by their id. If two blocks have the same series and time,
the later one (by sequence number) wins, wherever it is stored; readers need to know nothing else about merging.
"""

import threading
from collections import OrderedDict
from collections.abc import Iterable, Iterator

from metrics.storage import shards
from metrics.storage.connection import Connection
from metrics.storage.format.codec import Columns, DamagedPayload, Ints, decode
from metrics.storage.format.layout import MERGED, UNMERGED, drop_removed_of_all
from metrics.storage.merge import damaged_blocks
from metrics.storage.shards import BlockId

CACHE_BYTES = 40 * 1024 * 1024
MAX_ATTEMPTS = 5  # a merge may delete a block between planning and reading

# As an array the ids are computed once and then looked up by index, even beside an OR.
IN_GROUPS = """d.id = ANY(ARRAY(
    SELECT m.device_id FROM metrics_device_groups m JOIN metrics_devicegroup g ON g.id = m.devicegroup_id
    WHERE g.name = ANY(%(groups)s)))"""
_HEADS = "SELECT shard, seq FROM metrics_head WHERE shard = ANY(%s)"
_READ_PAYLOADS = (
    "SELECT seq, payload FROM metrics_young WHERE shard = %s AND seq = ANY(%s)",
    "SELECT id, payload FROM metrics_block WHERE shard = %s AND id = ANY(%s)",
)

BlockKey = tuple[int, BlockId]  # source (metrics.storage.format.layout), block
CommitCursor = dict[int, int]  # by shard: the last commit that was read


class BlocksChanged(Exception):
    """A merge deleted a block between planning and reading."""


class _DecodedBlockCache:
    """Decoded blocks up to a size in bytes; the least recently used are evicted first."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._size = 0
        self._blocks: OrderedDict[BlockKey, tuple[list[Columns], int]] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, key: BlockKey) -> list[Columns] | None:
        with self._lock:
            entry = self._blocks.get(key)
            if entry is None:
                return None
            self._blocks.move_to_end(key)
            return entry[0]

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
    """Estimate the memory that a part takes."""
    if not part.is_numeric:
        return 200 * len(part)
    columns = (part.ids, part.offsets, part.times, part.values, part.contexts)
    return 1000 + sum(column.nbytes for column in columns if column is not None)


decoded_blocks = _DecodedBlockCache(CACHE_BYTES)


def clear_block_cache() -> None:
    """Discard all decoded blocks."""
    decoded_blocks.clear()
    damaged_blocks.reset_logged_damage()


def cache_commit(number: BlockId, parts: list[Columns]) -> None:
    """Cache a commit of this process decoded, since the next read needs it."""
    decoded_blocks.put((UNMERGED, number), parts)


def read_commits_after(
    connection: Connection, cursor: CommitCursor, limit: int = 200
) -> list[tuple[BlockId, list[Columns]]]:
    """Return the commits after a cursor with their points, in order within each shard.

    Reads at most `limit` commits per shard of the cursor. A damaged commit has no parts.
    """
    ids: list[BlockId] = []
    for shard, seq in sorted(cursor.items()):
        rows = connection.execute(
            "SELECT shard, seq FROM metrics_young WHERE shard = %s AND seq > %s ORDER BY seq LIMIT %s",
            (shard, seq, limit),
        )
        ids += rows.fetchall()
    decoded = {number: parts for number in ids if (parts := decoded_blocks.get((UNMERGED, number))) is not None}
    decoded |= _read_uncached(connection, UNMERGED, [number for number in ids if number not in decoded], [])
    return [(number, drop_removed_of_all(decoded[number])) for number in ids if number in decoded]


def read_heads(connection: Connection) -> CommitCursor:
    """Return the last sequence number of every shard; a shard whose node fails is left out."""
    return shards.read_reachable(connection, lambda those: dict(connection.execute(_HEADS, (those,)).fetchall()))


def read_payloads(connection: Connection, source: int, numbers: Iterable[BlockId]) -> Iterator[tuple[BlockId, bytes]]:
    """Yield the payloads of these blocks that still exist, with one statement per shard."""
    by_shard: dict[int, list[int]] = {}
    for shard, number in numbers:
        by_shard.setdefault(shard, []).append(number)
    for shard, shard_numbers in by_shard.items():
        for number, payload in connection.execute(_READ_PAYLOADS[source], (shard, shard_numbers), binary=True):
            yield (shard, number), payload


def read_blocks(
    connection: Connection, keys: list[BlockKey], damaged: list[str], only_series: Ints | None = None
) -> dict[BlockKey, list[Columns]]:
    """Return decoded blocks by key, in the order of the keys. Raises BlocksChanged.

    Damaged blocks are empty, and their names are added to `damaged`. With `only_series` other series are not decoded
    where that saves time, and the cache is not filled.
    """
    decoded: dict[BlockKey, list[Columns]] = {}
    for key in keys:
        if (parts := decoded_blocks.get(key)) is not None:
            decoded[key] = parts
    for source in (UNMERGED, MERGED):
        missing = [number for origin, number in keys if origin == source and (origin, number) not in decoded]
        fetched = _read_uncached(connection, source, missing, damaged, only_series)
        decoded |= {(source, number): parts for number, parts in fetched.items()}
    if len(decoded) < len(keys):
        raise BlocksChanged
    return {key: decoded[key] for key in keys}


def _read_uncached(
    connection: Connection, source: int, numbers: list[BlockId], damaged: list[str], only_series: Ints | None = None
) -> dict[BlockId, list[Columns]]:
    parts_by_id: dict[BlockId, list[Columns]] = {}
    for number, payload in read_payloads(connection, source, numbers):
        try:
            parts_by_id[number] = decode(payload, only_series)
            if only_series is None:
                decoded_blocks.put((source, number), parts_by_id[number])
        except DamagedPayload:
            parts_by_id[number] = []
            damaged.append(damaged_blocks.report_damaged_block(source, number))
    return parts_by_id
