"""Routes of live streams: WebSockets under `/ws/`, and the same streams as server-sent events under `/sse/`."""

import re
from collections.abc import Awaitable, Callable
from typing import Any

from dashboard.streams import websocket
from dashboard.streams.live_consumer import LiveSession
from dashboard.streams.session import StreamSession
from dashboard.streams.telemetry_consumer import TelemetrySession

Scope = dict[str, Any]
Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]

# The first group of a pattern is the path of the session.
_ROUTES: tuple[tuple[re.Pattern[str], type[StreamSession]], ...] = (
    (re.compile(r"/(?:ws|sse)/live"), LiveSession),
    (re.compile(r"/(?:ws|sse)/telemetry/([\w-]{1,64})", re.ASCII), TelemetrySession),
)


def find_stream(path: str) -> tuple[type[StreamSession] | None, str]:
    """Return the kind of stream at a path, None if there is none, and the path of its session."""
    for pattern, session_class in _ROUTES:
        if match := pattern.fullmatch(path):
            return session_class, match.group(1) if match.groups() else ""
    return None, ""


async def websockets(scope: Scope, receive: Receive, send: Send) -> None:
    """ASGI application of all WebSockets."""
    await websocket.serve(scope, receive, send, *find_stream(scope["path"]))
