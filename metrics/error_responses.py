"""The one mapping from exception to error response, for the fast lane and for REST views."""

from collections.abc import Sequence
from typing import Any, NamedTuple

from django.db import OperationalError

from metrics.storage.disk_space import storage_error
from metrics.storage.errors import (
    DeviceDeleted,
    DiskFull,
    ReadTooLarge,
    ShardCountMismatch,
    StorageError,
    StorageUnavailable,
    WriterOverloaded,
)
from rest.errors import InvalidField, TelemetryError
from rest.problem import SERVER_ERROR

EXPECTED_ERRORS = (TelemetryError, StorageError)
DATABASE_UNAVAILABLE = "the database cannot be reached, or takes too long; try again"

# Status and Retry-After in seconds, by class; subclasses first.
_STORAGE_RESPONSES: dict[type[StorageError], tuple[int, int | None]] = {
    DiskFull: (503, 10),
    StorageUnavailable: (503, 2),
    WriterOverloaded: (503, 1),
    DeviceDeleted: (503, 1),
    ShardCountMismatch: (503, None),
}


class ErrorResponse(NamedTuple):
    status: int
    detail: str
    errors: Sequence[dict[str, Any]] = ()
    retry_after: int | None = None  # seconds


def error_response(error: Exception) -> ErrorResponse:
    """Return the response to an error; 500 without details for one that is not expected."""
    if isinstance(error, OperationalError):
        error = storage_error(error, DATABASE_UNAVAILABLE)
    elif isinstance(error, ReadTooLarge):
        error = InvalidField("start_time", str(error))
    if isinstance(error, TelemetryError):
        return ErrorResponse(error.status, str(error), error.errors, error.retry_after)
    for kind, (status, retry_after) in _STORAGE_RESPONSES.items():
        if isinstance(error, kind):
            return ErrorResponse(status, str(error), retry_after=retry_after)
    return ErrorResponse(500, SERVER_ERROR)
