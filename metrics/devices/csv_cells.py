"""CSV cells of the device list: text to value and back. Pure: no database, no Django.

Texts are cells of rest.csv_text, so an import returns the exported text. In the list of groups, `\\;` is a ; that
belongs to a name and `\\\\` is a backslash.
"""

import math
import re
from collections.abc import Callable
from typing import Any

import msgspec

from rest.csv_text import STANDARD, CsvDialect, json_cell, read_text_cell, text_cell
from rest.json_names import check_unique_names

MAX_TEXT_LENGTH = 200
MAX_DESCRIPTION_LENGTH = 10_000
MAX_METADATA_BYTES = 16 * 1024
MAX_EXPECTED_INTERVAL = 366 * 86_400  # seconds
MAX_TAGS = 100
GROUP_SEPARATOR = ";"
_TO_ESCAPE = re.compile(r"[\\;]")
_ESCAPED = re.compile(r"\\([\\;])")
_GROUP_NAMES = re.compile(r"(?:\\[\\;]|[^;])+")
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", re.ASCII)


def read_text(cell: str, max_length: int = MAX_TEXT_LENGTH) -> str:
    text = read_text_cell(cell)
    if len(text) > max_length or "\0" in text:
        raise ValueError(f"must have at most {max_length:,} characters and no NUL character")
    return text


def read_description(cell: str) -> str:
    return read_text(cell, MAX_DESCRIPTION_LENGTH)


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
    parts = _GROUP_NAMES.findall(read_text_cell(cell))
    names = {_ESCAPED.sub(r"\1", part) for part in parts}
    return tuple(sorted(filter(str.strip, names)))


def read_tags(cell: str) -> dict[str, str]:
    if not cell:
        return {}
    try:
        tags = msgspec.json.decode(cell, type=dict[str, str])
    except msgspec.MsgspecError:
        raise ValueError('must be a JSON object of texts such as {"line":"2"}') from None
    check_unique_names(cell.encode(), tags)
    if len(tags) > MAX_TAGS:
        raise ValueError(f"must be at most {MAX_TAGS} tags")
    for name, value in tags.items():
        if not 0 < len(name) <= MAX_TEXT_LENGTH or ":" in name or not name.isprintable():
            raise ValueError(f"tag names must have 1 to {MAX_TEXT_LENGTH} printable characters and no colon")
        if len(value) > MAX_TEXT_LENGTH or "\0" in value:
            raise ValueError(f"tags must have at most {MAX_TEXT_LENGTH} characters and no NUL character")
    return tags


def read_metadata(cell: str) -> dict[str, Any]:
    if not cell:
        return {}
    try:
        metadata = msgspec.json.decode(cell, type=dict[str, Any])
    except (msgspec.MsgspecError, RecursionError):
        raise ValueError('must be a JSON object such as {"serial":7}') from None
    check_unique_names(cell.encode(), metadata)
    text = msgspec.json.encode(metadata)
    if len(text) > MAX_METADATA_BYTES or b"\\u0000" in text:
        raise ValueError(f"must have at most {MAX_METADATA_BYTES:,} bytes of JSON and no NUL character")
    return metadata


def write_number(value: float | None) -> bytes:
    return b"" if value is None else msgspec.json.encode(value)


def write_groups(names: tuple[str, ...]) -> bytes:
    return text_cell(GROUP_SEPARATOR.join(_TO_ESCAPE.sub(r"\\\g<0>", name) for name in names))


def write_object(document: dict[str, Any]) -> bytes:
    return json_cell(msgspec.json.encode(document)) if document else b""


# In the order of the export. An import accepts any order; a missing column leaves its field unchanged.
COLUMNS: dict[str, tuple[Callable[[str], Any], Callable[[Any], bytes]]] = {
    "device_id": (read_id, text_cell),
    "name": (read_text, text_cell),
    "device_type": (read_text, text_cell),
    "expected_interval": (read_interval, write_number),
    "latitude": (_degrees_reader(90), write_number),
    "longitude": (_degrees_reader(180), write_number),
    "location": (read_text, text_cell),
    "groups": (read_groups, write_groups),
    "tags": (read_tags, write_object),
    "description": (read_description, text_cell),
    "metadata": (read_metadata, write_object),
}
NUMBERS = frozenset({"latitude", "longitude"})  # columns with decimals


def encode_header(dialect: CsvDialect = STANDARD) -> bytes:
    return dialect.begin(tuple(COLUMNS))


def encode_row(values: dict[str, Any], dialect: CsvDialect = STANDARD) -> bytes:
    """Return a device as a line."""
    cells = {name: write(values[name]) for name, (_, write) in COLUMNS.items()}
    cells |= {name: dialect.number_cell(cells[name]) for name in NUMBERS}
    return dialect.delimiter.encode().join(cells.values()) + b"\r\n"
