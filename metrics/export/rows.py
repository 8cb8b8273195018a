"""Lines of an answer as rows of a file: CSV and JSON lines. Pure: no database, no Django.

A row is put together from four texts: time, device and metric (alike in a whole line), value, unit and tags (of
which a line has few). Numbers become text through the encoder of JSON answers, so both show the same digits, and
reading them gives the same number back.

In CSV a text that begins with one of = + - @ tab or carriage return gets a ' in front, or a spreadsheet would take it
for a formula; numbers never do. What has no value, unit or device is an empty cell, no tags are `{}`. A value that is
JSON stands there as JSON, binary as base64.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, repeat
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from metrics.export.stamps import stamps
from metrics.storage.format.codec import NO_CONTEXT, Ints
from metrics.storage.format.contexts import read_context
from rest.csv_text import text_cell

COLUMNS = ("timestamp", "device_id", "metric_name", "value", "unit", "tags")
CSV_HEAD = ",".join(COLUMNS).encode() + b"\r\n"
STEP = 16_384  # rows that are made at once
_json = msgspec.json.encode


@dataclass(slots=True)
class Line:
    """Points of one series, or of what was pooled, oldest first.

    values      float64[n] (booleans as 0 and 1), or a list of what JSON shows
    unit        where a point has none of its own
    dictionary  entries (metrics.storage.format.contexts) with unit and tags
    contexts    which entry each point has; None: all of them the first
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

    def steps(self) -> Iterator["Line"]:
        """The line in stretches of at most STEP rows."""
        for low in range(0, len(self), STEP):
            part = slice(low, low + STEP)
            contexts = None if self.contexts is None else self.contexts[part]
            yield Line(
                self.device_id,
                self.metric_name,
                self.times[part],
                self.values[part],
                self.unit,
                self.dictionary,
                contexts,
                self.is_boolean,
            )

    def listed(self) -> list[Any]:
        """The values as JSON shows them."""
        values = self.values if isinstance(self.values, list) else self.values.tolist()
        return [bool(value) for value in values] if self.is_boolean else values

    def texts(self) -> list[str | None]:
        """What is not a number, as CSV shows it but for its quotes; None where it is one."""
        return [text_of(value) for value in self.listed()]

    def marks(self) -> tuple[list[tuple[str | None, dict[str, Any]]], list[int] | None]:
        """The (unit, tags) that occur, and which of them each point has; None: all of them the first."""
        if self.contexts is None:
            return [self._mark(0)], None
        used, which = np.unique(self.contexts, return_inverse=True)
        marks = [self._mark(at) for at in used.tolist()]
        return marks, None if len(marks) == 1 else which.tolist()

    def _mark(self, at: int) -> tuple[str | None, dict[str, Any]]:
        unit, tags, _ = read_context(self.dictionary[at])
        return unit or self.unit, tags


def csv_rows(line: Line) -> bytes:
    middle = b",%b,%b," % (text_cell(line.device_id), text_cell(line.metric_name))

    def end(unit: str | None, tags: dict[str, Any]) -> bytes:
        return b",%b,%b\r\n" % (text_cell(unit), text_cell(_json(tags).decode()))

    return _joined(b"", middle, _values(line, value_cell), _ends(line, end), stamps(line.times))


def json_rows(line: Line) -> bytes:
    middle = b'","device_id":%b,"metric_name":%b,"value":' % (_json(line.device_id), _json(line.metric_name))

    def end(unit: str | None, tags: dict[str, Any]) -> bytes:
        return b',"unit":%b,"tags":%b}\n' % (_json(unit), _json(tags))

    return _joined(b'{"timestamp":"', middle, _values(line, _json), _ends(line, end), stamps(line.times))


def _joined(
    begin: bytes, middle: bytes, values: Iterable[bytes], ends: Iterable[bytes], times: Iterable[bytes]
) -> bytes:
    rows = zip(repeat(begin), times, repeat(middle), values, ends, strict=False)  # endless ones among them
    return b"".join(chain.from_iterable(rows))


def _values(line: Line, write: Callable[[Any], bytes]) -> Iterable[bytes]:
    if isinstance(line.values, list):
        return map(write, line.values)
    return _json(line.listed())[1:-1].split(b",")


def _ends(line: Line, write: Callable[[str | None, dict[str, Any]], bytes]) -> Iterable[bytes]:
    marks, which = line.marks()
    written = [write(unit, tags) for unit, tags in marks]
    return repeat(written[0]) if which is None else map(written.__getitem__, which)


def value_cell(value: Any) -> bytes:
    """A value as a cell."""
    text = text_of(value)
    if text is not None:
        return _json(value) if isinstance(value, bool) else text_cell(text)
    return b"" if value is None else _json(value)


def text_of(value: Any) -> str | None:
    """What is not a number as a text; None for numbers and for nothing."""
    if isinstance(value, str):
        return value
    if value is None or (isinstance(value, int | float) and not isinstance(value, bool)):
        return None
    return _json(value).decode()
