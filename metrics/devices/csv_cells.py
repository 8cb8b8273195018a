"""Cells of the list of devices as CSV: text to value and back. Pure: no database, no Django.

A text that a spreadsheet would take for a formula gets a ' in front, as in exports of points; so does one that looks
as if it had got one already. Reading takes one ' away from such a text, so what comes back is what was there.
"""

import math
import re
from collections.abc import Callable
from typing import Any

import msgspec

from rest.csv_text import FORMULA, text_cell

LONGEST = 200  # characters of a text
LONGEST_INTERVAL = 366 * 86_400  # seconds
MOST_TAGS = 100
SEPARATOR = ";"  # of groups
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", re.ASCII)


def protected(text: str) -> bytes:
    """A text as a cell."""
    begins = text.lstrip("'")
    return text_cell(f"'{text}" if begins is not text and begins.startswith(FORMULA) else text)


def bare(cell: str) -> str:
    """A cell's text, as it was before it was protected."""
    return cell[1:] if cell.startswith("'") and cell.lstrip("'").startswith(FORMULA) else cell


def read_text(cell: str) -> str:
    text = bare(cell)
    if len(text) > LONGEST or _CONTROL.search(text):
        raise ValueError(f"a text of at most {LONGEST} characters on one line is accepted")
    return text


def read_id(cell: str) -> str:
    if not cell or cell.isspace():
        raise ValueError("is needed")
    return read_text(cell)


def read_interval(cell: str) -> int | None:
    if not cell:
        return None
    if not cell.isascii() or not cell.isdigit() or not 1 <= int(cell[:12]) <= LONGEST_INTERVAL or len(cell) > 12:
        raise ValueError(f"whole seconds from 1 to {LONGEST_INTERVAL:,} or nothing is accepted")
    return int(cell)


def _read_degrees(most: int) -> Callable[[str], float | None]:
    def read(cell: str) -> float | None:
        if not cell:
            return None
        value = float(cell) if _NUMBER.fullmatch(cell) else math.inf
        if not -most <= value <= most:
            raise ValueError(f"degrees from -{most} to {most} with a point for decimals, or nothing, are accepted")
        return value

    return read


def read_groups(cell: str) -> tuple[str, ...]:
    return tuple(sorted({name for part in bare(cell).split(SEPARATOR) if (name := part.strip())}))


def read_tags(cell: str) -> dict[str, str]:
    if not cell:
        return {}
    try:
        found = msgspec.json.decode(bare(cell), type=dict[str, str])
    except msgspec.MsgspecError:
        raise ValueError('a JSON object of texts such as {"line":"2"} is accepted') from None
    if len(found) > MOST_TAGS:
        raise ValueError(f"at most {MOST_TAGS} tags are accepted")
    for name, value in found.items():
        if not 0 < len(name) <= LONGEST or ":" in name or _CONTROL.search(name):
            raise ValueError(f"names of 1 to {LONGEST} characters without a colon are accepted")
        read_text(value)
    return found


def write_number(value: float | None) -> bytes:
    return b"" if value is None else msgspec.json.encode(value)


def write_groups(names: tuple[str, ...]) -> bytes:
    return protected(SEPARATOR.join(names))


def write_tags(tags: dict[str, str]) -> bytes:
    return protected(msgspec.json.encode(tags).decode() if tags else "")


# In the order in which they are written; they are read in any order, and what is not there stays as it is.
COLUMNS: dict[str, tuple[Callable[[str], Any], Callable[[Any], bytes]]] = {
    "device_id": (read_id, protected),
    "name": (read_text, protected),
    "device_type": (read_text, protected),
    "expected_interval": (read_interval, write_number),
    "latitude": (_read_degrees(90), write_number),
    "longitude": (_read_degrees(180), write_number),
    "location": (read_text, protected),
    "groups": (read_groups, write_groups),
    "tags": (read_tags, write_tags),
}
HEAD = ",".join(COLUMNS).encode() + b"\r\n"


def row(values: dict[str, Any]) -> bytes:
    """A device as a line."""
    return b",".join(write(values[name]) for name, (_, write) in COLUMNS.items()) + b"\r\n"
