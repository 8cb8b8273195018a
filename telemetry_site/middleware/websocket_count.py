"""The number of open WebSockets of this process."""

from telemetry_site.middleware.request_id import App, Receive, Scope, Send


class WebSocketCount:
    """ASGI middleware that counts open WebSockets."""

    open = 0

    def __init__(self, app: App) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        WebSocketCount.open += 1
        try:
            await self.app(scope, receive, send)
        finally:
            WebSocketCount.open -= 1
