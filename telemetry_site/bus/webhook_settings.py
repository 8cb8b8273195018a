"""The webhooks of the setting TELEMETRY_EVENT_WEBHOOKS."""

import fnmatch
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import msgspec

MIN_SECRET_LENGTH = 16
_FIELDS = {"name", "url", "secret", "types"}
_ACCEPTED = (
    'a JSON list such as [{"url": "https://example.com/events", "secret": "…", "types": ["alert.*"]}] is accepted'
)


@dataclass(frozen=True, slots=True)
class EventWebhook:
    """A webhook that receives the events whose type matches one of the patterns of `types`."""

    name: str
    url: str
    secret: str
    types: Sequence[str]

    def wants(self, event_type: str) -> bool:
        """Return whether the webhook receives events of a type."""
        return any(fnmatch.fnmatchcase(event_type, pattern) for pattern in self.types)


def parse_webhooks(text: str) -> list[EventWebhook]:
    """Read the setting. Raises ValueError with the accepted form."""
    try:
        entries = msgspec.json.decode(text)
    except ValueError:
        raise ValueError(_ACCEPTED) from None
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise ValueError(_ACCEPTED)
    webhooks = [_parse_webhook(entry) for entry in entries]
    names = [webhook.name for webhook in webhooks]
    for name in names:
        if names.count(name) > 1:
            raise ValueError(f"two webhooks have the name {name!r}: give each its own name")
    return webhooks


def _parse_webhook(entry: dict[str, Any]) -> EventWebhook:
    if unknown := sorted(set(entry) - _FIELDS):
        raise ValueError(f"{unknown[0]!r} is unknown; url, secret, types and name are accepted")
    url, secret, types = entry.get("url"), entry.get("secret", ""), entry.get("types", ["*"])
    parts = urlsplit(url) if isinstance(url, str) else None
    if parts is None or parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError("url must be an address such as https://example.com/events")
    if not isinstance(secret, str) or (secret and len(secret) < MIN_SECRET_LENGTH):
        raise ValueError(f"secret must be a text of at least {MIN_SECRET_LENGTH} characters")
    if not isinstance(types, list) or not types or not all(isinstance(name, str) for name in types):
        raise ValueError('types must be a list of event types such as ["alert.*", "device.silent"]')
    name = entry.get("name", parts.hostname)
    if not isinstance(name, str) or not re.fullmatch(r"[A-Za-z0-9._:-]{1,60}", name):
        raise ValueError("name must be 1 to 60 letters, digits and . _ : -")
    return EventWebhook(name, str(url), secret, tuple(types))
