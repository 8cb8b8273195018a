"""Deadline of one attempt: the whole exchange with a receiver, however slowly it sends."""

import os
import socket
import threading
import time
from contextlib import suppress
from types import TracebackType


class Deadline:
    """Context manager that shuts down the watched sockets when the time is over, which wakes the thread that uses them.

    A socket timeout is no bound: it starts again with every received byte.
    """

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self.expired = False
        self._began_at = time.monotonic()
        self._ends_at = self._began_at + seconds
        self._lock = threading.Lock()
        self._sockets: list[socket.socket] = []
        self._timer: threading.Timer | None = None

    @property
    def remaining(self) -> float:
        """Seconds left, at least 0."""
        return max(0.0, self._ends_at - time.monotonic())

    @property
    def elapsed(self) -> float:
        """Seconds since the deadline was set."""
        return time.monotonic() - self._began_at

    def __enter__(self) -> "Deadline":
        self._timer = threading.Timer(self.remaining, self._expire)
        self._timer.daemon = True
        self._timer.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        assert self._timer is not None
        self._timer.cancel()
        with self._lock:
            for sock in self._sockets:
                sock.close()
            self._sockets.clear()

    def watch(self, sock: socket.socket) -> None:
        """Shut down this connection on expiry; call it as soon as the connection exists. Raises TimeoutError if late.

        A duplicate of the socket is kept: http.client gives up its socket before the response is read, and TLS replaces
        it during the handshake.
        """
        with self._lock:
            if self.expired:
                raise TimeoutError("timed out")
            self._sockets.append(socket.socket(fileno=os.dup(sock.fileno())))

    def _expire(self) -> None:
        with self._lock:
            self.expired = True
            for sock in self._sockets:
                with suppress(OSError):  # the connection has ended already
                    sock.shutdown(socket.SHUT_RDWR)  # close() would not wake the waiting thread
