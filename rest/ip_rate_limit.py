"""How often an address may come without proving who it is: guesses at keys, sessions and tokens, and mere visits.

Whoever is authenticated is not counted here. Requests with a key, a token, a session or nothing are counted apart, so
that one device whose key was revoked shuts out nobody else behind the same address.
"""

import ipaddress
from functools import lru_cache
from typing import Any

from django.conf import settings

from rest.errors import RateLimited
from rest.rate_limit import Limit, buckets

Scope = dict[str, Any]  # of ASGI


MOST_PROVEN = 200_000
_proven: set[tuple[str, int]] = set()  # what opened lately; in memory alone


def check(scope: Scope) -> None:
    """Before it is looked at who comes. Raises RateLimited, but for who comes with what was good before."""
    if settings.RATE_PER_ADDRESS is None:
        return
    shown = _shown(scope)
    if (wait := buckets.wait(_bucket(shown, scope))) and shown not in _proven:
        raise RateLimited("more requests from this address, none of them authenticated, than it may send", wait)


def known(scope: Scope) -> None:
    """It was found who came."""
    if len(_proven) >= MOST_PROVEN:
        _proven.clear()
    _proven.add(_shown(scope))


def unknown(scope: Scope) -> None:
    """It was found that nobody knows who came."""
    shown = _shown(scope)
    _proven.discard(shown)
    if settings.RATE_PER_ADDRESS is not None:
        buckets.charge(_bucket(shown, scope), Limit(*settings.RATE_PER_ADDRESS))


def clear_proven_credentials() -> None:
    """Forget which credentials were valid."""
    _proven.clear()


def _bucket(shown: tuple[str, int], scope: Scope) -> str:
    return f"{shown[0]} from {address_of(scope)}"


def _shown(scope: Scope) -> tuple[str, int]:
    """What a request shows of who it is, be it true or not: its kind, and a number for it."""
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
