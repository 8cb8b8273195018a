"""Every HTTP request gets an id, which its answer and all that is logged meanwhile carry, and a line in the log."""

import itertools
import logging
import math
import os
import re
import time
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

import msgspec

from metrics.api.shapes import problem
from metrics.visit import Visit, current
from telemetry_site.activity import answered

log = logging.getLogger(__name__)

SLOW = 1.0  # seconds until an answer ends, from which on it is always logged
LONGEST_ID = 128
FAILED = "the server failed; what it saw is in its log"

_SANE = re.compile(rb"[\x21-\x7e]{1,%d}" % LONGEST_ID)
_process = os.urandom(6).hex().encode()  # ids of several processes differ, and those of one are counted
_numbers = itertools.count(1)

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
        given = _given(scope["headers"]) or b"%s-%x" % (_process, next(_numbers))
        visit = Visit(given)
        current.set(visit)  # each request is a task, whose context is its own

        def sending(message: Message) -> Awaitable[None]:
            if message["type"] == "http.response.start":
                status = visit.status = message["status"]
                answered(scope, status, visit.began)
                message["headers"] = [*message["headers"], (b"x-request-id", given)]
            else:
                visit.bytes += len(message.get("body", b""))
            return send(message)

        try:
            await self.app(scope, receive, sending)
        except Exception:
            log.exception("%s failed", scope["method"])
            if visit.status:
                raise  # the answer has begun: all that is left is to break it off
            await answer_problem(sending, 500, FAILED)
        finally:
            _write_down(scope, visit)


async def answer_problem(send: Send, status: int, detail: str, wait: float | None = None) -> None:
    """Answer with a problem; `wait` is in seconds."""
    body = msgspec.json.encode(problem(status, detail))
    headers = [(b"content-type", b"application/problem+json"), (b"content-length", str(len(body)).encode())]
    if wait is not None:
        headers.append((b"retry-after", str(math.ceil(wait)).encode()))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def _given(headers: list[tuple[bytes, bytes]]) -> bytes | None:
    """The id that whoever asks has chosen, where it may stand in a log."""
    for name, value in headers:
        if name == b"x-request-id":
            return value if _SANE.fullmatch(value) else None
    return None


def _write_down(scope: Scope, visit: Visit) -> None:
    """The request's line.

    Measurements that were stored are a line of the journal each, in the database: here they are told only when
    DEBUG is, since thousands of lines a second would cost as much as storing them.
    """
    seconds = time.perf_counter() - visit.began
    level = logging.INFO if visit.status < 500 else logging.WARNING
    if visit.stored and seconds < SLOW:
        level = logging.DEBUG
    if not log.isEnabledFor(level):
        return
    fields = {
        "request_id": visit.id,
        "caller": visit.caller or None,
        "method": scope["method"],
        "route": visit.route or None,
        "path": scope["path"] + (f"?{query.decode('latin-1')}" if (query := scope["query_string"]) else ""),
        "status": visit.status or None,  # None: whoever asked has left before there was an answer
        "duration_ms": round(seconds * 1000, 2),
        "bytes": visit.bytes,
    }
    log.log(level, "%s %s", scope["method"], visit.status or "left", extra={"fields": fields})
