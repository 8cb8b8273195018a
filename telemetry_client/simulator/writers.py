"""Writes arrivals to a file."""

import gzip
import io
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import IO, Protocol

from telemetry_client.simulator.encoders import CSV_HEADER, ENCODERS
from telemetry_client.simulator.events import Arrival
from telemetry_client.simulator.progress import SimulatorError

STANDARD_OUTPUT = "-"
_BUFFER = 1 << 20  # bytes


class Writer(Protocol):
    """A destination of arrivals. Entered once; leaving it without an error waits until everything is written."""

    def __enter__(self) -> "Writer": ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    def write(self, arrival: Arrival, limit: int | None) -> int:
        """Write at most `limit` points of an arrival; return how many."""
        ...

    def flush(self) -> None:
        """Pass on gathered points, since the next arrival is some time away."""
        ...


class FileWriter:
    """Writes a file as `json` (an array of the alerting document's events), `jsonl` or `csv`.

    A name that ends in .gz is compressed; - is standard output. Raises SimulatorError, and BrokenPipeError when the
    reader of a pipe has ended.
    """

    def __init__(self, path: str, file_format: str) -> None:
        self._path, self._format = path, file_format
        self._encode = ENCODERS[file_format]
        self._files = ExitStack()
        self._has_rows = False

    def __enter__(self) -> "FileWriter":
        try:
            self._out = self._open()
            self._write_text({"json": "[\n", "csv": CSV_HEADER}.get(self._format, ""))
        except OSError as error:
            self._files.close()
            raise self._failure(error) from None
        return self

    def _open(self) -> IO[bytes]:
        if self._path == STANDARD_OUTPUT:
            return sys.stdout.buffer
        file = self._files.enter_context(Path(self._path).open("wb", buffering=_BUFFER))  # noqa: SIM115
        if not self._path.endswith(".gz"):
            return file
        # Without name and time in the header, so that the same points are the same bytes.
        packed = gzip.GzipFile("", "wb", 6, file, 0)
        return self._files.enter_context(io.BufferedWriter(packed, _BUFFER))

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            with self._files:
                # A stopped run leaves a file that can be read.
                if self._format == "json" and not isinstance(error, SimulatorError):
                    self._write_text("\n]\n")
                self._out.flush()
        except OSError as failure:
            raise self._failure(failure) from None

    def write(self, arrival: Arrival, limit: int | None) -> int:
        rows: Sequence[str] = self._encode(arrival)[:limit]
        try:
            if self._format == "json" and rows:
                self._write_text((",\n" if self._has_rows else "") + ",\n".join(rows))
            else:
                self._write_text("".join(rows))
        except OSError as error:
            raise self._failure(error) from None
        self._has_rows = self._has_rows or bool(rows)
        return len(rows)

    def flush(self) -> None:
        try:
            self._out.flush()
        except OSError as error:
            raise self._failure(error) from None

    def _write_text(self, text: str) -> None:
        self._out.write(text.encode())

    def _failure(self, error: OSError) -> Exception:
        if isinstance(error, BrokenPipeError):  # its reader has seen enough
            return error
        name = "standard output" if self._path == STANDARD_OUTPUT else self._path
        return SimulatorError(f"{name} cannot be written: {error.strerror or error}")
