"""Counting what the site does, in front of everything: requests, failures, how long an answer takes, sockets."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from time import perf_counter
from typing import Any

from metrics import activity
from metrics.activity import INGEST, OTHER, tally
from metrics.errors import StorageUnavailable

log = logging.getLogger(__name__)

PERIOD = 1.0  # seconds between writes of what was counted
# Who asks whether the site lives is no user of it: a check every second would make every figure look better.
UNCOUNTED = frozenset({"/health", "/health/detailed", "/livez", "/readyz"})
WAYS_IN = ("/telemetry", "/telemetry/batch", "/bulk")  # how the paths end by which measurements come

Scope = dict[str, Any]
Message = dict[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Any, Any, Any], Awaitable[None]]


class Activity:
    """ASGI around ASGI. What an answer takes is told when it begins: an export is not slow because it is long."""

    sockets = 0  # that are open

    def __init__(self, app: App) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket":
            return await self._socket(scope, receive, send)
        if scope["type"] != "http" or scope["path"] in UNCOUNTED:
            return await self.app(scope, receive, send)
        began = perf_counter()
        kind = INGEST if scope["method"] == "POST" and scope["path"].rstrip("/").endswith(WAYS_IN) else OTHER
        counted = False

        async def sending(message: Message) -> None:
            nonlocal counted
            if not counted:
                counted = True
                tally.answered(kind, message["status"], perf_counter() - began)
            await send(message)

        try:
            await self.app(scope, receive, sending)
        except Exception:
            if not counted:
                tally.answered(kind, 500, perf_counter() - began)
            raise

    async def _socket(self, scope: Scope, receive: Receive, send: Send) -> None:
        Activity.sockets += 1
        try:
            await self.app(scope, receive, send)
        finally:
            Activity.sockets -= 1


async def keep_writing() -> None:
    """Write what was counted, again and again; while the database is away it gathers."""
    while True:
        await asyncio.sleep(PERIOD)
        await asyncio.to_thread(write)


def write() -> None:
    """Write once; whatever goes wrong is told and passes."""
    try:
        activity.write()
    except StorageUnavailable as error:
        log.warning("what was counted could not be written yet: %s", str(error).split("\n")[0])
    except Exception:  # statistics must never end what they are about
        log.exception("what was counted could not be written yet")
