"""Counters of the queue, stored with each transaction and copied to a small file beside the queue.

After damage to the queue file the copy has the number of snapshots in it. It is written without fsync: only a power
failure together with damage makes it inexact.
"""

from __future__ import annotations

import contextlib
import json
import zlib
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

DROP_REASONS = ("size", "age", "disk", "rejected", "damaged", "retries")
_SLOT_SIZE = 2048


@dataclass
class QueueState:
    """The counters of a queue.

    revision  number of transactions
    written   snapshots ever added, which is the id of the newest
    first     all snapshots with a smaller id were sent or dropped
    bytes     size of the pending snapshots
    age       age clock: seconds that the queue has existed, insensitive to changes of the machine's clock
    wall      time of the last transaction by the machine's clock
    uptime    seconds since the machine's start at the last transaction, and `boot`, which identifies the start
    clock     last learned offset of the machine's clock (see clock_offset)
    """

    revision: int = 0
    written: int = 0
    first: int = 1
    pending: int = 0
    bytes: int = 0
    sent: int = 0
    age: float = 0.0
    wall: float = 0.0
    uptime: float = 0.0
    boot: str = ""
    dropped: dict[str, int] = field(default_factory=dict)
    points_rejected: int = 0
    salvaged: int = 0
    lost: int = 0
    incidents: int = 0
    clock: dict[str, Any] = field(default_factory=dict)

    def copy(self) -> QueueState:
        return replace(self, dropped=dict(self.dropped), clock=dict(self.clock))

    def drop(self, reason: str, count: int) -> None:
        if count:
            self.dropped[reason] = self.dropped.get(reason, 0) + count


def encode_state(state: QueueState) -> bytes:
    body = json.dumps(asdict(state), separators=(",", ":")).encode()
    return b"%08x %s" % (zlib.crc32(body), body)


def decode_state(data: object) -> QueueState | None:
    """Return the state; None if it is damaged."""
    if not isinstance(data, bytes):
        return None
    checksum, _, body = data.rstrip(b"\0").partition(b" ")
    if checksum != b"%08x" % zlib.crc32(body):
        return None
    try:
        return QueueState(**json.loads(body))
    except (ValueError, TypeError):
        return None


class StateFile:
    """The copy of the state: two slots, written in turn, so that a torn write leaves the other one."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def read(self) -> QueueState | None:
        """Return the newest readable state."""
        try:
            data = self.path.read_bytes()
        except OSError:
            return None
        states = [decode_state(data[at : at + _SLOT_SIZE]) for at in (0, _SLOT_SIZE)]
        return max(filter(None, states), key=lambda state: state.revision, default=None)

    def write(self, state: QueueState) -> None:
        """Write the state; a full disk is tolerated, since the queue file has the state too."""
        data = encode_state(state)
        if len(data) > _SLOT_SIZE:
            return
        with contextlib.suppress(OSError):
            self.path.touch(mode=0o600, exist_ok=True)
            with open(self.path, "r+b", buffering=0) as file:
                file.seek(state.revision % 2 * _SLOT_SIZE)
                file.write(data.ljust(_SLOT_SIZE, b"\0"))
