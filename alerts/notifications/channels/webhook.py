"""Webhooks: a signed HTTP POST to an address that the SSRF guard checked."""

import email.utils
import hashlib
import hmac
import http.client
import json
import time
from urllib.parse import SplitResult

from alerts.models import Channel
from alerts.notifications.channels.transport import MAX_RESPONSE_LENGTH, ChannelMessage, SendFailed, SendReceipt
from rest.outgoing import ssrf_guard
from rest.outgoing.deadline import Deadline
from rest.outgoing.http_connection import PinnedConnection, parse_url, port_of

SEND_TIMEOUT = 10.0  # seconds
MAX_RESPONSE_BYTES = 64 * 1024  # read of the response
RETRY_STATUSES = (408, 425, 429)  # 4xx statuses that may succeed later
USER_AGENT = "Telemetry-Webhook/1"


class WebhookChannel:
    """Transport that posts the payload as JSON. Redirects are not followed."""

    def check(self, channel: Channel) -> list[tuple[str, str]]:
        try:
            parts = parse_url(channel.url)
            ssrf_guard.resolve_allowed_addresses(parts.hostname or "", port_of(parts), ssrf_guard.WEBHOOKS)
        except (ValueError, ssrf_guard.AddressForbidden) as refused:
            return [("url", str(refused))]
        except ssrf_guard.NameNotResolved:
            return []  # the name may resolve later; until then deliveries report it
        return []

    def send(self, channel: Channel, message: ChannelMessage) -> SendReceipt:
        body = json.dumps(message.payload, separators=(",", ":")).encode()
        headers = {
            "Content-Type": "application/json",
            "Idempotency-Key": message.delivery_id,
        }
        if channel.secret:
            headers["X-Telemetry-Signature"] = sign(channel.secret, body, int(time.time()))
        try:
            return post(parse_url(channel.url), body, headers)
        except (ValueError, ssrf_guard.AddressForbidden) as refused:
            raise SendFailed(str(refused), retry=False) from None
        except ssrf_guard.NameNotResolved as error:
            raise SendFailed(str(error)) from None


def post(parts: SplitResult, body: bytes, headers: dict[str, str]) -> SendReceipt:
    """Send a POST request to an address that the SSRF guard allows, and read the response until SEND_TIMEOUT.

    Raises SendFailed, AddressForbidden or NameNotResolved.
    """
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    with Deadline(SEND_TIMEOUT) as deadline:
        addresses = ssrf_guard.resolve_allowed_addresses(parts.hostname or "", port_of(parts), ssrf_guard.WEBHOOKS)
        connection = PinnedConnection(parts, addresses, deadline)
        try:
            connection.request("POST", path, body, {"User-Agent": USER_AGENT, **headers})
            response = connection.getresponse()
            received = _read_body(response)
        except (OSError, http.client.HTTPException, ValueError, AttributeError) as error:
            # On expiry the socket is shut down in another thread, which raises various errors here.
            late = f"no response within {SEND_TIMEOUT:g} s"
            raise SendFailed(late if deadline.expired else str(error) or type(error).__name__) from None
        finally:
            connection.close()
    return classify_response(response.status, received[:MAX_RESPONSE_LENGTH], response.headers.get("Retry-After"))


def _read_body(response: http.client.HTTPResponse) -> str:
    """Return the begin of the body, as far as it arrives in time: the status alone says whether it was accepted."""
    try:
        received = response.read(MAX_RESPONSE_BYTES)
    except http.client.IncompleteRead as incomplete:
        received = incomplete.partial
    except (OSError, http.client.HTTPException, ValueError, AttributeError):
        received = b""
    return received.decode("utf-8", "replace").replace("\x00", "�")


def classify_response(status: int, response: str, retry_after: str | None) -> SendReceipt:
    """Return the receipt of a 2xx response. Raises SendFailed for all others."""
    if 200 <= status < 300:
        return SendReceipt(status, response)
    if 300 <= status < 400:
        raise SendFailed(f"HTTP {status}: redirects are not followed", False, status, response)
    retry = status >= 500 or status in RETRY_STATUSES
    raise SendFailed(f"HTTP {status}", retry, status, response, retry_after=_parse_retry_after(retry_after))


def sign(secret: str, body: bytes, at: int) -> str:
    """Return the signature header `t=…,v1=…`: HMAC-SHA256 of the time, a dot and the body.

    Receivers reject replayed requests by the time.
    """
    digest = hmac.new(secret.encode(), f"{at}.".encode() + body, hashlib.sha256).hexdigest()
    return f"t={at},v1={digest}"


def _parse_retry_after(retry_after: str | None) -> float | None:
    """Return the seconds of a Retry-After header, which holds seconds or a date."""
    if retry_after is None:
        return None
    if retry_after.isascii() and retry_after.isdigit():
        return float(retry_after[:6])
    try:
        return max(0.0, email.utils.parsedate_to_datetime(retry_after).timestamp() - time.time())
    except ValueError:
        return None
