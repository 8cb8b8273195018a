"""Errors that the API answers with a status of their own. Pure: also raised by code that knows nothing of HTTP.

TelemetryError
├── Forbidden        403  the object also concerns devices that the caller does not see
├── NotFound         404  the named object does not exist or is not visible to the caller
├── Gone             410  a temporary result has expired
├── InvalidField     422  one field of a request is invalid; names it and what is accepted
├── InvalidFields    422  several fields are invalid
├── RateLimited      429  the caller sent more than it may; retry after `retry_after` seconds
└── Overloaded       503  the queue for this work is full; retry

`metrics.error_responses` maps these and the errors of the storage engine to responses.
"""

import math
from collections.abc import Sequence
from typing import Any


class TelemetryError(Exception):
    """Base of all errors with an HTTP status.

    status       of the response
    retry_after  seconds for the Retry-After header; None leaves it out
    errors       `{"field", "detail", …}` per invalid field or point
    """

    status = 500
    retry_after: int | None = None
    errors: Sequence[dict[str, Any]] = ()


class Forbidden(TelemetryError):
    status = 403


class NotFound(TelemetryError):
    status = 404


class Gone(TelemetryError):
    status = 410


class InvalidFields(TelemetryError):
    """Errors of several fields, each with the message for the field."""

    status = 422

    def __init__(self, fields: Sequence[tuple[str, str]]) -> None:
        super().__init__("; ".join(f"{field}: {detail}" for field, detail in fields))
        self.fields = fields
        self.errors = [{"field": field, "detail": detail} for field, detail in fields]


class InvalidField(InvalidFields):
    def __init__(self, field: str, detail: str) -> None:
        super().__init__([(field, detail)])


class RateLimited(TelemetryError):
    """`wait` is in seconds."""

    status = 429

    def __init__(self, limit: str, wait: float) -> None:
        self.retry_after = math.ceil(wait)
        super().__init__(f"{limit}: try again in {self.retry_after} s")


class Overloaded(TelemetryError):
    status = 503
    retry_after = 1
