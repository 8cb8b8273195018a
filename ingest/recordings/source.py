"""A CSV file, compressed or not, or standard input, as blocks of whole rows. Constant memory, whatever its length."""

import codecs
import contextlib
import csv
import gc
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

import numpy as np

BLOCK = 1 << 20  # bytes read at once: some 30,000 rows of time and value
LONGEST_ROW = 8 << 20
LONGEST_QUOTED = 256 << 10  # the csv module refuses cells of half that
FINGERPRINT = 64 << 10
_NEWLINE, _COMMA = 10, 44


class Unreadable(Exception):
    """The file cannot be read, or not to its end; the message is one line."""


@dataclass(slots=True)
class Block:
    """Rows of one stretch of the file, by columns.

    columns   the cells of each column; every row has them all
    lines     the line in which each row begins
    ragged    rows that have too many or too few cells, or that are no CSV: (line, why)
    end       where in the (uncompressed) file the next block begins, and in which line
    """

    columns: list[Sequence[str]]
    lines: Sequence[int]
    end: int
    end_line: int
    ragged: list[tuple[int, str]] = field(default_factory=list)


class Source:
    """A file that is read forwards, once."""

    def __init__(self, path: str) -> None:
        self.name = "standard input" if path == "-" else Path(path).name
        try:
            self._raw: BinaryIO = sys.stdin.buffer if path == "-" else Path(path).open("rb")  # noqa: SIM115 - see close
            self._size = 0 if path == "-" else os.fstat(self._raw.fileno()).st_size
        except OSError as error:
            raise Unreadable(f"{path} cannot be read: {error.strerror}") from None
        self._buffered = io.BufferedReader(cast(io.RawIOBase, self._raw), BLOCK)
        packed = self._buffered.peek(2)[:2] == b"\x1f\x8b"
        self._file = cast(BinaryIO, gzip.GzipFile(fileobj=self._buffered)) if packed else cast(BinaryIO, self._buffered)
        self._consumed = 0
        self._first = self._put_back = b""
        self._is_plain = not packed

    @property
    def part_read(self) -> float | None:
        """How much of the file has been read, 0 to 1; None where nobody can know."""
        if not self._size:
            return None
        done = self._consumed if self._is_plain else self._raw.tell()
        return min(1.0, done / self._size)

    @property
    def position(self) -> int:
        """How much was read, uncompressed."""
        return self._consumed

    def header(self) -> list[str]:
        """The cells of the first line. Reading goes on behind it."""
        self._put_back = b""
        line = self._first = self._read(LONGEST_ROW, whole_line=True)
        text = line.decode("utf-8-sig", "surrogateescape")
        return next(csv.reader(io.StringIO(text, newline="")), [])

    def put_header_back(self) -> None:
        """It was none: the first block begins with it."""
        self._put_back = self._first.removeprefix(codecs.BOM_UTF8)

    def skip(self, to: int) -> None:
        """Go on at this place, which lies ahead."""
        self._put_back = b""
        while self._consumed < to and self._read(min(BLOCK, to - self._consumed)):
            pass

    def blocks(self, width: int, line: int) -> Iterator[Block]:
        """The rest, in blocks of rows of `width` cells, the first of them in `line`."""
        pending = self._put_back
        while True:
            read = self._read(BLOCK)
            pending += read
            end = len(pending) if not read else row_end(pending)
            if end:
                text = pending[:end].decode("utf-8", "surrogateescape")
                pending = pending[end:]
                block = plain_block(text, width, line) or quoted_block(text, width, line)
                block = block or careful_block(text, width, line)
                block.end = self._consumed - len(pending)
                line = block.end_line
                yield block
            elif len(pending) > LONGEST_ROW:
                raise Unreadable(f"{self.name}: line {line} is longer than {LONGEST_ROW >> 20} MiB")
            if not read:
                return

    def _read(self, size: int, whole_line: bool = False) -> bytes:
        try:
            found = self._file.readline(size) if whole_line else self._file.read(size)
        except (OSError, EOFError, zlib.error) as error:
            raise Unreadable(f"{self.name} cannot be read any further: {error}") from None
        self._consumed += len(found)
        return found

    def close(self) -> None:
        self._file.close()
        self._buffered.close()


