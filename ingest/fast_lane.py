"""The fast lane: what devices hammer, answered in front of Django.

Django's handler costs thirteen times what a point costs. So a request with an API key or a token for one of these
routes is read, judged and answered here; everything else (people with a session, other routes) goes on to Django,
where the same doors stand as REST views. One table of tests runs against both.
"""

import asyncio
import logging
import re
from collections.abc import Awaitable, Callable, Iterable
from datetime import timedelta
from typing import Any
from urllib.parse import parse_qs

import msgspec

from ingest.authentication import CHALLENGE, NOT_VALID, caller_by_async, credential_in, remembered
from ingest.json_endpoints import BODY_LIMIT, DOORS, check_media_type, unpack
from ingest.pipeline import accept_async
from ingest.small_batches import store_few
from ingest.wire.batch import Unacceptable
from metrics.errors import TelemetryError
from metrics.query import latest
from rest import ip_rate_limit
from rest.caller import WRITERS, Caller
from rest.problem import LONGEST_LOOKBACK, incomplete, latest_shape, nothing_found, problem
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


class Refused(Exception):
    """An answer that is no success and concerns the request as a whole."""

    def __init__(self, status: int, detail: str) -> None:
        super().__init__(detail)
        self.status, self.detail = status, detail


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
        except Refused as refusal:
            await _problem(scope, send, visit, refusal.status, refusal.detail)
        except Unacceptable as refusal:
            errors = [error.as_json() for error in refusal.errors]
            await _problem(scope, send, visit, refusal.status, refusal.detail, errors)
        except TelemetryError as error:
            await _problem(scope, send, visit, error.status, str(error), retry_after=error.retry_after)
        except Exception:
            log.exception("%s failed", visit.route)
            await _problem(scope, send, visit, 500, "the server failed; what it saw is in its log")
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
        raise Refused(401, NOT_VALID)
    ip_rate_limit.known(scope)
    return sender


async def _ingest(
    sender: Caller, route: re.Match[str], headers: dict[bytes, bytes], receive: Receive
) -> dict[str, Any]:
    device_id = route["device"] or ""
    if sender.scope not in WRITERS or (device_id and not sender.may_write(device_id)):
        raise Refused(403, "this key may not write to this device")
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
        raise Refused(413, f"the body is larger than {BODY_LIMIT} bytes")
    pieces, size = [], 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise SenderLeft
        piece = message.get("body", b"")
        size += len(piece)
        if size > BODY_LIMIT:
            raise Refused(413, f"the body is larger than {BODY_LIMIT} bytes")
        pieces.append(piece)
        if not message.get("more_body"):
            return pieces[0] if len(pieces) == 1 else b"".join(pieces)


async def _latest(sender: Caller, route: re.Match[str], scope: Scope) -> dict[str, Any]:
    device_id, metric = route["device"], route["metric"]
    if not sender.may_read(device_id):
        raise Refused(403, "this key may not read this device")
    given = parse_qs(scope["query_string"].decode("latin-1")).get("lookback", ["86400"])[-1]
    if not given.isascii() or not given.isdigit() or not 0 < int(given) <= LONGEST_LOOKBACK:
        raise Unacceptable(f"lookback: whole seconds from 1 to {LONGEST_LOOKBACK} are accepted")
    lookback = timedelta(seconds=int(given))
    found = await asyncio.to_thread(latest.newest_points, [device_id], [metric], lookback)
    if not found.points:
        raise Refused(404, nothing_found(device_id, metric, lookback, found.damaged))
    return latest_shape(found.points[0]) | incomplete(found.damaged)


async def _problem(
    scope: Scope,
    send: Send,
    visit: Visit,
    status: int,
    detail: str,
    errors: Iterable[dict[str, Any]] = (),
    retry_after: int | None = None,
) -> None:
    headers = [_PROBLEM]
    if retry_after is not None:
        headers.append((b"retry-after", str(retry_after).encode()))
    if status == 401:
        headers.append((b"www-authenticate", CHALLENGE.encode()))
    await _answer(scope, send, visit, status, _encode(problem(status, detail, list(errors))), headers)


async def _answer(
    scope: Scope, send: Send, visit: Visit, status: int, body: bytes, headers: list[tuple[bytes, bytes]]
) -> None:
    answered(scope, visit, status)
    visit.bytes = len(body)
    headers += ((b"content-length", str(len(body)).encode()), (b"x-request-id", visit.given))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
