"""One kept-alive HTTP connection whose exchanges have a deadline, however slowly the server answers."""

from __future__ import annotations

import contextlib
import email.message
import http.client
import io
import socket
import ssl
import time
from typing import Any, NamedTuple
from urllib.parse import urlsplit

MAX_ANSWER = 2 * 1024 * 1024  # bytes
_CHUNK = 64 * 1024


class HttpAnswer(NamedTuple):
    """An answer, and when (monotonic) the request was started and the head of the answer had arrived."""

    status: int
    headers: email.message.Message
    body: bytes
    started: float
    arrived: float


class _DeadlineReader(io.RawIOBase):
    def __init__(self, owner: _DeadlineSocket) -> None:
        self._owner = owner

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        return self._owner.prepared().recv_into(buffer)

    def close(self) -> None:
        if not self.closed:
            super().close()
            self._owner.reader_closed()


class _DeadlineSocket:
    """The part of a socket that http.client uses; each operation gets the time that is left of the exchange."""

    def __init__(self, sock: socket.socket) -> None:
        self._socket = sock
        self._readers, self._is_closed = 0, False
        self.deadline = 0.0

    def prepared(self) -> socket.socket:
        left = self.deadline - time.monotonic()
        if left <= 0:
            raise socket.timeout("timed out")
        self._socket.settimeout(left)
        return self._socket

    def sendall(self, data: Any) -> None:
        view = memoryview(data).cast("B")
        for start in range(0, len(view), _CHUNK):
            self.prepared().sendall(view[start : start + _CHUNK])

    def makefile(self, *_: Any, **__: Any) -> io.BufferedReader:
        self._readers += 1
        return io.BufferedReader(_DeadlineReader(self))

    def reader_closed(self) -> None:
        self._readers -= 1
        self._close_unused()

    def close(self) -> None:
        """Close the socket once the answer is read: http.client closes it after the head of a last answer."""
        self._is_closed = True
        self._close_unused()

    def _close_unused(self) -> None:
        if self._is_closed and self._readers <= 0:
            self._socket.close()


class SiteConnection:
    """Sends requests to one server. Raises OSError and http.client.HTTPException for errors of the network."""

    def __init__(self, url: str, timeout: float) -> None:
        try:
            parts = urlsplit(url)
            self._host, self._port = parts.hostname or "", parts.port
        except ValueError as error:
            raise ValueError(f"backend_url {url!r} cannot be used: {error}") from None
        if parts.scheme not in {"http", "https"} or not self._host:
            raise ValueError(
                f"backend_url {url!r} cannot be used: a URL like https://telemetry.example.org is accepted"
            )
        if not timeout > 0:
            raise ValueError(f"timeout is {timeout}: more than 0 seconds is accepted")
        self._prefix = parts.path.rstrip("/")
        self._tls = ssl.create_default_context() if parts.scheme == "https" else None
        self._timeout = timeout
        self._connection: http.client.HTTPConnection | None = None

    def request(self, method: str, path: str, body: bytes | None, headers: dict[str, str]) -> HttpAnswer:
        """Send a request; a connection that the server closed while idle is opened again."""
        deadline = time.monotonic() + self._timeout
        if self._connection is not None:
            try:
                return self._exchange(self._connection, method, path, body, headers, deadline)
            except (ConnectionError, http.client.BadStatusLine):
                self.close()
            except BaseException:
                self.close()
                raise
        connection = self._connect(deadline)
        try:
            return self._exchange(connection, method, path, body, headers, deadline)
        except BaseException:
            self.close()
            raise

    def _connect(self, deadline: float) -> http.client.HTTPConnection:
        left = max(0.001, deadline - time.monotonic())
        if self._tls is None:
            connection = http.client.HTTPConnection(self._host, self._port, timeout=left)
        else:
            connection = http.client.HTTPSConnection(self._host, self._port, timeout=left, context=self._tls)
        connection.connect()
        connection.sock = _DeadlineSocket(connection.sock)
        self._connection = connection
        return connection

    def _exchange(
        self,
        connection: http.client.HTTPConnection,
        method: str,
        path: str,
        body: bytes | None,
        headers: dict[str, str],
        deadline: float,
    ) -> HttpAnswer:
        if isinstance(connection.sock, _DeadlineSocket):
            connection.sock.deadline = deadline
        started = time.monotonic()
        connection.request(method, self._prefix + path, body, headers)
        response = connection.getresponse()
        arrived = time.monotonic()
        content = response.read(MAX_ANSWER)
        is_longer = not response.isclosed() and response.read(1) != b""  # not an answer of the site: not read further
        if is_longer or response.will_close:
            self.close()
        return HttpAnswer(response.status, response.headers, content, started, arrived)

    def close(self) -> None:
        if self._connection is not None:
            with contextlib.suppress(OSError):
                self._connection.close()
            self._connection = None
