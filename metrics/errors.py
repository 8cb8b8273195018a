"""What can go wrong in the domain.

TelemetryError
├── StorageUnavailable   PostgreSQL cannot be reached: 503, try again
└── Overloaded           more is waiting to be written than may wait: 503, try again
"""


class TelemetryError(Exception):
    """Base of the domain's errors; `status` is the HTTP status that tells it."""

    status = 500
    retry_after: int | None = None


class StorageUnavailable(TelemetryError):
    status = 503
    retry_after = 2


class Overloaded(TelemetryError):
    status = 503
    retry_after = 1
