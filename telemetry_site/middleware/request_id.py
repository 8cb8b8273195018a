"""Request IDs and the request log for requests to Django.

The response and all log records of a request carry its request ID. The fast lane does the same itself.
"""

import logging
import math
from collections.abc import Awaitable, Callable, Coroutine, Sequence
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


class RequestIdMiddleware:
    """ASGI middleware that sets the request ID and writes the request log."""

    def __init__(self, app: App) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        visit = begin(scope["headers"])

        def send_with_id(message: Message) -> Awaitable[None]:
            if message["type"] == "http.response.start":
                answered(scope, visit, message["status"])
                message["headers"] = [*message["headers"], (b"x-request-id", visit.given)]
            else:
                visit.bytes += len(message.get("body", b""))
            return send(message)

        try:
            await self.app(scope, receive, send_with_id)
        except Exception:
            log.exception("%s failed", scope["method"])
            if visit.status:
                raise  # the response has begun: the server closes the connection
            await answer_problem(send_with_id, 500, SERVER_ERROR)
        finally:
            ended(scope, visit)


async def answer_problem(
    send: Send, status: int, detail: str, wait: float | None = None, errors: Sequence[dict[str, Any]] = ()
) -> None:
    """Send a problem response (RFC 9457); `wait` is Retry-After in seconds."""
    body = msgspec.json.encode(problem(status, detail, errors))
    headers = [(b"content-type", b"application/problem+json"), (b"content-length", str(len(body)).encode())]
    if wait is not None:
        headers.append((b"retry-after", str(math.ceil(wait)).encode()))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
