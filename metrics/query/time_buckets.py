"""Time buckets: where they begin by the wall clock of a time zone, and which points fall into which. Pure.

A bucket edge is where the wall clock shows a whole multiple of the interval, counted from midnight of a Monday. So
hours begin on the hour, days at local midnight and weeks on Monday. When the clocks go forward, a bucket that would
begin in the missing hour begins where the gap ends. When they go back, buckets no longer than the repeated hour occur
twice and longer ones last longer. A range is cut the same way whatever its length, so an interval longer than the range
gives the one or two buckets that the range touches.
"""

from dataclasses import dataclass
from datetime import UTC, datetime, tzinfo
from zoneinfo import ZoneInfo

import numpy as np
from numpy.typing import NDArray

from metrics.storage.format.codec import Columns
from metrics.storage.units import DAY, SECOND

Ints = NDArray[np.int64]

_FIRST_MONDAY = 4 * DAY  # 1970-01-05
_MAX_UTC_OFFSET = 2 * DAY  # more than any zone's offset from UTC
_ROUND_SECONDS = (
    *(1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800),
    *(3600, 7200, 10800, 21600, 43200, 86400, 172800, 604800),
)
_LONG_SERIES = 32  # points per series of a piece, from which it is split series by series and not point by point


def bucket_edges(start: int, end: int, interval: int, zone: tzinfo = UTC) -> Ints:
    """Return the n + 1 edges (µs) of the n buckets that the range from `start` to before `end` touches."""
    low, high = start - interval - _MAX_UTC_OFFSET, end + interval + _MAX_UTC_OFFSET
    edges = np.concatenate([_edges_within(period, interval) for period in _offset_periods(zone, low, high)])
    first = int(np.searchsorted(edges, start, side="right")) - 1
    last = int(np.searchsorted(edges, end, side="left"))
    return edges[first : last + 1]


