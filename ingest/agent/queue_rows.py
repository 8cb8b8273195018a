"""The table of the queue, and the checksummed record of each snapshot, so that no damaged snapshot is ever sent."""

from __future__ import annotations

import struct
import zlib
from typing import NamedTuple

APPLICATION_ID = 0x54454C51  # "TELQ"
SCHEMA_VERSION = 1
PAGE_SIZE = 4096  # of every queue file; the salvage of damaged files relies on it
SCHEMA = {
    "snapshots": "CREATE TABLE snapshots (id INTEGER PRIMARY KEY, attempts INTEGER NOT NULL, record BLOB NOT NULL)",
    "state": "CREATE TABLE state (id INTEGER PRIMARY KEY, record BLOB NOT NULL)",
}
_HEADER = struct.Struct(">Idd16s")
_CHECKED_ID = struct.Struct(">q")
OVERHEAD = _HEADER.size


class Record(NamedTuple):
    """A queued snapshot.

    queued   age clock of the queue when it was added, in seconds
    uptime   seconds since the machine's start when it was measured
    boot     identifies the start of the machine that `uptime` counts from
    payload  JSON of the snapshot
    """

    queued: float
    uptime: float
    boot: bytes
    payload: bytes


def pack(row_id: int, record: Record) -> bytes:
    """Return the record with its checksum, which includes the id."""
    boot = record.boot[:16].ljust(16, b"\0")
    body = _HEADER.pack(0, record.queued, record.uptime, boot)[4:] + record.payload
    return struct.pack(">I", _checksum(row_id, body)) + body


def unpack(row_id: int, data: object) -> Record | None:
    """Return the record; None if it is damaged."""
    if not isinstance(data, bytes) or not is_intact(row_id, data):
        return None
    _, queued, uptime, boot = _HEADER.unpack_from(data)
    return Record(queued, uptime, boot, data[_HEADER.size :])


def is_intact(row_id: int, data: bytes) -> bool:
    """Return whether the checksum of a record is right."""
    if len(data) < _HEADER.size:
        return False
    return int.from_bytes(data[:4], "big") == _checksum(row_id, memoryview(data)[4:])


def _checksum(row_id: int, body: bytes | memoryview) -> int:
    return zlib.crc32(body, zlib.crc32(_CHECKED_ID.pack(row_id)))
