"""The content security policy: every script, style and connection from this site alone, none of them inline."""

from collections.abc import Awaitable, Callable
from typing import cast

from asgiref.sync import iscoroutinefunction, markcoroutinefunction
from django.http import HttpRequest, HttpResponse

POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self' data:",
        "font-src 'self'",
        "connect-src 'self'",
        "manifest-src 'self'",
        "form-action 'self'",
        "base-uri 'none'",
        "frame-ancestors 'none'",
    )
)

Answer = HttpResponse | Awaitable[HttpResponse]


class ContentSecurityPolicy:
    """Django 5.2 has no middleware for this, and the third-party one is synchronous only."""

    sync_capable = True
    async_capable = True

    def __init__(self, get_response: Callable[[HttpRequest], Answer]) -> None:
        self.get_response = get_response
        self.is_async = iscoroutinefunction(get_response)
        if self.is_async:
            markcoroutinefunction(self)

    def __call__(self, request: HttpRequest) -> Answer:
        if self.is_async:
            return self._later(request)
        response = cast(HttpResponse, self.get_response(request))
        response.headers.setdefault("Content-Security-Policy", POLICY)
        return response

    async def _later(self, request: HttpRequest) -> HttpResponse:
        response = await cast(Awaitable[HttpResponse], self.get_response(request))
        response.headers.setdefault("Content-Security-Policy", POLICY)
        return response
