"""The fast lane: what devices hammer, answered in front of Django.

Django's handler costs thirteen times what a point costs. So a request with an API key or a token for one of these
routes is read, judged and answered here; everything else (people with a session, other routes) goes on to Django,
where the same doors stand as REST views. One table of tests runs against both.
"""

import asyncio
import logging
import re
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any
from urllib.parse import parse_qs

import msgspec

from ingest.authentication import CHALLENGE, NOT_VALID, caller_by_async, credential_in, remembered
from ingest.json_endpoints import BODY_LIMIT, DOORS, check_media_type, unpack
from ingest.pipeline import accept_async
from ingest.small_batches import store_few
from ingest.wire.batch import RequestRejected
from metrics.api.latest_response import LONGEST_LOOKBACK, incomplete, latest_shape, nothing_found
from metrics.errors import EXPECTED_ERRORS, ErrorResponse, error_response
from metrics.query import latest
from rest import ip_rate_limit
from rest.caller import WRITERS, Caller
from rest.problem import SERVER_ERROR, problem
from rest.rate_limit import check_caller
from rest.request_context import Visit
from rest.request_log import answered, begin, ended

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


class SenderLeft(Exception):
    """The connection closed before the request was whole."""


class FastLane:
    """ASGI in front of ASGI."""

    def __init__(self, app: App) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or (route := _PATH.fullmatch(scope["path"])) is None:
            return await self.app(scope, receive, send)
        headers = dict(scope["headers"])  # of a repeated name the last one counts
        credential = credential_in(
            headers.get(b"x-api-key", b"").decode("latin-1"), headers.get(b"authorization", b"").decode("latin-1")
        )
        reads = route["metric"] is not None
        if credential is None or scope["method"] != ("GET" if reads else "POST"):
            return await self.app(scope, receive, send)
        visit = begin(scope["headers"])
        visit.route = _route(route)
        try:
            sender = await _authenticate(credential, scope)
            visit.caller = sender.name
            check_caller(sender.name)
            if reads:
                answer = await _latest(sender, route, scope)
            else:
                answer = await _ingest(sender, route, headers, receive)
                visit.stored = True
        except SenderLeft:
            return
        except EXPECTED_ERRORS as error:
            await _problem(scope, send, visit, error_response(error))
        except Exception:
            log.exception("%s failed", visit.route)
            await _problem(scope, send, visit, ErrorResponse(500, SERVER_ERROR))
        else:
            await _answer(scope, send, visit, 200, _encode(answer), [_JSON])
        finally:
            ended(scope, visit)


def _route(route: re.Match[str]) -> str:
    """The pattern of the address, as Django's views have it."""
    if other := route["snapshot"] or route["events"]:
        return other.removeprefix("/")
    prefix: str = route["prefix"]
    if route["metric"]:
        return prefix + "devices/<path:device_id>/metrics/<path:metric_name>/latest"
    if not route["device"]:
        return prefix + "bulk"
    return prefix + "devices/<path:device_id>/telemetry" + (route["batch"] or "")


async def _authenticate(credential: str, scope: Scope) -> Caller:
    _, sender = remembered(credential)
    if sender is not None:
        return sender
    ip_rate_limit.check(scope)
    sender = await caller_by_async(credential)
    if sender is None:
        ip_rate_limit.unknown(scope)
        raise RequestRejected(NOT_VALID, 401)
    ip_rate_limit.known(scope)
    return sender


async def _ingest(
    sender: Caller, route: re.Match[str], headers: dict[bytes, bytes], receive: Receive
) -> dict[str, Any]:
    device_id = route["device"] or ""
    if sender.scope not in WRITERS or (device_id and not sender.may_write(device_id)):
        raise RequestRejected("this key may not write to this device", 403)
    check_media_type(headers.get(b"content-type", b"").decode("latin-1"))
    door = DOORS[_door(route)]
    body = unpack(await _body(headers, receive), headers.get(b"content-encoding", b"").decode("latin-1"))
    receipt = await store_few(door.plain, body, device_id, sender) if door.plain else None
    if receipt is None:
        receipt = await accept_async(door.read(body, device_id, sender), sender)
    return door.answer(receipt)


def _door(route: re.Match[str]) -> str:
    if route["device"]:
        return "batch" if route["batch"] else "single"
    return next((name for name in ("snapshot", "events") if route[name]), "bulk")


async def _body(headers: dict[bytes, bytes], receive: Receive) -> bytes:
    """The body, counted while it is read: what Content-Length says is only believed when it is too much."""
    said = headers.get(b"content-length", b"")
    if said.isdigit() and int(said) > BODY_LIMIT:
        raise RequestRejected(f"the body is larger than {BODY_LIMIT} bytes", 413)
    pieces, size = [], 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise SenderLeft
        piece = message.get("body", b"")
        size += len(piece)
        if size > BODY_LIMIT:
            raise RequestRejected(f"the body is larger than {BODY_LIMIT} bytes", 413)
        pieces.append(piece)
        if not message.get("more_body"):
            return pieces[0] if len(pieces) == 1 else b"".join(pieces)


async def _latest(sender: Caller, route: re.Match[str], scope: Scope) -> dict[str, Any]:
    device_id, metric = route["device"], route["metric"]
    if not sender.may_read(device_id):
        raise RequestRejected("this key may not read this device", 403)
    given = parse_qs(scope["query_string"].decode("latin-1")).get("lookback", ["86400"])[-1]
    if not given.isascii() or not given.isdigit() or not 0 < int(given) <= LONGEST_LOOKBACK:
        raise RequestRejected(f"lookback: whole seconds from 1 to {LONGEST_LOOKBACK} are accepted")
    lookback = timedelta(seconds=int(given))
    found = await asyncio.to_thread(latest.read_latest_points, [device_id], [metric], lookback)
    if not found.points:
        raise RequestRejected(nothing_found(device_id, metric, lookback, found.damaged), 404)
    return latest_shape(found.points[0]) | incomplete(found.damaged)


async def _problem(scope: Scope, send: Send, visit: Visit, response: ErrorResponse) -> None:
    headers = [_PROBLEM]
    if response.retry_after is not None:
        headers.append((b"retry-after", str(response.retry_after).encode()))
    if response.status == 401:
        headers.append((b"www-authenticate", CHALLENGE.encode()))
    body = problem(response.status, response.detail, response.errors)
    await _answer(scope, send, visit, response.status, _encode(body), headers)


async def _answer(
    scope: Scope, send: Send, visit: Visit, status: int, body: bytes, headers: list[tuple[bytes, bytes]]
) -> None:
    answered(scope, visit, status)
    visit.bytes = len(body)
    headers += ((b"content-length", str(len(body)).encode()), (b"x-request-id", visit.given))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
