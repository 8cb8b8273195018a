"""Start and end of a request: request ID, statistics and log line."""

import itertools
import logging
import os
import re
import time
from typing import Any

from rest.request_context import Visit, current
from rest.request_stats import INGEST, OTHER, request_counters

log = logging.getLogger(__name__)

SLOW_REQUEST = 1.0  # seconds; slower requests are always logged
MAX_ID_LENGTH = 128
# Health checks are left out of the statistics, because frequent checks would improve every average.
UNCOUNTED = frozenset({"/health", "/health/detailed", "/livez", "/readyz"})
INGEST_PATHS = ("/telemetry", "/telemetry/batch", "/bulk", "/snapshot")  # ends of the paths that receive points

_VALID_ID = re.compile(rb"[\x21-\x7e]{1,%d}" % MAX_ID_LENGTH)
_TICKET = re.compile(r"(?<=ticket=)[^&]+")  # of a live stream, which opens it once
_process = os.urandom(6).hex().encode()  # request IDs: a random prefix per process, then a counter
_numbers = itertools.count(1)

Scope = dict[str, Any]


def begin(headers: list[tuple[bytes, bytes]]) -> Visit:
    """Start a request with the ID in its headers, or a new one."""
    visit = Visit(_valid_request_id(headers) or b"%s-%x" % (_process, next(_numbers)))
    current.set(visit)  # each request is a task with its own context
    return visit


def answered(scope: Scope, visit: Visit, status: int) -> None:
    """Record the start of the response: the size of an export does not count as latency."""
    visit.status = status
    path = scope["path"]
    if path not in UNCOUNTED:
        kind = INGEST if scope["method"] == "POST" and path.rstrip("/").endswith(INGEST_PATHS) else OTHER
        request_counters.answered(kind, status, time.perf_counter() - visit.began)


def ended(scope: Scope, visit: Visit) -> None:
    """Write the log line of a finished request.

    Requests that stored points are logged at level DEBUG, because thousands of lines per second would cost as much as
    storing the points, and the journal lists them.
    """
    seconds = time.perf_counter() - visit.began
    level = logging.INFO if visit.status < 500 else logging.WARNING
    if visit.stored and seconds < SLOW_REQUEST:
        level = logging.DEBUG
    if not log.isEnabledFor(level):
        return
    query = scope["query_string"]
    fields = {
        "request_id": visit.id,
        "caller": visit.caller or None,
        "method": scope["method"],
        "route": visit.route or None,
        "path": scope["path"] + (f"?{_TICKET.sub('***', query.decode('latin-1'))}" if query else ""),
        "status": visit.status or None,  # None: the client disconnected before the response
        "duration_ms": round(seconds * 1000, 2),
        "bytes": visit.bytes,
    }
    log.log(level, "%s %s", scope["method"], visit.status or "disconnected", extra={"fields": fields})


def _valid_request_id(headers: list[tuple[bytes, bytes]]) -> bytes | None:
    """Return the X-Request-Id of a request if it is valid."""
    for name, value in headers:
        if name == b"x-request-id":
            return value if _VALID_ID.fullmatch(value) else None
    return None
