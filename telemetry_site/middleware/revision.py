"""The headers `Telemetry-Min-Revision` and `Telemetry-Revision` of requests to Django (see metrics.required_revision).

Without the first, requests do not wait here: views read changes from the database, or from a registry that they
refresh.
"""

from collections.abc import Awaitable

from metrics.error_responses import EXPECTED_ERRORS, error_response
from metrics.required_revision import REQUEST_HEADER, response_headers, wait_until_current
from metrics.storage import series_registry
from rest.request_context import current
from telemetry_site.middleware.request_id import App, Message, Receive, Scope, Send, answer_problem


class RequiredRevision:
    """ASGI middleware in front of Django; the fast lane does the same itself."""

    def __init__(self, app: App) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        visit = current.get()
        if visit is None:
            return await self.app(scope, receive, send)
        visit.revision = series_registry.cached_registry().revision
        headers = dict(scope["headers"])

        def send_with_revision(message: Message) -> Awaitable[None]:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], *response_headers(visit)]
            return send(message)

        if REQUEST_HEADER in headers:
            try:
                visit.revision = await wait_until_current(headers)
            except EXPECTED_ERRORS as error:
                answer = error_response(error)
                return await answer_problem(
                    send_with_revision, answer.status, answer.detail, answer.retry_after, answer.errors
                )
        await self.app(scope, receive, send_with_revision)
