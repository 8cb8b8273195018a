"""Rows of a recording to a Batch, with the line and the error of every row that cannot be a point."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ingest.recordings.cell_values import is_empty, parse_object, parse_value_column
from ingest.recordings.csv_source import CsvBlock
from ingest.recordings.file_format import ANNOTATIONS, FileFormat, join_times
from ingest.recordings.header import ValueColumn
from ingest.recordings.local_time import LocalTime
from ingest.recordings.time_formats import to_iso
from ingest.recordings.timestamps import Ints, TimeColumn, parse_time_column
from ingest.wire.batch import Batch, Contexts, Group
from ingest.wire.validate import InvalidPoint, check_name, check_unit
from metrics.storage.format.codec import Kind
from rest.csv_text import read_text_cell


@dataclass(slots=True)
class RecordingRows:
    """Rows with valid times and names; `rejected` holds the others as (line, field, error)."""

    devices: Sequence[str]
    metrics: Sequence[str]
    times: Ints
    cells: Sequence[str]
    contexts: Sequence[Sequence[str]]  # cells of unit, tags and metadata; empty for a column that the file lacks
    lines: Sequence[int]
    rejected: list[tuple[int, str, str]] = field(default_factory=list)
    missing: int = 0  # rows without a value, which are not stored and not rejected

    def __len__(self) -> int:
        return len(self.lines)

    def keep(self, valid: NDArray[np.bool_]) -> None:
        """Drop the rows that are not valid."""
        if valid.all():
            return
        positions = np.flatnonzero(valid).tolist()

        def select(column: Sequence[Any]) -> list[Any]:
            return [column[position] for position in positions]

        self.devices, self.metrics, self.cells = select(self.devices), select(self.metrics), select(self.cells)
        self.contexts = [select(column) if column else column for column in self.contexts]
        self.lines, self.times = select(self.lines), self.times[positions]


def split_block(block: CsvBlock, max_rows: int) -> list[CsvBlock]:
    """Split a block into at least one piece, each of at most `max_rows` rows."""
    count = len(block.lines)
    pieces = [
        CsvBlock(
            [column[start : start + max_rows] for column in block.columns], block.lines[start : start + max_rows], 0, 0
        )
        for start in range(0, max(count, 1), max_rows)
    ]
    pieces[0].malformed = block.malformed
    return pieces


def interleave(parts: Sequence[RecordingRows]) -> RecordingRows:
    """Return the rows of several columns of values, in the order of the file."""

    def merge(columns: Sequence[Sequence[Any]]) -> list[Any]:
        return [cell for cells in zip(*columns, strict=True) for cell in cells]

    blank: Sequence[str] = [""] * len(parts[0])
    contexts = [
        merge([column or blank for column in columns]) if any(columns) else []
        for columns in zip(*(part.contexts for part in parts), strict=True)
    ]
    return RecordingRows(
        merge([part.devices for part in parts]),
        merge([part.metrics for part in parts]),
        np.repeat(parts[0].times, len(parts)),
        merge([part.cells for part in parts]),
        contexts,
        merge([part.lines for part in parts]),
    )


class RowReader:
    """Reads the rows of one file. `device` and `metric` take precedence over its columns."""

    def __init__(
        self, file_format: FileFormat, device: str | None, metric: str | None, local: LocalTime, shift: int = 0
    ) -> None:
        self._format, self._roles = file_format, file_format.roles
        self._device, self._metric, self._local, self._shift = device, metric, local, shift
        self._name_errors: dict[tuple[str, str], str | None] = {}
        self.width = self._roles.width

    def read(self, block: CsvBlock) -> RecordingRows:
        """Return the rows of a block with their times in UTC, after the shift."""
        block = self._without_repeated_header(block)
        column = self._times(block)
        times = self._local.to_utc(column, lambda: self._series(block))
        parts = [self._read_column(block, value, times + self._shift) for value in self._roles.values]
        rows = interleave(parts) if len(parts) > 1 else parts[0]
        valid = np.ones(len(rows), bool)
        repeat = len(parts)
        for position, error in column.errors.items():
            rows.rejected.append((block.lines[position], "timestamp", error))
            valid[position * repeat : (position + 1) * repeat] = False
        rows.rejected += [(line, "row", error) for line, error in block.malformed]
        if self._device is None or self._metric is None:
            self._check_names(rows, valid)
        missing = self._missing(rows, parts)
        rows.missing = int((missing & valid).sum())
        rows.keep(valid & ~missing)
        return rows

    def span(self, block: CsvBlock) -> tuple[int, int] | None:
        """Return the oldest and the newest time of a block, without the shift; None if it has no valid time."""
        block = self._without_repeated_header(block)
        column = self._times(block)
        times = self._local.to_utc(column, lambda: self._series(block))
        if column.errors:
            times = np.delete(times, list(column.errors))
        return (int(times.min()), int(times.max())) if len(times) else None

    def _times(self, block: CsvBlock) -> TimeColumn:
        return parse_time_column(to_iso(join_times(self._roles, block.columns), self._format.time_format))

    def _read_column(self, block: CsvBlock, value: ValueColumn, times: Ints) -> RecordingRows:
        roles, count = self._roles, len(block.lines)
        cells, cell_units = self._format.numbers[value.index].convert(block.columns[value.index])
        contexts: list[Sequence[str]] = [
            block.columns[index] if index is not None else [] for index in (roles.unit, roles.tags, roles.metadata)
        ]
        if cell_units is not None and roles.unit is None:
            contexts[0] = [unit or value.unit for unit in cell_units]
        elif value.unit:
            contexts[0] = [value.unit] * count
        metric = self._metric if not roles.is_wide else value.metric
        return RecordingRows(
            self._column(block, self._device, roles.device),
            self._column(block, metric, roles.metric),
            times,
            cells,
            contexts,
            block.lines,
        )

    def _missing(self, rows: RecordingRows, parts: Sequence[RecordingRows]) -> NDArray[np.bool_]:
        """Return which rows have no value: a sentinel, or an empty or NaN cell where a row has several values."""
        formats = [self._format.numbers[value.index] for value in self._roles.values]
        missing = np.zeros(len(rows), bool)
        if len(parts) > 1:
            missing |= np.fromiter((is_empty(cell) for cell in rows.cells), bool, len(rows))
        if any(number_format.missing for number_format in formats):
            repeat = len(parts)
            missing |= np.fromiter(
                (formats[position % repeat].is_missing(cell) for position, cell in enumerate(rows.cells)),
                bool,
                len(rows),
            )
        return missing

    def _without_repeated_header(self, block: CsvBlock) -> CsvBlock:
        """Return the block without header rows, comments and empty rows, which some files repeat or end with."""
        times, first = block.columns[self._roles.time], block.columns[0]
        name = None if self._roles.headless else self._format.header[self._roles.time]
        if name not in times and "" not in times and (first is times or ANNOTATIONS.isdisjoint(first)):
            return block
        dropped = {
            position
            for position, (cell, start) in enumerate(zip(times, first, strict=True))
            if cell == name
            or start in ANNOTATIONS
            or (not cell.strip() and not any(column[position].strip() for column in block.columns))
        }
        if not dropped:
            return block
        kept = [position for position in range(len(block.lines)) if position not in dropped]
        return CsvBlock(
            [[column[position] for position in kept] for column in block.columns],
            [block.lines[position] for position in kept],
            block.end,
            block.end_line,
            block.malformed,
        )

    def _series(self, block: CsvBlock) -> list[tuple[str, str]] | None:
        """Return (device, metric) of each row; None if all rows are of one series."""
        roles = self._roles
        if self._device is not None and (self._metric is not None or roles.is_wide):
            return None
        devices = self._column(block, self._device, roles.device)
        if roles.is_wide:
            return [(device, "") for device in devices]
        return list(zip(devices, self._column(block, self._metric, roles.metric), strict=True))

    @staticmethod
    def _column(block: CsvBlock, name: str | None, index: int | None) -> Sequence[str]:
        if name is None:
            assert index is not None
            column = block.columns[index]
            marked = {name: read_text_cell(name) for name in set(column) if name.startswith("'")}
            return [marked.get(name, name) for name in column] if marked else column
        return [name] * len(block.lines)

    def _check_names(self, rows: RecordingRows, valid: NDArray[np.bool_]) -> None:
        for field_name, column in (("device_id", rows.devices), ("metric_name", rows.metrics)):
            invalid = {name for name in set(column) if self._name_error(name, field_name)}
            for position, name in enumerate(column if invalid else ()):
                if name in invalid and valid[position]:
                    rows.rejected.append((rows.lines[position], field_name, self._name_error(name, field_name) or ""))
                    valid[position] = False

    def _name_error(self, name: str, field_name: str) -> str | None:
        key = (field_name, name)
        if key not in self._name_errors:
            try:
                check_name(name, field_name)
                self._name_errors[key] = None
            except InvalidPoint as error:
                self._name_errors[key] = error.detail
        return self._name_errors[key]


def batch_from_rows(rows: RecordingRows, kinds: Mapping[str, Kind]) -> Batch:
    """Return the rows as a Batch whose `indices` are positions in `rows.lines`; reject rows with invalid values."""
    values, value_errors = parse_value_column(rows.cells, rows.metrics, kinds)
    errors = {position: ("value", error) for position, error in value_errors.items()}
    contexts, dictionary = _contexts(rows, errors)
    order = _order(rows.devices, errors)
    rows.rejected += [(rows.lines[position], *error) for position, error in errors.items()]
    if order is None:
        indices = np.arange(len(rows))
        return Batch(_groups(rows.devices), list(rows.metrics), rows.times, values, contexts, dictionary, indices)
    positions = order.tolist()
    selected: Any = values[order] if isinstance(values, np.ndarray) else [values[position] for position in positions]
    if not isinstance(selected, np.ndarray) and all(type(value) is float for value in selected):
        selected = np.array(selected, np.float64)
    return Batch(
        _groups([rows.devices[position] for position in positions]),
        [rows.metrics[position] for position in positions],
        rows.times[order],
        selected,
        None if contexts is None else contexts[order],
        dictionary,
        order.astype(np.int64),
    )


def _order(devices: Sequence[str], errors: Mapping[int, Any]) -> NDArray[np.intp] | None:
    """Return the positions of valid rows grouped by device; None if all rows are valid and of one device."""
    has_several = len(set(devices)) > 1
    if not has_several and not errors:
        return None
    positions = [position for position in range(len(devices)) if position not in errors]
    if has_several:
        positions.sort(key=devices.__getitem__)  # stable: of points with the same time the last one is stored
    return np.array(positions, np.intp)


def _groups(devices: Sequence[str]) -> list[Group]:
    if not devices:
        return []
    if devices[0] == devices[-1]:  # devices are sorted, so all are the same
        return [Group(devices[0], 0, len(devices))]
    starts = [0, *(index for index in range(1, len(devices)) if devices[index] != devices[index - 1])]
    return [Group(devices[start], start, stop) for start, stop in zip(starts, [*starts[1:], len(devices)], strict=True)]


def _contexts(rows: RecordingRows, errors: dict[int, tuple[str, str]]) -> tuple[NDArray[np.int32] | None, list[bytes]]:
    if not any(rows.contexts):
        return None, []
    contexts = Contexts()
    cache: dict[tuple[str, ...], int | tuple[str, str]] = {}
    blank: Sequence[str] = [""] * len(rows)
    indices: list[int] = []
    for position, cells in enumerate(zip(*(column or blank for column in rows.contexts), strict=True)):
        index = cache.get(cells)
        if index is None:
            index = cache[cells] = _context(contexts.add, *cells)
        if isinstance(index, tuple):
            errors.setdefault(position, index)
            index = 0
        indices.append(index)
    return contexts.column(indices), contexts.entries


def read_unit(cell: str) -> str:
    text = read_text_cell(cell)
    return text.strip() if text == cell else text  # an export marks units with blanks at their ends


def _context(add: Callable[..., int], unit: str, tags: str, metadata: str) -> int | tuple[str, str]:
    try:
        return add(check_unit(read_unit(unit)), parse_object(tags, "tags"), parse_object(metadata, "metadata"))
    except InvalidPoint as error:
        return error.field, error.detail
