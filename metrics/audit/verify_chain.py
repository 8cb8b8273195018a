"""Verify the checksum chain of the audit from its first entry to its head.

    digest    SHA-256 of the columns of an entry
    checksum  SHA-256 of (checksum of the previous entry, digest, number, heads of the journal's shards at that time)

Entries contain checksums of the journal, so a rewritten journal contradicts the first entry after it. The journal
contains checksums of the audit likewise (metrics.storage.write.audit_anchor).
"""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from metrics.audit.record import digest_of
from metrics.storage.connection import Connection
from metrics.storage.write.audit_anchor import decode_audit_anchors
from metrics.storage.write.journal_verify import CommitAnchor

ENTRY_BATCH = 1000

# The time as text, since a forged one may be `infinity`.
_ENTRIES = """
SELECT number, id, heads, digest, checksum, trunc(extract(epoch FROM at) * 1000000)::text, actor, request_id, address,
    action, object_type, object_id, before, after
FROM metrics_auditentry WHERE number > %s ORDER BY number LIMIT %s
"""
_HEADS = "SELECT number, heads FROM metrics_auditentry WHERE number > %s ORDER BY number LIMIT %s"
_BEFORE_ALL = -(2**63)


@dataclass(frozen=True, slots=True)
class BrokenEntry:
    """The first entry that is not as it was written, and the reason."""

    number: int
    reason: str


class JournalAnchors:
    """Checksums of audit entries that commits of the journal contain."""

    def __init__(self) -> None:
        self._by_number: dict[int, dict[str, str]] = {}

    def add(self, shard: int, seq: int, entries: bytes) -> None:
        """Add those of one line of the journal."""
        for anchor in decode_audit_anchors(entries):
            self._by_number.setdefault(anchor.number, {})[anchor.checksum] = f"commit {seq} of shard {shard}"

    def find_contradiction(self, number: int, checksum: bytes) -> str:
        """Return how an entry differs from its checksum in the journal; empty if it does not."""
        for expected, commit in self._by_number.pop(number, {}).items():
            if expected != checksum.hex():
                return f"it differs from the entry at the time of {commit}"
        return ""

    def find_missing(self) -> str:
        """Return which commit contains an entry that does not exist; empty if there is none."""
        for number, commits in self._by_number.items():
            return f"{next(iter(commits.values()))} refers to entry {number}, which is missing"
        return ""


def verify_audit(connection: Connection, anchors: JournalAnchors | None = None) -> tuple[int, BrokenEntry | None]:
    """Return (number of valid entries, the first invalid one). The connection has a snapshot."""
    valid, expected, anchors = 0, b"", anchors or JournalAnchors()
    for number, row_id, heads, digest, checksum, *texts in _pages(connection, _ENTRIES):
        if number > valid + 1:
            return valid, BrokenEntry(valid + 1, f"entries {valid + 1} to {number - 1} are missing")
        if number < 1:
            return valid, BrokenEntry(number, "it was inserted before the first entry")
        if digest_of(*texts) != digest:
            return valid, BrokenEntry(number, "its content was changed")
        expected = hashlib.sha256(expected + digest + f"{row_id} {number} {heads}".encode()).digest()
        if expected != checksum:
            return valid, BrokenEntry(number, "its checksum does not match the previous entry")
        if contradiction := anchors.find_contradiction(number, checksum):
            return valid, BrokenEntry(number, contradiction)
        valid += 1
    return valid, _verify_head(connection, valid, expected, anchors)


def _verify_head(connection: Connection, valid: int, checksum: bytes, anchors: JournalAnchors) -> BrokenEntry | None:
    [[unchained]] = connection.execute("SELECT count(*) FROM metrics_auditentry WHERE number IS NULL").fetchall()
    if unchained:
        return BrokenEntry(valid + 1, f"{unchained:,} entries are not in the chain")
    head = connection.execute("SELECT number, checksum FROM metrics_audithead WHERE id = 1", binary=True).fetchone()
    number, head_checksum = head or (0, b"")
    if number > valid:
        return BrokenEntry(valid + 1, f"entries {valid + 1} to {number} are missing")
    if (number, head_checksum) != (valid, checksum):
        return BrokenEntry(valid, "the head of the chain differs")
    missing = anchors.find_missing()
    return BrokenEntry(valid + 1, missing) if missing else None


def read_commit_anchors(connection: Connection, shard: int) -> Iterator[CommitAnchor]:
    """Yield the checksums of a shard's commits that audit entries contain, in order."""
    for number, heads in _pages(connection, _HEADS):
        for head in heads.split():
            head_shard, _, rest = head.partition(":")
            seq, _, checksum = rest.partition(":")
            if head_shard == str(shard) and seq.isdecimal():  # a malformed head breaks the audit's own chain
                yield CommitAnchor(f"audit entry {number}", int(seq), checksum)


def _pages(connection: Connection, statement: str) -> Iterator[Any]:
    last = _BEFORE_ALL
    while rows := connection.execute(statement, (last, ENTRY_BATCH), binary=True).fetchall():
        yield from rows
        last = rows[-1][0]
