"""Where Django is asked: an address that comes too often without proving who it is (rest.ip_rate_limit)."""

from collections.abc import Awaitable

from django.conf import settings

from rest import ip_rate_limit
from rest.errors import RateLimited
from rest.request_context import current
from telemetry_site.middleware.request_id import App, Message, Receive, Scope, Send, answer_problem

# Probes and static files: cheap, and asked by machines and pages that cannot know better.
FREE = (f"/{settings.STATIC_URL.lstrip('/')}", "/health", "/livez", "/readyz", "/favicon.ico")


class AddressLimit:
    """ASGI between the fast lane, which counts for itself, and Django."""

    def __init__(self, app: App) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["path"].startswith(FREE):
            return await self.app(scope, receive, send)
        try:
            ip_rate_limit.check(scope)
        except RateLimited as error:
            return await answer_problem(send, error.status, str(error), error.retry_after)
        visit = current.get()

        def sending(message: Message) -> Awaitable[None]:
            if message["type"] == "http.response.start" and visit is not None:
                (ip_rate_limit.known if visit.caller else ip_rate_limit.unknown)(scope)
            return send(message)

        await self.app(scope, receive, sending)
