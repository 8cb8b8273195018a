"""A CSV file (plain, gzip or standard input) as blocks of whole rows, in constant memory."""

import codecs
import csv
import gzip
import hashlib
import io
import os
import sys
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, cast

import pyarrow as pa
import pyarrow.csv

from ingest.recordings.encoding import Utf8Stream
from ingest.recordings.errors import UnreadableRecording
from ingest.recordings.file_format import DETECT_ALL, FileFormat, FormatOptions, detect_format

BLOCK_SIZE = 1 << 20  # bytes of one read: about 30,000 rows of time and value
MAX_ROW_SIZE = 8 << 20
MAX_QUOTED_SIZE = 256 << 10  # the csv module rejects cells of half that size
FINGERPRINT_SIZE = 64 << 10


@dataclass(slots=True)
class CsvBlock:
    """Consecutive rows of the file, as columns.

    columns    the cells of each column; every row has a cell in each
    lines      the line in which each row begins
    malformed  rows with too many or too few cells, or that are not CSV: (line, reason)
    end        offset of the next block in the (uncompressed) file
    end_line   line of the next block
    """

    columns: list[Sequence[str]]
    lines: Sequence[int]
    end: int
    end_line: int
    malformed: list[tuple[int, str]] = field(default_factory=list)


class CsvSource:
    """A file that is read once, from the beginning to the end."""

    def __init__(self, path: str, options: FormatOptions = DETECT_ALL) -> None:
        self.name = "standard input" if path == "-" else Path(path).name
        try:
            self._raw: BinaryIO = sys.stdin.buffer if path == "-" else Path(path).open("rb")  # noqa: SIM115 - see close
            self._size = 0 if path == "-" else os.fstat(self._raw.fileno()).st_size
        except OSError as error:
            raise UnreadableRecording(f"{path} cannot be read: {error.strerror}") from None
        self._buffered = io.BufferedReader(cast(io.RawIOBase, self._raw), BLOCK_SIZE)
        is_gzip = self._buffered.peek(2)[:2] == b"\x1f\x8b"
        self._file = cast(BinaryIO, gzip.GzipFile(fileobj=self._buffered) if is_gzip else self._buffered)
        self._consumed = 0
        self._delimiter = ","
        try:
            self._text = Utf8Stream(self._file, options.encoding)
        except (OSError, EOFError, zlib.error) as error:
            raise self._broken(error) from None

    @property
    def part_read(self) -> float | None:
        """Return the part of the file that has been read, 0 to 1; None where the size is not known."""
        return min(1.0, self._raw.tell() / self._size) if self._size else None

    @property
    def position(self) -> int:
        """Return the number of uncompressed bytes that have been read."""
        return self._consumed

    @property
    def encoding(self) -> str:
        return self._text.encoding

    def detect_format(self, options: FormatOptions) -> FileFormat:
        """Detect the format and skip to the first row. Raises UnreadableRecording."""
        try:
            found = detect_format(self._text.peek(), options)
        except UnreadableRecording as error:
            raise UnreadableRecording(f"{self.name}: {error}") from None
        self._delimiter = found.delimiter
        offset = 0
        for _ in range(found.first_line - 1):
            offset = self._text.peek().find(b"\n", offset) + 1 or len(self._text.peek())
        self.skip(offset)
        return found

    def skip(self, offset: int) -> None:
        """Continue at a later offset."""
        while self._consumed < offset and self._read(min(BLOCK_SIZE, offset - self._consumed)):
            pass

    def blocks(self, width: int, line: int) -> Iterator[CsvBlock]:
        """Yield the rest as blocks of rows of `width` cells; `line` is the line of the first row.

        Raises UnreadableRecording.
        """
        pending = b""
        while True:
            data = self._read(BLOCK_SIZE)
            pending += data
            end = len(pending) if not data else find_row_end(pending)
            if end:
                block = parse_block(pending[:end], width, line, self._delimiter)
                pending = pending[end:]
                block.end = self._consumed - len(pending)
                line = block.end_line
                yield block
            elif len(pending) > MAX_ROW_SIZE:
                raise UnreadableRecording(f"{self.name}: line {line} is longer than {MAX_ROW_SIZE >> 20} MiB")
            if not data:
                return

    def _read(self, size: int) -> bytes:
        try:
            data = self._text.read(size)
        except (OSError, EOFError, zlib.error) as error:
            raise self._broken(error) from None
        self._consumed += len(data)
        return data

    def _broken(self, error: BaseException) -> UnreadableRecording:
        return UnreadableRecording(f"{self.name} cannot be read any further: {error}")

    def close(self) -> None:
        self._file.close()
        self._buffered.close()


