"""Server-sent events, answered in front of Django, which would need a thread for each stream."""

from dashboard.routing import find_stream
from dashboard.streams import sse
from rest.request_context import current
from telemetry_site.middleware.request_id import App, Receive, Scope, Send, answer_problem

PREFIX = "/sse/"


class EventStreams:
    """ASGI middleware that answers the streams under `/sse/`."""

    def __init__(self, app: App) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        session_class, path = find_stream(scope["path"]) if scope["path"].startswith(PREFIX) else (None, "")
        if session_class is None:
            return await self.app(scope, receive, send)
        if (visit := current.get()) is not None:
            visit.route = scope["path"].removeprefix("/").removesuffix(path) + ("<id:subscription_id>" if path else "")
        if scope["method"] != "GET":
            return await answer_problem(send, 405, f'Method "{scope["method"]}" not allowed.')
        await sse.serve(scope, receive, send, session_class, path)
