"""The Batch of columns that every protocol is decoded to, and the rejections of points that cannot be stored."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from metrics.storage.format.contexts import write_context
from rest.errors import TelemetryError


class RejectionReason(StrEnum):
    """Why a point was rejected. Points of all reasons but NOT_ALLOWED and UNREADABLE can be replayed."""

    OUT_OF_BOUNDS = "out_of_bounds"
    WRONG_TYPE = "wrong_type"
    TOO_OLD = "too_old"
    TOO_EARLY = "too_early"
    UNDEFINED = "undefined"
    BATCH_ID_REUSED = "batch_id_reused"
    NOT_ALLOWED = "not_allowed"
    UNREADABLE = "unreadable"

    __hash__ = str.__hash__  # that of Enum is a Python function, too slow for every point of a flood

    @property
    def is_replayable(self) -> bool:
        """Whether another definition or a later time may make the point valid."""
        return self not in (RejectionReason.NOT_ALLOWED, RejectionReason.UNREADABLE)

    @property
    def label(self) -> str:
        """The reason as pages show it."""
        return _LABELS[self]


_LABELS = {
    RejectionReason.OUT_OF_BOUNDS: "Value out of bounds",
    RejectionReason.WRONG_TYPE: "Wrong data type",
    RejectionReason.TOO_OLD: "Timestamp too old",
    RejectionReason.TOO_EARLY: "Timestamp in the future",
    RejectionReason.UNDEFINED: "Unknown metric or device",
    RejectionReason.BATCH_ID_REUSED: "batch_id used before",
    RejectionReason.NOT_ALLOWED: "Not permitted",
    RejectionReason.UNREADABLE: "Invalid request",
}

RejectionCause = tuple[RejectionReason, str, str]  # reason, field, detail


@dataclass(frozen=True, slots=True)
class Rejection:
    """A point that was not stored: its index in the request, the invalid field and the accepted values."""

    index: int
    field: str
    detail: str
    device_id: str | None = None
    reason: RejectionReason = RejectionReason.UNREADABLE

    def as_json(self) -> dict[str, Any]:
        body: dict[str, Any] = {"index": self.index, "field": self.field, "detail": self.detail}
        return body if self.device_id is None else {"device_id": self.device_id} | body


class RequestRejected(TelemetryError):
    """A request is rejected as a whole, with the status and the rejected points."""

    def __init__(self, detail: str, status: int = 400, rejections: Sequence[Rejection] = ()) -> None:
        super().__init__(detail)
        self.detail, self.status, self.rejections = detail, status, rejections
        self.errors = [rejection.as_json() for rejection in rejections]


class Group(NamedTuple):
    """The consecutive points of one device."""

    device_id: str
    start: int
    stop: int


@dataclass(slots=True)
class Batch:
    """The points of one request, as columns.

    groups    consecutive points by device; together they cover 0 to n
    metrics   the metric name of each point
    times     int64[n], microseconds since 1970, UTC
    values    float64[n] if all values are numbers, else a list of JSON values
    contexts  int32[n], indices into `dictionary`, whose entry 0 is empty; None if no point has unit, tags or metadata
    indices   position of each point in the request (for bulk: within its device); None if no point was left out
    total     number of points in the request, including those rejected while decoding
    """

    groups: list[Group]
    metrics: list[str]
    times: NDArray[np.int64]
    values: NDArray[np.float64] | list[Any]
    contexts: NDArray[np.int32] | None = None
    dictionary: list[bytes] = field(default_factory=list)
    indices: NDArray[np.int64] | None = None
    rejected: list[Rejection] = field(default_factory=list)
    batch_id: str | None = None

    def __len__(self) -> int:
        return len(self.metrics)

    @property
    def total(self) -> int:
        return len(self.metrics) + len(self.rejected)

    def digest(self) -> bytes:
        """Return a digest of the points, equal for every encoding of the same points in the same order."""
        values = self.values.tolist() if isinstance(self.values, np.ndarray) else self.values
        contexts = None
        if self.contexts is not None:
            entries = [msgspec.json.decode(entry) if entry else None for entry in self.dictionary]
            contexts = [self.contexts.tolist(), entries]
        rejections = [rejection.as_json() for rejection in self.rejected]
        content = [self.metrics, self.times.tolist(), values, contexts, rejections]
        return hashlib.sha256(msgspec.json.encode(content, order="sorted")).digest()


class Contexts:
    """The distinct (unit, tags, metadata) of a batch. Entry 0 is that of a point without any of them."""

    def __init__(self) -> None:
        self.entries: list[bytes] = [b""]
        self._indices: dict[bytes, int] = {b"": 0}
        self._units: dict[str | None, int] = {None: 0, "": 0}

    def add(self, unit: str | None, tags: dict[str, Any] | None, metadata: dict[str, Any] | None) -> int:
        """Return the index of this context, and store it if it is new."""
        if not tags and not metadata:  # by far the most common case: the same unit in every point
            index = self._units.get(unit)
            if index is None:
                index = self._units[unit] = self._index(write_context(unit, None, None))
            return index
        return self._index(write_context(unit, tags, metadata))

    def _index(self, entry: bytes) -> int:
        index = self._indices.setdefault(entry, len(self.entries))
        if index == len(self.entries):
            self.entries.append(entry)
        return index

    def column(self, indices: list[int]) -> NDArray[np.int32] | None:
        """Return the column of a Batch; None if no point has a context."""
        return None if len(self.entries) == 1 else np.array(indices, np.int32)
