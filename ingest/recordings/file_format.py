"""The format of a recording, detected from its beginning: delimiter, header, columns, times and numbers."""

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import timedelta

from ingest.recordings.cell_values import is_number
from ingest.recordings.errors import UnreadableRecording
from ingest.recordings.header import ColumnRoles, find_columns
from ingest.recordings.number_format import NumberFormat, detect_number_format
from ingest.recordings.time_formats import TimeFormat, detect_time_format, offset_in_header
from metrics.export.rows import COLUMNS as EXPORT_COLUMNS

DELIMITERS = (",", ";", "\t", "|")
MAX_PREAMBLE = 60  # rows before the header
MAX_HEADER_ROWS = 4  # rows from the header to the first row
SAMPLE_ROWS = 500
ANNOTATIONS = frozenset({"#group", "#datatype", "#default"})  # rows of annotated CSV files of InfluxDB


@dataclass(frozen=True, slots=True)
class FormatOptions:
    """Options of the command line about the format; None: detected."""

    device: str | None = None
    delimiter: str | None = None
    decimal: str | None = None
    dates: str | None = None  # dmy or mdy
    encoding: str | None = None
    missing: frozenset[str] = frozenset()
    columns: tuple[str, ...] = ()


DETECT_ALL = FormatOptions()


@dataclass(frozen=True, slots=True)
class FileFormat:
    """The format of a file. `first_line` is the line of the first row, from 1."""

    delimiter: str
    header: tuple[str, ...]
    roles: ColumnRoles
    first_line: int
    time_format: TimeFormat = TimeFormat.ISO
    numbers: dict[int, NumberFormat] = field(default_factory=dict)  # by column
    offset: timedelta | None = None  # of the times from UTC, from the header
    is_export: bool = False  # written by an export of this product, so each cell has one meaning


def detect_format(sample: bytes, options: FormatOptions) -> FileFormat:
    """Return the format of a file that begins with `sample` (UTF-8). Raises UnreadableRecording."""
    text = sample.decode("utf-8", "surrogateescape").removeprefix("\ufeff")
    first_line = text.split("\n", 1)[0].strip()
    has_statement = first_line.lower().startswith("sep=")
    stated = options.delimiter or (first_line[4:5] or "\t" if has_statement else "")
    found: list[tuple[int, int, FileFormat]] = []
    failure: UnreadableRecording | None = None
    for delimiter in [stated] if stated else DELIMITERS:
        rows = _read_sample(text, delimiter, skip=1 if has_statement else 0)
        try:
            number, file_format = _find_table(rows, delimiter, options)
        except UnreadableRecording as error:
            failure = failure if failure is not None and len(rows[0][1] if rows else ()) < 2 else error
            continue
        found.append((number, -file_format.roles.width, file_format))
    if not found:
        raise failure or UnreadableRecording("the file is empty")
    return min(found, key=lambda candidate: candidate[:2])[2]


def _read_sample(text: str, delimiter: str, skip: int) -> list[tuple[int, list[str]]]:
    """Return (line of the row, its cells) of the first rows that are not empty."""
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)
    rows: list[tuple[int, list[str]]] = []
    line = 1
    while len(rows) < SAMPLE_ROWS:
        try:
            row = next(reader)
        except StopIteration:
            break
        except csv.Error:
            row = []
        if line > skip and any(cell.strip() for cell in row):
            rows.append((line, row))
        line = reader.line_num + 1
    return rows


def _find_table(
    rows: Sequence[tuple[int, list[str]]], delimiter: str, options: FormatOptions
) -> tuple[int, FileFormat]:
    """Return (number of the header row, format) of the first row that can be a header. Raises UnreadableRecording."""
    failure: UnreadableRecording | None = None
    for number, (line, header) in enumerate(rows[:MAX_PREAMBLE]):
        if len(header) < 2 or header[0] in ANNOTATIONS:
            continue
        try:
            file_format, has_times = _format_below(header, line, rows[number + 1 :], delimiter, options)
        except UnreadableRecording as error:
            failure = failure or error
            continue
        if has_times or (number == 0 and len(rows) == 1):
            return number, file_format
        failure = failure or UnreadableRecording(
            f"no row below line {line} has a time in column {header[file_format.roles.time]!r}"
        )
    shown = ", ".join(repr(cell) for cell in rows[0][1][:8]) if rows else "nothing"
    raise failure or UnreadableRecording(f"the header names no column of times (such as timestamp): it holds {shown}")


def _format_below(
    header: list[str], line: int, below: Sequence[tuple[int, list[str]]], delimiter: str, options: FormatOptions
) -> tuple[FileFormat, bool]:
    """Return the format of the table below a header, and whether its rows have times."""
    width = len(header)
    data = [(at, row) for at, row in below if len(row) == width and row != header and row[0] not in ANNOTATIONS]
    roles = find_columns(header, [row for _, row in data], (), options.device, options.columns)
    if roles.is_wide and (count := _count_header_rows([row for _, row in data])):
        units, data = data[0][1], data[count:]
        roles = find_columns(header, [row for _, row in data], units, options.device, options.columns)
    sample = [row for _, row in data]
    first_line = data[0][0] if data else line + 1
    if roles.headless:
        sample, first_line = [header, *sample], line
    columns = [[row[index] for row in sample] for index in range(width)]
    time_format = detect_time_format(join_times(roles, columns), options.dates)
    missing = options.missing | frozenset(roles.missing)
    metric_count = len(set(columns[roles.metric])) if roles.metric is not None else 1
    is_export = tuple(header) == EXPORT_COLUMNS and all(row[-1].startswith("{") for row in sample)
    if is_export:
        exported = NumberFormat("." if delimiter == "," else ",", missing=missing)
        numbers = {column.index: exported for column in roles.values}
    else:
        numbers = {
            column.index: detect_number_format(columns[column.index], metric_count, options.decimal, missing)
            for column in roles.values
        }
    offset = None if roles.headless else offset_in_header(header[roles.time])
    times = time_format or TimeFormat.ISO
    found = FileFormat(delimiter, tuple(header), roles, first_line, times, numbers, offset, is_export)
    return found, time_format is not None


def _count_header_rows(rows: Sequence[Sequence[str]]) -> int:
    """Return how many rows below the header belong to it, such as a row of units: they have no number and no time."""
    for number, row in enumerate(rows[:MAX_HEADER_ROWS]):
        if any(is_number(cell.strip()) or detect_time_format([cell], "dmy") is not None for cell in row):
            return number
    return 0


def join_times(roles: ColumnRoles, columns: Sequence[Sequence[str]]) -> Sequence[str]:
    """Return the time of each row: a column, or a column of dates and one of times of day."""
    if roles.time_of_day is None:
        return columns[roles.time]
    return [
        f"{date.strip()} {clock.strip()}"
        for date, clock in zip(columns[roles.time], columns[roles.time_of_day], strict=True)
    ]