def round_interval(length: int, max_buckets: int) -> int:
    """Return the shortest round interval (µs) that cuts a range of this length (µs) into at most `max_buckets`."""
    for seconds in _ROUND_SECONDS:
        if seconds * SECOND * max_buckets >= length:
            return seconds * SECOND
    week = _ROUND_SECONDS[-1] * SECOND
    return -(-length // (week * max_buckets)) * week


@dataclass(frozen=True, slots=True)
class _OffsetPeriod:
    """A time from `low` to before `high` (µs) with one UTC offset; `previous_offset` is that of the period before."""

    low: int
    high: int
    offset: int
    previous_offset: int


def _edges_within(period: _OffsetPeriod, interval: int) -> Ints:
    shift = period.offset - period.previous_offset
    begin = period.low + period.offset - _FIRST_MONDAY  # the wall clock where the period begins
    if shift < 0 and interval > -shift:
        begin -= shift  # an hour that the clock shows for the second time begins no new bucket
    first = -(-begin // interval) * interval
    count = max(-(-(period.high + period.offset - _FIRST_MONDAY - first) // interval), 0)
    edges = np.arange(count, dtype=np.int64) * interval + (first + _FIRST_MONDAY - period.offset)
    if shift > 0 and first > begin and begin // interval > (begin - shift - 1) // interval:
        return np.concatenate((np.array([period.low], np.int64), edges))  # the missing hour contains an edge
    return edges


def _offset_periods(zone: tzinfo, low: int, high: int) -> list[_OffsetPeriod]:
    if not isinstance(zone, ZoneInfo):
        return [_OffsetPeriod(low, high, 0, 0)]
    offset = previous_offset = _utc_offset(zone, low)
    periods = []
    begin = time = low
    while time < high:
        next_day = min(time + DAY, high)
        if _utc_offset(zone, next_day) != offset:
            change = _offset_change(zone, time, next_day)
            periods.append(_OffsetPeriod(begin, change, offset, previous_offset))
            previous_offset, offset, begin = offset, _utc_offset(zone, next_day), change
        time = next_day
    periods.append(_OffsetPeriod(begin, high, offset, previous_offset))
    return periods


def _offset_change(zone: ZoneInfo, low: int, high: int) -> int:
    """Return the second at which the UTC offset changes between two times."""
    offset = _utc_offset(zone, low)
    low, high = low // SECOND, -(-high // SECOND)
    while high - low > 1:
        middle = (low + high) // 2
        if _utc_offset(zone, middle * SECOND) == offset:
            low = middle
        else:
            high = middle
    return high * SECOND


def _utc_offset(zone: ZoneInfo, time: int) -> int:
    offset = datetime.fromtimestamp(time // SECOND, zone).utcoffset()
    return 0 if offset is None else int(offset.total_seconds()) * SECOND


@dataclass(slots=True)
class BucketRuns:
    """Runs of a piece of points; a run is the consecutive points of one series in one time bucket.

    starts, stops  int64[r]  positions of the first point of each run and after its last
    series         int64[r]  position of the run's series among those of the query
    buckets        int64[r]  group * buckets per group + time bucket: where the run is accumulated
    counts         int64[r]  points that each run of rollups represents; None: the points of the runs
    """

    starts: Ints
    stops: Ints
    series: Ints
    buckets: Ints
    counts: Ints | None = None


def split_by_bucket(piece: Columns, edges: Ints, series: Ints, groups: Ints) -> BucketRuns:
    """Split a piece, all of it within the edges, into runs; `series` and `groups` are those of each id of the piece."""
    per_group = len(edges) - 1
    if per_group == 1:
        return BucketRuns(piece.offsets[:-1], piece.offsets[1:], series, groups)
    if len(piece.ids) == 1:
        bounds, buckets = _split_times(piece.times, edges)
        repeated = np.repeat(series, len(buckets))
        return BucketRuns(bounds[:-1], bounds[1:], repeated, buckets + groups * per_group)
    split = _split_point_by_point if len(piece) < _LONG_SERIES * len(piece.ids) else _split_series_by_series
    starts, owner, buckets = split(piece, edges)
    stops = np.append(starts[1:], len(piece))
    return BucketRuns(starts, stops, series[owner], groups[owner] * per_group + buckets)


def _split_times(times: Ints, edges: Ints) -> tuple[Ints, Ints]:
    """Return where the times of one series change from bucket to bucket, both ends included, and these buckets."""
    first = int(edges.searchsorted(times[0], "right")) - 1
    last = int(edges.searchsorted(times[-1], "right")) - 1
    bounds = np.empty(last - first + 2, np.int64)
    bounds[0], bounds[-1] = 0, len(times)
    bounds[1:-1] = times.searchsorted(edges[first + 1 : last + 1])
    full = bounds[1:] > bounds[:-1]
    if full.all():
        return bounds, np.arange(first, last + 1)
    return np.append(bounds[:-1][full], len(times)), np.flatnonzero(full) + first


def _split_point_by_point(piece: Columns, edges: Ints) -> tuple[Ints, Ints, Ints]:
    """Return the start, the position of the series in the piece and the bucket of each run."""
    buckets = np.searchsorted(edges, piece.times, side="right") - 1
    begins = np.zeros(len(piece), bool)
    begins[piece.offsets[:-1]] = True
    begins[1:] |= buckets[1:] != buckets[:-1]
    starts = np.flatnonzero(begins)
    return starts, np.searchsorted(piece.offsets, starts, side="right") - 1, buckets[starts]


def _split_series_by_series(piece: Columns, edges: Ints) -> tuple[Ints, Ints, Ints]:
    """Return the same for long series: a few searches instead of one per point, once if all have the same times."""
    count, length = len(piece.ids), int(piece.offsets[1])
    if len(piece) == count * length and (piece.times.reshape(count, length) == piece.times[:length]).all():
        bounds, series_buckets = _split_times(piece.times[:length], edges)
        begins = np.arange(0, len(piece), length)[:, np.newaxis] + bounds[:-1]
        return begins.ravel(), np.repeat(np.arange(count), len(series_buckets)), np.tile(series_buckets, count)
    starts, owner, buckets = [], [], []
    offsets = piece.offsets.tolist()
    for position, (low, high) in enumerate(zip(offsets[:-1], offsets[1:], strict=True)):
        bounds, series_buckets = _split_times(piece.times[low:high], edges)
        starts.append(bounds[:-1] + low)
        owner.append(np.full(len(series_buckets), position))
        buckets.append(series_buckets)
    return np.concatenate(starts), np.concatenate(owner), np.concatenate(buckets)
