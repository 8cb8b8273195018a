"""Following the journal's chain of checksums from its oldest line to the head."""

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
    """The first link of a shard's chain that is not what it was."""

    shard: int
    seq: int  # of the commit
    reason: str


class CommitAnchor(NamedTuple):
    """What somebody outside of the journal says of it: once this was the last commit of the shard."""

    by: str
    seq: int
    checksum: str  # hexadecimal


class _AnchorCheck:
    """What is said of a shard's commits, in ascending order of these, beside what they are found to be."""

    def __init__(self, seen: Iterable[CommitAnchor]) -> None:
        self._seen = iter(seen)
        self._next = next(self._seen, None)

    def contradict(self, seq: int, checksum: bytes | None) -> str:
        """What they say against this line; empty where nothing."""
        while (told := self._next) is not None and told.seq <= seq:
            self._next = next(self._seen, None)
            if told.seq == seq and checksum is not None and told.checksum != checksum.hex():
                return f"it is not what it was when {told.by} was written"
        return ""

    def miss(self) -> str:
        """Who has seen a commit after those that there are; empty where nobody has."""
        return f"{self._next.by} has seen commit {self._next.seq}, which is not there" if self._next else ""


@dataclass(slots=True)
class _ChainPosition:
    """How far the chain holds: the last line's number and checksum; None: unknown, since what was before is gone."""

    seq: int = 0
    checksum: bytes | None = b""

    def follow(self, seq: int, digest: bytes, checksum: bytes | None) -> str:
        """Go on by a line whose checksum is stored, or by one within a pack; returns what is wrong with it."""
        if self.seq and seq != self.seq + 1:
            return f"commits {self.seq + 1} to {seq - 1} are missing"
        known = self.checksum if seq == self.seq + 1 else None
        self.seq, self.checksum = seq, checksum if known is None else chain_checksum(known, digest)
        return (
            "" if checksum is None or self.checksum == checksum else "its checksum does not follow from the one before"
        )


def verify_journal(
    connection: Connection,
    shard: int,
    seen: Iterable[CommitAnchor] = (),
    hear: Callable[[int, bytes], None] | None = None,
) -> tuple[int, BrokenChain | None]:
    """(how many lines hold, the first that does not), within a snapshot: nothing may be committed meanwhile.

    `seen` is what others say of the lines, in order; `hear` is given the number and the entries of each that holds.
    """
    follower, witnesses, held = _ChainPosition(), _AnchorCheck(seen), 0
    for seq, entries, found in _check_lines(connection, shard, follower):
        if why := found or witnesses.contradict(seq, follower.checksum):
            return held, BrokenChain(shard, seq, why)
        held += 1
        if hear is not None:
            hear(seq, entries)
    row = connection.execute(
        "SELECT seq, checksum FROM metrics_head WHERE shard = %s", (shard,), binary=True
    ).fetchone()
    if row and row[0] > follower.seq:
        return held, BrokenChain(shard, follower.seq + 1, f"commits {follower.seq + 1} to {row[0]} are missing")
    if row and held and row[1] != follower.checksum:
        return held, BrokenChain(shard, follower.seq, "the head of the stream has another checksum")
    if missed := witnesses.miss():
        return held, BrokenChain(shard, follower.seq + 1, missed)
    return held, None


def _check_lines(connection: Connection, shard: int, follower: _ChainPosition) -> Iterator[tuple[int, bytes, str]]:
    yield from _check_packs(connection, shard, follower)
    while rows := connection.execute(_LINES, (shard, follower.seq, PACK_LINES), binary=True).fetchall():
        for seq, entries, payload_digest, digest, checksum in rows:
            if payload_digest is not None and line_digest(payload_digest, entries.encode()) != digest:
                yield seq, b"", "its entries are not those that were written"
                return
            yield seq, entries.encode(), follower.follow(seq, digest, checksum)


def _check_packs(connection: Connection, shard: int, follower: _ChainPosition) -> Iterator[tuple[int, bytes, str]]:
    while packs := connection.execute(_PACKS, (shard, follower.seq), binary=True).fetchall():
        for first, last, before, checksum, payload in packs:
            try:
                lines: list[JournalLine] = decode_pack(payload)
            except DamagedPayload:
                yield first, b"", f"the pack of commits {first} to {last} is damaged"
                return
            if follower.seq == 0 and before is not None:
                follower.seq, follower.checksum = first - 1, before
            for line in lines[:-1]:
                yield line.seq, line.entries, follower.follow(line.seq, line.digest, None)
            line = lines[-1]
            yield line.seq, line.entries, follower.follow(line.seq, line.digest, checksum)
