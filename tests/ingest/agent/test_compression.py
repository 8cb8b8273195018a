"""Compression of requests: zstd where there is a module for it, else gzip."""

import gzip

import pytest
import zstandard

from ingest.agent import compression
from ingest.agent.compression import compress

BODY = b'{"cpu_percent": 12.5}' * 500


def test_zstd_is_used_where_python_has_it() -> None:
    coding, body = compress(BODY)
    assert coding == "zstd"
    assert zstandard.ZstdDecompressor().decompress(body) == BODY


def test_gzip_is_used_without_zstd(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compression, "find_zstd", lambda: None)
    coding, body = compress(BODY)
    assert coding == "gzip"
    assert gzip.decompress(body) == BODY
