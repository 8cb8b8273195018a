"""WebSockets as the connection of a live stream: accept, authenticate, receive within limits, close with a reason."""

import asyncio
import logging
import time
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec

from dashboard.streams import close_codes
from dashboard.streams.authentication import Refused, Scope, authenticate, take_parameters
from dashboard.streams.close_codes import (
    FAILED,
    FLOOD,
    INVALID_MESSAGE,
    OVERSIZED_MESSAGE,
    CloseReason,
)
from dashboard.streams.open_sessions import open_sessions
from dashboard.streams.session import InvalidMessage, StreamSession
from dashboard.streams.socket_writer import Closed
from metrics.error_responses import EXPECTED_ERRORS

log = logging.getLogger(__name__)

Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]

MAX_MESSAGE_SIZE = 64 * 1024  # bytes
MAX_MESSAGES, MESSAGE_PERIOD = 50, 10.0  # messages of a client in so many seconds
CLOSE_TIMEOUT = 1.0  # seconds in which the error frame must fit into the buffers of the connection


class WebSocketTransport:
    """Frames as text messages of a WebSocket."""

    def __init__(self, send: Send) -> None:
        self._send = send

    async def send(self, frame: bytes, position: str | None) -> None:
        await self._send({"type": "websocket.send", "text": frame.decode()})

    async def close(self, reason: CloseReason) -> None:
        try:
            async with asyncio.timeout(CLOSE_TIMEOUT):
                await self._send({"type": "websocket.send", "text": reason.frame.decode()})
        except TimeoutError:
            pass  # the client does not read
        await self._send({"type": "websocket.close", "code": reason.code, "reason": reason.close_text})


class MessageLimits:
    """Reads the messages of one client, as long as they are neither too many nor too large."""

    def __init__(self) -> None:
        self._times: deque[float] | None = None

    def read(self, event: dict[str, Any]) -> dict[str, Any]:
        """Return the JSON object of a message. Raises Refused."""
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
        return message


async def serve(
    scope: Scope, receive: Receive, send: Send, session_class: type[StreamSession] | None, path: str
) -> None:
    """Serve one WebSocket; without a session class there is no stream at its address."""
    if (await receive())["type"] != "websocket.connect":
        return
    parameters, ticket = take_parameters(scope)
    # Only an accepted socket can pass a close code to the browser.
    await send({"type": "websocket.accept"})
    transport, session = WebSocketTransport(send), None
    try:
        if session_class is None:
            raise Refused(close_codes.UNKNOWN_STREAM)
        access, caller = await authenticate(scope, ticket)
        session = session_class(transport, access, caller, parameters, path)
        open_sessions().add(session)
        await session.open()
        await _receive(session, receive)
    except Closed:
        pass
    except Refused as refused:
        await _end(session, transport, refused.reason)
    except InvalidMessage as error:  # in the parameters of the URL
        await _end(session, transport, close_codes.invalid_parameter(str(error)))
    except OSError:
        pass  # the client is gone
    except EXPECTED_ERRORS as error:
        await _end(session, transport, close_codes.unavailable(str(error)))
    except Exception:
        log.exception("a live stream failed")
        await _end(session, transport, FAILED)
    finally:
        if session is not None:
            open_sessions().discard(session)
            await session.closed()
            await session.wait_until_ended()


async def _receive(session: StreamSession, receive: Receive) -> None:
    limits = MessageLimits()
    while True:
        event = await receive()
        if event["type"] == "websocket.disconnect":
            session.end(None)
            return
        if session.is_ending:
            continue
        try:
            message = limits.read(event)
            if message.get("type") != "pong":
                await session.receive(message)
        except InvalidMessage as error:
            session.reject_message(str(error))


async def _end(session: StreamSession | None, transport: WebSocketTransport, reason: CloseReason) -> None:
    if session is not None:
        session.end(reason)
        return
    try:
        await transport.close(reason)
    except OSError:
        return  # the client is gone
