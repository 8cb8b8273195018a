"""How often an address may come without proving who it is: guesses at keys, sessions and tokens, and mere visits.

Whoever is authenticated is not counted here. Requests with a key, a token, a session or nothing are counted apart, so
that one device whose key was revoked shuts out nobody else behind the same address.
"""

import ipaddress
from collections.abc import Awaitable
from functools import lru_cache
from typing import Any

from django.conf import settings

from ingest.authentication import key_in, remembered
from metrics.limits import Limit, buckets
from metrics.visit import current
from telemetry_site.requests import App, Message, Receive, Scope, Send, answer_problem

# Probes and static files: cheap, and asked by machines and pages that cannot know better.
FREE = (f"/{settings.STATIC_URL.lstrip('/')}", "/health", "/livez", "/readyz", "/favicon.ico")


class AddressLimit:
    """ASGI, behind `Requests`."""

    def __init__(self, app: App) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if settings.RATE_PER_ADDRESS is None or scope["path"].startswith(FREE):
            return await self.app(scope, receive, send)
        name = f"{_proof(scope)} from {address_of(scope)}"
        if (wait := buckets.wait(name)) and not _is_known(scope):
            detail = "more requests from this address, none of them authenticated, than it may send"
            return await answer_problem(send, 429, detail, wait)
        visit = current.get()

        def sending(message: Message) -> Awaitable[None]:
            if message["type"] == "http.response.start" and visit is not None and not visit.caller:
                buckets.charge(name, Limit(*settings.RATE_PER_ADDRESS))
            return send(message)

        await self.app(scope, receive, sending)


def address_of(scope: Scope) -> str:
    """Where a request comes from, an IPv6 network as one; the last hop that the proxy names, where there is one."""
    if settings.BEHIND_PROXY:
        hops = [value for name, value in scope["headers"] if name == b"x-forwarded-for"]
        if hops:
            return _network(hops[-1].decode("latin-1").rpartition(",")[2].strip())
    return _network(scope["client"][0]) if scope.get("client") else "this machine"


@lru_cache(10_000)
def _network(address: str) -> str:
    try:
        found = ipaddress.ip_address(address)
    except ValueError:
        return "nowhere"  # what is no address must not make buckets at will
    if isinstance(found, ipaddress.IPv6Address):
        if found.ipv4_mapped is None:
            return str(ipaddress.IPv6Network((int(found) >> 64 << 64, 64)))
        found = found.ipv4_mapped
    return str(found)


def _proof(scope: Scope) -> str:
    """What a request shows of who it is, be it true or not."""
    for name, value in scope["headers"]:
        if name == b"x-api-key":
            return "key"
        if name == b"authorization":
            return "token" if value.count(b".") == 2 else "key"
        if name == b"cookie" and _SESSION in value:
            return "session"
    return "nothing"


_SESSION = f"{settings.SESSION_COOKIE_NAME}=".encode()


def _is_known(scope: Scope) -> bool:
    """Whether it comes with a key that was good a moment ago."""
    headers: dict[bytes, Any] = {name: value.decode("latin-1") for name, value in scope["headers"]}
    key = key_in(headers.get(b"x-api-key"), headers.get(b"authorization"))
    return key is not None and remembered(key)[1] is not None
