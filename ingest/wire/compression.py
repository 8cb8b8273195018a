"""Decompression of request bodies with a size limit, which also stops decompression bombs."""

import zlib
from collections.abc import Callable, Iterator

import lz4.frame
import zstandard

from ingest.wire.batch import RequestRejected

_CHUNK_SIZE = 256 * 1024


def decompress(body: bytes, coding: str, max_size: int) -> bytes:
    """Return the decompressed body.

    Raises RequestRejected: 415 for an unknown coding, 413 for more than `max_size` bytes, 400 for damaged data.
    """
    decoder = CODINGS.get(coding.strip().lower())
    if decoder is None:
        raise RequestRejected(
            f"Content-Encoding {coding!r:.40} is not supported: gzip, zstd, lz4 and deflate are accepted", 415
        )
    data = bytearray()
    try:
        for chunk in decoder(body):
            data += chunk
            if len(data) > max_size:
                raise RequestRejected(
                    f"the body is too large after decompression: at most {max_size} bytes are accepted", 413
                )
    except (zlib.error, zstandard.ZstdError, RuntimeError, EOFError) as error:
        raise RequestRejected(f"the body is not valid {coding}: {error}") from None
    return bytes(data)


def _zlib(body: bytes, window: int) -> Iterator[bytes]:
    decompressor = zlib.decompressobj(window)
    rest = body
    while rest and not decompressor.eof:
        yield decompressor.decompress(rest, _CHUNK_SIZE)
        rest = decompressor.unconsumed_tail
    if not decompressor.eof:
        raise EOFError("unexpected end of data")
    if decompressor.unused_data:
        raise EOFError("data after the end")


def _zstd(body: bytes) -> Iterator[bytes]:
    # The window is limited as well: a frame of 20 bytes may request gigabytes before it yields anything.
    reader = zstandard.ZstdDecompressor(max_window_size=2**23).stream_reader(body, read_across_frames=False)
    size = 0
    while chunk := reader.read(_CHUNK_SIZE):
        size += len(chunk)
        yield chunk
    if size == 0 and zstandard.frame_content_size(body) != 0:
        raise EOFError("unexpected end of data")


def _lz4(body: bytes) -> Iterator[bytes]:
    decompressor = lz4.frame.LZ4FrameDecompressor()
    chunk = decompressor.decompress(body, max_length=_CHUNK_SIZE)
    yield chunk
    while not decompressor.eof and not decompressor.needs_input:
        yield decompressor.decompress(b"", max_length=_CHUNK_SIZE)
    if not decompressor.eof:
        raise EOFError("unexpected end of data")
    if decompressor.unused_data:
        raise EOFError("data after the end")


CODINGS: dict[str, Callable[[bytes], Iterator[bytes]]] = {
    "gzip": lambda body: _zlib(body, 16 + zlib.MAX_WBITS),
    "deflate": lambda body: _zlib(body, zlib.MAX_WBITS),
    "zstd": _zstd,
    "lz4": _lz4,
}
