"""The fast lane: the endpoints that devices use most, answered in front of Django.

Django's handler takes thirteen times as long as storing a point. Requests with an API key or a token for these routes
are handled here. All others (users with a session, other routes) are passed on to Django, whose REST views give the
same responses.
"""

import asyncio
import logging
import re
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any
from urllib.parse import parse_qs

import msgspec

from ingest.authentication import CHALLENGE, INVALID_CREDENTIAL, cached_caller, find_caller_async, read_credential
from ingest.json_endpoints import (
    ENDPOINTS,
    MAX_BODY_SIZE,
    IngestEndpoint,
    body_too_large,
    check_media_type,
    decompress_body,
)
from ingest.pipeline import NOT_ALLOWED, Receipt, accept_async
from ingest.small_batches import store_small_batch
from ingest.wire.batch import RequestRejected
from metrics.api.latest_response import LATEST_PARAMETERS, MAX_LOOKBACK, answer_latest
from metrics.error_responses import EXPECTED_ERRORS, ErrorResponse, error_response
from metrics.required_revision import REQUEST_HEADER, refresh_registry, response_headers, wait_until_current
from metrics.storage.errors import DeviceDeleted
from metrics.storage.series_registry import cached_registry, is_outdated
from rest import ip_rate_limit
from rest.caller import WRITERS, Caller
from rest.paths import InvalidPath, decode
from rest.problem import SERVER_ERROR, problem
from rest.rate_limit import check_caller
from rest.request_context import Visit
from rest.request_log import answered, begin, ended
from rest.unknown_names import reject_unknown_parameters

log = logging.getLogger(__name__)

Scope = dict[str, Any]
Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]
App = Callable[[Any, Any, Any], Awaitable[None]]

_PATH = re.compile(
    r"/(?P<prefix>api/v1/(?:telemetry/)?)(?:devices/(?P<device>.+)/(?:telemetry(?P<batch>/batch)?|metrics/(?P<metric>.+)/latest)|bulk)/?"
    r"|(?P<snapshot>/api/(?:v1/)?(?:telemetry/)?snapshot)/?|(?P<events>/telemetry)/?"
)
_JSON = (b"content-type", b"application/json")
_PROBLEM = (b"content-type", b"application/problem+json")
_encode = msgspec.json.Encoder().encode


class ClientDisconnected(Exception):
    """The connection was closed before the request was complete."""


class FastLane:
    """An ASGI application that handles some routes and passes all other requests on."""

    def __init__(self, app: App) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        # The raw path, in which an escaped slash is no separator.
        if scope["type"] != "http" or (route := _PATH.fullmatch(scope["raw_path"].decode("latin-1"))) is None:
            return await self.app(scope, receive, send)
        try:
            device_id, metric = decode(route["device"] or ""), decode(route["metric"] or "")
        except InvalidPath:
            return await self.app(scope, receive, send)
        headers = dict(scope["headers"])  # the last of repeated headers counts
        credential = read_credential(
            headers.get(b"x-api-key", b"").decode("latin-1"), headers.get(b"authorization", b"").decode("latin-1")
        )
        is_read = metric != ""
        if credential is None or scope["method"] != ("GET" if is_read else "POST"):
            return await self.app(scope, receive, send)
        visit = begin(scope["headers"])
        visit.route, visit.revision = _route(route), cached_registry().revision
        try:
            if REQUEST_HEADER in headers or is_outdated():
                visit.revision = await wait_until_current(headers)
            sender = await _authenticate(credential, scope)
            visit.caller = sender.name
            check_caller(sender.name)
            if is_read:
                body = await _latest(sender, device_id, metric, scope)
            else:
                body = await _ingest(sender, credential, device_id, route, headers, scope, receive)
                visit.stored = True
        except ClientDisconnected:
            return
        except EXPECTED_ERRORS as error:
            await _send_problem(scope, send, visit, error_response(error))
        except Exception:
            log.exception("%s failed", visit.route)
            await _send_problem(scope, send, visit, ErrorResponse(500, SERVER_ERROR))
        else:
            await _send_response(scope, send, visit, 200, _encode(body), [_JSON])
        finally:
            ended(scope, visit)


def _route(route: re.Match[str]) -> str:
    """Return the URL pattern of the route, as in Django's URL configuration."""
    if other := route["snapshot"] or route["events"]:
        return other.removeprefix("/")
    prefix: str = route["prefix"]
    if route["metric"]:
        return prefix + "devices/<name:device_id>/metrics/<name:metric_name>/latest"
    if not route["device"]:
        return prefix + "bulk"
    return prefix + "devices/<name:device_id>/telemetry" + (route["batch"] or "")


