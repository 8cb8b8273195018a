"""Requests that wait for changes: `Telemetry-Min-Revision` of a request and `Telemetry-Revision` of a response.

The process that answers a change applies it first. A client that talks to several processes sends the revision in
that answer with its next request, and the process that receives it applies all changes up to that revision first.
"""

import asyncio
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor

from metrics.storage import series_registry
from metrics.storage.errors import StorageUnavailable
from metrics.storage.series_registry import SeriesRegistry
from rest.errors import InvalidField, TelemetryError
from rest.request_context import Visit

REQUEST_HEADER, RESPONSE_HEADER = b"telemetry-min-revision", b"telemetry-revision"
MAX_DIGITS = 18
REVISION_TIMEOUT = 1.0  # seconds for which a request waits for a revision that the database does not have
DATABASE_TIMEOUT = 8.0  # seconds; long enough for a restart of PostgreSQL
RETRY_PERIOD = 0.1  # seconds
# A thread of its own: those of the event loop may all be busy with reads for many seconds.
_refreshing = ThreadPoolExecutor(1, "registry")


class InvalidRevision(InvalidField):
    status = 400


class RevisionNotReached(TelemetryError):
    status = 412


async def wait_until_current(headers: Mapping[bytes, bytes]) -> int:
    """Wait until this process has applied its own changes and those that a request requires; return the revision.

    Raises InvalidRevision, RevisionNotReached and StorageUnavailable.
    """
    value = headers.get(REQUEST_HEADER)
    required = 0 if value is None else _parse(value)
    if series_registry.is_outdated(required):
        await _refresh_until(required)
    return series_registry.cached_registry().revision


async def refresh_registry() -> SeriesRegistry:
    """Refresh the registry without blocking the event loop. Raises StorageUnavailable."""
    loop, since = asyncio.get_running_loop(), time.monotonic()
    return await loop.run_in_executor(_refreshing, series_registry.refresh_registry, since)


def response_headers(visit: Visit) -> tuple[tuple[bytes, bytes], ...]:
    """Return the header with the revision whose changes a response is made with, if it is known."""
    return ((RESPONSE_HEADER, str(visit.revision).encode()),) if visit.revision >= 0 else ()


def _parse(value: bytes) -> int:
    if not value.isdigit() or len(value) > MAX_DIGITS:
        raise InvalidRevision("Telemetry-Min-Revision", "the number of a Telemetry-Revision header is accepted")
    return int(value)


async def _refresh_until(required: int) -> None:
    began = time.monotonic()
    while True:
        waited = time.monotonic() - began
        try:
            revision = (await refresh_registry()).revision
        except StorageUnavailable:
            if waited > DATABASE_TIMEOUT:
                raise
        else:
            if revision >= required:
                return
            if waited > REVISION_TIMEOUT:
                raise RevisionNotReached(f"Telemetry-Min-Revision: {required} is not reached, only {revision}")
        await asyncio.sleep(RETRY_PERIOD)
