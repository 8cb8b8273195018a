"""Bytes that are made on a thread and leave through a coroutine, with a few pieces between them and no more.

Django gathers a synchronous generator in memory before it answers under ASGI; this does not. Whoever makes the bytes
waits while the reader is slow; when the reader leaves, or takes nothing for too long, what was open (a snapshot, a
file) is closed within the piece that is being made.
"""

import asyncio
import logging
import threading
from collections import deque
from collections.abc import AsyncIterator, Callable, Generator

from rest.errors import Overloaded

log = logging.getLogger(__name__)

MOST = 8  # streams at once in one process, each a thread and a connection to PostgreSQL
AHEAD = 4  # pieces that may wait for the reader
PIECE = 256 * 1024  # bytes; smaller ones are put together
PATIENCE = 60.0  # seconds that a reader may take nothing at all

_running = threading.BoundedSemaphore(MOST)


class _Left(Exception):
    """The reader is gone, or takes nothing."""


class Stream:
    """What `make` yields, as an asynchronous iterator. An error in it is raised in the reader."""

    def __init__(self, make: Callable[[], Generator[bytes]]) -> None:
        if not _running.acquire(blocking=False):
            raise Overloaded(
                f"{MOST} exports are being sent already; try again, or ask for an export in the background"
            )
        self._make = make
        self._ready: deque[bytes | Exception | None] = deque()  # None: the end
        self._lock = threading.Lock()
        self._first = threading.Event()
        self._room = threading.Semaphore(AHEAD)
        self._closed = threading.Event()
        self._waiting: tuple[asyncio.AbstractEventLoop, asyncio.Future[None]] | None = None
        threading.Thread(target=self._run, name="export", daemon=True).start()

    def has_begun(self) -> bool:
        """Wait for the first piece; False where there is none. Raises what went wrong before it."""
        self._first.wait()
        first = self._ready[0]
        if isinstance(first, Exception):
            raise first
        return first is not None

    def close(self) -> None:
        """Make no more. Django calls it when the answer is over, however it ended."""
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
        made = self._make()
        try:
            held: list[bytes] = []
            size = 0
            for piece in made:
                held.append(piece)
                size += len(piece)
                if size >= PIECE:
                    self._put(b"".join(held))
                    held, size = [], 0
            if size:
                self._put(b"".join(held))
            self._put(None)
        except _Left:
            pass
        except Exception as error:
            self._tell(error)
        finally:
            made.close()
            _running.release()

    def _put(self, piece: bytes | None) -> None:
        if not self._room.acquire(timeout=PATIENCE):
            log.warning("the reader of an export took nothing for %.0f seconds; it was ended", PATIENCE)
            self._tell(TimeoutError("the reader took nothing for too long"))
            raise _Left
        if self._closed.is_set():
            raise _Left
        self._tell(piece)

    def _tell(self, piece: bytes | Exception | None) -> None:
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
