"""Rows of an export as CSV and JSON lines. Pure: no database, no Django.

A row is composed of four texts: time, device and metric (the same for a whole series), value, unit and tags (of
which a series has few combinations). Numbers are encoded by the encoder of JSON responses, so both show the same
digits, and parsing them returns the same number.

In CSV, texts that a spreadsheet or a reader would change get a ' in front (rest.csv_text), so that `manage.py load`
stores the exported points again. A missing value, unit or device is an empty cell, no tags are `{}`. A JSON value is
written as JSON, a binary one as base64.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, repeat
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from metrics.export.rfc3339 import format_times
from metrics.storage.format.codec import NO_CONTEXT, Ints
from metrics.storage.format.contexts import read_context
from rest.csv_text import STANDARD, CsvDialect, json_cell, text_cell, value_text_cell

COLUMNS = ("timestamp", "device_id", "metric_name", "value", "unit", "tags")
ROW_BATCH = 16_384
_encode_json = msgspec.json.encode


@dataclass(slots=True)
class ExportSeries:
    """Points of one series, or values of one group of series, oldest first.

    values      float64[n] (booleans as 0 and 1), or a list of JSON values
    unit        of points without a unit of their own
    dictionary  encoded unit and tags (metrics.storage.format.contexts)
    contexts    int32[n]: position of each point's unit and tags in the dictionary; None: 0 for all
    """

    device_id: str | None
    metric_name: str | None
    times: Ints
    values: NDArray[np.float64] | list[Any]
    unit: str | None = None
    dictionary: Sequence[bytes] = (NO_CONTEXT,)
    contexts: NDArray[np.int32] | None = None
    is_boolean: bool = False

    def __len__(self) -> int:
        return len(self.times)

    def batches(self) -> Iterator["ExportSeries"]:
        """Yield the series in parts of at most ROW_BATCH points."""
        for low in range(0, len(self), ROW_BATCH):
            part = slice(low, low + ROW_BATCH)
            contexts = None if self.contexts is None else self.contexts[part]
            yield ExportSeries(
                self.device_id,
                self.metric_name,
                self.times[part],
                self.values[part],
                self.unit,
                self.dictionary,
                contexts,
                self.is_boolean,
            )

    def json_values(self) -> list[Any]:
        """Return the values as JSON shows them."""
        values = self.values if isinstance(self.values, list) else self.values.tolist()
        return [bool(value) for value in values] if self.is_boolean else values

    def texts(self) -> list[str | None]:
        """Return the values that are not numbers as CSV shows them, without quotes; None for numbers."""
        return [text_of_value(value) for value in self.json_values()]

    def units_and_tags(self) -> tuple[list[tuple[str | None, dict[str, Any]]], list[int] | None]:
        """Return the distinct (unit, tags), and the position of each point's among them; None: 0 for all."""
        if self.contexts is None:
            return [self._unit_and_tags(0)], None
        used, positions = np.unique(self.contexts, return_inverse=True)
        distinct = [self._unit_and_tags(position) for position in used.tolist()]
        return distinct, None if len(distinct) == 1 else positions.tolist()

    def _unit_and_tags(self, position: int) -> tuple[str | None, dict[str, Any]]:
        unit, tags, _ = read_context(self.dictionary[position])
        return unit or self.unit, tags


def encode_csv_rows(series: ExportSeries, dialect: CsvDialect = STANDARD) -> bytes:
    delimiter = dialect.delimiter.encode()
    device, metric = text_cell(series.device_id), text_cell(series.metric_name)
    names = delimiter.join((b"", device, metric, b""))

    def encode_end(unit: str | None, tags: dict[str, Any]) -> bytes:
        return delimiter.join((b"", text_cell(unit), json_cell(_encode_json(tags)))) + b"\r\n"

    def encode_value(value: Any) -> bytes:
        return encode_value_cell(value, dialect)

    return _join_rows(b"", names, series, encode_value, encode_end, dialect.decimal.encode())


def encode_json_rows(series: ExportSeries) -> bytes:
    device, metric = _encode_json(series.device_id), _encode_json(series.metric_name)
    names = b'","device_id":%b,"metric_name":%b,"value":' % (device, metric)

    def encode_end(unit: str | None, tags: dict[str, Any]) -> bytes:
        return b',"unit":%b,"tags":%b}\n' % (_encode_json(unit), _encode_json(tags))

    return _join_rows(b'{"timestamp":"', names, series, _encode_json, encode_end)


def encode_csv_note(incomplete: Sequence[str]) -> bytes:
    """Return the last row of a file that lacks points: a comment."""
    return b"# incomplete: %b\r\n" % "; ".join(incomplete).encode()


def encode_json_note(incomplete: Sequence[str]) -> bytes:
    """Return the last line of a file that lacks points."""
    return b'{"incomplete":%b}\n' % _encode_json(incomplete)


def _join_rows(
    begin: bytes,
    names: bytes,
    series: ExportSeries,
    encode_value: Callable[[Any], bytes],
    encode_end: Callable[[str | None, dict[str, Any]], bytes],
    decimal: bytes = b".",
) -> bytes:
    values: Iterable[bytes]
    if isinstance(series.values, list):
        values = map(encode_value, series.values)
    else:
        values = _encode_json(series.json_values())[1:-1].split(b",")
        if decimal != b".":
            values = [value.replace(b".", decimal) for value in values]
    distinct, positions = series.units_and_tags()
    encoded = [encode_end(unit, tags) for unit, tags in distinct]
    ends = repeat(encoded[0]) if positions is None else map(encoded.__getitem__, positions)
    rows = zip(repeat(begin), format_times(series.times), repeat(names), values, ends, strict=False)
    return b"".join(chain.from_iterable(rows))


def encode_value_cell(value: Any, dialect: CsvDialect) -> bytes:
    if isinstance(value, str):
        return value_text_cell(value)
    if value is None:
        return b""
    document = _encode_json(value)
    if isinstance(value, int | float):  # booleans too
        return dialect.number_cell(document)
    return json_cell(document)


def text_of_value(value: Any) -> str | None:
    """Return a value that is not a number as text; None for numbers and null."""
    if isinstance(value, str):
        return value
    if value is None or (isinstance(value, int | float) and not isinstance(value, bool)):
        return None
    return _encode_json(value).decode()
