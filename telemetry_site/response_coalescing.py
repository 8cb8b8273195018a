"""A transport with one socket write per response instead of two.

A write takes a sixth of the time of a small request, and ASGI sends headers and body separately.
"""

import asyncio
from collections.abc import Callable
from typing import Any


class CoalescingTransport:
    """A transport that combines all writes of one iteration of the event loop. `on_close` closes the connection."""

    def __init__(
        self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop, on_close: Callable[[], None]
    ) -> None:
        self._transport, self._loop, self._on_close = transport, loop, on_close
        self._chunks: list[bytes] = []
        self._is_closing = False

    def write(self, data: bytes) -> None:
        if not self._chunks:
            self._loop.call_soon(self.flush)
        self._chunks.append(data)

    def flush(self) -> None:
        """Write what was combined so far."""
        chunks, self._chunks = self._chunks, []
        if chunks:
            self._transport.write(chunks[0] if len(chunks) == 1 else b"".join(chunks))

    def close(self) -> None:
        self.flush()
        if not self._is_closing:
            self._is_closing = True
            self._on_close()

    def is_closing(self) -> bool:
        return self._is_closing or self._transport.is_closing()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)
