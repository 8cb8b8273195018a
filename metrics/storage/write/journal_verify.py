"""Verification of the journal's checksum chain from its oldest line to the head."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

from metrics.storage.connection import Connection
from metrics.storage.format.codec import DamagedPayload
from metrics.storage.write.journal import PACK_LINES, JournalLine, chain_checksum, decode_pack, line_digest

_PACKS = """
SELECT seq_from, seq_to, before, checksum, payload FROM metrics_journalpack
WHERE shard = %s AND seq_from > %s ORDER BY seq_from LIMIT 20
"""
_LINES = """
SELECT seq, entries, payload_digest, digest, checksum FROM metrics_journal
WHERE shard = %s AND seq > %s ORDER BY seq LIMIT %s
"""


@dataclass(frozen=True, slots=True)
class BrokenChain:
    """The first link of a shard's checksum chain that does not match."""

    shard: int
    seq: int  # of the commit
    reason: str


class CommitAnchor(NamedTuple):
    """A record outside of the journal of a commit that was the last of its shard at some time."""

    source: str
    seq: int
    checksum: str  # hexadecimal


class _AnchorCheck:
    """Compares anchors of a shard's commits, in ascending order, with the journal."""

    def __init__(self, anchors: Iterable[CommitAnchor]) -> None:
        self._anchors = iter(anchors)
        self._next = next(self._anchors, None)

    def contradict(self, seq: int, checksum: bytes | None) -> str:
        """Return how an anchor contradicts this line; empty if none does."""
        while (anchor := self._next) is not None and anchor.seq <= seq:
            self._next = next(self._anchors, None)
            if anchor.seq == seq and checksum is not None and anchor.checksum != checksum.hex():
                return f"it differs from what {anchor.source} recorded"
        return ""

    def miss(self) -> str:
        """Return which anchor names a commit after the last one; empty if none does."""
        return f"{self._next.source} recorded commit {self._next.seq}, which is missing" if self._next else ""


@dataclass(slots=True)
class _ChainPosition:
    """The last verified line: its sequence number and checksum; None if unknown because older lines were deleted."""

    seq: int = 0
    checksum: bytes | None = b""

    def follow(self, seq: int, digest: bytes, checksum: bytes | None) -> str:
        """Verify the next line, with its stored checksum or (within a pack) without; return what is wrong."""
        if self.seq and seq != self.seq + 1:
            return f"commits {self.seq + 1} to {seq - 1} are missing"
        previous = self.checksum if seq == self.seq + 1 else None
        self.seq, self.checksum = seq, checksum if previous is None else chain_checksum(previous, digest)
        return "" if checksum is None or self.checksum == checksum else "its checksum does not match the line before"


def verify_journal(
    connection: Connection,
    shard: int,
    anchors: Iterable[CommitAnchor] = (),
    on_line: Callable[[int, bytes], None] | None = None,
) -> tuple[int, BrokenChain | None]:
    """Verify the journal of a shard within a snapshot; return (valid lines, the first broken link).

    `anchors` are outside records of commits, in order; `on_line` receives the number and entries of each valid line.
    """
    position, anchor_check, valid = _ChainPosition(), _AnchorCheck(anchors), 0
    for seq, entries, problem in _check_lines(connection, shard, position):
        if reason := problem or anchor_check.contradict(seq, position.checksum):
            return valid, BrokenChain(shard, seq, reason)
        valid += 1
        if on_line is not None:
            on_line(seq, entries)
    row = connection.execute(
        "SELECT seq, checksum FROM metrics_head WHERE shard = %s", (shard,), binary=True
    ).fetchone()
    if row and row[0] > position.seq:
        return valid, BrokenChain(shard, position.seq + 1, f"commits {position.seq + 1} to {row[0]} are missing")
    if row and valid and row[1] != position.checksum:
        return valid, BrokenChain(shard, position.seq, "the checksum of the head differs")
    if reason := anchor_check.miss():
        return valid, BrokenChain(shard, position.seq + 1, reason)
    return valid, None


def _check_lines(connection: Connection, shard: int, position: _ChainPosition) -> Iterator[tuple[int, bytes, str]]:
    yield from _check_packs(connection, shard, position)
    while rows := connection.execute(_LINES, (shard, position.seq, PACK_LINES), binary=True).fetchall():
        for seq, entries, payload_digest, digest, checksum in rows:
            if payload_digest is not None and line_digest(payload_digest, entries.encode()) != digest:
                yield seq, b"", "its entries were changed"
                return
            yield seq, entries.encode(), position.follow(seq, digest, checksum)


def _check_packs(connection: Connection, shard: int, position: _ChainPosition) -> Iterator[tuple[int, bytes, str]]:
    while packs := connection.execute(_PACKS, (shard, position.seq), binary=True).fetchall():
        for first, last, before, checksum, payload in packs:
            try:
                lines: list[JournalLine] = decode_pack(payload)
            except DamagedPayload:
                yield first, b"", f"the pack of commits {first} to {last} is damaged"
                return
            if position.seq == 0 and before is not None:
                position.seq, position.checksum = first - 1, before
            for line in lines[:-1]:
                yield line.seq, line.entries, position.follow(line.seq, line.digest, None)
            line = lines[-1]
            yield line.seq, line.entries, position.follow(line.seq, line.digest, checksum)
