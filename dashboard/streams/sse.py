"""Server-sent events as the connection of a live stream: the same frames, for clients without WebSockets.

`Last-Event-ID`, which browsers send when they connect again, is the `resume_from` of a WebSocket.
"""

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

from dashboard.streams.authentication import Scope, take_parameters
from dashboard.streams.close_codes import RESTARTING, CloseReason
from dashboard.streams.serve import SessionClass, serve_session
from dashboard.streams.session import RESUME_FROM, StreamSession

Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]

CLOSE_TIMEOUT = 1.0  # seconds in which the client must take what is being sent to it
# Browsers connect again after every end of a stream. This keeps them from it where that makes no sense.
NO_RETRY_MS = 24 * 3600 * 1000
CONNECTION, ON_SHUTDOWN = "telemetry.connection", "telemetry.on_shutdown"  # keys of telemetry_site.http_protocol
PING = b'{"type":"ping"'
HEADERS = [
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-store"),
    (b"x-accel-buffering", b"no"),  # of nginx, which would collect events
]


class EventStreamTransport:
    """Frames as events of a response, which starts with the first of them. `connection` is None with other servers."""

    def __init__(self, send: Send, connection: Any) -> None:
        self._send, self._connection = send, connection
        self._is_started = False
        if connection is not None:
            connection.bound_buffers()

    async def send(self, frame: bytes, position: str | None) -> None:
        if frame.startswith(PING):
            await self._write(b": ping\n\n")
            return
        identity = b"" if position is None else b"id: %s\n" % position.encode()
        await self._write(b"%sdata: %s\n\n" % (identity, frame))

    async def close(self, reason: CloseReason) -> None:
        wait = NO_RETRY_MS if not reason.retry else reason.retry_after_ms
        retry = b"" if wait is None else b"retry: %d\n" % wait
        event = b"%sevent: error\ndata: %s\n\n" % (retry, reason.frame)
        try:
            async with asyncio.timeout(CLOSE_TIMEOUT):
                await self._write(event, more=False)
        except TimeoutError:  # the client does not read
            if self._connection is not None:
                self._connection.end_response(event)

    async def _write(self, body: bytes, more: bool = True) -> None:
        if not self._is_started:
            self._is_started = True
            await self._send({"type": "http.response.start", "status": 200, "headers": HEADERS})
        await self._send({"type": "http.response.body", "body": body, "more_body": more})


async def serve(scope: Scope, receive: Receive, send: Send, session_class: SessionClass, path: str) -> None:
    """Serve one stream of server-sent events."""
    parameters, ticket = take_parameters(scope)
    last_id = dict(scope["headers"]).get(b"last-event-id", b"").decode("latin-1")
    if last_id:
        parameters[RESUME_FROM] = [last_id]

    async def wait_for_end(session: StreamSession) -> None:
        scope[ON_SHUTDOWN] = partial(session.end, RESTARTING)
        while (await receive())["type"] != "http.disconnect":
            continue  # the body of the request is not used

    transport = EventStreamTransport(send, scope.get(CONNECTION))
    await serve_session(scope, transport, session_class, path, parameters, ticket, wait_for_end)
