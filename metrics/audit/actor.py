"""The actor of the current change: the user or API key of a request, or a command or task of this installation."""

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

# The request and not its user, which is known only once the view has authenticated it by session or key.
_current: ContextVar[HttpRequest | Caller | None] = ContextVar("actor", default=None)


@dataclass(frozen=True, slots=True)
class Actor:
    """Name of a user, key, command or task, and the request that it makes."""

    name: str
    request_id: str = ""
    address: str = ""


def current_actor() -> Actor:
    """Return the actor of the current request, command or task."""
    current = _current.get()
    if current is None:
        return Actor(_program_name())
    if isinstance(current, Caller):
        return Actor(current.name)
    user: Any = getattr(current, "user", None)
    name = caller_of(user).name if user is not None and user.is_authenticated else "anonymous"
    scope = getattr(current, "scope", None)  # of ASGI: has the address of the client, not of a proxy
    address = address_of(scope) if scope is not None else current.META.get("REMOTE_ADDR") or ""
    return Actor(name, request_context.request_id() or "", address)


def _program_name() -> str:
    return f"command:{sys.argv[1]}" if len(sys.argv) > 1 and sys.argv[0].endswith("manage.py") else "system"


@contextmanager
def acting_as(actor: HttpRequest | Caller) -> Iterator[None]:
    """Make a request or a caller the actor of the block: `with acting_as(Caller.internal("task:…")):`."""
    token = _current.set(actor)
    try:
        yield
    finally:
        _current.reset(token)


@sync_and_async_middleware
def remember_request(get_response: Callable[[HttpRequest], Any]) -> Callable[[HttpRequest], Any]:
    """Middleware that makes the request the current actor."""
    if not iscoroutinefunction(get_response):

        def handle(request: HttpRequest) -> Any:
            with acting_as(request):
                return get_response(request)

        return handle

    async def handle_async(request: HttpRequest) -> Any:
        with acting_as(request):
            response: Awaitable[Any] = get_response(request)
            return await response

    return handle_async
