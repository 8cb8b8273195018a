"""Network of Apprise plugins: each connection goes to a checked address and ends at the deadline of its attempt.

Plugins call `requests.post` themselves and resolve names again, so the check of a URL alone would not be enough: every
connection that urllib3 opens for a plugin is checked here, whatever made the plugin open it.
"""

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache
from typing import Any

from rest.outgoing import ssrf_guard
from rest.outgoing.deadline import Deadline

CONNECT_TIMEOUT = 3.0  # seconds


class DeadlineExpired(Exception):
    """Raised after the deadline of an attempt. Not an OSError, so that a plugin does not try its next recipient."""


class Guard:
    """Deadline of one attempt, and why it was not allowed to connect."""

    def __init__(self, deadline: Deadline) -> None:
        self.deadline = deadline
        self.forbidden: ssrf_guard.AddressForbidden | None = None

    def connect(self, host: str, port: int) -> socket.socket:
        """Connect to a checked address of this host. Raises AddressForbidden, DeadlineExpired or OSError."""
        if self.deadline.expired:
            raise DeadlineExpired
        try:
            addresses = ssrf_guard.resolve_allowed_addresses(host.strip("[]"), port, ssrf_guard.WEBHOOKS)
        except ssrf_guard.AddressForbidden as forbidden:
            self.forbidden = forbidden
            raise
        except ssrf_guard.NameNotResolved as error:
            raise OSError(str(error)) from None
        sock = ssrf_guard.connect_to_first(addresses, port, min(CONNECT_TIMEOUT, self.deadline.remaining))
        self.deadline.watch(sock)
        return sock


_guard: ContextVar[Guard | None] = ContextVar("apprise_guard", default=None)


@contextmanager
def guarded(deadline: Deadline) -> Iterator[Guard]:
    """Check every connection that urllib3 opens in this context."""
    _install()
    guard = Guard(deadline)
    token = _guard.set(guard)
    try:
        yield guard
    finally:
        _guard.reset(token)


@cache
def _install() -> None:
    """Put the check into urllib3. Connections outside of `guarded` are as before."""
    from urllib3.util import connection

    connect_unguarded = connection.create_connection

    def create_connection(address: tuple[str, int], timeout: Any = None, **options: Any) -> socket.socket:
        guard = _guard.get()
        if guard is None:
            return connect_unguarded(address, timeout, **options)
        sock = guard.connect(*address)
        sock.settimeout(timeout if isinstance(timeout, int | float) else guard.deadline.remaining)
        return sock

    connection.create_connection = create_connection  # type: ignore[assignment]  # as urllib3 calls it
