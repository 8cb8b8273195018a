"""Who is acting: a person or a key whose request is answered, or a command or task of this installation."""

import sys
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

from asgiref.sync import iscoroutinefunction
from django.http import HttpRequest
from django.utils.decorators import sync_and_async_middleware

from rest import request_context
from rest.caller import Caller, caller_of
from rest.ip_rate_limit import address_of

# A request, and not who makes it: that is known once the view has asked for it, be it by session or by key.
_current: ContextVar[HttpRequest | Caller | None] = ContextVar("acting", default=None)


@dataclass(frozen=True, slots=True)
class Actor:
    """Who does what is done now, and by which request."""

    name: str
    request_id: str = ""
    address: str = ""


def actor() -> Actor:
    """Whoever is acting now."""
    current = _current.get()
    if current is None:
        return Actor(_program())
    if isinstance(current, Caller):
        return Actor(current.name)
    user: Any = getattr(current, "user", None)
    name = caller_of(user).name if user is not None and user.is_authenticated else "anonymous"
    scope = getattr(current, "scope", None)  # of ASGI; a proxy is not where somebody comes from
    address = address_of(scope) if scope is not None else current.META.get("REMOTE_ADDR") or ""
    return Actor(name, request_context.request_id() or "", address)


def _program() -> str:
    """The program that runs where nobody has asked for it."""
    return f"command:{sys.argv[1]}" if len(sys.argv) > 1 and sys.argv[0].endswith("manage.py") else "system"


@contextmanager
def acting(actor: HttpRequest | Caller) -> Iterator[None]:
    """Within it, this request or this caller is acting: `with acting(Caller.internal("task:…")):`."""
    token = _current.set(actor)
    try:
        yield
    finally:
        _current.reset(token)


@sync_and_async_middleware
def remember_request(get_response: Callable[[HttpRequest], Any]) -> Callable[[HttpRequest], Any]:
    """Middleware: while a request is answered, it is the one that acts."""
    if not iscoroutinefunction(get_response):

        def answer(request: HttpRequest) -> Any:
            with acting(request):
                return get_response(request)

        return answer

    async def answer_later(request: HttpRequest) -> Any:
        with acting(request):
            later: Awaitable[Any] = get_response(request)
            return await later

    return answer_later
