"""Webhooks: a signed POST to an address that was checked, and to no other."""

import email.utils
import hashlib
import hmac
import http.client
import json
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from typing import Final
from urllib.parse import SplitResult, urlsplit

from alerts.models import Channel
from alerts.notifications.channels import ssrf_guard
from alerts.notifications.channels.transport import MOST_KEPT, Message, NotSent, Sent

CONNECT: Final = 3.0  # seconds
TOTAL: Final = 10.0
MOST_READ: Final = 64 * 1024  # bytes of an answer
LONGEST_URL: Final = 2000
AGAIN: Final = (408, 425, 429)  # of the 4xx, what may be well later
USER_AGENT: Final = "Telemetry-Webhook/1"


class Webhook:
    """POST of the payload as JSON. What comes back is kept; a redirect is not followed."""

    def check(self, channel: Channel) -> list[tuple[str, str]]:
        try:
            parts = parsed(channel.url)
            ssrf_guard.addresses_of(parts.hostname or "", _port(parts))
        except (ValueError, ssrf_guard.Unreachable) as refused:
            return [("url", str(refused))]
        except ssrf_guard.Unresolved:
            return []  # it may come to be; until then deliveries say so
        return []

    def send(self, channel: Channel, message: Message) -> Sent:
        body = json.dumps(message.payload, separators=(",", ":")).encode()
        headers = {
            "Content-Type": "application/json",
            "User-Agent": USER_AGENT,
            "Idempotency-Key": message.delivery_id,
        }
        if channel.secret:
            headers["X-Telemetry-Signature"] = signature(channel.secret, body, int(time.time()))
        try:
            return self._answer(parsed(channel.url), body, headers)
        except (ValueError, ssrf_guard.Unreachable) as refused:
            raise NotSent(str(refused), again=False) from None
        except ssrf_guard.Unresolved as error:
            raise NotSent(str(error)) from None

    def _answer(self, parts: SplitResult, body: bytes, headers: dict[str, str]) -> Sent:
        begun = time.monotonic()
        connection = Pinned(parts, ssrf_guard.addresses_of(parts.hostname or "", _port(parts)))
        path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        with within(TOTAL - (time.monotonic() - begun), connection) as late:
            try:
                connection.request("POST", path, body, headers)
                response = connection.getresponse()
                text = response.read(MOST_READ).decode("utf-8", "replace").replace("\x00", "�")[:MOST_KEPT]
            except (OSError, http.client.HTTPException, ValueError, AttributeError) as error:
                # Where the time was up the socket was closed beneath, which shows itself in many ways.
                why = f"no answer within {TOTAL:g} s" if late.is_set() else str(error) or type(error).__name__
                raise NotSent(why) from None
            finally:
                connection.close()
        return judged(response.status, text, response.headers.get("Retry-After"))


def judged(status: int, answer: str, retry_after: str | None) -> Sent:
    """What an answer means. Raises NotSent."""
    if 200 <= status < 300:
        return Sent(status, answer)
    if 300 <= status < 400:
        raise NotSent(f"answered {status}: redirects are not followed", False, status, answer)
    again = status >= 500 or status in AGAIN
    raise NotSent(f"answered {status}", again, status, answer, wait=_seconds(retry_after))


def signature(secret: str, body: bytes, at: int) -> str:
    """`t=…,v1=…`: HMAC-SHA256 of the time, a dot and the body; the time tells what is played again."""
    digest = hmac.new(secret.encode(), f"{at}.".encode() + body, hashlib.sha256).hexdigest()
    return f"t={at},v1={digest}"


def parsed(url: str) -> SplitResult:
    """An address that may be asked. Raises ValueError that says what is accepted."""
    accepted = "an address like https://example.com/path is accepted"
    if len(url) > LONGEST_URL or not url.isascii() or not url.isprintable() or " " in url or "\\" in url:
        raise ValueError(f"{accepted}, of at most {LONGEST_URL} ASCII characters without spaces")
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError:
        raise ValueError(accepted) from None
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.port == 0:
        raise ValueError(accepted)
    if parts.username is not None or parts.password is not None:
        raise ValueError(f"{accepted}, without a user and password: use the secret, with which calls are signed")
    return parts


def _port(parts: SplitResult) -> int:
    return parts.port or (443 if parts.scheme == "https" else 80)


def _seconds(retry_after: str | None) -> float | None:
    """A Retry-After: seconds, or a date."""
    if retry_after is None:
        return None
    if retry_after.isascii() and retry_after.isdigit():
        return float(retry_after[:6])
    try:
        return max(0.0, email.utils.parsedate_to_datetime(retry_after).timestamp() - time.time())
    except ValueError:
        return None


class Pinned(http.client.HTTPConnection):
    """Connects to one of the addresses that were checked, in the name of the host: Host, SNI and certificate."""

    def __init__(self, parts: SplitResult, addresses: list[ssrf_guard.Address]) -> None:
        self.secure = parts.scheme == "https"
        self.default_port = 443 if self.secure else 80
        super().__init__(parts.hostname or "", _port(parts), timeout=CONNECT)
        self.addresses = addresses

    def connect(self) -> None:
        plain = self._connected()
        plain.settimeout(TOTAL)
        plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.sock = plain
        if self.secure:
            self.sock = _tls().wrap_socket(plain, server_hostname=self.host, do_handshake_on_connect=False)
            self.sock.do_handshake()  # once `abort` can see it

    def _connected(self) -> socket.socket:
        """To the first address that takes it, in CONNECT seconds all together."""
        until = time.monotonic() + CONNECT
        error: OSError = TimeoutError("timed out")
        for address in self.addresses:
            if (left := until - time.monotonic()) <= 0:
                break
            try:
                return socket.create_connection((str(address), self.port), left)
            except OSError as failed:
                error = failed
        raise error

    def abort(self) -> None:
        """End whatever another thread is waiting for."""
        if self.sock is not None:
            socket.socket.shutdown(self.sock, socket.SHUT_RDWR)  # the plain one: TLS would wait for a farewell


@cache
def _tls() -> ssl.SSLContext:
    return ssl.create_default_context()  # reading the certificates of this machine takes its time


@contextmanager
def within(seconds: float, connection: Pinned) -> Iterator[threading.Event]:
    """Cut a connection off when the time is up, since a timeout of a socket begins anew with every byte."""
    late = threading.Event()

    def cut() -> None:
        late.set()
        with suppress(OSError):  # it was over by itself
            connection.abort()

    timer = threading.Timer(max(0.0, seconds), cut)
    timer.daemon = True
    timer.start()
    try:
        yield late
    finally:
        timer.cancel()
