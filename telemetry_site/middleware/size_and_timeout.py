"""The largest body and the longest wait of a request that Django answers. (The fast lane counts for itself.)"""

import asyncio
import logging

from telemetry_site.middleware.request_id import App, Message, Receive, Scope, Send, answer_problem

log = logging.getLogger(__name__)

BODY_LIMIT = 16 * 1024 * 1024  # bytes; JSON ends earlier (rest.parsers)
LONGEST = 60.0  # seconds until the answer begins; from then on a stream may take its time
TOO_LARGE = f"the body is larger than {BODY_LIMIT} bytes"


class Caps:
    """ASGI in front of Django, which would keep any body on disk, and wait for ever.

    A view that runs cannot be stopped: what it answers in the end is thrown away, and until then it keeps its turn.
    """

    def __init__(self, app: App, longest: float = LONGEST) -> None:
        self.app, self.longest = app, longest
        self._late: set[asyncio.Task[None]] = set()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if _said(scope) > BODY_LIMIT:
            return await answer_problem(send, 413, TOO_LARGE)
        answering = _Answering(receive, send, self.longest)
        task = asyncio.create_task(self.app(scope, answering.receive, answering.send))
        try:
            await asyncio.wait({task, answering.is_late}, return_when=asyncio.FIRST_COMPLETED)
        except asyncio.CancelledError:
            task.cancel()
            raise
        if task.done():
            answering.is_late.cancel()
            task.result()
            if answering.too_large:
                await answer_problem(send, 413, TOO_LARGE)
            return
        self._late.add(task)
        task.add_done_callback(self._ended)
        await answer_problem(send, 503, f"there is no answer within {self.longest:.0f} s; ask for less", 5)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._late.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("what was given up has failed", exc_info=error)


class _Answering:
    """The two ends of one request: its body is counted, and its time from the end of the body to the answer's begin."""

    def __init__(self, receive: Receive, send: Send, longest: float) -> None:
        self._receive, self._send = receive, send
        self._loop, self._longest = asyncio.get_running_loop(), longest
        self._size, self._has_begun = 0, False
        self.too_large = False
        self._clock: asyncio.TimerHandle | None = None
        self.is_late: asyncio.Future[None] = self._loop.create_future()

    async def receive(self) -> Message:
        message = await self._receive()
        if message["type"] == "http.request":
            self._size += len(message.get("body", b""))
            if self._size > BODY_LIMIT:
                self.too_large = True
                return {"type": "http.disconnect"}  # upon which all that was kept of it is let go
            if self._clock is None and not message.get("more_body"):
                self._clock = self._loop.call_later(self._longest, self._give_up)
        return message

    async def send(self, message: Message) -> None:
        if not self.is_late.done():
            self._has_begun = True
            if self._clock is not None:
                self._clock.cancel()
            await self._send(message)

    def _give_up(self) -> None:
        if not self._has_begun and not self.is_late.done():
            self.is_late.set_result(None)


def _said(scope: Scope) -> int:
    """What Content-Length says; believed when it is too much, since what comes is counted anyway."""
    found = [value for name, value in scope["headers"] if name == b"content-length"]
    return int(found[0]) if found and found[0].isdigit() else 0
