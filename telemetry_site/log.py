"""Log records as JSON or as lines for a terminal, with the request that they belong to and without secrets."""

import logging
import re
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import msgspec

from rest import request_context

MASK = "***"
SHORTEST_LITERAL = 6  # characters of a configured secret; shorter ones would mask half of every line
_NAMES = r"[\w-]*(?:password|passwd|secret|token|api[_-]?key)"
_PATTERNS: Sequence[tuple[re.Pattern[str], str]] = [
    (re.compile(pattern, re.IGNORECASE), replacement)
    for pattern, replacement in (
        (r"(://[^:/@\s'\"]*:)[^\s'\"]*@", rf"\1{MASK}@"),  # addresses of servers
        (r"\btk_[\w-]+", f"tk_{MASK}"),  # API keys
        (r"\beyJ[\w-]+\.[\w-]+\.[\w-]*", MASK),  # JSON web tokens
        # Headers, as they are written and as Python shows them.
        (r"\b((?:set-)?cookie)(:\s*)[^\r\n'\"]*", rf"\1\2{MASK}"),
        (r"\b((?:proxy-)?authorization|x-api-key)(:\s*)(?:(?:bearer|basic|token)\s+)?[^\s,'\"]+", rf"\1\2{MASK}"),
        (r"(['\"](?:set-cookie|cookie|authorization|x-api-key)['\"]\s*[,:]\s*b?)(['\"]).*?\2", rf"\1\2{MASK}\2"),
        (r"\b(bearer|basic)\s+(?=\S{8})[\w.~+/=-]+", rf"\1 {MASK}"),
        (r"\b(telemetry_(?:session|csrf)_\d+|sessionid|csrftoken)=[^;\s'\"]+", rf"\1={MASK}"),
        # Fields, parameters of addresses and of libpq.
        (rf"(\b{_NAMES}['\"]?\s*[=:]\s*)(['\"]).*?\2", rf"\1\2{MASK}\2"),
        (rf"(\b{_NAMES}=)[^\s&;,'\")\]}}]+", rf"\1{MASK}"),
        (r"([?&](?:key|code|signature)=)[^\s&;'\"]+", rf"\1{MASK}"),
    )
]
# No secret is without one of these: a look for them is all that most records cost.
_SUSPECT = re.compile(r"tk_|eyj|://|cookie|auth|bearer|basic|pass|secret|token|key|code|sign|sess|csrf", re.IGNORECASE)
_CONTROLS = {
    number: f"\\x{number:02x}" for number in (*range(32), 127)
}  # nobody writes lines of their own into the log


class Secrets(logging.Filter):
    """Masks secrets in whatever a record carries: its text, its fields, its traceback.

    `known` are secrets of this installation, masked wherever they occur.
    """

    def __init__(self, known: Sequence[str] = ()) -> None:
        super().__init__()
        self._known = sorted({secret for secret in known if len(secret) >= SHORTEST_LITERAL}, key=len, reverse=True)
        self._traceback = logging.Formatter().formatException

    def filter(self, record: logging.LogRecord) -> bool:
        try:
            text = record.getMessage()
        except Exception:  # its arguments do not fit, which is no reason to lose it
            text = f"{record.msg} {record.args}"
        record.msg, record.args = self.masked(text), ()
        if record.exc_info:
            record.exc_text = self.masked(self._traceback(record.exc_info))
        if record.stack_info:
            record.stack_info = self.masked(record.stack_info)
        fields = record.__dict__.get("fields")
        if fields:
            record.fields = {name: self.masked(one) if isinstance(one, str) else one for name, one in fields.items()}
        return True

    def masked(self, text: str) -> str:
        """This text without secrets."""
        for secret in self._known:
            text = text.replace(secret, MASK)
        if _SUSPECT.search(text):
            for pattern, replacement in _PATTERNS:
                text = pattern.sub(replacement, text)
        return text


def told(record: logging.LogRecord) -> dict[str, Any]:
    """What a record tells, by name. What is logged with `extra={"fields": {…}}` stands beside the message."""
    found: dict[str, Any] = {
        "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        "level": record.levelname,
        "logger": record.name,
        "message": record.getMessage(),
    }
    if (request_id := request_context.request_id()) is not None:
        found["request_id"] = request_id
    return found | record.__dict__.get("fields", {})


class JSONFormatter(logging.Formatter):
    """One JSON object a line."""

    def format(self, record: logging.LogRecord) -> str:
        found = told(record)
        for name, text in (("traceback", record.exc_text), ("stack", record.stack_info)):
            if text:
                found[name] = text
        return msgspec.json.encode(found, enc_hook=str).decode()


class LineFormatter(logging.Formatter):
    """A line that a person reads."""

    def format(self, record: logging.LogRecord) -> str:
        found = told(record)
        line = " ".join(str(found.pop(name)) for name in ("time", "level", "logger"))
        message, fields = found.pop("message"), " ".join(f"{name}={value}" for name, value in found.items())
        line = f"{line}: {message}" + (f" ({fields})" if fields else "")
        parts = [line.translate(_CONTROLS), record.exc_text, record.stack_info]
        return "\n".join(part for part in parts if part)
