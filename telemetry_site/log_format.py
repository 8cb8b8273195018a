"""Log formatters for JSON and for a terminal, with the request ID and with secrets masked."""

import logging
import re
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import msgspec

from rest import request_context

MASK = "***"
MIN_SECRET_LENGTH = 6  # characters; masking shorter configured secrets would hide ordinary words
_NAMES = r"[\w-]*(?:password|passwd|secret|token|api[_-]?key)"
_PATTERNS: Sequence[tuple[re.Pattern[str], str]] = [
    (re.compile(pattern, re.IGNORECASE), replacement)
    for pattern, replacement in (
        (r"(://[^:/@\s'\"]*:)[^\s'\"]*@", rf"\1{MASK}@"),  # passwords in URLs
        (r"\btk_[\w-]+", f"tk_{MASK}"),  # API keys
        (r"\beyJ[\w-]+\.[\w-]+\.[\w-]*", MASK),  # JSON web tokens
        # Headers in HTTP and in Python notation.
        (r"\b((?:set-)?cookie)(:\s*)[^\r\n'\"]*", rf"\1\2{MASK}"),
        (r"\b((?:proxy-)?authorization|x-api-key)(:\s*)(?:(?:bearer|basic|token)\s+)?[^\s,'\"]+", rf"\1\2{MASK}"),
        (r"(['\"](?:set-cookie|cookie|authorization|x-api-key)['\"]\s*[,:]\s*b?)(['\"]).*?\2", rf"\1\2{MASK}\2"),
        (r"\b(bearer|basic)\s+(?=\S{8})[\w.~+/=-]+", rf"\1 {MASK}"),
        (r"\b([\w-]+_(?:session|csrf)|sessionid|csrftoken)=[^;\s'\"]+", rf"\1={MASK}"),
        # JSON fields, query parameters and libpq parameters.
        (rf"(\b{_NAMES}['\"]?\s*[=:]\s*)(['\"]).*?\2", rf"\1\2{MASK}\2"),
        (rf"(\b{_NAMES}=)[^\s&;,'\")\]}}]+", rf"\1{MASK}"),
        (r"([?&](?:key|code|signature)=)[^\s&;'\"]+", rf"\1{MASK}"),
    )
]
# Every pattern needs one of these words; most records need only this one search.
_POSSIBLE_SECRET = re.compile(
    r"tk_|eyj|://|cookie|auth|bearer|basic|pass|secret|token|key|code|sign|sess|csrf", re.IGNORECASE
)
# Escapes control characters, so that a logged text cannot forge log lines.
_CONTROL_CHARACTERS = {number: f"\\x{number:02x}" for number in (*range(32), 127)}


class SecretFilter(logging.Filter):
    """Masks secrets in the message, the fields and the traceback of a record.

    `secrets` are the configured secrets of this installation.
    """

    def __init__(self, secrets: Sequence[str] = ()) -> None:
        super().__init__()
        self._secrets = sorted(
            {secret for secret in secrets if len(secret) >= MIN_SECRET_LENGTH}, key=len, reverse=True
        )
        self._traceback = logging.Formatter().formatException

    def filter(self, record: logging.LogRecord) -> bool:
        try:
            text = record.getMessage()
        except Exception:  # the arguments do not fit the message
            text = f"{record.msg} {record.args}"
        record.msg, record.args = self.mask(text), ()
        if record.exc_info:
            record.exc_text = self.mask(self._traceback(record.exc_info))
        if record.stack_info:
            record.stack_info = self.mask(record.stack_info)
        fields = record.__dict__.get("fields")
        if fields:
            record.fields = {
                name: self.mask(value) if isinstance(value, str) else value for name, value in fields.items()
            }
        return True

    def mask(self, text: str) -> str:
        """Return the text with secrets replaced by ***."""
        for secret in self._secrets:
            text = text.replace(secret, MASK)
        if _POSSIBLE_SECRET.search(text):
            for pattern, replacement in _PATTERNS:
                text = pattern.sub(replacement, text)
        return text


def record_fields(record: logging.LogRecord) -> dict[str, Any]:
    """Return the fields of a record, including those logged with `extra={"fields": {…}}`."""
    fields: dict[str, Any] = {
        "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        "level": record.levelname,
        "logger": record.name,
        "message": record.getMessage(),
    }
    if (request_id := request_context.request_id()) is not None:
        fields["request_id"] = request_id
    return fields | record.__dict__.get("fields", {})


class JSONFormatter(logging.Formatter):
    """Formats a record as one line of JSON."""

    def format(self, record: logging.LogRecord) -> str:
        fields = record_fields(record)
        for name, text in (("traceback", record.exc_text), ("stack", record.stack_info)):
            if text:
                fields[name] = text
        return msgspec.json.encode(fields, enc_hook=str).decode()


class LineFormatter(logging.Formatter):
    """Formats a record as a line for a terminal."""

    def format(self, record: logging.LogRecord) -> str:
        fields = record_fields(record)
        line = " ".join(str(fields.pop(name)) for name in ("time", "level", "logger"))
        message = fields.pop("message")
        further = " ".join(f"{name}={value}" for name, value in fields.items())
        line = f"{line}: {message}" + (f" ({further})" if further else "")
        parts = [line.translate(_CONTROL_CHARACTERS), record.exc_text, record.stack_info]
        return "\n".join(part for part in parts if part)
