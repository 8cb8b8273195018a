"""The address by which clients are limited. Pure."""

import ipaddress
from functools import lru_cache


@lru_cache(10_000)
def network_of(address: str) -> str:
    """Return an IP address, of IPv6 its /64 network, which belongs to one client."""
    try:
        ip = ipaddress.ip_address(address)
    except ValueError:
        return "nowhere"  # an invalid address must not create buckets
    if isinstance(ip, ipaddress.IPv6Address):
        if ip.ipv4_mapped is None:
            return str(ipaddress.IPv6Network((int(ip) >> 64 << 64, 64)))
        ip = ip.ipv4_mapped
    return str(ip)
