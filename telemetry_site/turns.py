"""How many requests of the API a process answers at once: the others wait in line, where they cost next to nothing.

Django gives each request a thread. A thousand questions at once were a thousand threads that wanted one interpreter
and six connections; in line they are answered sooner, and memory and health checks stay as they are.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec

from metrics.api.shapes import problem

TURNS = 12  # more of them answer no sooner; large questions (metrics.questions.budget) can take eight
PATIENCE = 30.0  # seconds in line until somebody is told to come back
READ_AHEAD = 1024 * 1024  # bytes of a body that are read before its turn: a slow sender must not hold one
PREFIX = "/api/"  # pages and health checks go past the line

Scope = dict[str, Any]
Message = dict[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Any, Any, Any], Awaitable[None]]


class Turns:
    """ASGI in front of Django. A turn ends where the answer begins: what is streamed after that holds none."""

    def __init__(self, app: App) -> None:
        self.app = app
        self._turns = asyncio.Semaphore(TURNS)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or not scope["path"].startswith(PREFIX):
            return await self.app(scope, receive, send)
        ahead = await _read_ahead(receive)
        try:
            async with asyncio.timeout(PATIENCE):
                await self._turns.acquire()
        except TimeoutError:
            return await _come_back(send)
        turn = _Turn(self._turns)
        try:
            await self.app(scope, _replayed(ahead, receive), turn.ending_with_answer(send))
        finally:
            turn.end()


class _Turn:
    def __init__(self, turns: asyncio.Semaphore) -> None:
        self._turns: asyncio.Semaphore | None = turns

    def end(self) -> None:
        if self._turns is not None:
            self._turns.release()
            self._turns = None

    def ending_with_answer(self, send: Send) -> Send:
        async def sending(message: Message) -> None:
            self.end()
            await send(message)

        return sending


async def _read_ahead(receive: Receive) -> list[Message]:
    messages = [await receive()]
    size = len(messages[0].get("body", b""))
    while messages[-1].get("more_body") and size < READ_AHEAD:
        messages.append(await receive())
        size += len(messages[-1].get("body", b""))
    return messages


def _replayed(ahead: list[Message], receive: Receive) -> Receive:
    async def receiving() -> Message:
        return ahead.pop(0) if ahead else await receive()

    return receiving


async def _come_back(send: Send) -> None:
    body = msgspec.json.encode(problem(503, "too many questions are being answered; try again"))
    headers = [(b"content-type", b"application/problem+json"), (b"retry-after", b"2")]
    headers.append((b"content-length", str(len(body)).encode()))
    await send({"type": "http.response.start", "status": 503, "headers": headers})
    await send({"type": "http.response.body", "body": body})
