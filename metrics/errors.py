"""What can go wrong in the domain.

TelemetryError
├── StorageUnavailable   PostgreSQL cannot be reached: 503, try again
├── DeviceDeleted        while its points were on their way: 503, sent again they are those of a new device
├── Overloaded           more is waiting than may wait: 503, try again
├── TooMany              more was asked than may be in a time: 429, try again
├── Unknown              something that the caller names is not there, or not for its eyes: 404
├── Damaged              what is stored cannot be read whole: 500, and an operator has to know
├── Gone                 what was made ready for a while is not there any more: 410
└── Unanswerable         a question that is too large or makes no sense, and which field says so: 422
"""

import math
from collections.abc import Sequence
from typing import Any


class TelemetryError(Exception):
    """Base of the domain's errors; `status` is the HTTP status that tells it."""

    status = 500
    retry_after: int | None = None
    errors: Sequence[dict[str, Any]] = ()


class StorageUnavailable(TelemetryError):
    status = 503
    retry_after = 2


class Unknown(TelemetryError):
    status = 404


class DeviceDeleted(TelemetryError):
    status = 503
    retry_after = 1


class Overloaded(TelemetryError):
    status = 503
    retry_after = 1


class TooMany(TelemetryError):
    """`wait` is in seconds."""

    status = 429

    def __init__(self, what: str, wait: float) -> None:
        self.retry_after = math.ceil(wait)
        super().__init__(f"{what}: try again in {self.retry_after} s")


class Damaged(TelemetryError):
    def __init__(self, names: Sequence[str]) -> None:
        super().__init__(f"{', '.join(names)} cannot be read: the checksum differs")


class Gone(TelemetryError):
    status = 410


class Unanswerable(TelemetryError):
    status = 422

    def __init__(self, field: str, detail: str) -> None:
        super().__init__(f"{field}: {detail}")
        self.errors = [{"field": field, "detail": detail}]
