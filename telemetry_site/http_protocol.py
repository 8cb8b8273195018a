"""The HTTP protocol of the web process: uvicorn's, with limits for clients and fewer system calls.

uvicorn has no limits on the size of headers, on the time in which a request arrives, and on connections.
"""

import asyncio
import logging
from asyncio.events import TimerHandle
from collections.abc import Callable
from http import HTTPStatus
from typing import Any, cast

import httptools
import msgspec
from django.conf import settings
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from rest.client_address import network_of
from rest.problem import problem
from telemetry_site.response_coalescing import CoalescingTransport
from telemetry_site.send_buffer import CLOSE_TIMEOUT, bound_buffers, extend_before_close

log = logging.getLogger(__name__)

MAX_HEAD_SIZE = 64 * 1024  # bytes of the request line and the headers
MAX_HEADERS = 100
SEPARATORS = len(": \r\n")
# Bytes of a body that are buffered before reading is paused. uvicorn has no setting for its 64 KiB, at which reading is
# paused in the middle of each batch of a thousand points.
MAX_BUFFERED_BODY = 512 * 1024
# Bytes that are read and discarded after a response, since many clients read it only when they have sent everything.
MAX_DISCARDED = 64 * 1024 * 1024
DISCARD_TIMEOUT = 30.0  # seconds
SLOW_DISCARD_TIMEOUT = 1.0  # seconds, for clients that are refused because they hold connections
PAUSE = 1.0  # seconds until a request that the server does not read itself is checked again
SLOW_STATUSES = frozenset({HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_MANY_REQUESTS})
RETRY_AFTER = b"5"  # seconds
# Keys of a scope: the connection of the request, and the function that ends its response when the server stops.
CONNECTION, ON_SHUTDOWN = "telemetry.connection", "telemetry.on_shutdown"


class _Refused(Exception):
    """Raised by the parser for a request over a limit."""

    def __init__(self, status: HTTPStatus, detail: str) -> None:
        super().__init__(detail)
        self.status, self.detail = status, detail


