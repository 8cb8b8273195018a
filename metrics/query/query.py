"""A question about measurements, checked: what it asks, what it may ask, and where its next page begins.

The limits are those of a single question in a single process. Whatever is over one is refused before anything is
read, with the field and, where a smaller question would do, which one.
"""

import base64
import binascii
import hashlib
import zoneinfo
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta, tzinfo
from functools import cache
from typing import Any

import msgspec

from metrics.models import LONGEST_RETENTION_DAYS
from metrics.query.accumulators import Ints
from metrics.query.aggregations import ACCEPTED, FOLDS, Fill, percent_of
from metrics.query.latest import microseconds
from metrics.query.time_buckets import edges, fitting
from metrics.storage.units import SECOND
from rest.errors import InvalidField

MOST_POINTS = 10_000  # of one answer
MOST_INTERVALS = 100_000  # of one group
MOST_SLOTS = 1_000_000  # intervals of all groups together
MOST_SERIES = 200_000
LONGEST = timedelta(days=LONGEST_RETENTION_DAYS + 10)
EARLIEST, LATEST = datetime(1970, 1, 1, tzinfo=UTC), datetime(2200, 1, 1, tzinfo=UTC)
AUTOMATIC = 300  # intervals that `auto` aims at
FILLS = ("none", "null", "previous", "linear")
WITHOUT_VALUES = ("count",)  # what may be asked of texts too
GROUPINGS = "series, device, group, tag:<name> or all"

Label = tuple[str | None, str | None, str | None]  # device, metric, value of the tag or name of the group


@dataclass(frozen=True, slots=True)
class Question:
    """Points of `metrics` of `devices` (None: of all) from `start` to before `end`, or what they amount to.

    With `groups`, only of those devices that are in one of them. With `pairs`, of each device named there only the
    metrics beside it, instead of each metric of each device.
    """

    metrics: tuple[str, ...]
    start: datetime
    end: datetime
    devices: tuple[str, ...] | None = None
    aggregation: str | None = None
    interval: int | str | None = None  # seconds, `auto`, or None: the whole range
    fill: Fill = "none"
    group_by: str = "series"
    tags: dict[str, Any] = field(default_factory=dict)
    min_value: float | None = None
    max_value: float | None = None
    limit: int = MOST_POINTS
    cursor: str | None = None
    timezone: str = "UTC"
    max_points: int | None = None
    groups: tuple[str, ...] | None = None
    pairs: tuple[tuple[str, str], ...] | None = None  # of device and metric

    @property
    def low(self) -> int:
        return microseconds(self.start)

    @property
    def high(self) -> int:
        return microseconds(self.end)

    @property
    def tag(self) -> str | None:
        """The tag to group by."""
        return self.group_by.removeprefix("tag:") if self.group_by.startswith("tag:") else None

    def zone(self) -> tzinfo:
        if self.timezone == "UTC":
            return UTC
        if self.timezone not in _zones():
            raise InvalidField("timezone", f"{self.timezone!r:.60} is no IANA time zone such as Europe/Berlin")
        return zoneinfo.ZoneInfo(self.timezone)

    def length(self) -> int | None:
        """The interval in µs; None where the whole range is one."""
        if self.interval == "auto":
            return fitting(self.high - self.low, min(self.max_points or AUTOMATIC, self.limit))
        return int(self.interval) * SECOND if self.interval is not None else None

    def edges(self) -> Ints:
        return edges(self.low, self.high, self.length() or self.high - self.low, self.zone())

    def check(self) -> None:
        """Raise InvalidField where the question makes no sense or asks for too much."""
        self._check_range()
        self.zone()
        if not 1 <= self.limit <= MOST_POINTS:
            raise InvalidField("limit", f"1 to {MOST_POINTS:,} points are given at once, and a cursor for the next")
        if self.min_value is not None and self.max_value is not None and self.min_value > self.max_value:
            raise InvalidField("filters.min_value", "must not be above max_value")
        if self.tag == "" or (self.tag is None and self.group_by not in ("series", "device", "group", "all")):
            raise InvalidField("group_by", f"{GROUPINGS} is accepted")
        if self.aggregation is None:
            self._check_raw()
        else:
            self._check_aggregation()

    def _check_range(self) -> None:
        if self.start >= self.end:
            raise InvalidField("start_time", "must be before end_time")
        if self.start < EARLIEST:
            raise InvalidField("start_time", f"{EARLIEST:%Y-%m-%d} or later is accepted")
        if self.end > LATEST:
            raise InvalidField("end_time", f"{LATEST:%Y-%m-%d} or earlier is accepted")
        if self.end - self.start > LONGEST:
            raise InvalidField("start_time", f"a question may span {LONGEST.days:,} days at most")

    def _check_raw(self) -> None:
        if self.interval is not None:
            raise InvalidField("aggregation", f"is needed with an interval: {ACCEPTED}")
        if self.fill != "none":
            raise InvalidField("fill", "gaps are filled between intervals: ask with aggregation and interval")
        if self.group_by != "series":
            raise InvalidField("group_by", "points as they are come by series: ask with an aggregation")

    def _check_aggregation(self) -> None:
        if self.aggregation not in FOLDS and percent_of(self.aggregation or "") is None:
            raise InvalidField("aggregation", f"{self.aggregation!r:.60} is not known; accepted are {ACCEPTED}")
        if isinstance(self.fill, str) and self.fill not in FILLS:
            raise InvalidField("fill", f"{', '.join(FILLS)} or a number is accepted")
        length = self.length()
        if length is None:
            return
        if length < SECOND:
            raise InvalidField("interval", "must be 1 second or more, or auto")
        if (self.high - self.low) // length > MOST_INTERVALS:
            least = -(-(self.high - self.low) // (MOST_INTERVALS * SECOND))
            raise InvalidField(
                "interval", f"over {MOST_INTERVALS:,} intervals; this range needs {least:,} seconds or more, or auto"
            )

    def fingerprint(self) -> str:
        """What makes a cursor this question's."""
        asked = replace(self, cursor=None, limit=1)
        return hashlib.sha256(repr(asked).encode()).hexdigest()[:16]

    def cursor_after(self, label: Label, time: int) -> str:
        body = msgspec.json.encode([self.fingerprint(), label, time])
        return base64.urlsafe_b64encode(body).decode().rstrip("=")

    def begins_after(self) -> tuple[Label, int] | None:
        """The last point of the page before this one: what it belongs to, and its time."""
        if self.cursor is None:
            return None
        try:
            body = base64.urlsafe_b64decode(self.cursor + "=" * (-len(self.cursor) % 4))
            fingerprint, label, time = msgspec.json.decode(body, type=tuple[str, Label, int])
        except (ValueError, binascii.Error, msgspec.MsgspecError):
            raise InvalidField("cursor", "is not one that an answer gave") from None
        if fingerprint != self.fingerprint():
            raise InvalidField("cursor", "belongs to another question: everything but the limit must be the same")
        return label, time


@cache
def _zones() -> frozenset[str]:
    return frozenset(zoneinfo.available_timezones())
