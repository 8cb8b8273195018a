"""CloudEvents 1.0 that the bus sends: binary mode for NATS, structured mode for everything else."""

import re
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

import msgspec

SPEC_VERSION = "1.0"
DATA_CONTENT_TYPE = "application/json"
_NOT_ENCODED = "".join(chr(code) for code in range(0x21, 0x7F) if chr(code) not in '"%')


@dataclass(frozen=True, slots=True)
class CloudEvent:
    """One event. `data` is encoded JSON, so that it is encoded once for all targets."""

    id: str
    source: str
    type: str
    subject: str
    time: str  # RFC 3339
    data_schema: str
    data: bytes

    def attributes(self) -> dict[str, str]:
        """Return the context attributes by name."""
        return {
            "specversion": SPEC_VERSION,
            "id": self.id,
            "source": self.source,
            "type": self.type,
            "subject": self.subject,
            "time": self.time,
            "datacontenttype": DATA_CONTENT_TYPE,
            "dataschema": self.data_schema,
        }

    def headers(self) -> dict[str, str]:
        """Return the attributes as headers of binary mode, percent-encoded."""
        return {f"ce-{name}": encode_header(value) for name, value in self.attributes().items()}

    def structured(self) -> dict[str, Any]:
        """Return the event as one JSON object."""
        return {**self.attributes(), "data": msgspec.Raw(self.data)}


def encode_header(value: str) -> str:
    """Percent-encode what a header cannot hold: spaces, quotes, percent signs and all but printable ASCII."""
    return quote(value, safe=_NOT_ENCODED)


def schema_of(event_type: str, version: int = 1) -> str:
    """Return the URI that identifies the JSON schema of the data of a type."""
    return f"urn:telemetry:event:{re.sub(r'[^a-z0-9._-]', '', event_type)}:{version}"
