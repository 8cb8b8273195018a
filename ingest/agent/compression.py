"""Compression of large requests: zstd where this Python has it, else gzip."""

from __future__ import annotations

import functools
import gzip
from typing import Any

ZSTD_LEVEL = 3
GZIP_LEVEL = 6


@functools.lru_cache(maxsize=1)
def find_zstd() -> Any:
    """Return a module with `compress`, None without one. Loaded at the first large request, since it takes memory."""
    try:
        from compression import zstd  # type: ignore[import-not-found,unused-ignore]  # Python 3.14

        return zstd
    except ImportError:
        pass
    try:
        import zstandard

        return zstandard
    except ImportError:
        return None


def compress(body: bytes) -> tuple[str, bytes]:
    """Return the Content-Encoding and the compressed body."""
    zstd = find_zstd()
    if zstd is not None:
        return "zstd", zstd.compress(body, ZSTD_LEVEL)
    return "gzip", gzip.compress(body, GZIP_LEVEL, mtime=0)
