"""What every protocol is turned into: a Batch of columns, and verdicts on the points that cannot be kept."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from metrics.storage.format.contexts import write_context
from rest.errors import TelemetryError


class Reason(StrEnum):
    """Why a point was not kept, in a word to sort by. All but the last two may be put right on this side."""

    OUT_OF_BOUNDS = "out_of_bounds"
    WRONG_TYPE = "wrong_type"
    TOO_OLD = "too_old"
    TOO_EARLY = "too_early"
    UNDEFINED = "undefined"
    NOT_ALLOWED = "not_allowed"
    UNREADABLE = "unreadable"

    __hash__ = str.__hash__  # an Enum's own is a Python function, too slow for every point of a flood

    @property
    def can_be_mended(self) -> bool:
        """Whether another definition, or later another hour, may make a good point of it."""
        return self not in (Reason.NOT_ALLOWED, Reason.UNREADABLE)

    @property
    def words(self) -> str:
        """The reason as people say it."""
        return self.replace("_", " ").capitalize()


Verdict = tuple[Reason, str, str]  # reason, field, detail


@dataclass(frozen=True, slots=True)
class Rejection:
    """Why one point was not kept: where it stood in the request, which field, what is accepted instead."""

    index: int
    field: str
    detail: str
    device_id: str | None = None
    reason: Reason = Reason.UNREADABLE

    def as_json(self) -> dict[str, Any]:
        found: dict[str, Any] = {"index": self.index, "field": self.field, "detail": self.detail}
        return found if self.device_id is None else {"device_id": self.device_id} | found


class RequestRejected(TelemetryError):
    """A request is rejected as a whole, with the status and the rejected points."""

    def __init__(self, detail: str, status: int = 400, rejections: Sequence[Rejection] = ()) -> None:
        super().__init__(detail)
        self.detail, self.status, self.rejections = detail, status, rejections
        self.errors = [rejection.as_json() for rejection in rejections]


class Group(NamedTuple):
    """The run of points that belongs to one device."""

    device_id: str
    start: int
    stop: int


@dataclass(slots=True)
class Batch:
    """Points of one request as columns.

    groups    runs of points by device, covering 0 to n
    metrics   the metric's name of every point
    times     int64[n], microseconds since 1970, UTC
    values    float64[n] where every value is a number, else a list of JSON values
    contexts  int32[n] into `dictionary`, whose entry 0 is empty; None where no point has unit, tags or metadata
    indices   where each point stood in its request (within its device, for bulk); None where nothing was left out
    total     points in the request, those rejected while decoding included
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


class Contexts:
    """The distinct (unit, tags, metadata) of a batch. Entry 0 is a point that has none of them."""

    def __init__(self) -> None:
        self.entries: list[bytes] = [b""]
        self._place: dict[bytes, int] = {b"": 0}
        self._units: dict[str | None, int] = {None: 0, "": 0}

    def add(self, unit: str | None, tags: dict[str, Any] | None, metadata: dict[str, Any] | None) -> int:
        if not tags and not metadata:  # by far the most common: one unit, over and over
            known = self._units.get(unit)
            if known is None:
                known = self._units[unit] = self._index(write_context(unit, None, None))
            return known
        return self._index(write_context(unit, tags, metadata))

    def _index(self, entry: bytes) -> int:
        place = self._place.setdefault(entry, len(self.entries))
        if place == len(self.entries):
            self.entries.append(entry)
        return place

    def column(self, index: list[int]) -> NDArray[np.int32] | None:
        return None if len(self.entries) == 1 else np.array(index, np.int32)
