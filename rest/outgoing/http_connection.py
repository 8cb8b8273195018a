"""HTTP connections to addresses that the SSRF guard checked, which end at the deadline of their exchange."""

import http.client
import socket
import ssl
from functools import cache
from urllib.parse import SplitResult, urlsplit

from rest.outgoing import ssrf_guard
from rest.outgoing.deadline import Deadline

CONNECT_TIMEOUT = 3.0  # seconds
MAX_URL_LENGTH = 2000


def parse_url(url: str) -> SplitResult:
    """Parse and validate an HTTP URL. Raises ValueError."""
    accepted = "must be a URL such as https://example.com/path"
    if len(url) > MAX_URL_LENGTH or not url.isascii() or not url.isprintable() or " " in url or "\\" in url:
        raise ValueError(f"{accepted}, at most {MAX_URL_LENGTH} ASCII characters without spaces")
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError:
        raise ValueError(accepted) from None
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.port == 0:
        raise ValueError(accepted)
    if parts.username is not None or parts.password is not None:
        raise ValueError(f"{accepted}, without user and password")
    return parts


def port_of(parts: SplitResult) -> int:
    return parts.port or (443 if parts.scheme == "https" else 80)


class PinnedConnection(http.client.HTTPConnection):
    """Connection to one of the checked addresses, with the host name in Host, SNI and certificate check.

    verify  False accepts any certificate
    """

    def __init__(
        self, parts: SplitResult, addresses: list[ssrf_guard.Address], deadline: Deadline, verify: bool = True
    ) -> None:
        self.secure = parts.scheme == "https"
        self.default_port = 443 if self.secure else 80
        super().__init__(parts.hostname or "", port_of(parts), timeout=CONNECT_TIMEOUT)
        self.addresses = addresses
        self.deadline = deadline
        self.verify = verify

    def connect(self) -> None:
        timeout = min(CONNECT_TIMEOUT, self.deadline.remaining)
        raw = ssrf_guard.connect_to_first(self.addresses, self.port, timeout)
        self.sock = raw
        self.deadline.watch(raw)
        raw.settimeout(self.deadline.remaining + 1)  # the deadline cuts the connection before
        raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if self.secure:
            self.sock = tls_context(self.verify).wrap_socket(raw, server_hostname=self.host)


@cache
def tls_context(verify: bool) -> ssl.SSLContext:
    """Return the TLS settings of clients; cached, since loading the certificate store is slow."""
    context = ssl.create_default_context()
    if not verify:
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context
