"""Salvage of a damaged queue file: reads the pages of the file and of its write-ahead log without SQLite.

Every table page is parsed by itself, so that a damaged header, schema or tree hides no row. The checksum of each
record decides whether it is a row of the queue. See https://www.sqlite.org/fileformat2.html for the format.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from ingest.agent.queue_rows import PAGE_SIZE, is_intact

_LEAF = 0x0D
_FILE_HEADER = 100
_CHUNK_PAGES = 16  # read at a time
_WAL_HEADER = 32
_FRAME_HEADER = 24
_MAX_LOCAL = PAGE_SIZE - 35
_MIN_LOCAL = (PAGE_SIZE - 12) * 32 // 255 - 23
MAX_RECORD = 16 * 1024 * 1024


class _Pages:
    """The page images of a queue file and its write-ahead log."""

    def __init__(self, database: BinaryIO, wal: BinaryIO | None) -> None:
        self._database, self._wal = database, wal
        self._frames: dict[int, int] = {}  # offset of the last image in the log, by page number

    def images(self) -> Iterator[tuple[bytes, int]]:
        """Yield each image, and the offset of the page's header in it."""
        number, self._wal_size = 1, 0
        if self._wal is not None:
            self._wal.seek(_WAL_HEADER)
            while len(frame := self._wal.read(_FRAME_HEADER + PAGE_SIZE)) == _FRAME_HEADER + PAGE_SIZE:
                at = self._wal.tell() - PAGE_SIZE
                self._frames[struct.unpack_from(">I", frame)[0]] = at
            self._wal_size = self._wal.tell()
            for at in range(_WAL_HEADER, self._wal_size - PAGE_SIZE, _FRAME_HEADER + PAGE_SIZE):
                yield self._read(self._wal, at + _FRAME_HEADER), 0
        while chunk := self._read(self._database, (number - 1) * PAGE_SIZE, _CHUNK_PAGES * PAGE_SIZE):
            for at in range(0, len(chunk), PAGE_SIZE):
                yield chunk[at : at + PAGE_SIZE], _FILE_HEADER if number == 1 else 0
                number += 1

    @staticmethod
    def _read(file: BinaryIO, offset: int, size: int = PAGE_SIZE) -> bytes:
        file.seek(offset)
        return file.read(size)

    def overflow(self, number: int, size: int, use_log: bool) -> bytes:
        """Return the content of a chain of overflow pages, shorter if the chain is broken."""
        content = bytearray()
        while number and len(content) < size:
            if use_log and self._wal is not None and number in self._frames:
                image = self._read(self._wal, self._frames[number])
            else:
                image = self._read(self._database, (number - 1) * PAGE_SIZE)
            if len(image) < 4:
                break
            number = struct.unpack_from(">I", image)[0]
            content += image[4:]
        return bytes(content[:size])


def salvage(path: Path, wal_path: Path) -> Iterator[tuple[int, bytes]]:
    """Yield (id, record) of every undamaged row, in no order; a row may occur more than once."""
    with open(path, "rb") as database:
        if not wal_path.exists():
            yield from _rows(_Pages(database, None))
            return
        with open(wal_path, "rb") as wal:
            yield from _rows(_Pages(database, wal))


def _rows(pages: _Pages) -> Iterator[tuple[int, bytes]]:
    for image, header in pages.images():
        if len(image) < header + 8 or image[header] != _LEAF:
            continue
        count = struct.unpack_from(">H", image, header + 3)[0]
        for at in range(header + 8, min(header + 8 + 2 * count, len(image) - 1), 2):
            row = _row(pages, image, struct.unpack_from(">H", image, at)[0])
            if row is not None:
                yield row


def _row(pages: _Pages, image: bytes, at: int) -> tuple[int, bytes] | None:
    try:
        size, at = _varint(image, at)
        row_id, at = _varint(image, at)
        if size > MAX_RECORD:
            return None
        if size <= _MAX_LOCAL:
            return _record(row_id, image[at : at + size])
        local = _MIN_LOCAL + (size - _MIN_LOCAL) % (PAGE_SIZE - 4)
        local = local if local <= _MAX_LOCAL else _MIN_LOCAL
        first = struct.unpack_from(">I", image, at + local)[0]
        for use_log in (True, False):
            content = image[at : at + local] + pages.overflow(first, size - local, use_log)
            if row := _record(row_id, content):
                return row
    except (IndexError, struct.error):
        pass
    return None


def _record(row_id: int, content: bytes) -> tuple[int, bytes] | None:
    """Return the row of a record of the table `snapshots`: NULL (the id), an integer, a blob."""
    header_size, at = _varint(content, 0)
    types = []
    while at < header_size:
        serial, at = _varint(content, at)
        types.append(serial)
    if len(types) != 3 or types[0] != 0 or types[1] not in _INTEGER_SIZES or types[2] < 12 or types[2] % 2:
        return None
    start = header_size + _INTEGER_SIZES[types[1]]
    data = content[start : start + (types[2] - 12) // 2]
    return (row_id, data) if is_intact(row_id, data) else None


_INTEGER_SIZES = {1: 1, 2: 2, 3: 3, 4: 4, 5: 6, 6: 8, 8: 0, 9: 0}


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = 0
    for _ in range(8):
        byte = data[at]
        at += 1
        value = value << 7 | byte & 0x7F
        if byte < 0x80:
            return value, at
    return value << 8 | data[at], at + 1
