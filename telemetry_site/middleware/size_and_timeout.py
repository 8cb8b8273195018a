"""The size limit and the timeout of requests to Django. The fast lane applies its own limits."""

import asyncio
import logging

from telemetry_site.middleware.request_id import App, Message, Receive, Scope, Send, answer_problem

log = logging.getLogger(__name__)

MAX_BODY_SIZE = 16 * 1024 * 1024  # bytes; rest.parsers has a smaller limit for JSON
RESPONSE_TIMEOUT = 60.0  # seconds from the end of the body to the begin of the response
RETRY_AFTER = 5  # seconds
TOO_LARGE = f"the body must be at most {MAX_BODY_SIZE} bytes"


class SizeAndTimeoutLimits:
    """ASGI middleware in front of Django, which has neither limit.

    A running view cannot be stopped: after the timeout its response is discarded, and it counts for the concurrency
    limit until it ends.
    """

    def __init__(self, app: App, timeout: float = RESPONSE_TIMEOUT) -> None:
        self.app, self.timeout = app, timeout
        self._timed_out: set[asyncio.Task[None]] = set()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if _content_length(scope) > MAX_BODY_SIZE:
            return await answer_problem(send, 413, TOO_LARGE)
        exchange = _Exchange(receive, send, self.timeout)
        task = asyncio.create_task(self.app(scope, exchange.receive, exchange.send))
        try:
            await asyncio.wait({task, exchange.timed_out}, return_when=asyncio.FIRST_COMPLETED)
        except asyncio.CancelledError:
            task.cancel()
            raise
        if task.done():
            exchange.timed_out.cancel()
            task.result()
            if exchange.too_large:
                await answer_problem(send, 413, TOO_LARGE)
            return
        self._timed_out.add(task)
        task.add_done_callback(self._on_end)
        await answer_problem(send, 503, f"no response within {self.timeout:.0f} s; request less data", RETRY_AFTER)

    def _on_end(self, task: asyncio.Task[None]) -> None:
        self._timed_out.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("a request failed after its timeout", exc_info=error)


class _Exchange:
    """Receive and send of one request: counts the body and measures the time until the response begins."""

    def __init__(self, receive: Receive, send: Send, timeout: float) -> None:
        self._receive, self._send = receive, send
        self._loop, self._timeout = asyncio.get_running_loop(), timeout
        self._size, self._has_begun = 0, False
        self.too_large = False
        self._timer: asyncio.TimerHandle | None = None
        self.timed_out: asyncio.Future[None] = self._loop.create_future()

    async def receive(self) -> Message:
        message = await self._receive()
        if message["type"] == "http.request":
            self._size += len(message.get("body", b""))
            if self._size > MAX_BODY_SIZE:
                self.too_large = True
                return {"type": "http.disconnect"}  # so that Django discards the partial body
            if self._timer is None and not message.get("more_body"):
                self._timer = self._loop.call_later(self._timeout, self._on_timeout)
        return message

    async def send(self, message: Message) -> None:
        if not self.timed_out.done():
            self._has_begun = True
            if self._timer is not None:
                self._timer.cancel()
            await self._send(message)

    def _on_timeout(self) -> None:
        if not self._has_begun and not self.timed_out.done():
            self.timed_out.set_result(None)


def _content_length(scope: Scope) -> int:
    """Return Content-Length, 0 if it is missing or invalid; the received bytes are counted anyway."""
    values = [value for name, value in scope["headers"] if name == b"content-length"]
    return int(values[0]) if values and values[0].isdigit() else 0