def find_row_end(data: bytes) -> int:
    """Return the end of the last whole row, 0 if there is none yet. A newline inside quotes does not end a row."""
    newline, stop = (b"\n", len(data)) if b"\n" in data else (b"\r", len(data) - 1)  # a last \r may belong to a \n
    end = last = data.rfind(newline, 0, max(stop, 0)) + 1
    quotes = data.count(b'"', 0, end)
    while end and quotes % 2 and last - end < MAX_QUOTED_SIZE:
        before = data.rfind(newline, 0, end - 1) + 1
        quotes -= data.count(b'"', before, end)
        end = before
    if not end or quotes % 2:
        return last if len(data) > MAX_QUOTED_SIZE else 0  # the quote is never closed
    return end


def parse_block(data: bytes, width: int, line: int, delimiter: str = ",") -> CsvBlock:
    """Parse whole rows; pyarrow reads regular blocks, and the csv module reads every other block row by row."""
    block = parse_regular_block(data, width, line, delimiter)
    return block or parse_row_by_row(data.decode("utf-8", "surrogateescape"), width, line, delimiter)


def parse_regular_block(data: bytes, width: int, line: int, delimiter: str = ",") -> CsvBlock | None:
    """Parse a block with one row of `width` cells in each line; return None for any other block."""
    names = [str(number) for number in range(width)]
    if data.startswith(codecs.BOM_UTF8) or data.count(b"\r") != data.count(b"\r\n"):
        return None  # pyarrow drops the mark in every block, and counts a lone \r differently
    try:
        table = pyarrow.csv.read_csv(
            pa.BufferReader(data),
            pyarrow.csv.ReadOptions(use_threads=False, block_size=len(data) + 1, column_names=names),
            pyarrow.csv.ParseOptions(delimiter=delimiter, newlines_in_values=True),
            pyarrow.csv.ConvertOptions(column_types=dict.fromkeys(names, pa.string()), strings_can_be_null=False),
        )
    except pa.ArrowInvalid:
        return None
    count = data.count(b"\n") + (not data.endswith(b"\n"))
    if table.num_rows != count:  # empty lines, or newlines in cells: the lines of the rows are not known
        return None
    columns: list[Sequence[str]] = [column.to_pylist() for column in table.columns]
    return CsvBlock(columns, range(line, line + count), 0, line + count)


def parse_row_by_row(text: str, width: int, line: int, delimiter: str = ",") -> CsvBlock:
    """Parse any block with the csv module and note the malformed rows."""
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)
    rows: list[list[str]] = []
    lines: list[int] = []
    malformed: list[tuple[int, str]] = []
    while True:
        row_line = line + reader.line_num
        try:
            row = next(reader)
        except StopIteration:
            break
        except csv.Error as error:
            malformed.append((row_line, f"not a row of CSV: {error}"))
            continue
        if len(row) == width:
            rows.append(row)
            lines.append(row_line)
        elif any(cell.strip() for cell in row):  # empty lines, and empty rows of spreadsheets, are skipped
            malformed.append((row_line, f"{len(row)} cells: the header has {width}"))
    columns: list[Sequence[str]] = list(zip(*rows, strict=True)) if rows else [[] for _ in range(width)]
    return CsvBlock(columns, lines, 0, line + reader.line_num, malformed)


def fingerprint(path: Path) -> str:
    """Return a hash of the size, the beginning and the end of a file, which identifies a recording."""
    with path.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        digest = hashlib.sha256(f"{size}\n".encode() + file.read(FINGERPRINT_SIZE))
        file.seek(max(0, size - FINGERPRINT_SIZE))
        digest.update(file.read(FINGERPRINT_SIZE))
    return digest.hexdigest()
