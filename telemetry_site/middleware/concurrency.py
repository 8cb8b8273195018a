"""How many requests of the API a process answers at once: the others wait in line, where they cost next to nothing.

Django gives each request a thread. A thousand questions at once were a thousand threads that wanted one interpreter
and six connections; in line they are answered sooner, and memory and health checks stay as they are.
"""

import asyncio
from contextlib import ExitStack
from tempfile import SpooledTemporaryFile
from typing import IO

from telemetry_site.middleware.request_id import App, Message, Receive, Scope, Send, answer_problem

TURNS = 12  # more of them answer no sooner; large questions (metrics.query.limits) can take eight
PATIENCE = 30.0  # seconds in line until somebody is told to come back
IN_MEMORY = 1024 * 1024  # bytes of a body that wait in memory, as in Django; what is longer waits on disk
PIECE = 64 * 1024
PREFIX = "/api/"  # pages and health checks go past the line


class Turns:
    """ASGI in front of Django.

    A turn begins when the body is there and ends where the answer begins: neither who sends slowly nor who is streamed
    to holds one.
    """

    def __init__(self, app: App) -> None:
        self.app = app
        self._turns = asyncio.Semaphore(TURNS)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or not scope["path"].startswith(PREFIX):
            return await self.app(scope, receive, send)
        with SpooledTemporaryFile(IN_MEMORY) as body:
            if await _read(receive, body):
                await self._in_turn(scope, _replayed(body, receive), send)

    async def _in_turn(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            async with asyncio.timeout(PATIENCE):
                await self._turns.acquire()
        except TimeoutError:
            return await answer_problem(send, 503, "too many questions are being answered; try again", 2)
        with ExitStack() as turn:
            turn.callback(self._turns.release)

            async def sending(message: Message) -> None:
                turn.close()
                await send(message)

            await self.app(scope, receive, sending)


async def _read(receive: Receive, body: IO[bytes]) -> bool:
    """Read the whole body; False where its sender has left."""
    more, size = True, 0
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            return False
        piece, more = message.get("body", b""), message.get("more_body", False)
        size += len(piece)
        if size > IN_MEMORY:
            await asyncio.to_thread(body.write, piece)
        else:
            body.write(piece)
    body.seek(0)
    return True


def _replayed(body: IO[bytes], receive: Receive) -> Receive:
    """What was read once more, and then whatever comes after it."""
    whole = False

    async def receiving() -> Message:
        nonlocal whole
        if whole:
            return await receive()
        piece = body.read(PIECE)
        whole = len(piece) < PIECE
        return {"type": "http.request", "body": piece, "more_body": not whole}

    return receiving
