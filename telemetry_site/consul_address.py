"""The address and the token of a Consul agent, read from the variables of Consul's own tools.

This module does not import Django, because `manage.py up` reads the settings without it.
"""

import re
from dataclasses import dataclass
from urllib.parse import urlsplit

ACCEPTED = "an agent like 127.0.0.1:8500, http://…, https://… or unix:///path is accepted"


@dataclass(frozen=True)
class AgentAddress:
    """The address of a Consul agent: host and port, or the path of a Unix socket."""

    host: str
    port: int = 0
    is_tls: bool = False
    unix_path: str = ""

    @classmethod
    def parse(cls, text: str) -> "AgentAddress | None":
        """Parse CONSUL_HTTP_ADDR as Consul's own tools do; None for an empty text. Raises ValueError."""
        if not text:
            return None
        if text.startswith("unix://"):
            if not text.removeprefix("unix://").startswith("/"):
                raise ValueError(ACCEPTED)
            return cls("localhost", unix_path=text.removeprefix("unix://"))
        try:
            parts = urlsplit(text if "://" in text else f"http://{text}")
            default_port = {"http": 80, "https": 443}[parts.scheme]
            port = parts.port or default_port
        except (ValueError, KeyError):
            raise ValueError(ACCEPTED) from None
        # The name becomes a header line.
        if not re.fullmatch(r"[\w.:%-]+", parts.hostname or "", re.ASCII) or parts.path.strip("/") or parts.query:
            raise ValueError(ACCEPTED)
        return cls(str(parts.hostname), port, parts.scheme == "https")

    @property
    def header(self) -> str:
        """The Host header."""
        return f"{bracketed(self.host)}:{self.port}" if self.port else self.host


def parse_token(text: str) -> str:
    """Return the token unchanged if it can be sent in a header. Raises ValueError."""
    if not text.isascii() or not text.isprintable():
        raise ValueError("printable ASCII characters are accepted")
    return text


def bracketed(host: str) -> str:
    """Return a host as URLs contain it."""
    return f"[{host}]" if ":" in host else host
