"""Subscriptions to the live stream, and the check of the page that opens one."""

from dataclasses import dataclass
from typing import Any

VALUES_PATH = "ws/values"  # until every page uses ws/live
MAX_NAMES = 500
MAX_NAME_LENGTH = 200
MIN_INTERVAL_MS, MAX_INTERVAL_MS = 250, 10_000


class InvalidSubscription(Exception):
    """A message that is no valid subscription; its text is sent to the client."""


@dataclass(frozen=True, slots=True)
class LiveSubscription:
    """The series to send, and how often at most. None means all devices or metrics; an empty list is read as None."""

    devices: frozenset[str] | None
    metrics: frozenset[str] | None
    interval_s: float

    @classmethod
    def parse(cls, message: Any) -> "LiveSubscription":
        """Read a message of a client. Raises InvalidSubscription."""
        if not isinstance(message, dict) or message.get("type") != "subscribe":
            raise InvalidSubscription(
                'message must be {"type": "subscribe", "devices": […] or null, "metrics": […] or null}'
            )
        frequency = message.get("max_frequency", 1000)
        if (
            isinstance(frequency, bool)
            or not isinstance(frequency, int | float)
            or not MIN_INTERVAL_MS <= frequency <= MAX_INTERVAL_MS
        ):
            raise InvalidSubscription(f"max_frequency must be {MIN_INTERVAL_MS} to {MAX_INTERVAL_MS} milliseconds")
        return cls(_names(message, "devices"), _names(message, "metrics"), frequency / 1000)


def _names(message: dict[str, Any], field: str) -> frozenset[str] | None:
    names = message.get(field)
    if names is None or names == []:
        return None
    if not isinstance(names, list) or len(names) > MAX_NAMES:
        raise InvalidSubscription(f"{field} must be a list of at most {MAX_NAMES} names, or null or empty for all")
    if not all(isinstance(name, str) and len(name) <= MAX_NAME_LENGTH for name in names):
        raise InvalidSubscription(f"names in {field} must be texts of at most {MAX_NAME_LENGTH} characters")
    return frozenset(names)


def is_same_site(scope: dict[str, Any], trusted: list[str], behind_proxy: bool) -> bool:
    """Return whether a page of this site, or a program without an Origin header, opened the socket.

    Browsers send the cookies with WebSockets of any page and leave the check to the server. ALLOWED_HOSTS may be `*`,
    so the Origin has to name the scheme and the host of the request, as in Django's check of forms: a page of the same
    host without TLS may have been replaced on its way.
    """
    headers = {name: value.decode("latin-1").lower() for name, value in scope["headers"]}
    origin = headers.get(b"origin")
    if origin is None or origin in (entry.lower() for entry in trusted):
        return True
    scheme = scope.get("scheme", "ws")
    if behind_proxy:
        scheme = headers.get(b"x-forwarded-proto", scheme)
    page_scheme = "https" if scheme in ("https", "wss") else "http"
    return origin == f"{page_scheme}://{headers.get(b'host', '')}"
