"""Which addresses a channel may reach: public ones, and private ones that the installation allows.

A name is resolved once, every address of it is judged, and the connection goes to one of those that were.
"""

import ipaddress
import socket
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures import TimeoutError as TooSlow
from typing import Final

from django.conf import settings

Address = ipaddress.IPv4Address | ipaddress.IPv6Address

RESOLVE: Final = 3.0  # seconds
# What `is_global` lets pass, or did in one version of Python or another: each may lead back inside.
_LEAD_INSIDE: Final = tuple(
    ipaddress.ip_network(network)
    for network in (
        "100.64.0.0/10",  # carriers' NAT
        "192.0.0.0/24",  # of protocols
        "192.88.99.0/24",  # relays of 6to4
        "64:ff9b::/96", "64:ff9b:1::/48",  # NAT64
        "::ffff:0:0/96", "::ffff:0:0:0/96", "::/96",  # IPv4 within IPv6
        "2001::/23",  # of protocols, among them Teredo
        "2002::/16",  # 6to4
        "3fff::/20",  # documentation
        "5f00::/16",  # segment routing
        "fec0::/10",  # site-local
    )
)  # fmt: skip
_resolver = ThreadPoolExecutor(8, "resolve")  # getaddrinfo knows no timeout of its own


class Unreachable(Exception):
    """It may not be reached: the message says why, and what would allow it."""


class Unresolved(Exception):
    """The name has no address now."""


def addresses_of(host: str, port: int) -> list[Address]:
    """Where a host is, all of it allowed. Raises Unreachable or Unresolved."""
    asked = _resolver.submit(socket.getaddrinfo, host, port, 0, socket.SOCK_STREAM)
    try:
        answers = asked.result(RESOLVE)
    except TooSlow:
        raise Unresolved(f"{host} was not resolved within {RESOLVE:g} s") from None
    except (OSError, UnicodeError) as error:
        raise Unresolved(f"{host} cannot be resolved: {error}") from None
    found = [ipaddress.ip_address(str(answer[4][0])) for answer in answers]
    judge(host, found)
    return list(dict.fromkeys(found))


def judge(host: str, addresses: Iterable[Address]) -> None:
    """Raises Unreachable where one of a host's addresses is out of bounds."""
    for address in addresses:
        if not _allowed(address):
            named = f"{host} ({address})" if host != str(address) else host
            raise Unreachable(
                f"{named} is not a public address: it is accepted where TELEMETRY_ALLOW_PRIVATE_WEBHOOKS names"
                " its network"
            )


def _allowed(address: Address) -> bool:
    if any(address in network for network in settings.ALLOW_PRIVATE_WEBHOOKS):
        return True
    if any(address in network for network in _LEAD_INSIDE):
        return False
    inside = address.is_multicast or address.is_reserved or address.is_unspecified or address.is_loopback
    return address.is_global and not inside
