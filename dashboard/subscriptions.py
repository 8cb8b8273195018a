"""What a page may ask of the live stream."""

from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

MOST_NAMES = 500
LONGEST_NAME = 200
FASTEST_MS, SLOWEST_MS = 250, 10_000


class BadRequest(Exception):
    """The message cannot be followed; the text says why, to whoever wrote the client."""


@dataclass(frozen=True, slots=True)
class LiveRequest:
    """Which series, and how often at most. None means all of them."""

    devices: frozenset[str] | None
    metrics: frozenset[str] | None
    interval_s: float

    @classmethod
    def parse(cls, message: Any) -> "LiveRequest":
        if not isinstance(message, dict) or message.get("type") != "subscribe":
            raise BadRequest('{"type": "subscribe", "devices": […] or null, "metrics": […] or null} is understood')
        frequency = message.get("max_frequency", 1000)
        if (
            isinstance(frequency, bool)
            or not isinstance(frequency, (int, float))
            or not FASTEST_MS <= frequency <= SLOWEST_MS
        ):
            raise BadRequest(f"max_frequency is a number of milliseconds from {FASTEST_MS} to {SLOWEST_MS}")
        return cls(names(message, "devices"), names(message, "metrics"), frequency / 1000)


def names(message: dict[str, Any], field: str) -> frozenset[str] | None:
    given = message.get(field)
    if given is None:
        return None
    if not isinstance(given, list) or len(given) > MOST_NAMES:
        raise BadRequest(f"{field} is a list of at most {MOST_NAMES} names, or null for all")
    if not all(isinstance(name, str) and len(name) <= LONGEST_NAME for name in given):
        raise BadRequest(f"{field} holds texts of at most {LONGEST_NAME} characters")
    return frozenset(given)


def same_site(headers: dict[bytes, bytes], trusted: list[str]) -> bool:
    """Whether the socket was opened by a page of this site, or by no page at all.

    Browsers send cookies with a WebSocket from anywhere and let the server decide. ALLOWED_HOSTS cannot decide where it
    is `*`, so the Origin must name the very host that was asked. A program without a browser sends no Origin; nobody's
    cookies can be borrowed through it.
    """
    origin = headers.get(b"origin")
    if origin is None:
        return True
    text = origin.decode("latin-1").lower()
    if text in (entry.lower() for entry in trusted):
        return True
    try:
        asked = urlsplit(text)
        return asked.scheme in ("http", "https") and asked.netloc == headers.get(b"host", b"").decode("latin-1").lower()
    except ValueError:
        return False
