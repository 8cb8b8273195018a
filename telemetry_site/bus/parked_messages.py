"""Parked messages: stored with the reason, and replayed by an administrator."""

from collections.abc import Mapping

import msgspec

from metrics.storage.connection import Connection
from telemetry_site.bus.models import MAX_REASON_LENGTH, MAX_SUBJECT_LENGTH, Direction

MAX_STORED_BYTES = 256 * 1024  # of a payload
SHORTENED_BYTES = 16 * 1024  # stored of a longer payload, for people

_PARK = """
INSERT INTO bus_parkedmessage
    (direction, peer, message_id, type, subject, headers, payload, size, reason, attempts)
VALUES (%(direction)s, %(peer)s, %(message_id)s, %(type)s, %(subject)s, %(headers)s::jsonb, %(payload)s, %(size)s,
    %(reason)s, %(attempts)s)
ON CONFLICT (direction, peer, message_id) DO UPDATE SET reason = EXCLUDED.reason, attempts = EXCLUDED.attempts
"""


def park(
    connection: Connection, direction: Direction, peer: str, message_id: str, reason: str, payload: bytes, *,
    event_type: str = "", subject: str = "", headers: Mapping[str, str] | None = None, attempts: int = 1,
) -> None:  # fmt: skip
    """Store a message that cannot be processed or delivered; one that is parked already gets the new reason."""
    stored = payload if len(payload) <= MAX_STORED_BYTES else payload[:SHORTENED_BYTES]
    connection.execute(
        _PARK,
        {
            "direction": direction.value,
            "peer": peer,
            "message_id": _clean(message_id, 500),
            "type": _clean(event_type, 200),
            "subject": _clean(subject, MAX_SUBJECT_LENGTH),
            "headers": msgspec.json.encode(
                {_clean(n, 200): _clean(v, 2000) for n, v in (headers or {}).items()}
            ).decode(),
            "payload": stored,
            "size": len(payload),
            "reason": _clean(reason, MAX_REASON_LENGTH),
            "attempts": attempts,
        },
    )


def _clean(text: str, length: int) -> str:
    """Shorten a text of another service, and replace what PostgreSQL does not store."""
    return text.encode("utf-8", "replace").decode().replace("\0", "�")[:length]