class HttpProtocol(HttpToolsProtocol):
    """The protocol class for `uvicorn --http`; one object per connection."""

    _began: float | None = None  # when the request that is being received began; None between requests
    _received = False  # whether the client has sent anything
    _read_size = 0  # bytes of the current read
    _head_reads = 0  # bytes of the reads that contain parts of the request line and the headers
    _unparsed = 0  # bytes since the parser last completed headers or a part of a body
    _discarded: int | None = None  # bytes after the connection was closed for writing; None while it is open
    _discarded_body = 0  # bytes of bodies after their responses
    _answered = 0.0  # time of the last response
    _discard_timeout = DISCARD_TIMEOUT
    _unsent = 0  # bytes that waited for the client at the last check
    _unread_since = 0.0  # time of the check that last found some of them read
    url = b""
    _socket: asyncio.Transport
    _timer: TimerHandle

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        self._socket = transport
        super().connection_made(CoalescingTransport(transport, self.loop, self._close))  # type: ignore[arg-type]
        self._began = self.loop.time()
        self._timer = self.loop.call_later(settings.REQUEST_TIMEOUT, self._check_time)
        if self._has_too_many_connections():
            limit = settings.CONNECTIONS_PER_ADDRESS
            self._refuse(HTTPStatus.TOO_MANY_REQUESTS, f"more than {limit} connections of one address; try again")

    def connection_lost(self, exc: Exception | None) -> None:
        self._timer.cancel()
        super().connection_lost(exc)

    def handle_websocket_upgrade(self) -> None:
        self._timer.cancel()
        self.transport = self._socket  # the other transport would keep this object in memory
        super().handle_websocket_upgrade()

    def shutdown(self) -> None:
        """Let a response that does not end by itself end with a reason, and close the connection after it."""
        if self.cycle is not None and not self.cycle.response_complete:
            end: Callable[[], None] = self.cycle.scope.get(ON_SHUTDOWN, _do_nothing)  # type: ignore[assignment]
            end()
        super().shutdown()

    # --- streams: responses that do not end by themselves -------------------------------------------

    def bound_buffers(self) -> None:
        """Notice soon when the client of the response does not read."""
        bound_buffers(self._socket)

    def end_response(self, body: bytes) -> None:
        """End the response with a last part and close the connection, without waiting for a client that does not read.

        The client gets the last part if it reads again, as far as the kernel's buffer has room for it.
        """
        cycle = self.cycle
        if cycle is None or cycle.response_complete or cycle.disconnected:
            return
        if cycle.response_started:
            self.transport.write(b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body))
        cycle.disconnected = True
        cycle.message_event.set()
        cast(CoalescingTransport, self.transport).flush()
        extend_before_close(self._socket)
        self._socket.close()
        self.loop.call_later(CLOSE_TIMEOUT, self._socket.abort)

    def _has_too_many_connections(self) -> bool:
        limit = settings.CONNECTIONS_PER_ADDRESS
        # Behind a proxy, all connections have the address of the proxy.
        if settings.BEHIND_PROXY or not limit or self.client is None or len(self.connections) <= limit:
            return False
        clients = [getattr(connection, "client", None) for connection in self.connections]
        address = network_of(self.client[0])
        return sum(client is not None and network_of(client[0]) == address for client in clients) > limit

    # --- receiving ----------------------------------------------------------------------------------

    def data_received(self, data: bytes) -> None:
        if self._discarded is not None:
            self._discard(len(data))
            return
        self._received = True
        if self._began is None:
            self._began = self.loop.time()
        self._read_size = size = len(data)
        self._head_reads += size
        self._unparsed += size
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            if self._should_upgrade():
                self.handle_websocket_upgrade()
        except httptools.HttpParserError as error:
            if isinstance(cause := error.__context__, _Refused):
                self._refuse(cause.status, cause.detail)
            else:
                self._refuse(HTTPStatus.BAD_REQUEST, "the request is not valid HTTP")
        else:
            if self._unparsed > MAX_HEAD_SIZE:
                self._refuse(*_too_large(len(self.url)))

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self.scope[CONNECTION] = self  # type: ignore[literal-required]
        self._head_reads = self._read_size
        if self._began is None:
            self._began = self.loop.time()

    def on_headers_complete(self) -> None:
        self._unparsed = 0
        if self._head_reads > MAX_HEAD_SIZE and self._head_size() > MAX_HEAD_SIZE:
            raise _Refused(*_too_large(len(self.url)))
        if len(self.headers) > MAX_HEADERS:
            raise _Refused(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, f"at most {MAX_HEADERS} headers are accepted")
        super().on_headers_complete()

    def _head_size(self) -> int:
        return len(self.url) + sum(len(name) + len(value) + SEPARATORS for name, value in self.headers)

    def on_body(self, body: bytes) -> None:
        """Buffer a part of the body; the same as in uvicorn, with other limits."""
        self._unparsed = 0
        if self.parser.should_upgrade() and self._should_upgrade():
            return
        if self.cycle.response_complete:
            self._discarded_body += len(body)
            if self._discarded_body > MAX_DISCARDED:
                self._socket.abort()
            return
        self.cycle.body += body
        if len(self.cycle.body) > MAX_BUFFERED_BODY:
            self.flow.pause_reading()
        self.cycle.message_event.set()

    def on_message_complete(self) -> None:
        self._began = None
        super().on_message_complete()

    def on_response_complete(self) -> None:
        """Start the next request; the same as in uvicorn, without a timer for every response."""
        self.server_state.total_requests += 1
        if self.transport.is_closing():
            return
        self._answered = self.loop.time()
        self.flow.resume_reading()
        if self.pipeline:
            self._start_asgi_task(*self.pipeline.pop())
        elif self.cycle.more_body and self.expect_100_continue:
            self.transport.close()  # the client may send the body or not: what follows cannot be parsed

    def _check_time(self) -> None:
        """Close a connection whose request, response, or the pause between them takes too long; else check again."""
        now, timeout = self.loop.time(), settings.REQUEST_TIMEOUT
        if self._is_unread(now, timeout):
            self._log("the client read nothing for %.0f s", timeout)
            self._socket.abort()
            return
        remaining = float(timeout)
        if self._began is not None:
            remaining = self._began + timeout - now
            if remaining <= 0 and (self.flow.read_paused or self.pipeline):
                remaining = PAUSE
        elif self.cycle.response_complete and not self._unsent:
            remaining = min(remaining, self._answered + self.timeout_keep_alive - now)
        if remaining > 0:
            self._timer = self.loop.call_later(remaining, self._check_time)
        elif self._began is not None and self._received:
            self._refuse(HTTPStatus.REQUEST_TIMEOUT, f"the request was not complete within {timeout} s")
        else:
            self._socket.close()

    def _is_unread(self, now: float, timeout: float) -> bool:
        """Return whether the client has read nothing of a response for too long."""
        unsent = self._socket.get_write_buffer_size()
        if not unsent or unsent != self._unsent:
            self._unsent, self._unread_since = unsent, now
        return now - self._unread_since >= timeout

    # --- closing ------------------------------------------------------------------------------------

    def _refuse(self, status: HTTPStatus, detail: str) -> None:
        """Answer the request that is being received with an error, and close the connection."""
        cycle = self.cycle
        if cycle is not None and not cycle.response_complete and (not cycle.more_body or self.pipeline):
            cycle.keep_alive = False  # earlier requests get their responses; the connection is closed after the last
            self._discarded = 0
            return
        has_response = cycle is not None and cycle.more_body and cycle.response_started
        if cycle is not None and not cycle.response_complete:
            cycle.disconnected = True
            cycle.message_event.set()
        if status in SLOW_STATUSES:
            self._discard_timeout = SLOW_DISCARD_TIMEOUT
        self._log("%s: %s", status.value, detail)
        if not has_response:
            self.transport.write(_response(status, detail))
        self._discarded = 0
        self.transport.close()

    def _log(self, message: str, *arguments: object) -> None:
        log.info(message, *arguments, extra={"fields": {"client": self.client and self.client[0]}})

    def _close(self) -> None:
        """Close the connection; while the client still sends, only for writing, so that it can read the response.

        Closing the socket would reset the connection, and most clients would not see the response.
        """
        if self._discarded is None and (self.cycle is None or not self.cycle.more_body):
            self._socket.close()
            if self._socket.get_write_buffer_size():  # a client that does not read must not hold the connection
                self.loop.call_later(self._discard_timeout, self._socket.abort)
            return
        self._discarded = 0
        self._timer.cancel()
        self._timer = self.loop.call_later(self._discard_timeout, self._socket.abort)
        self.flow.resume_reading()
        self._socket.write_eof()

    def _discard(self, size: int) -> None:
        assert self._discarded is not None
        self._discarded += size
        if self._discarded > MAX_DISCARDED:
            self._socket.abort()


def _do_nothing() -> None:
    """Leave a response to end by itself."""


def _too_large(url_size: int) -> tuple[HTTPStatus, str]:
    detail = f"the request line and the headers must have at most {MAX_HEAD_SIZE:,} bytes"
    if url_size > MAX_HEAD_SIZE // 2:
        return HTTPStatus.REQUEST_URI_TOO_LONG, detail
    return HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, detail


def _response(status: HTTPStatus, detail: str) -> bytes:
    body = msgspec.json.encode(problem(status, detail))
    headers: dict[str, Any] = {"content-type": "application/problem+json", "content-length": len(body)}
    if status == HTTPStatus.TOO_MANY_REQUESTS:
        headers["retry-after"] = RETRY_AFTER.decode()
    lines = [f"HTTP/1.1 {status.value} {status.phrase}", *(f"{name}: {value}" for name, value in headers.items())]
    return "\r\n".join([*lines, "connection: close", "", ""]).encode() + body
