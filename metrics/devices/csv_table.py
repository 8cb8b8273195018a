"""Reading a list of devices: lines to values, with every fault and its line. Pure: no database, no Django."""

import csv
import io
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from metrics.devices.csv_cells import COLUMNS

MOST_ROWS = 100_000
MOST_FAULTS = 1_000  # that are told of


class Unreadable(Exception):
    """It is no such list at all: the message says why."""


@dataclass(frozen=True, slots=True)
class Fault:
    """Why a line cannot be taken, as the API tells it."""

    line: int
    field: str
    detail: str


@dataclass(slots=True)
class Table:
    """What was read: the columns that are there, the values of each good line, and what is wrong with the others."""

    columns: list[str]
    rows: list[tuple[int, dict[str, Any]]] = field(default_factory=list)  # line, and its values by column
    faults: list[Fault] = field(default_factory=list)
    failed: int = 0  # lines

    def refuse(self, line: int, faults: list[tuple[str, str]]) -> None:
        """Tell what is wrong with a line."""
        self.failed += 1
        room = MOST_FAULTS - len(self.faults)
        self.faults += [Fault(line, name, detail) for name, detail in faults[: max(room, 0)]]


def read(body: bytes) -> Table:
    """A CSV file in UTF-8 with a head. Raises Unreadable."""
    try:
        text = body.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise Unreadable(f"it is not UTF-8: byte {error.start} cannot be read") from None
    lines = _lines(text)
    _, head = next(lines, (1, []))
    table = Table([name.strip() for name in head])
    _check_head(table.columns)
    seen: dict[str, int] = {}
    for number, cells in lines:
        if not cells or cells == [""]:
            continue
        if len(table.rows) + table.failed >= MOST_ROWS:
            raise Unreadable(f"over {MOST_ROWS:,} devices: send the list in parts")
        values, faults = _values(table.columns, cells)
        device_id = values.get("device_id")
        if device_id in seen:
            faults.append(("device_id", f"stands in line {seen[device_id]} already"))
        elif device_id is not None:
            seen[device_id] = number
        if faults:
            table.refuse(number, faults)
        else:
            table.rows.append((number, values))
    return table


def _lines(text: str) -> Iterator[tuple[int, list[str]]]:
    """(number of its first line, cells) of every row."""
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    begins = 1
    try:
        for cells in reader:
            yield begins, cells
            begins = reader.line_num + 1
    except csv.Error as error:
        raise Unreadable(f"line {begins} is no CSV: {error}") from None


def _check_head(columns: list[str]) -> None:
    unknown = [name for name in columns if name not in COLUMNS]
    if unknown or "device_id" not in columns:
        why = f"{unknown[0]!r:.80} is no column of it" if unknown else "device_id is missing"
        raise Unreadable(f"{why}: the first line names its columns, of {', '.join(COLUMNS)}")
    if len(set(columns)) < len(columns):
        raise Unreadable("a column stands twice in its head")
    if ("latitude" in columns) != ("longitude" in columns):
        raise Unreadable("latitude and longitude are given together")


def _values(columns: list[str], cells: list[str]) -> tuple[dict[str, Any], list[tuple[str, str]]]:
    if len(cells) != len(columns):
        return {}, [("", f"{len(cells)} cells where the head has {len(columns)}")]
    values: dict[str, Any] = {}
    faults = []
    for name, cell in zip(columns, cells, strict=True):
        try:
            values[name] = COLUMNS[name][0](cell)
        except ValueError as error:
            faults.append((name, str(error)))
    if (values.get("latitude") is None) != (values.get("longitude") is None) and not faults:
        faults.append(("longitude", "latitude and longitude are given together"))
    return values, faults