async def _authenticate(credential: str, scope: Scope) -> Caller:
    _, sender = cached_caller(credential)
    if sender is not None:
        return sender
    ip_rate_limit.check(scope)
    sender = await find_caller_async(credential)
    if sender is None:
        ip_rate_limit.count_invalid(scope)
        raise RequestRejected(INVALID_CREDENTIAL, 401)
    ip_rate_limit.mark_valid(scope)
    return sender


async def _ingest(
    sender: Caller,
    credential: str,
    device_id: str,
    route: re.Match[str],
    headers: dict[bytes, bytes],
    scope: Scope,
    receive: Receive,
) -> dict[str, Any]:
    _check_access(sender, device_id)
    check_media_type(headers.get(b"content-type", b"").decode("latin-1"))
    endpoint = ENDPOINTS[_endpoint(route)]
    body = decompress_body(await _read_body(headers, receive), headers.get(b"content-encoding", b"").decode("latin-1"))
    try:
        receipt = await _store(endpoint, body, device_id, sender)
    except DeviceDeleted:  # by another process, while its points were on their way: they belong to a new device
        await refresh_registry()
        if not sender.sees_all:  # it may have lost its access together with the device
            sender = await _authenticate(credential, scope)
            _check_access(sender, device_id)
        receipt = await _store(endpoint, body, device_id, sender)
    return endpoint.response(receipt)


def _check_access(sender: Caller, device_id: str) -> None:
    if sender.scope not in WRITERS or (device_id and not sender.may_write(device_id)):
        raise RequestRejected(NOT_ALLOWED[2], 403)


async def _store(endpoint: IngestEndpoint, body: bytes, device_id: str, sender: Caller) -> Receipt:
    if endpoint.decode_numeric is not None:
        receipt = await store_small_batch(endpoint.decode_numeric, body, device_id, sender)
        if receipt is not None:
            return receipt
    return await accept_async(endpoint.read(body, device_id, sender), sender)


def _endpoint(route: re.Match[str]) -> str:
    if route["device"]:
        return "batch" if route["batch"] else "single"
    return next((name for name in ("snapshot", "events") if route[name]), "bulk")


async def _read_body(headers: dict[bytes, bytes], receive: Receive) -> bytes:
    """Read the body within the size limit. Content-Length is only used to reject early; the bytes are counted."""
    content_length = headers.get(b"content-length", b"")
    if content_length.isdigit() and int(content_length) > MAX_BODY_SIZE:
        raise body_too_large()
    chunks, size = [], 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientDisconnected
        chunk = message.get("body", b"")
        size += len(chunk)
        if size > MAX_BODY_SIZE:
            raise body_too_large()
        chunks.append(chunk)
        if not message.get("more_body"):
            return chunks[0] if len(chunks) == 1 else b"".join(chunks)


async def _latest(sender: Caller, device_id: str, metric: str, scope: Scope) -> dict[str, Any]:
    if not sender.may_read(device_id):
        raise RequestRejected("this key may not read this device", 403)
    query = parse_qs(scope["query_string"].decode("latin-1"), keep_blank_values=True)
    reject_unknown_parameters(query, LATEST_PARAMETERS)
    seconds = query.get("lookback", ["86400"])[-1]
    if not seconds.isascii() or not seconds.isdigit() or not 0 < int(seconds) <= MAX_LOOKBACK:
        raise RequestRejected(f"lookback: whole seconds from 1 to {MAX_LOOKBACK} are accepted")
    lookback = timedelta(seconds=int(seconds))
    return await asyncio.to_thread(answer_latest, sender, device_id, metric, lookback)


async def _send_problem(scope: Scope, send: Send, visit: Visit, response: ErrorResponse) -> None:
    headers = [_PROBLEM]
    if response.retry_after is not None:
        headers.append((b"retry-after", str(response.retry_after).encode()))
    if response.status == 401:
        headers.append((b"www-authenticate", CHALLENGE.encode()))
    body = problem(response.status, response.detail, response.errors)
    await _send_response(scope, send, visit, response.status, _encode(body), headers)


async def _send_response(
    scope: Scope, send: Send, visit: Visit, status: int, body: bytes, headers: list[tuple[bytes, bytes]]
) -> None:
    answered(scope, visit, status)
    visit.bytes = len(body)
    headers += ((b"content-length", str(len(body)).encode()), (b"x-request-id", visit.given), *response_headers(visit))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
