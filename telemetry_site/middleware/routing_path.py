"""The path on which Django matches routes: decoded except for escaped slashes (see rest.paths)."""

from rest.paths import InvalidPath, routing_path
from telemetry_site.middleware.request_id import App, Receive, Scope, Send, answer_problem


class RoutingPath:
    """ASGI middleware in front of Django; the fast lane decodes its paths itself. Invalid paths are answered 400."""

    def __init__(self, app: App) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            path = routing_path(scope["raw_path"].decode("latin-1"))
        except InvalidPath as error:
            return await answer_problem(send, 400, str(error))
        await self.app({**scope, "path": path}, receive, send)
