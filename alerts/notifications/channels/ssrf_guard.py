"""Guard against server-side request forgery: channels reach public addresses and allowed private networks only.

A name is resolved once, all its addresses are checked, and the connection uses one of the checked addresses.
"""

import ipaddress
import socket
import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures import TimeoutError as FutureTimeoutError

from django.conf import settings

Address = ipaddress.IPv4Address | ipaddress.IPv6Address

RESOLVE_TIMEOUT = 3.0  # seconds
# Networks that may lead to private addresses although `is_global` accepts them in some versions of Python.
_FORBIDDEN_NETWORKS = tuple(
    ipaddress.ip_network(network)
    for network in (
        "100.64.0.0/10",  # carrier-grade NAT
        "192.0.0.0/24",  # protocol assignments
        "192.88.99.0/24",  # 6to4 relays
        "64:ff9b::/96", "64:ff9b:1::/48",  # NAT64
        "::ffff:0:0/96", "::ffff:0:0:0/96", "::/96",  # IPv4 within IPv6
        "2001::/23",  # protocol assignments, including Teredo
        "2002::/16",  # 6to4
        "3fff::/20",  # documentation
        "5f00::/16",  # segment routing
        "fec0::/10",  # site-local
    )
)  # fmt: skip
_resolver = ThreadPoolExecutor(64, "resolve")  # getaddrinfo has no timeout: hanging lookups must not use them up


class AddressForbidden(Exception):
    """The address is not allowed; the message says which setting would allow it."""


class NameNotResolved(Exception):
    """The name cannot be resolved now."""


def resolve_allowed_addresses(host: str, port: int) -> list[Address]:
    """Resolve a host name. Raises AddressForbidden if one of its addresses is not allowed, or NameNotResolved."""
    lookup = _resolver.submit(socket.getaddrinfo, host, port, 0, socket.SOCK_STREAM)
    try:
        answers = lookup.result(RESOLVE_TIMEOUT)
    except FutureTimeoutError:
        raise NameNotResolved(f"{host} was not resolved within {RESOLVE_TIMEOUT:g} s") from None
    except (OSError, UnicodeError) as error:
        raise NameNotResolved(f"{host} cannot be resolved: {error}") from None
    addresses = [ipaddress.ip_address(str(answer[4][0])) for answer in answers]
    check_addresses(host, addresses)
    return list(dict.fromkeys(addresses))


def connect_to_first(addresses: Iterable[Address], port: int, timeout: float) -> socket.socket:
    """Connect to the first of these addresses that accepts, within the timeout for all together. Raises OSError."""
    ends_at = time.monotonic() + timeout
    error: OSError = TimeoutError("timed out")
    for address in addresses:
        if (remaining := ends_at - time.monotonic()) <= 0:
            break
        try:
            return socket.create_connection((str(address), port), remaining)
        except OSError as failed:
            error = failed
    raise error


def check_addresses(host: str, addresses: Iterable[Address]) -> None:
    """Check that all addresses of a host are allowed. Raises AddressForbidden."""
    for address in addresses:
        if not _is_allowed(address):
            name = f"{host} ({address})" if host != str(address) else host
            raise AddressForbidden(
                f"{name} is not a public address: add its network to TELEMETRY_ALLOW_PRIVATE_WEBHOOKS to allow it"
            )


def _is_allowed(address: Address) -> bool:
    if any(address in network for network in settings.ALLOW_PRIVATE_WEBHOOKS):
        return True
    if any(address in network for network in _FORBIDDEN_NETWORKS):
        return False
    inside = address.is_multicast or address.is_reserved or address.is_unspecified or address.is_loopback
    return address.is_global and not inside
