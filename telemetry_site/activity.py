"""Writing what the site has counted of itself, and counting open sockets."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Any

from metrics.statistics import request_history
from metrics.storage.errors import StorageUnavailable

log = logging.getLogger(__name__)

PERIOD = 1.0  # seconds between writes of what was counted

Scope = dict[str, Any]
Message = dict[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Any, Any, Any], Awaitable[None]]


class Sockets:
    """ASGI around WebSockets: how many are open."""

    open = 0

    def __init__(self, app: App) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        Sockets.open += 1
        try:
            await self.app(scope, receive, send)
        finally:
            Sockets.open -= 1


async def keep_writing() -> None:
    """Write what was counted, again and again; while the database is away it gathers."""
    while True:
        await asyncio.sleep(PERIOD)
        await asyncio.to_thread(write)


def write() -> None:
    """Write once; whatever goes wrong is told and passes."""
    try:
        request_history.write()
    except StorageUnavailable as error:
        log.warning("what was counted could not be written yet: %s", str(error).split("\n")[0])
    except Exception:  # statistics must never end what they are about
        log.exception("what was counted could not be written yet")
