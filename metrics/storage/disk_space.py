"""Whether the disk of the database is full, as far as this process knows.

PostgreSQL reports it with the statement that needs space (SQLSTATE 53100). If its write-ahead log gets no space, the
server stops instead; that of the embedded server is recognised by the free space of its folder.
`metrics.storage.disk_probe` notices a full disk, and free space again, without a write.
"""

import errno
import logging
import os
import shutil
import time

import psycopg
from django.conf import settings

from metrics.storage.errors import DiskFull, StorageUnavailable

log = logging.getLogger(__name__)

DISK_FULL = "the disk of the database is full: nothing can be stored until space is freed"
WAL_SEGMENT_SIZE = 16 * 2**20  # bytes that PostgreSQL needs at once
MIN_REPORT_AGE = 5.0  # seconds; a small write may succeed while larger ones fail

_reported_at: float | None = None  # monotonic time of the last error; None: the disk is not full


def is_disk_full() -> bool:
    """Return whether the last write failed for lack of space, or the last probe."""
    return _reported_at is not None


def storage_error(error: BaseException, detail: str) -> StorageUnavailable:
    """Return DiskFull if a database error was caused by a full disk, else StorageUnavailable with this detail."""
    global _reported_at
    if not (_reports_full_disk(error) or _is_server_folder_full()):
        return StorageUnavailable(detail)
    if _reported_at is None:
        log.error(DISK_FULL)
    _reported_at = time.monotonic()
    return DiskFull(DISK_FULL)


def record_write() -> None:
    """Record that points were stored."""
    global _reported_at
    if _reported_at is not None:
        log.warning("the disk of the database has space again")
        _reported_at = None


def record_probe() -> None:
    """Record a successful probe; it counts when no write has failed for some seconds."""
    if _reported_at is not None and time.monotonic() - _reported_at > MIN_REPORT_AGE:
        record_write()


def reset() -> None:
    """Forget what this process knows."""
    global _reported_at
    _reported_at = None


def _reports_full_disk(error: BaseException | None) -> bool:
    """Return whether an error, or one that it was raised from, has SQLSTATE 53100 or, of a new connection, the text."""
    while error is not None:
        if isinstance(error, psycopg.errors.DiskFull) or os.strerror(errno.ENOSPC) in str(error):
            return True
        error = error.__cause__
    return False


def _is_server_folder_full() -> bool:
    """Return whether the embedded server has no space for its write-ahead log."""
    if settings.DATABASE_URL:
        return False
    try:
        return shutil.disk_usage(settings.EMBEDDED.postgres_dir).free < WAL_SEGMENT_SIZE
    except OSError:
        return False
