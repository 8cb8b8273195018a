"""The journal: one line per commit with its requests, chained to the line before by a checksum.

    digest    SHA-256 of (SHA-256 of the payload, entries)
    checksum  SHA-256 of (checksum of the line before, digest)

Changing, removing or adding a line breaks the chain from there on, even after the payload was merged. A line in a
database row of its own takes more bytes than the points of a small commit; after some minutes a thousand lines are
packed into one row, in which only the digests of the payloads resist compression.
"""

import hashlib
from typing import NamedTuple

import msgspec
import numpy as np
import zstandard

from metrics.storage.connection import Connection
from metrics.storage.format.codec import seal, unseal
from metrics.storage.format.compression import DENSE_COMPRESSION, pack, unpack
from metrics.storage.locks import lock_journal

PACK_LINES = 1000
PACK_DELAY = 300.0  # seconds until a line may be packed
_DIGEST = 32  # bytes

_UNPACKED_LINES = """
SELECT seq, (extract(epoch FROM at) * 1000000)::bigint, entries, payload_digest, checksum FROM metrics_journal
WHERE shard = %s AND at < now() - make_interval(secs => %s) AND payload_digest IS NOT NULL ORDER BY seq LIMIT %s
"""
_LINES_BEFORE = """
SELECT seq, (extract(epoch FROM at) * 1000000)::bigint, entries, payload_digest FROM metrics_journal
WHERE shard = %s AND at < to_timestamp(%s / 1e6) ORDER BY seq DESC LIMIT %s
"""
_PACKS_BEFORE = """
SELECT payload FROM metrics_journalpack WHERE shard = %s AND at_from < to_timestamp(%s / 1e6)
ORDER BY seq_from DESC LIMIT 2
"""
_INSERT_PACK = """
INSERT INTO metrics_journalpack (shard, seq_from, seq_to, at_from, at_to, before, checksum, payload)
VALUES (%s, %s, %s, to_timestamp(%s / 1e6), to_timestamp(%s / 1e6), %s, %s, %s)
"""


class JournalLine(NamedTuple):
    """The journal's record of one commit."""

    seq: int
    at: int  # µs since 1970, UTC
    entries: bytes  # JSON: a list of metrics.storage.write.group_commit.Entry
    payload_digest: bytes

    @property
    def digest(self) -> bytes:
        return line_digest(self.payload_digest, self.entries)


def line_digest(payload_digest: bytes, entries: bytes) -> bytes:
    """Return the digest of a line."""
    return hashlib.sha256(payload_digest + entries).digest()


def chain_checksum(before: bytes, digest: bytes) -> bytes:
    """Return the checksum of a line after another."""
    return hashlib.sha256(before + digest).digest()


class _EncodedPack(msgspec.Struct, array_like=True):
    seqs: bytes
    times: bytes
    digests: bytes  # of the payloads, concatenated
    entries: bytes  # zstd of a msgpack list of bytes


def encode_pack(lines: list[JournalLine]) -> bytes:
    """Encode lines into the payload of a pack."""
    texts = msgspec.msgpack.encode([line.entries for line in lines])
    packed = _EncodedPack(
        pack(np.array([line.seq for line in lines], np.int64), DENSE_COMPRESSION),
        pack(np.array([line.at for line in lines], np.int64), DENSE_COMPRESSION),
        b"".join(line.payload_digest for line in lines),
        zstandard.ZstdCompressor(level=9).compress(texts),
    )
    return seal(msgspec.msgpack.encode(packed))


def decode_pack(payload: bytes) -> list[JournalLine]:
    """Decode the lines of a pack. Raises DamagedPayload."""
    packed = msgspec.msgpack.decode(unseal(payload), type=_EncodedPack)
    texts = msgspec.msgpack.decode(zstandard.ZstdDecompressor().decompress(packed.entries), type=list[bytes])
    digests = [packed.digests[at : at + _DIGEST] for at in range(0, len(packed.digests), _DIGEST)]
    seqs, times = unpack(packed.seqs, np.int64).tolist(), unpack(packed.times, np.int64).tolist()
    return [JournalLine(*row) for row in zip(seqs, times, texts, digests, strict=True)]


def read_lines_before(connection: Connection, shard: int, until: int, limit: int) -> list[JournalLine]:
    """Return the last lines of a shard before a time (µs), newest first: at most `limit`, and at most two packs."""
    rows = connection.execute(_LINES_BEFORE, (shard, until, limit), binary=True).fetchall()
    lines = [JournalLine(seq, at, entries.encode(), digest or b"") for seq, at, entries, digest in rows]
    if len(lines) < limit:
        for (payload,) in connection.execute(_PACKS_BEFORE, (shard, until), binary=True).fetchall():
            lines += [line for line in reversed(decode_pack(payload)) if line.at < until]
    return lines[:limit]


def pack_journal(connection: Connection, shard: int, after: float = PACK_DELAY) -> int:
    """Pack the lines of a shard older than `after` seconds while there are enough; return how many were packed."""
    total = 0
    while packed := _pack_once(connection, shard, after):
        total += packed
    return total


def _pack_once(connection: Connection, shard: int, after: float) -> int:
    with connection.transaction():
        if not lock_journal(connection, shard):
            return 0
        rows = connection.execute(_UNPACKED_LINES, (shard, after, PACK_LINES), binary=True).fetchall()
        if len(rows) < PACK_LINES:
            return 0
        lines = [JournalLine(seq, at, entries.encode(), digest) for seq, at, entries, digest, _ in rows]
        first, last = lines[0], lines[-1]
        where = (shard, first.seq, last.seq, first.at, last.at)
        connection.execute(
            _INSERT_PACK, (*where, _checksum_before(connection, shard, first.seq), rows[-1][4], encode_pack(lines))
        )
        connection.execute(
            "DELETE FROM metrics_journal WHERE shard = %s AND seq BETWEEN %s AND %s", (shard, first.seq, last.seq)
        )
        return len(lines)


def _checksum_before(connection: Connection, shard: int, seq: int) -> bytes | None:
    """Return the checksum of the line before `seq`; empty for the first line, None if that line was deleted."""
    if seq == 1:
        return b""
    row = connection.execute(
        "SELECT checksum FROM metrics_journal WHERE shard = %(shard)s AND seq = %(seq)s - 1"
        " UNION ALL SELECT checksum FROM metrics_journalpack WHERE shard = %(shard)s AND seq_to = %(seq)s - 1",
        {"shard": shard, "seq": seq},
        binary=True,
    ).fetchone()
    return row[0] if row else None
