"""A query for points: its fields, their validation into plain values, and the cursor of the next page.

The limits are those of one query in one process. A query over a limit is rejected before anything is read; the error
names the field and, where a smaller query would do, its size.
"""

import base64
import binascii
import hashlib
import zoneinfo
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta, tzinfo
from functools import cache
from typing import Any, NamedTuple

import msgspec
import numpy as np

from metrics.models import LONGEST_RETENTION_DAYS
from metrics.query.accumulators import ACCEPTED_AGGREGATIONS, Aggregation, Ints, find_aggregation
from metrics.query.gaps import Fill
from metrics.query.plan import PointFilter
from metrics.query.time_buckets import bucket_edges, round_interval
from metrics.storage.units import SECOND, to_datetime, to_microseconds
from rest.errors import InvalidField

MAX_POINTS = 10_000  # of one response
MAX_BUCKETS_PER_GROUP = 100_000
MAX_BUCKETS = 1_000_000  # of all groups together
MAX_SERIES = 200_000
MAX_RANGE = timedelta(days=LONGEST_RETENTION_DAYS + 10)
MIN_TIME, MAX_TIME = datetime(1970, 1, 1, tzinfo=UTC), datetime(2200, 1, 1, tzinfo=UTC)
CLOCK_TOLERANCE = timedelta(minutes=5)  # a device's clock may be ahead
AUTO_BUCKETS = 300  # that the interval `auto` aims at
WHOLE_RANGE = "range"  # the interval of a single bucket, as long as the range
FILLS = ("none", "null", "previous", "linear")
NON_NUMERIC_AGGREGATIONS = ("count",)  # accepted for texts and other values too
ACCEPTED_GROUPINGS = "series, device, group, tag:<name> or all"

SeriesLabel = tuple[str | None, str | None, str | None]  # device, metric, value of the tag or name of the group


class PagePosition(NamedTuple):
    """The last point of a page: its series and its time (µs)."""

    label: SeriesLabel
    time: int


@dataclass(frozen=True, slots=True)
class Buckets:
    """Time buckets of an aggregation, and the groups that have a value in each.

    edges      µs, one more than buckets
    group_tag  the tag to group by
    device     that all points are of, if there is only one; likewise metric
    """

    aggregation: Aggregation
    edges: Ints
    interval: int | None  # seconds; None: the whole range is one bucket
    zone: tzinfo
    fill: Fill
    group_by: str
    group_tag: str | None
    device: str | None
    metric: str | None


@dataclass(frozen=True, slots=True)
class ValidQuery:
    """The values of a valid query that planning, reading and shaping use: points from `start` to before `end` (µs).

    buckets  None for raw points
    after    the last point of the previous page
    """

    start: int
    end: int
    filters: PointFilter | None
    buckets: Buckets | None
    limit: int
    max_points: int | None
    after: PagePosition | None


