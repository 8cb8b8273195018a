"""Object identifiers and values of SNMP. Pure."""

import re
from typing import Any

from ingest.collectors.reading import Value

MAX_OID_PARTS = 128
WALK = ".*"
TIME_TICKS_PER_SECOND = 100
_OID = re.compile(r"\.?[0-2](\.\d{1,10}){1,127}\Z")


def check_oid(text: str) -> str | None:
    """Return why a text is no object identifier, `.*` at its end for its whole subtree; None if it is."""
    if not _OID.match(text.removesuffix(WALK)) or any(int(part) >= 2**32 for part in oid_parts(text)):
        return "an OID such as 1.3.6.1.2.1.1.3.0 is accepted, or one with .* at its end for all values below it"
    return None


def oid_parts(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in text.removesuffix(WALK).strip(".").split("."))


def to_value(value: Any) -> Value | None:
    """Return a value of pysnmp as a number or a text; None for "no such object" and the like."""
    kind = type(value).__name__
    if kind in ("NoSuchObject", "NoSuchInstance", "EndOfMibView", "Null"):
        return None
    if kind == "TimeTicks":
        return int(value) / TIME_TICKS_PER_SECOND
    if kind in ("Integer", "Integer32", "Unsigned32", "Gauge32", "Counter32", "Counter64", "Bits"):
        return float(int(value))
    if kind == "OctetString":
        return _text(bytes(value))
    return str(value.prettyPrint())


def _text(octets: bytes) -> Value:
    """Return a text; a number for a text that is one, as many agents send measurements; else hexadecimal digits."""
    try:
        text = octets.decode().rstrip("\0").strip()
    except UnicodeDecodeError:
        return octets.hex(":")
    if not text.isprintable():
        return octets.hex(":")
    try:
        return float(text) if text.isascii() and re.fullmatch(r"-?\d+(\.\d+)?", text) else text
    except ValueError:
        return text
