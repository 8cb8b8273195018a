"""A file of 1 MB that is deleted when the disk is full, so that the queue can still delete what was sent."""

from __future__ import annotations

import contextlib
import os
import shutil
import time
from pathlib import Path

SIZE = 1024 * 1024
RETRY_TIME = 60.0  # seconds between attempts to create the file again


class Reserve:
    """The reserve file of one queue."""

    def __init__(self, path: Path, size: int = SIZE) -> None:
        self._path, self._size = path, size
        self._retry_at = 0.0

    def release(self) -> bool:
        """Delete the file; return whether that freed space."""
        self._retry_at = time.monotonic() + RETRY_TIME
        try:
            freed = self._path.stat().st_size > 0
            self._path.unlink()
        except OSError:
            return False
        return freed

    def restore(self) -> bool:
        """Create the file where there is space for twice its size, at most once a minute; return whether it was."""
        if time.monotonic() < self._retry_at:
            return False
        self._retry_at = time.monotonic() + RETRY_TIME
        with contextlib.suppress(OSError):
            if self._path.exists() and self._path.stat().st_size == self._size:
                return False
            if shutil.disk_usage(self._path.parent).free < 2 * self._size:
                return False
            try:
                with open(self._path, "wb") as file:
                    file.write(os.urandom(4096) * (self._size // 4096))  # not compressible, not sparse
            except OSError:
                self._path.unlink()
                raise
            return True
        return False
