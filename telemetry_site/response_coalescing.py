"""An HTTP protocol for uvicorn with fewer system calls: larger reads, and one write per response instead of two.

A socket write takes a sixth of the time of a small request, and ASGI sends headers and body separately.
"""

import asyncio
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

# Bytes of a body that are buffered before reading is paused. uvicorn has no setting for its 64 KiB, at which reading is
# paused in the middle of each batch of a thousand points.
MAX_BUFFERED_BODY = 512 * 1024


class CoalescingTransport:
    """A transport that combines all writes of one iteration of the event loop."""

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        self._transport, self._loop = transport, loop
        self._chunks: list[bytes] = []

    def write(self, data: bytes) -> None:
        if not self._chunks:
            self._loop.call_soon(self._flush)
        self._chunks.append(data)

    def _flush(self) -> None:
        chunks, self._chunks = self._chunks, []
        if chunks:
            self._transport.write(chunks[0] if len(chunks) == 1 else b"".join(chunks))

    def close(self) -> None:
        self._flush()
        self._transport.close()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)


class CoalescingHttpProtocol(HttpToolsProtocol):
    """The protocol class for `uvicorn --http`."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(CoalescingTransport(transport, self.loop))  # type: ignore[arg-type]

    def on_body(self, body: bytes) -> None:
        """Buffer a part of the body; the same as in uvicorn, with another limit."""
        if (self.parser.should_upgrade() and self._should_upgrade()) or self.cycle.response_complete:
            return
        self.cycle.body += body
        if len(self.cycle.body) > MAX_BUFFERED_BODY:
            self.flow.pause_reading()
        self.cycle.message_event.set()
