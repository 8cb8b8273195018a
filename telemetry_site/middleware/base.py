"""Base class of Django middleware that edits responses, synchronous and asynchronous."""

from collections.abc import Awaitable, Callable
from typing import cast

from asgiref.sync import iscoroutinefunction, markcoroutinefunction
from django.http import HttpRequest, HttpResponse

ResponseOrAwaitable = HttpResponse | Awaitable[HttpResponse]


class ResponseMiddleware:
    """Calls `process_response` with each response."""

    sync_capable = True
    async_capable = True

    def __init__(self, get_response: Callable[[HttpRequest], ResponseOrAwaitable]) -> None:
        self.get_response = get_response
        self.is_async = iscoroutinefunction(get_response)
        if self.is_async:
            markcoroutinefunction(self)

    def __call__(self, request: HttpRequest) -> ResponseOrAwaitable:
        if self.is_async:
            return self._call_async(request)
        return self.process_response(request, cast(HttpResponse, self.get_response(request)))

    async def _call_async(self, request: HttpRequest) -> HttpResponse:
        return self.process_response(request, await cast(Awaitable[HttpResponse], self.get_response(request)))

    def process_response(self, request: HttpRequest, response: HttpResponse) -> HttpResponse:
        """Return the response to send."""
        raise NotImplementedError