@dataclass(frozen=True, slots=True)
class Query:
    """Points of `metrics` of `devices` (None: all) from `start` to before `end`, raw or aggregated.

    interval  seconds of a time bucket, `auto`, or `range` or None: the whole range is one bucket
    groups    only devices in at least one of these groups
    pairs     only these (device, metric) pairs, instead of every metric of every device
    """

    metrics: tuple[str, ...]
    start: datetime
    end: datetime
    devices: tuple[str, ...] | None = None
    aggregation: str | None = None
    interval: int | str | None = None
    fill: Fill = "none"
    group_by: str = "series"
    tags: dict[str, Any] = field(default_factory=dict)
    min_value: float | None = None
    max_value: float | None = None
    limit: int = MAX_POINTS
    cursor: str | None = None
    timezone: str = "UTC"
    max_points: int | None = None
    groups: tuple[str, ...] | None = None
    pairs: tuple[tuple[str, str], ...] | None = None

    @property
    def group_tag(self) -> str | None:
        """The tag to group by."""
        return self.group_by.removeprefix("tag:") if self.group_by.startswith("tag:") else None

    def validate(self) -> ValidQuery:
        """Return the values of the query. Raises InvalidField if it is invalid or over a limit."""
        if range_error := time_range_error(self.start, self.end):
            raise InvalidField(*range_error)
        start, end = to_microseconds(self.start), to_microseconds(self.end)
        zone = self._zone()
        if not 1 <= self.limit <= MAX_POINTS:
            raise InvalidField("limit", f"must be 1 to {MAX_POINTS:,}; next_cursor leads to the next page")
        if self.min_value is not None and self.max_value is not None and self.min_value > self.max_value:
            raise InvalidField("filters.min_value", "must not be above max_value")
        if error := grouping_error(self.group_by):
            raise InvalidField("group_by", error)
        if self.aggregation is None:
            self._validate_raw()
            buckets = None
        else:
            buckets = self._validate_buckets(self.aggregation, start, end, zone)
        has_filters = bool(self.tags) or self.min_value is not None or self.max_value is not None
        filters = PointFilter(self.tags, self.min_value, self.max_value) if has_filters else None
        return ValidQuery(start, end, filters, buckets, self.limit, self.max_points, self._decode_cursor())

    def _zone(self) -> tzinfo:
        if self.timezone == "UTC":
            return UTC
        if error := timezone_error(self.timezone):
            raise InvalidField("timezone", error)
        return zoneinfo.ZoneInfo(self.timezone)

    def _validate_raw(self) -> None:
        if self.interval is not None:
            raise InvalidField("aggregation", f"is required with an interval: {ACCEPTED_AGGREGATIONS}")
        if self.fill != "none":
            raise InvalidField("fill", "needs aggregation and interval: only gaps between time buckets are filled")
        if self.group_by != "series":
            raise InvalidField("group_by", "needs an aggregation: raw points are grouped by series")

    def _validate_buckets(self, name: str, start: int, end: int, zone: tzinfo) -> Buckets:
        if error := aggregation_error(name):
            raise InvalidField("aggregation", error)
        aggregation = find_aggregation(name)
        if isinstance(self.fill, str) and self.fill not in FILLS:
            raise InvalidField("fill", f"must be {', '.join(FILLS)} or a number")
        interval = self._validate_interval(end - start)
        edges = np.array([start, end], np.int64) if interval is None else bucket_edges(start, end, interval, zone)
        device = self.devices[0] if self.devices is not None and len(self.devices) == 1 else None
        metric = self.metrics[0] if len(self.metrics) == 1 else None
        seconds = None if interval is None else interval // SECOND
        return Buckets(aggregation, edges, seconds, zone, self.fill, self.group_by, self.group_tag, device, metric)

    def _validate_interval(self, length: int) -> int | None:
        """Return the length of a time bucket (µs) in a range of this length (µs); None if the whole range is one."""
        if self.interval is None or self.interval == WHOLE_RANGE:
            return None
        if self.interval == "auto":
            return round_interval(length, min(self.max_points or AUTO_BUCKETS, self.limit))
        interval = int(self.interval) * SECOND
        if interval < SECOND:
            raise InvalidField("interval", f"must be 1 second or more, auto or {WHOLE_RANGE}")
        if length // interval > MAX_BUCKETS_PER_GROUP:
            shortest = -(-length // (MAX_BUCKETS_PER_GROUP * SECOND))
            detail = f"must be {shortest:,} seconds or more for this range, or auto"
            raise InvalidField("interval", f"{detail}: at most {MAX_BUCKETS_PER_GROUP:,} intervals per series")
        return interval

    def _fingerprint(self) -> str:
        """Return what a cursor is valid for: the query without limit and cursor."""
        page_independent = replace(self, cursor=None, limit=1)
        return hashlib.sha256(repr(page_independent).encode()).hexdigest()[:16]

    def encode_cursor(self, last: PagePosition) -> str:
        """Return the cursor of the page after this point."""
        body = msgspec.json.encode([self._fingerprint(), last.label, last.time, to_microseconds(self.end)])
        return base64.urlsafe_b64encode(body).decode().rstrip("=")

    def _decode_cursor(self) -> PagePosition | None:
        """Return the last point of the previous page."""
        if self.cursor is None:
            return None
        body = _decode_cursor(self.cursor)
        if body is None:
            raise InvalidField("cursor", "is not a next_cursor of a response")
        fingerprint, label, time, _ = body
        if fingerprint != self._fingerprint():
            raise InvalidField("cursor", "belongs to another query: everything but the limit must be the same")
        return PagePosition(label, time)


_CursorBody = tuple[str, SeriesLabel, int, int]  # fingerprint of the query, last point of the page, end of the range


def _decode_cursor(cursor: str) -> _CursorBody | None:
    try:
        body = base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4))
        return msgspec.json.decode(body, type=_CursorBody)
    except (ValueError, binascii.Error, msgspec.MsgspecError):
        return None


def resolve_range(
    start: datetime | None, end: datetime | None, length: timedelta, cursor: str | None
) -> tuple[datetime, datetime]:
    """Return the range from `start`, by default this length before the end, to `end`, by default now.

    A range that ends now has this length before now, and includes points of clocks ahead. Further pages end where the
    first one did: the cursor has that time.
    """
    if end is not None:
        return start or end - length, end
    body = None if cursor is None else _decode_cursor(cursor)
    if body is not None and to_microseconds(MIN_TIME) < body[3] <= to_microseconds(MAX_TIME):
        end = to_datetime(body[3])
    else:
        end = datetime.now(UTC) + CLOCK_TOLERANCE
    return start or end - CLOCK_TOLERANCE - length, end


def time_range_error(start: datetime, end: datetime) -> tuple[str, str] | None:
    """Return (field, detail) of the error of a time range; None if it is valid."""
    if start >= end:
        return "start_time", "must be before end_time"
    if start < MIN_TIME:
        return "start_time", f"must be {MIN_TIME:%Y-%m-%d} or later"
    if end > MAX_TIME:
        return "end_time", f"must be {MAX_TIME:%Y-%m-%d} or earlier"
    if end - start > MAX_RANGE:
        return "start_time", f"must be at most {MAX_RANGE.days:,} days before end_time"
    return None


def aggregation_error(name: str) -> str | None:
    """Return the error of the name of an aggregation; None if it is known."""
    try:
        find_aggregation(name)
    except KeyError:
        return f"{name!r:.60} is unknown; must be {ACCEPTED_AGGREGATIONS}"
    return None


def grouping_error(group_by: str) -> str | None:
    """Return the error of a grouping; None if it is known."""
    is_tag = group_by.startswith("tag:") and group_by != "tag:"
    return None if is_tag or group_by in ("series", "device", "group", "all") else f"must be {ACCEPTED_GROUPINGS}"


def timezone_error(name: str) -> str | None:
    """Return the error of the name of a time zone; None if it is known."""
    return None if name in _zone_names() else f"{name!r:.60} is not an IANA time zone such as Europe/Berlin"


def cursor_error(cursor: str) -> str | None:
    """Return the error of a cursor that no response can have had; None if it can be read."""
    return "is not a next_cursor of a response" if _decode_cursor(cursor) is None else None


@cache
def _zone_names() -> frozenset[str]:
    return frozenset(zoneinfo.available_timezones())
