"""What the journal tells of the audit: where its chain's head is, whenever it has moved.

The audit tells the same of the journal (metrics.audit.verify_chain), so neither can be written anew without the other.
"""

import time

import msgspec

from metrics.storage.connection import Connection

READ_INTERVAL = 1.0  # seconds between looks, so that a commit as a rule costs nothing more
AUDIT_SENDER = "audit"
_SENDER_BYTES = b'"sender":"audit"'
_HEAD = "SELECT number, checksum FROM metrics_audithead WHERE id = 1"


class AuditAnchor(msgspec.Struct):
    """A line of the journal among those of requests."""

    at: float
    number: int  # of the audit's last entry
    checksum: str  # hexadecimal
    points: int = 0
    sender: str = AUDIT_SENDER


class AuditAnchorReader:
    """Looks at the audit for one writer, whose connection it lasts as long as."""

    def __init__(self) -> None:
        self._last_number = 0
        self._read_at = float("-inf")

    def read_new(self, connection: Connection) -> list[AuditAnchor]:
        """What is to be told with this commit: nothing, as a rule."""
        if time.monotonic() - self._read_at < READ_INTERVAL:
            return []
        self._read_at = time.monotonic()
        number, checksum = connection.execute(_HEAD, binary=True).fetchone() or (0, b"")
        if number == self._last_number:
            return []
        self._last_number = number
        return [AuditAnchor(time.time(), number, checksum.hex())]


def decode_audit_anchors(entries: bytes) -> list[AuditAnchor]:
    """What a commit's entries tell of the audit."""
    if _SENDER_BYTES not in entries:
        return []
    return [
        msgspec.convert(one, AuditAnchor) for one in msgspec.json.decode(entries) if one.get("sender") == AUDIT_SENDER
    ]
