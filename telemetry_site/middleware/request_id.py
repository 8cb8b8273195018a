"""Every HTTP request gets an id, which its answer and all that is logged meanwhile carry, and a line in the log.

The fast lane, in front of this, does the same by itself.
"""

import logging
import math
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

import msgspec

from rest.problem import SERVER_ERROR, problem
from rest.request_log import answered, begin, ended

log = logging.getLogger(__name__)

Scope = dict[str, Any]
Message = dict[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Any, Any, Any], Coroutine[Any, Any, None]]


class Requests:
    """ASGI in front of everything that is asked by HTTP."""

    def __init__(self, app: App) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        visit = begin(scope["headers"])

        def sending(message: Message) -> Awaitable[None]:
            if message["type"] == "http.response.start":
                answered(scope, visit, message["status"])
                message["headers"] = [*message["headers"], (b"x-request-id", visit.given)]
            else:
                visit.bytes += len(message.get("body", b""))
            return send(message)

        try:
            await self.app(scope, receive, sending)
        except Exception:
            log.exception("%s failed", scope["method"])
            if visit.status:
                raise  # the answer has begun: all that is left is to break it off
            await answer_problem(sending, 500, SERVER_ERROR)
        finally:
            ended(scope, visit)


async def answer_problem(send: Send, status: int, detail: str, wait: float | None = None) -> None:
    """Answer with a problem; `wait` is in seconds."""
    body = msgspec.json.encode(problem(status, detail))
    headers = [(b"content-type", b"application/problem+json"), (b"content-length", str(len(body)).encode())]
    if wait is not None:
        headers.append((b"retry-after", str(math.ceil(wait)).encode()))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
