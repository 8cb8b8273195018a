"""The rate limit of unauthenticated IP addresses for requests to Django (see rest.ip_rate_limit)."""

from collections.abc import Awaitable

from django.conf import settings

from rest import ip_rate_limit
from rest.errors import RateLimited
from rest.request_context import current
from telemetry_site.middleware.request_id import App, Message, Receive, Scope, Send, answer_problem

# Health checks and static files are cheap and need no authentication.
UNLIMITED_PATHS = (f"/{settings.STATIC_URL.lstrip('/')}", "/health", "/livez", "/readyz", "/favicon.ico")


class IPRateLimit:
    """ASGI middleware in front of Django; the fast lane applies the limit itself."""

    def __init__(self, app: App) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["path"].startswith(UNLIMITED_PATHS):
            return await self.app(scope, receive, send)
        try:
            ip_rate_limit.check(scope)
        except RateLimited as error:
            return await answer_problem(send, error.status, str(error), error.retry_after)
        visit = current.get()

        def send_and_count(message: Message) -> Awaitable[None]:
            if message["type"] == "http.response.start" and visit is not None:
                (ip_rate_limit.mark_valid if visit.caller else ip_rate_limit.count_invalid)(scope)
            return send(message)

        await self.app(scope, receive, send_and_count)
