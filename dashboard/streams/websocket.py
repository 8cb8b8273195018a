"""WebSockets as the connection of a live stream: accept, authenticate, receive within limits, close with a reason."""

import asyncio
import time
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec

from dashboard.streams.authentication import Refused, Scope, take_parameters
from dashboard.streams.close_codes import FLOOD, INVALID_MESSAGE, OVERSIZED_MESSAGE, CloseReason
from dashboard.streams.serve import SessionClass, serve_session
from dashboard.streams.session import InvalidMessage, StreamSession
from rest.json_names import DuplicateName, check_unique_names

Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]

MAX_MESSAGE_SIZE = 64 * 1024  # bytes
MAX_MESSAGES, MESSAGE_PERIOD = 50, 10.0  # messages of a client in so many seconds
CLOSE_TIMEOUT = 1.0  # seconds in which the error frame must fit into the buffers of the connection


class WebSocketTransport:
    """Frames as text messages of a WebSocket.

    They are sent as bytes, which `telemetry_site.websocket_protocol` writes unchanged: encoding them again for each
    client would cost more than sending them.
    """

    def __init__(self, send: Send) -> None:
        self._send = send

    async def send(self, frame: bytes, position: str | None) -> None:
        await self._send({"type": "websocket.send", "text": frame})

    async def close(self, reason: CloseReason) -> None:
        try:
            async with asyncio.timeout(CLOSE_TIMEOUT):
                await self._send({"type": "websocket.send", "text": reason.frame})
        except TimeoutError:
            pass  # the client does not read
        await self._send({"type": "websocket.close", "code": reason.code, "reason": reason.close_text})


class MessageLimits:
    """Reads the messages of one client, as long as they are neither too many nor too large."""

    def __init__(self) -> None:
        self._times: deque[float] | None = None

    def read(self, event: dict[str, Any]) -> dict[str, Any]:
        """Return the JSON object of a message. Raises Refused and InvalidMessage."""
        now = time.monotonic()
        if self._times is None:
            self._times = deque(maxlen=MAX_MESSAGES)
        if len(self._times) == MAX_MESSAGES and now - self._times[0] < MESSAGE_PERIOD:
            raise Refused(FLOOD)
        self._times.append(now)
        text = event.get("text")
        if text is None:
            raise Refused(INVALID_MESSAGE)
        if len(text) > MAX_MESSAGE_SIZE or len(text.encode()) > MAX_MESSAGE_SIZE:
            raise Refused(OVERSIZED_MESSAGE)
        try:
            message = msgspec.json.decode(text)
        except (msgspec.DecodeError, ValueError, RecursionError):
            raise Refused(INVALID_MESSAGE) from None
        if not isinstance(message, dict):
            raise Refused(INVALID_MESSAGE)
        try:
            check_unique_names(text.encode(), message)
        except DuplicateName as error:
            raise InvalidMessage(str(error)) from None
        return message


async def serve(scope: Scope, receive: Receive, send: Send, session_class: SessionClass, path: str) -> None:
    """Serve one WebSocket."""
    if (await receive())["type"] != "websocket.connect":
        return
    parameters, ticket = take_parameters(scope)
    # Only an accepted socket can pass a close code to the browser.
    await send({"type": "websocket.accept"})

    async def receive_messages(session: StreamSession) -> None:
        limits = MessageLimits()
        while (event := await receive())["type"] != "websocket.disconnect":
            if not session.is_ending:
                await _receive(session, limits, event)

    transport = WebSocketTransport(send)
    await serve_session(scope, transport, session_class, path, parameters, ticket, receive_messages)


async def _receive(session: StreamSession, limits: MessageLimits, event: dict[str, Any]) -> None:
    try:
        message = limits.read(event)
        if message.get("type") != "pong":
            await session.receive(message)
    except InvalidMessage as error:
        session.reject_message(str(error))
