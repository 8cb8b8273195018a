"""Parquet, which is not written on and on: first a stream of Arrow batches, which is, and in the end the file.

The columns are those of CSV, with two for the value, since a column has one type: `value` is a number (of booleans 1
or 0, null for anything else), `text` is what CSV shows of everything that is not a number, null for numbers.
"""

import io
from collections.abc import Iterable, Iterator
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from metrics.export.rows import Line

GROUP = 131_072  # rows of a row group
SCHEMA = pa.schema(
    [
        ("timestamp", pa.timestamp("us", "UTC")),
        ("device_id", pa.string()),
        ("metric_name", pa.string()),
        ("value", pa.float64()),
        ("text", pa.string()),
        ("unit", pa.string()),
        ("tags", pa.string()),
    ]
)


def head() -> bytes:
    return SCHEMA.serialize().to_pybytes()


def rows(line: Line) -> bytes:
    """A line as one Arrow batch."""
    many = len(line)
    marks, which = line.marks()
    at = pa.array(np.zeros(many, np.int32) if which is None else np.array(which, np.int32))
    units = pa.array([unit for unit, _ in marks], pa.string())
    tags = pa.array([msgspec.json.encode(tags).decode() for _, tags in marks], pa.string())
    value, text = _values(line)
    columns = [
        pa.array(line.times, pa.timestamp("us", "UTC")),
        pa.repeat(pa.scalar(line.device_id, pa.string()), many),
        pa.repeat(pa.scalar(line.metric_name, pa.string()), many),
        value,
        text,
        units.take(at),
        tags.take(at),
    ]
    return pa.record_batch(columns, schema=SCHEMA).serialize().to_pybytes()


def _values(line: Line) -> tuple[Any, Any]:
    if not isinstance(line.values, list):
        texts = line.texts() if line.is_boolean else [None] * len(line)
        return pa.array(line.values, pa.float64()), pa.array(texts, pa.string())
    numbers = [float(value) if isinstance(value, bool | int | float) else None for value in line.values]
    return pa.array(numbers, pa.float64()), pa.array(line.texts(), pa.string())


def finish(written: Iterable[bytes]) -> Iterator[bytes]:
    """Arrow batches as a Parquet file, row group by row group."""
    sink = _Sink()
    with pa.ipc.open_stream(pa.PythonFile(_Source(written), "r")) as batches, pq.ParquetWriter(sink, SCHEMA) as writer:
        waiting: list[Any] = []
        for batch in batches:
            waiting.append(batch)
            if sum(map(len, waiting)) >= GROUP:
                writer.write_table(pa.Table.from_batches(waiting))
                waiting.clear()
                yield sink.taken()
        if waiting:
            writer.write_table(pa.Table.from_batches(waiting))
    yield sink.taken()


class _Sink(io.RawIOBase):
    """Keeps what is written until it is taken."""

    def __init__(self) -> None:
        self._held: list[bytes] = []
        self._size = 0

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        self._held.append(bytes(data))
        self._size += len(data)
        return len(data)

    def tell(self) -> int:
        return self._size

    def taken(self) -> bytes:
        held, self._held = self._held, []
        return b"".join(held)


class _Source(io.RawIOBase):
    """Reads what is yielded, one after the other."""

    def __init__(self, written: Iterable[bytes]) -> None:
        self._written = iter(written)
        self._held = b""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while not self._held:
            try:
                self._held = next(self._written)
            except StopIteration:
                return 0
        size = min(len(buffer), len(self._held))
        buffer[:size], self._held = self._held[:size], self._held[size:]
        return size
