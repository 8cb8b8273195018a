"""The commit of a block: the one statement that stores measurements.

It advances the head of the stream and inserts the block and its journal line together: commit order, order of the
sequence numbers and checksum chain are the same with any number of writers. A block of several shards advances their
heads in one transaction, always in ascending order, so that no two writers deadlock; its requests are recorded once,
in the journal of the first of its shards.

The head stores the revision of the last deletion of a device. Points whose series were resolved at an older revision
may belong to a deleted device: they are not committed, so no point of a series is committed after its deletion.
"""

import hashlib
from typing import Any, NamedTuple

import psycopg

from metrics.storage import shards
from metrics.storage.connection import Connection
from metrics.storage.format.codec import Columns, Ints, encode
from metrics.storage.read.block_cache import BlockId
from metrics.storage.write.journal import line_digest

NO_ENTRIES = b"[]"

_ADVANCE_HEAD = """
UPDATE metrics_head SET seq = seq + 1, checksum = sha256(checksum || %(digest)s::bytea)
WHERE shard = %(shard)s AND deleted_at_revision <= %(series_revision)s
    AND other_kinds_revision <= %(other_kinds_revision)s RETURNING seq"""
# The head as advanced by the transaction; no row if it was not.
_ADVANCED_HEAD = """metrics_head
WHERE shard = %(shard)s AND deleted_at_revision <= %(series_revision)s
    AND other_kinds_revision <= %(other_kinds_revision)s"""
_BLOCK = """
INSERT INTO metrics_young (shard, seq, points, time_from, time_to, payload)
SELECT {shard}, seq, %(points)s, %(time_from)s, %(time_to)s, %(payload)s FROM {head}"""
_BATCHES = """
INSERT INTO metrics_ingestedbatch (device_id, batch_id, digest, answer)
SELECT b->>'device_id', b->>'batch_id', decode(b->>'digest', 'hex'), b->'answer'
FROM {head}jsonb_array_elements(%(batches)s::jsonb) b
ON CONFLICT DO NOTHING"""
_JOURNAL = """
INSERT INTO metrics_journal (shard, seq, entries, payload_digest, digest, checksum)
SELECT {shard}, seq, %(entries)s, %(payload_digest)s, %(digest)s, checksum FROM {head}"""
_RETURNED = {"shard": "%(shard)s", "head": "head"}
_COMMIT = f"""
WITH head AS ({_ADVANCE_HEAD}, checksum), block AS ({_BLOCK.format(**_RETURNED)}),
batches AS ({_BATCHES.format(head="head, ")}){_JOURNAL.format(**_RETURNED)} RETURNING seq"""  # complete, of one shard
# Of one of several shards. Citus would send the rows of a WITH to every node, also to those that store other shards.
_STORED = {"shard": "shard", "head": _ADVANCED_HEAD}
_COMMIT_PART = (_BLOCK.format(**_STORED), _JOURNAL.format(**_STORED))
_BATCHES_ONLY = _BATCHES.format(head="")
_LAST_DELETION = "SELECT max(deleted_at_revision) FROM metrics_head WHERE shard = ANY(%s)"
_MISSING_SERIES = """
SELECT 1 FROM unnest(%s::bigint[]) AS requested (id)
WHERE NOT EXISTS (SELECT FROM metrics_series s WHERE s.id = requested.id) LIMIT 1
"""


class SeriesOutdated(Exception):
    """A device was deleted, or a series of another kind was created, since the series were resolved."""


class SeriesRevisions(NamedTuple):
    """The revisions at which the series of a block were resolved, and at which their other kinds were read."""

    series: int
    other_kinds: int


def commit(
    connection: Connection, parts: list[Columns], entries: bytes, batches: bytes, revisions: SeriesRevisions
) -> list[tuple[BlockId, list[Columns]]]:
    """Store a block with the JSON of its requests and answered batches; return its id and parts in each shard.

    Raises SeriesOutdated if nothing was stored.
    """
    shared = {
        "batches": batches.decode(),
        "series_revision": revisions.series,
        "other_kinds_revision": revisions.other_kinds,
    }
    if shards.count() == 1:
        row = connection.execute(_COMMIT, _commit_parameters(0, parts, entries) | shared, binary=True).fetchone()
        if row is None:
            raise SeriesOutdated
        return [((0, row[0]), parts)]
    parts_by_shard = list(shards.split_by_shard(parts))
    values = [
        _commit_parameters(shard, shard_parts, NO_ENTRIES if index else entries)
        for index, (shard, shard_parts) in enumerate(parts_by_shard)
    ]
    with connection.pipeline(), connection.transaction():  # everything is encoded: heads are locked briefly
        moved = [_commit_part(connection, parameters | shared) for parameters in values]
        connection.execute(_BATCHES_ONLY, shared)
        rows = [cursor.fetchone() for cursor in moved]
        if None in rows:
            raise SeriesOutdated
    return [
        ((shard, row[0]), shard_parts)
        for (shard, shard_parts), row in zip(parts_by_shard, rows, strict=True)
        if row is not None
    ]


def _commit_part(connection: Connection, parameters: dict[str, Any]) -> psycopg.Cursor[tuple[Any, ...]]:
    """Send the commit of one of several shards; return the cursor of its sequence number."""
    advanced = connection.execute(_ADVANCE_HEAD, parameters, binary=True)
    for statement in _COMMIT_PART:
        connection.execute(statement, parameters)
    return advanced


def last_deletion_revision(connection: Connection) -> int:
    """Return the revision of the last deletion of a device."""
    row = shards.read_reachable(connection, lambda those: connection.execute(_LAST_DELETION, (those,)).fetchone())
    assert row is not None  # every shard has a head
    revision: int = row[0]
    return revision


def all_series_exist(connection: Connection, series: Ints) -> bool:
    """Return whether none of these series was deleted."""
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
