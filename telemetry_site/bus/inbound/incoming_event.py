"""Events of other services: CloudEvents in binary or structured mode, or plain JSON on a subject with the type."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote

import msgspec

from telemetry_site.bus.parked_messages import MAX_STORED_BYTES

MAX_ATTRIBUTE_LENGTH = 500  # characters of id and source
STRUCTURED, BATCH = "application/cloudevents+json", "application/cloudevents-batch"


class InvalidEvent(Exception):
    """The event can never be processed; the message names the attribute or field and the accepted values."""


@dataclass(frozen=True, slots=True)
class IncomingEvent:
    """An event that was received. `id` and `source` together identify it."""

    id: str
    source: str
    type: str
    data: Any

    def text(self, field: str, max_length: int) -> str | None:
        """Return a text of the data; None if it is absent or null. Raises InvalidEvent."""
        value = self.data.get(field)
        if value is None:
            return None
        if not isinstance(value, str) or not 0 < len(value) <= max_length or "\0" in value:
            raise InvalidEvent(f"{field} must be a text of 1 to {max_length} characters")
        return value


def read_event(subject: str, headers: Mapping[str, str], payload: bytes, place: str) -> IncomingEvent:
    """Read a message. `place` identifies it if the sender gave it no id. Raises InvalidEvent."""
    if len(payload) > MAX_STORED_BYTES:
        raise InvalidEvent(f"{len(payload):,} bytes; at most {MAX_STORED_BYTES:,} are accepted")
    named = {name.lower(): value for name, value in headers.items()}
    content_type = named.get("content-type", "").lower()
    if content_type.startswith(BATCH):
        raise InvalidEvent("batches of events are not accepted: send each event as a message of its own")
    body = _decode(payload)
    is_structured = content_type.startswith(STRUCTURED) or ("specversion" in body and "type" in body)
    if is_structured and "ce-type" not in named:
        attributes, data = {name: value for name, value in body.items() if name != "data"}, body.get("data", {})
    else:
        attributes, data = {name[3:]: unquote(value) for name, value in named.items() if name.startswith("ce-")}, body
    if not isinstance(data, dict):
        raise InvalidEvent("data must be a JSON object")
    version = attributes.get("specversion", "1.0")
    if not isinstance(version, str) or not version.startswith("1."):
        raise InvalidEvent("specversion must be 1.0")
    return IncomingEvent(
        _attribute(attributes, "id", place),
        _attribute(attributes, "source", "subject " + subject),
        _attribute(attributes, "type", subject),
        data,
    )


def _decode(payload: bytes) -> dict[str, Any]:
    try:
        body = msgspec.json.decode(payload)
    except (ValueError, RecursionError) as error:
        raise InvalidEvent(f"the payload must be a JSON object ({str(error)[:200]})") from None
    if not isinstance(body, dict):
        raise InvalidEvent("the payload must be a JSON object")
    return body


def _attribute(attributes: Mapping[str, Any], name: str, default: str) -> str:
    value = attributes.get(name, default)
    if not isinstance(value, str) or not 0 < len(value) <= MAX_ATTRIBUTE_LENGTH or "\0" in value:
        raise InvalidEvent(f"{name} must be a text of 1 to {MAX_ATTRIBUTE_LENGTH} characters")
    return value
