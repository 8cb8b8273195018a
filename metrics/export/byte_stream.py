"""A response body that a thread generates and a coroutine sends, with a bounded buffer between them.

Under ASGI, Django collects a synchronous generator in memory before it responds; this does not. The thread waits while
the client is slow. When the client disconnects or reads nothing for too long, the generator is closed after its current
piece, and with it the snapshot or file that it has open.
"""

import asyncio
import logging
import threading
from collections import deque
from collections.abc import AsyncIterator, Callable, Generator

from rest.errors import Overloaded

log = logging.getLogger(__name__)

MAX_STREAMS = 8  # at once per process: each takes a thread and a connection to PostgreSQL
MAX_BUFFERED_PIECES = 4
PIECE_SIZE = 256 * 1024  # bytes; smaller pieces are joined
READ_TIMEOUT = 60.0  # seconds without a read of the client, after which the stream ends

_slots = threading.BoundedSemaphore(MAX_STREAMS)


class _ClientGone(Exception):
    """The client disconnected, or reads nothing."""


class ByteStream:
    """Asynchronous iterator over what `generate` yields in a thread. Its errors are raised in the iteration."""

    def __init__(self, generate: Callable[[], Generator[bytes]]) -> None:
        if not _slots.acquire(blocking=False):
            raise Overloaded(f"{MAX_STREAMS} exports are being sent; try again, or create an export in the background")
        self._generate = generate
        self._ready: deque[bytes | Exception | None] = deque()  # None: the end
        self._lock = threading.Lock()
        self._first = threading.Event()
        self._room = threading.Semaphore(MAX_BUFFERED_PIECES)
        self._closed = threading.Event()
        self._waiting: tuple[asyncio.AbstractEventLoop, asyncio.Future[None]] | None = None
        threading.Thread(target=self._run, name="export", daemon=True).start()

    def wait_for_first_piece(self) -> bool:
        """Return whether there is a piece. Raises the error of the generator if it fails before."""
        self._first.wait()
        first = self._ready[0]
        if isinstance(first, Exception):
            raise first
        return first is not None

    def close(self) -> None:
        """End the generator. Django calls this at the end of the response, also after an error."""
        self._closed.set()
        self._room.release()

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        try:
            piece = await self._next()
        except asyncio.CancelledError:
            self.close()
            raise
        self._room.release()
        if piece is None:
            raise StopAsyncIteration
        if isinstance(piece, Exception):
            raise piece
        return piece

    async def _next(self) -> bytes | Exception | None:
        while True:
            with self._lock:
                if self._ready:
                    return self._ready.popleft()
                loop = asyncio.get_running_loop()
                future = loop.create_future()
                self._waiting = (loop, future)
            await future

    def _run(self) -> None:
        pieces = self._generate()
        try:
            joined: list[bytes] = []
            size = 0
            for piece in pieces:
                joined.append(piece)
                size += len(piece)
                if size >= PIECE_SIZE:
                    self._put(b"".join(joined))
                    joined, size = [], 0
            if size:
                self._put(b"".join(joined))
            self._put(None)
        except _ClientGone:
            pass
        except Exception as error:
            self._append(error)
        finally:
            pieces.close()
            _slots.release()

    def _put(self, piece: bytes | None) -> None:
        if not self._room.acquire(timeout=READ_TIMEOUT):
            log.warning("an export ended: its client read nothing for %.0f seconds", READ_TIMEOUT)
            self._append(TimeoutError("the client read nothing for too long"))
            raise _ClientGone
        if self._closed.is_set():
            raise _ClientGone
        self._append(piece)

    def _append(self, piece: bytes | Exception | None) -> None:
        with self._lock:
            self._ready.append(piece)
            waiting, self._waiting = self._waiting, None
        self._first.set()
        if waiting is not None:
            loop, future = waiting
            loop.call_soon_threadsafe(_wake, future)


def _wake(future: "asyncio.Future[None]") -> None:
    if not future.done():
        future.set_result(None)
