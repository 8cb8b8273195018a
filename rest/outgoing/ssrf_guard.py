"""Guard against server-side request forgery: outgoing requests reach public addresses and allowed networks only.

A name is resolved once, all its addresses are checked, and the connection uses one of the checked addresses. Each
policy names the setting with the private networks that its requests may reach; metadata services of clouds, which hand
out credentials, are refused by every policy.
"""

import ipaddress
import socket
import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures import TimeoutError as FutureTimeoutError
from dataclasses import dataclass, field
from typing import Any

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
METADATA_ADDRESSES = frozenset(
    ipaddress.ip_address(address)
    for address in (
        "169.254.169.254", "fd00:ec2::254", "fd20:ce::254",  # AWS, Azure, Google Cloud and others
        "169.254.170.2", "169.254.170.23", "fd00:ec2::23",  # credentials of containers at AWS
        "100.100.100.200",  # Alibaba Cloud
        "168.63.129.16",  # Azure's agent
        "192.0.0.192",  # Oracle Cloud
    )
)  # fmt: skip
RESOLVER_THREADS = 64  # getaddrinfo has no timeout: hanging lookups must not use them up


@dataclass(frozen=True, slots=True)
class NetworkPolicy:
    """Private networks that one kind of request may reach, with threads of its own to resolve names.

    setting  name of the setting; its environment variable has the prefix TELEMETRY_
    """

    setting: str
    resolver: ThreadPoolExecutor = field(
        default_factory=lambda: ThreadPoolExecutor(RESOLVER_THREADS, "resolve"), compare=False, repr=False
    )

    def allows(self, address: Address) -> bool:
        networks: Any = getattr(settings, self.setting)
        return any(address in network for network in networks)


WEBHOOKS = NetworkPolicy("ALLOW_PRIVATE_WEBHOOKS")
COLLECTORS = NetworkPolicy("ALLOW_PRIVATE_COLLECTORS")


class AddressForbidden(Exception):
    """The address is not allowed; the message says which setting would allow it."""


class NameNotResolved(Exception):
    """The name cannot be resolved now."""


def resolve_allowed_addresses(
    host: str, port: int, policy: NetworkPolicy, timeout: float = RESOLVE_TIMEOUT
) -> list[Address]:
    """Resolve a host name within `timeout` seconds.

    Raises AddressForbidden if one of its addresses is not allowed, or NameNotResolved.
    """
    lookup = policy.resolver.submit(socket.getaddrinfo, host, port, 0, socket.SOCK_STREAM)
    try:
        answers = lookup.result(timeout)
    except FutureTimeoutError:
        raise NameNotResolved(f"{host} was not resolved within {timeout:.1f} s") from None
    except (OSError, UnicodeError) as error:
        raise NameNotResolved(f"{host} cannot be resolved: {error}") from None
    addresses = [ipaddress.ip_address(str(answer[4][0])) for answer in answers]
    check_addresses(host, addresses, policy)
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


def check_addresses(host: str, addresses: Iterable[Address], policy: NetworkPolicy) -> None:
    """Check that all addresses of a host are allowed. Raises AddressForbidden."""
    for address in addresses:
        name = f"{host} ({address})" if host != str(address) else host
        if _is_metadata_service(address):
            raise AddressForbidden(f"{name} is the metadata service of a cloud, which is never allowed")
        if not policy.allows(address) and not _is_public(address):
            variable = f"TELEMETRY_{policy.setting}"
            raise AddressForbidden(f"{name} is not a public address: add its network to {variable} to allow it")


def _is_metadata_service(address: Address) -> bool:
    inner = (address.ipv4_mapped or address.sixtofour) if isinstance(address, ipaddress.IPv6Address) else None
    return address in METADATA_ADDRESSES or inner in METADATA_ADDRESSES


def _is_public(address: Address) -> bool:
    if any(address in network for network in _FORBIDDEN_NETWORKS):
        return False
    inside = address.is_multicast or address.is_reserved or address.is_unspecified or address.is_loopback
    return address.is_global and not inside
