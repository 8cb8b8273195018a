"""Rate limit of unauthenticated requests per IP address: invalid keys, tokens and sessions, and anonymous requests.

Authenticated requests do not count. Keys, tokens, sessions and anonymous requests have separate buckets, so that a
device with a revoked key does not block others behind the same address.
"""

from typing import Any

from django.conf import settings

from rest.client_address import network_of
from rest.errors import RateLimited
from rest.rate_limit import Limit, buckets

Scope = dict[str, Any]  # of ASGI


MAX_PROVEN = 200_000
_proven: set[tuple[str, int]] = set()  # credentials that were valid recently; per process


def check(scope: Scope) -> None:
    """Raise RateLimited if an address without a proven credential is over its limit."""
    if settings.RATE_PER_ADDRESS is None:
        return
    credential = _credential(scope)
    if (wait := buckets.wait(_bucket(credential, scope))) and credential not in _proven:
        raise RateLimited("too many unauthenticated requests from this address", wait)


def mark_valid(scope: Scope) -> None:
    """Remember the credential of a request as valid."""
    if len(_proven) >= MAX_PROVEN:
        _proven.clear()
    _proven.add(_credential(scope))


def count_invalid(scope: Scope) -> None:
    """Count a request without a valid credential."""
    credential = _credential(scope)
    _proven.discard(credential)
    if settings.RATE_PER_ADDRESS is not None:
        buckets.charge(_bucket(credential, scope), Limit(*settings.RATE_PER_ADDRESS))


def clear_proven_credentials() -> None:
    """Forget which credentials were valid."""
    _proven.clear()


def _bucket(credential: tuple[str, int], scope: Scope) -> str:
    return f"{credential[0]} from {address_of(scope)}"


def _credential(scope: Scope) -> tuple[str, int]:
    """Return the kind of the credential of a request and a hash of it, valid or not."""
    for name, value in scope["headers"]:
        if name == b"x-api-key":
            return "key", hash(value)
        if name == b"authorization":
            return "token" if value.count(b".") == 2 else "key", hash(value)
        if name == b"cookie" and _SESSION in value:
            return "session", hash(value)
    return "nothing", 0


_SESSION = f"{settings.SESSION_COOKIE_NAME}=".encode()


def address_of(scope: Scope) -> str:
    """Return the IP address of a request, or its IPv6 network; from the last hop of a trusted proxy."""
    if settings.BEHIND_PROXY:
        hops = [value for name, value in scope["headers"] if name == b"x-forwarded-for"]
        if hops:
            return network_of(hops[-1].decode("latin-1").rpartition(",")[2].strip())
    return network_of(scope["client"][0]) if scope.get("client") else "this machine"
