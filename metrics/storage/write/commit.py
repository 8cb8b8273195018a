"""A block becomes part of the stream: the one statement that all measurements go through.

It moves the head of the stream and inserts the block and its journal at once: commit order, `seq` order and checksum
chain are one and the same with any number of writers. A block of several shards moves their heads in one transaction,
always in ascending order, so that no two writers wait for each other; its requests are told of in the journal of the
first shard that they touch, and once.

The head knows the revision of the last deletion of a device. Points whose series were looked up before it may be of
what is gone since: they move nothing, so that no point of a series is committed after the series was deleted.
"""

import hashlib
from typing import Any

from metrics.storage import shards
from metrics.storage.connection import Connection
from metrics.storage.format.codec import Columns, Ints, encode
from metrics.storage.read.block_cache import BlockId
from metrics.storage.write.journal import line_digest

NO_ENTRIES = b"[]"

_ADVANCE_HEAD = """
WITH head AS (
    UPDATE metrics_head SET seq = seq + 1, checksum = sha256(checksum || %(digest)s::bytea)
    WHERE shard = %(shard)s AND deleted_at_revision <= %(known)s RETURNING seq, checksum
), young AS (
    INSERT INTO metrics_young (shard, seq, points, time_from, time_to, payload)
    SELECT %(shard)s, seq, %(points)s, %(time_from)s, %(time_to)s, %(payload)s FROM head
)"""
_BATCHES = """
INSERT INTO metrics_ingestedbatch (device_id, batch_id, answer)
SELECT b->>'device_id', b->>'batch_id', b->'answer' FROM {head}jsonb_array_elements(%(batches)s::jsonb) b
ON CONFLICT DO NOTHING"""
_JOURNAL = """
INSERT INTO metrics_journal (shard, seq, entries, payload_digest, digest, checksum)
SELECT %(shard)s, seq, %(entries)s, %(payload_digest)s, %(digest)s, checksum FROM head RETURNING seq"""
_COMMIT = (
    f"{_ADVANCE_HEAD}, batches AS ({_BATCHES.format(head='head, ')}){_JOURNAL}"  # all there is to one of one shard
)
_COMMIT_PART = _ADVANCE_HEAD + _JOURNAL
_BATCHES_ONLY = _BATCHES.format(head="")
_LAST_DELETION = "SELECT max(deleted_at_revision) FROM metrics_head"
_MISSING_SERIES = """
SELECT 1 FROM unnest(%s::bigint[]) AS wanted (id)
WHERE NOT EXISTS (SELECT FROM metrics_series s WHERE s.id = wanted.id) LIMIT 1
"""


class SeriesOutdated(Exception):
    """A device was deleted since the series were looked up."""


def commit(
    connection: Connection, parts: list[Columns], entries: bytes, batches: bytes, known: int
) -> list[tuple[BlockId, list[Columns]]]:
    """Store a block with the JSON of its requests and answered batches; returns its number and parts in each shard.

    `known` is the revision at which its series were looked up. Raises Outdated, and then nothing is stored.
    """
    given = {"batches": batches.decode(), "known": known}
    if shards.count() == 1:
        row = connection.execute(_COMMIT, _commit_parameters(0, parts, entries) | given, binary=True).fetchone()
        if row is None:
            raise SeriesOutdated
        return [((0, row[0]), parts)]
    found = list(shards.split_by_shard(parts))
    values = [
        _commit_parameters(shard, some, NO_ENTRIES if place else entries) for place, (shard, some) in enumerate(found)
    ]
    with connection.pipeline(), connection.transaction():  # with everything encoded: heads are held for a short time
        moved = [connection.execute(_COMMIT_PART, one | given, binary=True) for one in values]
        connection.execute(_BATCHES_ONLY, given)
        rows = [cursor.fetchone() for cursor in moved]
        if None in rows:
            raise SeriesOutdated
    return [((shard, row[0]), some) for (shard, some), row in zip(found, rows, strict=True) if row is not None]


def last_deletion_revision(connection: Connection) -> int:
    """The revision of the last deletion of a device."""
    row = connection.execute(_LAST_DELETION).fetchone()
    assert row is not None  # the head of each shard is there since the first migration
    revision: int = row[0]
    return revision


def all_series_exist(connection: Connection, series: Ints) -> bool:
    """Whether none of these series was deleted."""
    return connection.execute(_MISSING_SERIES, (series.tolist(),)).fetchone() is None


def _commit_parameters(shard: int, parts: list[Columns], entries: bytes) -> dict[str, Any]:
    payload = encode(parts)
    payload_digest = hashlib.sha256(payload).digest()
    return {
        "shard": shard,
        "payload_digest": payload_digest,
        "digest": line_digest(payload_digest, entries),
        "points": sum(map(len, parts)),
        "time_from": min(int(part.times.min()) for part in parts),
        "time_to": max(int(part.times.max()) for part in parts),
        "payload": payload,
        "entries": entries.decode(),
    }
