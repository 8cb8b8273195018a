"""Parse a CSV list of devices: lines to values, with every error and its line. Pure: no database, no Django."""

import csv
import io
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from metrics.devices.csv_cells import COLUMNS, NUMBERS
from rest.csv_text import DELIMITERS

MAX_ROWS = 100_000
MAX_REPORTED_ERRORS = 1_000
_SEPARATOR_LINE = re.compile("sep=([,;\t])[,;]*", re.IGNORECASE)  # Excel reads it


class UnreadableTable(Exception):
    """The file is not a list of devices; the message says why."""


@dataclass(frozen=True, slots=True)
class RowError:
    """An error of one line, as the API reports it."""

    line: int
    field: str
    detail: str


@dataclass(slots=True)
class DeviceTable:
    """The columns of a file, the values of each valid line and the errors of the others."""

    columns: list[str]
    rows: list[tuple[int, dict[str, Any]]] = field(default_factory=list)  # line number, values by column
    errors: list[RowError] = field(default_factory=list)
    failed: int = 0  # lines

    def reject(self, line: int, errors: list[tuple[str, str]]) -> None:
        """Count a line as failed, with its errors (column, detail)."""
        self.failed += 1
        room = MAX_REPORTED_ERRORS - len(self.errors)
        self.errors += [RowError(line, name, detail) for name, detail in errors[: max(room, 0)]]


def read_table(body: bytes) -> DeviceTable:
    """Parse a CSV file in UTF-8 with a header. Raises UnreadableTable."""
    try:
        text = body.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UnreadableTable(f"the file must be UTF-8: byte {error.start} is invalid") from None
    delimiter, is_stated = _find_delimiter(text)
    lines = _lines(text, delimiter)
    if is_stated:
        next(lines)
    _, header = next(lines, (1, []))
    table = DeviceTable(_without_blank_end([name.strip() for name in header]))
    _check_header(table.columns)
    seen: dict[str, int] = {}
    for number, cells in lines:
        if not any(map(str.strip, cells)):
            continue  # an empty line, or cells of a spreadsheet that had a row there
        if len(table.rows) + table.failed >= MAX_ROWS:
            raise UnreadableTable(f"the file must have at most {MAX_ROWS:,} devices: split it")
        values, errors = _read_values(table.columns, cells, delimiter)
        device_id = values.get("device_id")
        if device_id in seen:
            errors.append(("device_id", f"is a duplicate of line {seen[device_id]}"))
        elif device_id is not None:
            seen[device_id] = number
        if errors:
            table.reject(number, errors)
        else:
            table.rows.append((number, values))
    return table


def _find_delimiter(text: str) -> tuple[str, bool]:
    """Return the delimiter, and whether a first line such as `sep=;` states it; else it makes device_id a column."""
    first = text.partition("\n")[0].rstrip("\r")
    if stated := _SEPARATOR_LINE.fullmatch(first):
        return stated[1], True
    for delimiter in DELIMITERS.values():
        if "device_id" in [name.strip(' "') for name in first.split(delimiter)]:
            return delimiter, False
    return ",", False


def _lines(text: str, delimiter: str) -> Iterator[tuple[int, list[str]]]:
    """Yield (number of its first line, cells) of every row."""
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    first_line = 1
    try:
        for cells in reader:
            yield first_line, cells
            first_line = reader.line_num + 1
    except csv.Error as error:
        raise UnreadableTable(f"line {first_line} is not CSV: {error}") from None


def _check_header(columns: list[str]) -> None:
    unknown = [name for name in columns if name not in COLUMNS]
    if unknown or "device_id" not in columns:
        reason = f"column {unknown[0]!r:.80} is unknown" if unknown else "column device_id is missing"
        raise UnreadableTable(f"{reason}; the first line must name columns of {', '.join(COLUMNS)}")
    if len(set(columns)) < len(columns):
        raise UnreadableTable("the header has a column twice")
    if ("latitude" in columns) != ("longitude" in columns):
        raise UnreadableTable("latitude and longitude must be given together")


def _without_blank_end(cells: list[str]) -> list[str]:
    """Return cells without the empty ones at the end, which spreadsheets write for columns that they once had."""
    return cells[: max((position for position, cell in enumerate(cells, 1) if cell.strip()), default=0)]


def _read_values(columns: list[str], cells: list[str], delimiter: str) -> tuple[dict[str, Any], list[tuple[str, str]]]:
    if len(cells) > len(columns):
        cells = cells[: max(len(columns), len(_without_blank_end(cells)))]
    if len(cells) != len(columns):
        return {}, [("", f"has {len(cells)} cells, must have {len(columns)}")]
    values: dict[str, Any] = {}
    errors = []
    for name, cell in zip(columns, cells, strict=True):
        try:
            decimal = cell.replace(",", ".") if name in NUMBERS and delimiter != "," else cell
            values[name] = COLUMNS[name][0](decimal)
        except ValueError as error:
            errors.append((name, str(error)))
    if (values.get("latitude") is None) != (values.get("longitude") is None) and not errors:
        errors.append(("longitude", "latitude and longitude must be given together"))
    return values, errors