def row_end(data: bytes) -> int:
    """The end of the last whole row; 0 where there is none yet. A newline inside quotes ends no row."""
    newline, stop = (b"\n", len(data)) if b"\n" in data else (b"\r", len(data) - 1)  # a last \r may belong to a \n
    end = last = data.rfind(newline, 0, max(stop, 0)) + 1
    quotes = data.count(b'"', 0, end)
    while end and quotes % 2 and last - end < LONGEST_QUOTED:
        before = data.rfind(newline, 0, end - 1) + 1
        quotes -= data.count(b'"', before, end)
        end = before
    if not end or quotes % 2:
        return last if len(data) > LONGEST_QUOTED else 0  # a quote that nothing closes
    return end


def plain_block(text: str, width: int, line: int) -> Block | None:
    """Rows without quotes, all of one width, taken apart at once; None where it is not so simple."""
    if '"' in text:
        return None
    text = text.replace("\r\n", "\n")
    text = text if text.endswith("\n") else text + "\n"
    if "\r" in text or not text.isascii() or text[0] == "\n" or "\n\n" in text:
        return None
    data = np.frombuffer(text.encode(), np.uint8)
    marks = data[np.flatnonzero((data == _COMMA) | (data == _NEWLINE))]
    if len(marks) % width:
        return None
    marks = marks.reshape(-1, width)
    if (marks[:, -1] != _NEWLINE).any() or (marks[:, :-1] != _COMMA).any():
        return None
    cells = text.replace("\n", ",").split(",")
    count = len(marks)
    return Block(
        [cells[place : count * width : width] for place in range(width)], range(line, line + count), 0, line + count
    )


@contextlib.contextmanager
def uncollected() -> Iterator[None]:
    """Keeps the garbage collector from looking at thousands of new rows again and again; they hold no cycles."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


def quoted_block(text: str, width: int, line: int) -> Block | None:
    """Rows as the csv module reads them, each in one line and of one width; None where it is not so simple."""
    reader = csv.reader(io.StringIO(text, newline=""))
    with uncollected():
        try:
            rows = list(reader)
        except csv.Error:
            return None
        count = len(rows)
        if reader.line_num != count or set(map(len, rows)) != {width}:
            return None
        columns: list[Sequence[str]] = list(zip(*rows, strict=True))
        del rows
    return Block(columns, range(line, line + count), 0, line + count)


def careful_block(text: str, width: int, line: int) -> Block:
    """Rows as the csv module reads them, one by one, whatever they are like."""
    reader = csv.reader(io.StringIO(text, newline=""))
    rows: list[list[str]] = []
    lines: list[int] = []
    ragged: list[tuple[int, str]] = []
    while True:
        begins = line + reader.line_num
        try:
            row = next(reader)
        except StopIteration:
            break
        except csv.Error as error:
            ragged.append((begins, f"not a row of CSV: {error}"))
            continue
        if len(row) == width:
            rows.append(row)
            lines.append(begins)
        elif row and (len(row) > 1 or row[0].strip()):  # an empty line is nobody's fault
            ragged.append((begins, f"{len(row)} cells: the header has {width}"))
    columns: list[Sequence[str]] = list(zip(*rows, strict=True)) if rows else [[] for _ in range(width)]
    return Block(columns, lines, 0, line + reader.line_num, ragged)


def fingerprint(path: Path) -> str:
    """What tells one recording from another: its size, its beginning and its end."""
    with path.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        found = hashlib.sha256(f"{size}\n".encode() + file.read(FINGERPRINT))
        file.seek(max(0, size - FINGERPRINT))
        found.update(file.read(FINGERPRINT))
    return found.hexdigest()
