"""Following the audit's chain from its first entry to its head.

    digest    SHA-256 of what was done: when, by whom, …, before, after
    checksum  SHA-256 of (checksum of the entry before, digest, number, heads of the journal's shards at that time)

So the audit tells of the journal what it was: whoever writes the journal anew, its head with it, is found out by the
first entry that has seen it. The journal tells of the audit likewise (metrics.storage.write.audit_anchor).
"""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from metrics.audit.record import digest_of
from metrics.storage.connection import Connection
from metrics.storage.write.audit_anchor import decode_audit_anchors
from metrics.storage.write.journal_verify import CommitAnchor

PAGE = 1000  # entries at a time

# A time as text, since whoever forges one may write `infinity`.
_ENTRIES = """
SELECT number, id, heads, digest, checksum, trunc(extract(epoch FROM at) * 1000000)::text, actor, request_id, address,
    action, object_type, object_id, before, after
FROM metrics_auditentry WHERE number > %s ORDER BY number LIMIT %s
"""
_HEADS = "SELECT number, heads FROM metrics_auditentry WHERE number > %s ORDER BY number LIMIT %s"
_BEFORE_ALL = -(2**63)


@dataclass(frozen=True, slots=True)
class BrokenEntry:
    """The first entry that is not what it was."""

    number: int
    why: str


class Told:
    """What the commits of the journal tell of the audit."""

    def __init__(self) -> None:
        self._by_number: dict[int, dict[str, str]] = {}

    def hear(self, shard: int, seq: int, entries: bytes) -> None:
        """A line of the journal."""
        for one in decode_audit_anchors(entries):
            self._by_number.setdefault(one.number, {})[one.checksum] = f"commit {seq} of shard {shard}"

    def contradict(self, number: int, checksum: bytes) -> str:
        """What they say against this entry; empty where nothing."""
        for told, by in self._by_number.pop(number, {}).items():
            if told != checksum.hex():
                return f"it is not what it was when {by} was written"
        return ""

    def miss(self) -> str:
        """Who has seen an entry that is not there; empty where nobody has."""
        for number, told in self._by_number.items():
            return f"{next(iter(told.values()))} has seen entry {number}, which is not there"
        return ""


def verify(connection: Connection, told: Told | None = None) -> tuple[int, BrokenEntry | None]:
    """(how many entries hold, the first that does not), within a snapshot; `told` is what the journal says of them."""
    held, followed, told = 0, b"", told or Told()
    for number, row_id, heads, digest, checksum, *texts in _pages(connection, _ENTRIES):
        if number > held + 1:
            return held, BrokenEntry(held + 1, f"entries {held + 1} to {number - 1} are missing")
        if number < 1:
            return held, BrokenEntry(number, "it was put before the first one")
        if digest_of(*texts) != digest:
            return held, BrokenEntry(number, "it is not what was written")
        followed = hashlib.sha256(followed + digest + f"{row_id} {number} {heads}".encode()).digest()
        if followed != checksum:
            return held, BrokenEntry(number, "its checksum does not follow from the one before")
        if why := told.contradict(number, checksum):
            return held, BrokenEntry(number, why)
        held += 1
    return held, _at_the_end(connection, held, followed, told)


def _at_the_end(connection: Connection, held: int, checksum: bytes, told: Told) -> BrokenEntry | None:
    [[unchained]] = connection.execute("SELECT count(*) FROM metrics_auditentry WHERE number IS NULL").fetchall()
    if unchained:
        return BrokenEntry(held + 1, f"{unchained:,} entries are not in the chain")
    head = connection.execute("SELECT number, checksum FROM metrics_audithead WHERE id = 1", binary=True).fetchone()
    number, ended = head or (0, b"")
    if number > held:
        return BrokenEntry(held + 1, f"entries {held + 1} to {number} are missing")
    if (number, ended) != (held, checksum):
        return BrokenEntry(held, "the head of the chain is another one")
    missed = told.miss()
    return BrokenEntry(held + 1, missed) if missed else None


def seen_of_journal(connection: Connection, shard: int) -> Iterator[CommitAnchor]:
    """What the entries, in their order, say of a shard's commits."""
    for number, heads in _pages(connection, _HEADS):
        for head in heads.split():
            of, _, rest = head.partition(":")
            seq, _, checksum = rest.partition(":")
            if of == str(shard) and seq.isdecimal():  # what is malformed was forged, and breaks the audit's own chain
                yield CommitAnchor(f"audit entry {number}", int(seq), checksum)


def _pages(connection: Connection, statement: str) -> Iterator[Any]:
    last = _BEFORE_ALL
    while rows := connection.execute(statement, (last, PAGE), binary=True).fetchall():
        yield from rows
        last = rows[-1][0]
