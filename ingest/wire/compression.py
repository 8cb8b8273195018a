"""Bodies that arrive compressed, taken apart under a ceiling so that a bomb costs nothing."""

import zlib
from collections.abc import Callable, Iterator

import lz4.frame
import zstandard

from ingest.wire.batch import RequestRejected

_STEP = 256 * 1024


def inflate(body: bytes, coding: str, ceiling: int) -> bytes:
    """Decompress a body. Raises RequestRejected: 415 unknown coding, 413 over `ceiling` bytes, 400 damaged."""
    pieces = CODINGS.get(coding.strip().lower())
    if pieces is None:
        raise RequestRejected(
            f"Content-Encoding {coding!r:.40} is not known: gzip, zstd, lz4 and deflate are accepted", 415
        )
    found = bytearray()
    try:
        for piece in pieces(body):
            found += piece
            if len(found) > ceiling:
                raise RequestRejected(f"the body is larger than {ceiling} bytes when unpacked", 413)
    except (zlib.error, zstandard.ZstdError, RuntimeError, EOFError) as error:
        raise RequestRejected(f"the body is not valid {coding}: {error}") from None
    return bytes(found)


def _zlib(body: bytes, window: int) -> Iterator[bytes]:
    machine = zlib.decompressobj(window)
    rest = body
    while rest and not machine.eof:
        yield machine.decompress(rest, _STEP)
        rest = machine.unconsumed_tail
    if not machine.eof:
        raise EOFError("it ends too early")
    if machine.unused_data:
        raise EOFError("something follows its end")


def _zstd(body: bytes) -> Iterator[bytes]:
    # The window is capped as well: a frame of 20 bytes may ask for gigabytes before it yields anything.
    reader = zstandard.ZstdDecompressor(max_window_size=2**23).stream_reader(body, read_across_frames=False)
    size = 0
    while piece := reader.read(_STEP):
        size += len(piece)
        yield piece
    if size == 0 and zstandard.frame_content_size(body) != 0:
        raise EOFError("it ends too early")


def _lz4(body: bytes) -> Iterator[bytes]:
    machine = lz4.frame.LZ4FrameDecompressor()
    piece = machine.decompress(body, max_length=_STEP)
    yield piece
    while not machine.eof and not machine.needs_input:
        yield machine.decompress(b"", max_length=_STEP)
    if not machine.eof:
        raise EOFError("it ends too early")
    if machine.unused_data:
        raise EOFError("something follows its end")


CODINGS: dict[str, Callable[[bytes], Iterator[bytes]]] = {
    "gzip": lambda body: _zlib(body, 16 + zlib.MAX_WBITS),
    "deflate": lambda body: _zlib(body, zlib.MAX_WBITS),
    "zstd": _zstd,
    "lz4": _lz4,
}
