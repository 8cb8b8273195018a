"""Compression of large requests: zstd where this Python has it, else gzip."""

from __future__ import annotations

import gzip
from typing import Any

try:
    from compression import zstd as _zstd  # type: ignore[import-not-found,unused-ignore]  # Python 3.14
except ImportError:
    try:
        import zstandard as _zstd  # type: ignore[no-redef,unused-ignore]
    except ImportError:
        _zstd = None  # type: ignore[assignment,unused-ignore]

ZSTD_LEVEL = 3
GZIP_LEVEL = 6


def compress(body: bytes, zstd: Any = _zstd) -> tuple[str, bytes]:
    """Return the Content-Encoding and the compressed body."""
    if zstd is not None:
        return "zstd", zstd.compress(body, ZSTD_LEVEL)
    return "gzip", gzip.compress(body, GZIP_LEVEL, mtime=0)
