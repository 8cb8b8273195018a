"""Middleware that sees an answer before it leaves, whichever side of Django it comes from."""

from collections.abc import Awaitable, Callable
from typing import cast

from asgiref.sync import iscoroutinefunction, markcoroutinefunction
from django.http import HttpRequest, HttpResponse

Answer = HttpResponse | Awaitable[HttpResponse]


class BeforeItLeaves:
    """Base of what adds to answers: `leaving` is called with each of them."""

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
        return self.leaving(request, cast(HttpResponse, self.get_response(request)))

    async def _later(self, request: HttpRequest) -> HttpResponse:
        return self.leaving(request, await cast(Awaitable[HttpResponse], self.get_response(request)))

    def leaving(self, request: HttpRequest, response: HttpResponse) -> HttpResponse:
        """The answer as it is to leave."""
        raise NotImplementedError
