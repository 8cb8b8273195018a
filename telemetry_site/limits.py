"""Where Django is asked: an address that comes too often without proving who it is (metrics.addresses)."""

from collections.abc import Awaitable

from django.conf import settings

from metrics import addresses
from metrics.errors import TooMany
from metrics.visit import current
from telemetry_site.requests import App, Message, Receive, Scope, Send, answer_problem

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
            addresses.check(scope)
        except TooMany as error:
            return await answer_problem(send, error.status, str(error), error.retry_after)
        visit = current.get()

        def sending(message: Message) -> Awaitable[None]:
            if message["type"] == "http.response.start" and visit is not None:
                (addresses.known if visit.caller else addresses.unknown)(scope)
            return send(message)

        await self.app(scope, receive, sending)
