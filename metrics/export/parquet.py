"""Parquet files. Exports append to a stream of Arrow batches, which is converted at the end.

The columns are the same as in CSV, but two hold the value, since a column has one type: `value` is a number (1 or 0 for
booleans, null for other values), `text` is the CSV text of a value that is not a number, null for numbers.
"""

import io
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from metrics.export.rows import ExportSeries

ROW_GROUP = 131_072  # rows
ROW_GROUP_BYTES = 64 * 2**20  # of texts, which may be long
READ_BUFFER = 2**20  # bytes
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


def arrow_header() -> bytes:
    return SCHEMA.serialize().to_pybytes()


def encode_arrow_batch(series: ExportSeries) -> bytes:
    count = len(series)
    distinct, positions = series.units_and_tags()
    indices = pa.array(np.zeros(count, np.int32) if positions is None else np.array(positions, np.int32))
    units = pa.array([unit for unit, _ in distinct], pa.string())
    tags = pa.array([msgspec.json.encode(tags).decode() for _, tags in distinct], pa.string())
    value, text = _value_columns(series)
    columns = [
        pa.array(series.times, pa.timestamp("us", "UTC")),
        pa.repeat(pa.scalar(series.device_id, pa.string()), count),
        pa.repeat(pa.scalar(series.metric_name, pa.string()), count),
        value,
        text,
        units.take(indices),
        tags.take(indices),
    ]
    return pa.record_batch(columns, schema=SCHEMA).serialize().to_pybytes()


def _value_columns(series: ExportSeries) -> tuple[Any, Any]:
    if not isinstance(series.values, list):
        texts = series.texts() if series.is_boolean else [None] * len(series)
        return pa.array(series.values, pa.float64()), pa.array(texts, pa.string())
    numbers = [float(value) if isinstance(value, bool | int | float) else None for value in series.values]
    return pa.array(numbers, pa.float64()), pa.array(series.texts(), pa.string())


def convert_to_parquet(content: Iterable[bytes], incomplete: Sequence[str] = ()) -> Iterator[bytes]:
    """Yield a Parquet file from a stream of Arrow batches, row group by row group.

    The messages about missing points go into the file's metadata as `incomplete`, a JSON array.
    """
    sink = _BufferSink()
    source = io.BufferedReader(_IterableSource(content), READ_BUFFER)  # Arrow requires as many bytes as it asks for
    with pa.ipc.open_stream(pa.PythonFile(source, "r")) as batches, pq.ParquetWriter(sink, SCHEMA) as writer:
        waiting: list[Any] = []
        rows = size = 0
        for batch in batches:
            waiting.append(batch)
            rows += len(batch)
            size += batch.nbytes
            if rows >= ROW_GROUP or size >= ROW_GROUP_BYTES:
                writer.write_table(pa.Table.from_batches(waiting))
                waiting, rows, size = [], 0, 0
                yield sink.take()
        if waiting:
            writer.write_table(pa.Table.from_batches(waiting))
        if incomplete:
            writer.add_key_value_metadata({"incomplete": msgspec.json.encode(incomplete).decode()})
    yield sink.take()


class _BufferSink(io.RawIOBase):
    """Buffers what is written until `take`."""

    def __init__(self) -> None:
        self._buffered: list[bytes] = []
        self._size = 0

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        self._buffered.append(bytes(data))
        self._size += len(data)
        return len(data)

    def tell(self) -> int:
        return self._size

    def take(self) -> bytes:
        buffered, self._buffered = self._buffered, []
        return b"".join(buffered)


class _IterableSource(io.RawIOBase):
    """Reads from an iterable of bytes."""

    def __init__(self, content: Iterable[bytes]) -> None:
        self._content = iter(content)
        self._buffered = b""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while not self._buffered:
            try:
                self._buffered = next(self._content)
            except StopIteration:
                return 0
        size = min(len(buffer), len(self._buffered))
        buffer[:size], self._buffered = self._buffered[:size], self._buffered[size:]
        return size
