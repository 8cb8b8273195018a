"""How a recording will be read: its format, the use of each column, and its first points."""

from collections.abc import Iterator
from datetime import UTC, datetime

import numpy as np

from ingest.recordings.cell_values import infer_exported_kind, infer_kind
from ingest.recordings.csv_source import CsvSource
from ingest.recordings.file_format import FileFormat
from ingest.recordings.load import LoadOptions, local_time_of, read_format_of
from ingest.recordings.row_reader import RecordingRows, RowReader, read_unit
from ingest.recordings.time_formats import TimeFormat
from rest.csv_text import read_marked_text

SHOWN_ROWS = 10
_DELIMITER_NAMES = {"\t": "tab", ",": "comma", ";": "semicolon", "|": "|"}


def describe_dialect(file_format: FileFormat, encoding: str) -> str:
    """Return what differs from plain CSV in UTF-8, such as "cp1252, delimiter ;, decimal comma"; empty if nothing."""
    numbers = file_format.numbers.values()
    parts = [
        encoding if encoding != "utf-8" else "",
        f"delimiter {_DELIMITER_NAMES.get(file_format.delimiter, file_format.delimiter)}"
        if file_format.delimiter != ","
        else "",
        "decimal comma" if any(number.decimal == "," for number in numbers) else "",
        "commas between thousands" if any(number.has_thousands for number in numbers) else "",
        "units in the cells" if any(number.has_units for number in numbers) else "",
        f"dates {file_format.time_format.value}" if file_format.time_format is not TimeFormat.ISO else "",
    ]
    return ", ".join(part for part in parts if part)


def preview(options: LoadOptions) -> Iterator[str]:
    """Yield lines that describe the file and its first points. Raises UnreadableRecording."""
    source = CsvSource(options.path, options.format)
    try:
        file_format, metric = read_format_of(source, options)
        local = local_time_of(file_format, options)
        reader = RowReader(file_format, options.device, metric, local)
        block = next(source.blocks(reader.width, file_format.first_line), None)
    finally:
        source.close()
    yield f"encoding {source.encoding}, delimiter {_DELIMITER_NAMES.get(file_format.delimiter, file_format.delimiter)}"
    yield f"first row in line {file_format.first_line}; times: {file_format.time_format.value}, in {local.zone}"
    rows = reader.read(block) if block is not None else None
    yield from _columns(file_format, rows)
    if rows is None or not len(rows):
        yield "no row has a time and a value"
    else:
        yield "first points:"
        yield from _points(rows)
    for line, field, error in (rows.rejected if rows is not None else [])[:SHOWN_ROWS]:
        yield f"  line {line} is rejected: {field}: {error}"


def _columns(file_format: FileFormat, rows: RecordingRows | None) -> Iterator[str]:
    roles = file_format.roles
    kinds = _kinds(rows, file_format.is_export) if rows is not None else {}
    uses: dict[int, str] = {roles.time: "time"}
    for index, use in (
        (roles.time_of_day, "time of day"),
        (roles.device, "device"),
        (roles.metric, "metric"),
        (roles.unit, "unit"),
        (roles.tags, "tags"),
        (roles.metadata, "metadata"),
    ):
        if index is not None:
            uses[index] = use
    for value in roles.values:
        if value.metric is None:
            uses[value.index] = f"value ({', '.join(sorted(set(kinds.values()))) or 'no values'})"
        else:
            unit = f" in {value.unit}" if value.unit else ""
            uses[value.index] = f"metric {value.metric}{unit} ({kinds.get(value.metric, 'no values')})"
    for index in range(roles.width):
        name = f"column {index + 1}" if roles.headless else repr(file_format.header[index])
        yield f"  {name}: {uses.get(index, 'not loaded')}"


def _kinds(rows: RecordingRows, is_export: bool) -> dict[str, str]:
    cells: dict[str, list[str]] = {}
    for metric, cell in zip(rows.metrics, rows.cells, strict=True):
        cells.setdefault(metric, []).append(cell)
    infer = infer_exported_kind if is_export else infer_kind
    return {metric: kind.name.lower() for metric, column in cells.items() if (kind := infer(column)) is not None}


def _points(rows: RecordingRows) -> Iterator[str]:
    units = rows.contexts[0] or [""] * len(rows)
    for position in range(min(SHOWN_ROWS, len(rows))):
        moment = datetime.fromtimestamp(float(np.int64(rows.times[position])) / 1e6, UTC)
        text = read_marked_text(rows.cells[position])
        value = f"{rows.cells[position] if text is None else repr(text)} {read_unit(units[position])}".strip()
        yield f"  {moment:%Y-%m-%d %H:%M:%S} UTC  {rows.devices[position]}  {rows.metrics[position]}  {value}"
