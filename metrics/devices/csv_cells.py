"""CSV cells of the device list: text to value and back. Pure: no database, no Django.

A text that looks like a formula gets a ' in front, as in exports of points; so does one that begins with ' and then
looks like a formula. Reading removes one ' from such a text, so an import returns the exported text.
"""

import math
import re
from collections.abc import Callable
from typing import Any

import msgspec

from rest.csv_text import FORMULA, text_cell
from rest.json_names import check_unique_names

MAX_TEXT_LENGTH = 200
MAX_EXPECTED_INTERVAL = 366 * 86_400  # seconds
MAX_TAGS = 100
GROUP_SEPARATOR = ";"
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", re.ASCII)


def encode_text(text: str) -> bytes:
    """Return a text as a cell."""
    stripped = text.lstrip("'")
    is_escaped = stripped is not text and stripped.startswith(FORMULA)
    return text_cell(f"'{text}" if is_escaped else text)


def decode_text(cell: str) -> str:
    """Return the text that `encode_text` made a cell of."""
    return cell[1:] if cell.startswith("'") and cell.lstrip("'").startswith(FORMULA) else cell


def read_text(cell: str) -> str:
    text = decode_text(cell)
    if len(text) > MAX_TEXT_LENGTH or _CONTROL.search(text):
        raise ValueError(f"must be one line of at most {MAX_TEXT_LENGTH} characters")
    return text


def read_id(cell: str) -> str:
    if not cell or cell.isspace():
        raise ValueError("is required")
    return read_text(cell)


def read_interval(cell: str) -> int | None:
    if not cell:
        return None
    if not cell.isascii() or not cell.isdigit() or not 1 <= int(cell[:12]) <= MAX_EXPECTED_INTERVAL or len(cell) > 12:
        raise ValueError(f"must be 1 to {MAX_EXPECTED_INTERVAL:,} whole seconds or empty")
    return int(cell)


def _degrees_reader(limit: int) -> Callable[[str], float | None]:
    def read_degrees(cell: str) -> float | None:
        if not cell:
            return None
        value = float(cell) if _NUMBER.fullmatch(cell) else math.inf
        if not -limit <= value <= limit:
            raise ValueError(f"must be degrees from -{limit} to {limit} with a decimal point, or empty")
        return value

    return read_degrees


def read_groups(cell: str) -> tuple[str, ...]:
    return tuple(sorted({name for part in decode_text(cell).split(GROUP_SEPARATOR) if (name := part.strip())}))


def read_tags(cell: str) -> dict[str, str]:
    if not cell:
        return {}
    try:
        text = decode_text(cell)
        tags = msgspec.json.decode(text, type=dict[str, str])
    except msgspec.MsgspecError:
        raise ValueError('must be a JSON object of texts such as {"line":"2"}') from None
    check_unique_names(text.encode(), tags)
    if len(tags) > MAX_TAGS:
        raise ValueError(f"must be at most {MAX_TAGS} tags")
    for name, value in tags.items():
        if not 0 < len(name) <= MAX_TEXT_LENGTH or ":" in name or _CONTROL.search(name):
            raise ValueError(f"tag names must have 1 to {MAX_TEXT_LENGTH} characters and no colon")
        read_text(value)
    return tags


def write_number(value: float | None) -> bytes:
    return b"" if value is None else msgspec.json.encode(value)


def write_groups(names: tuple[str, ...]) -> bytes:
    return encode_text(GROUP_SEPARATOR.join(names))


def write_tags(tags: dict[str, str]) -> bytes:
    return encode_text(msgspec.json.encode(tags).decode() if tags else "")


# In the order of the export. An import accepts any order; a missing column leaves its field unchanged.
COLUMNS: dict[str, tuple[Callable[[str], Any], Callable[[Any], bytes]]] = {
    "device_id": (read_id, encode_text),
    "name": (read_text, encode_text),
    "device_type": (read_text, encode_text),
    "expected_interval": (read_interval, write_number),
    "latitude": (_degrees_reader(90), write_number),
    "longitude": (_degrees_reader(180), write_number),
    "location": (read_text, encode_text),
    "groups": (read_groups, write_groups),
    "tags": (read_tags, write_tags),
}
HEADER = ",".join(COLUMNS).encode() + b"\r\n"


def encode_row(values: dict[str, Any]) -> bytes:
    """Return a device as a line."""
    return b",".join(write(values[name]) for name, (_, write) in COLUMNS.items()) + b"\r\n"
