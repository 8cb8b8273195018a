"""The concurrency limit of API requests in a process; further requests wait in a queue.

Django uses one thread per request. A thousand parallel requests would be a thousand threads that compete for one
interpreter and six database connections; with the queue they finish sooner and use less memory.
"""

import asyncio
from contextlib import ExitStack
from tempfile import SpooledTemporaryFile
from typing import IO

from telemetry_site.middleware.request_id import App, Message, Receive, Scope, Send, answer_problem

MAX_CONCURRENT_REQUESTS = 12  # more are not faster; large queries (metrics.query.plan) can use eight
QUEUE_TIMEOUT = 30.0  # seconds in the queue until the request is rejected with 503
RETRY_AFTER = 2  # seconds
MAX_BODY_IN_MEMORY = 1024 * 1024  # bytes, as in Django; a larger body is stored on disk
CHUNK_SIZE = 64 * 1024  # bytes
PREFIX = "/api/"  # pages and health checks are not limited


class ConcurrencyLimit:
    """ASGI middleware in front of Django.

    A request counts from the end of its body to the begin of its response, so that slow senders and streamed responses
    do not use up the limit.
    """

    def __init__(self, app: App) -> None:
        self.app = app
        self._semaphore = asyncio.Semaphore(MAX_CONCURRENT_REQUESTS)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or not scope["path"].startswith(PREFIX):
            return await self.app(scope, receive, send)
        with SpooledTemporaryFile(MAX_BODY_IN_MEMORY) as body:
            if await _read_body(receive, body):
                await self._limited(scope, _replay_body(body, receive), send)

    async def _limited(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            async with asyncio.timeout(QUEUE_TIMEOUT):
                await self._semaphore.acquire()
        except TimeoutError:
            return await answer_problem(send, 503, "too many requests are running; try again", RETRY_AFTER)
        with ExitStack() as release:
            release.callback(self._semaphore.release)

            async def sending(message: Message) -> None:
                release.close()
                await send(message)

            await self.app(scope, receive, sending)


async def _read_body(receive: Receive, body: IO[bytes]) -> bool:
    """Read the whole body into `body`; return False if the client has disconnected."""
    more, size = True, 0
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            return False
        chunk, more = message.get("body", b""), message.get("more_body", False)
        size += len(chunk)
        if size > MAX_BODY_IN_MEMORY:
            await asyncio.to_thread(body.write, chunk)
        else:
            body.write(chunk)
    body.seek(0)
    return True


def _replay_body(body: IO[bytes], receive: Receive) -> Receive:
    """Return a `receive` that yields the stored body, then the further messages."""
    is_complete = False

    async def receive_again() -> Message:
        nonlocal is_complete
        if is_complete:
            return await receive()
        chunk = body.read(CHUNK_SIZE)
        is_complete = len(chunk) < CHUNK_SIZE
        return {"type": "http.request", "body": chunk, "more_body": not is_complete}

    return receive_again
