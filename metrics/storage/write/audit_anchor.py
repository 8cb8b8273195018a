"""Anchors of the audit chain in the journal: the head of the audit chain, whenever it has changed.

The audit records the heads of the journal in the same way (metrics.audit.verify_chain), so that
neither chain can be rewritten alone.
"""

import time

import msgspec

from metrics.storage.connection import Connection

READ_INTERVAL = 1.0  # seconds; most commits need no extra query
AUDIT_SENDER = "audit"
_SENDER_BYTES = b'"sender":"audit"'
_HEAD = "SELECT number, checksum FROM metrics_audithead WHERE id = 1"


class AuditAnchor(msgspec.Struct):
    """A line of the journal that records the head of the audit chain."""

    at: float
    number: int  # of the last audit entry
    checksum: str  # hexadecimal
    points: int = 0
    sender: str = AUDIT_SENDER


class AuditAnchorReader:
    """Reads the head of the audit chain for one writer connection."""

    def __init__(self) -> None:
        self._last_number = 0
        self._read_at = float("-inf")

    def read_new(self, connection: Connection) -> list[AuditAnchor]:
        """Return the anchors to store with the next commit: usually none."""
        if time.monotonic() - self._read_at < READ_INTERVAL:
            return []
        self._read_at = time.monotonic()
        number, checksum = connection.execute(_HEAD, binary=True).fetchone() or (0, b"")
        if number == self._last_number:
            return []
        self._last_number = number
        return [AuditAnchor(time.time(), number, checksum.hex())]


def decode_audit_anchors(entries: bytes) -> list[AuditAnchor]:
    """Return the audit anchors among a commit's entries."""
    if _SENDER_BYTES not in entries:
        return []
    return [
        msgspec.convert(entry, AuditAnchor)
        for entry in msgspec.json.decode(entries)
        if entry.get("sender") == AUDIT_SENDER
    ]
