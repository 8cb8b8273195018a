"""The beginning and the end of a request: its id, what is counted of it, its line in the log."""

import itertools
import logging
import os
import re
import time
from typing import Any

from rest.request_context import Visit, current
from rest.request_stats import INGEST, OTHER, tally

log = logging.getLogger(__name__)

SLOW = 1.0  # seconds until an answer ends, from which on it is always logged
LONGEST_ID = 128
# Who asks whether the site lives is no user of it: a check every second would make every figure look better.
UNCOUNTED = frozenset({"/health", "/health/detailed", "/livez", "/readyz"})
WAYS_IN = ("/telemetry", "/telemetry/batch", "/bulk", "/snapshot")  # how the paths end by which measurements come

_SANE = re.compile(rb"[\x21-\x7e]{1,%d}" % LONGEST_ID)
_process = os.urandom(6).hex().encode()  # ids of several processes differ, and those of one are counted
_numbers = itertools.count(1)

Scope = dict[str, Any]


def begin(headers: list[tuple[bytes, bytes]]) -> Visit:
    """A request has come, with the id that it brings or one of its own."""
    visit = Visit(_given(headers) or b"%s-%x" % (_process, next(_numbers)))
    current.set(visit)  # each request is a task, whose context is its own
    return visit


def answered(scope: Scope, visit: Visit, status: int) -> None:
    """Its answer begins: an export is not slow because it is long."""
    visit.status = status
    path = scope["path"]
    if path not in UNCOUNTED:
        kind = INGEST if scope["method"] == "POST" and path.rstrip("/").endswith(WAYS_IN) else OTHER
        tally.answered(kind, status, time.perf_counter() - visit.began)


def ended(scope: Scope, visit: Visit) -> None:
    """It is over: its line in the log.

    Measurements that were stored are a line of the journal each, in the database: here they are told only when
    DEBUG is, since thousands of lines a second would cost as much as storing them.
    """
    seconds = time.perf_counter() - visit.began
    level = logging.INFO if visit.status < 500 else logging.WARNING
    if visit.stored and seconds < SLOW:
        level = logging.DEBUG
    if not log.isEnabledFor(level):
        return
    fields = {
        "request_id": visit.id,
        "caller": visit.caller or None,
        "method": scope["method"],
        "route": visit.route or None,
        "path": scope["path"] + (f"?{query.decode('latin-1')}" if (query := scope["query_string"]) else ""),
        "status": visit.status or None,  # None: whoever asked has left before there was an answer
        "duration_ms": round(seconds * 1000, 2),
        "bytes": visit.bytes,
    }
    log.log(level, "%s %s", scope["method"], visit.status or "left", extra={"fields": fields})


def _given(headers: list[tuple[bytes, bytes]]) -> bytes | None:
    """The id that whoever asks has chosen, where it may stand in a log."""
    for name, value in headers:
        if name == b"x-request-id":
            return value if _SANE.fullmatch(value) else None
    return None
