"""Newest points of series, and which metrics and devices sent points, by the names of the API."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from operator import itemgetter
from typing import Any

import numpy as np

from metrics.storage.connection import read_connection
from metrics.storage.format.codec import Columns, Ints
from metrics.storage.format.contexts import REMOVED, read_context
from metrics.storage.format.json_values import to_json_value
from metrics.storage.read import block_cache
from metrics.storage.read import latest as newest
from metrics.storage.series_registry import current_registry
from metrics.storage.units import to_datetime, to_microseconds

DEFAULT_LOOKBACK = timedelta(days=1)
MAX_LOOKBACK = timedelta(days=3650)  # includes recordings of years ago
MAX_SINGLE_LOOKUPS = 8  # series up to which a look-up for each is fastest
TIME_RANGES = {
    "1h": timedelta(hours=1),
    "6h": timedelta(hours=6),
    "24h": timedelta(hours=24),
    "7d": timedelta(days=7),
    "30d": timedelta(days=30),
    "90d": timedelta(days=90),
}

SELECT_SERIES = f"""
SELECT s.id, s.kind, d.device_id, s.metric_name FROM metrics_series s JOIN metrics_device d ON d.id = s.device_id
WHERE (%(devices)s::text[] IS NULL OR d.device_id = ANY(%(devices)s))
  AND (%(metrics)s::text[] IS NULL OR s.metric_name = ANY(%(metrics)s))
  AND (%(groups)s::text[] IS NULL OR {block_cache.IN_GROUPS})
ORDER BY d.device_id, s.metric_name
"""  # noqa: S608 - a constant with a constant in it


@dataclass(frozen=True, slots=True)
class Point:
    """One measurement."""

    device_id: str
    metric_name: str
    timestamp: datetime
    value: Any
    unit: str | None
    tags: dict[str, Any]
    metadata: dict[str, Any]


@dataclass(frozen=True, slots=True)
class LatestPoints:
    """The newest points by device and metric, and the names of damaged blocks that may have held newer ones."""

    points: list[Point]
    damaged: list[str]


def read_latest_points(
    devices: Sequence[str] | None,
    metrics: Sequence[str] | None,
    lookback: timedelta = DEFAULT_LOOKBACK,
    now: datetime | None = None,
    groups: Sequence[str] | None = None,
) -> LatestPoints:
    """Return the newest point of every series of these devices, metrics and groups (None: all)."""
    since = to_microseconds((now or datetime.now(UTC)) - lookback)
    candidates = newest.find_latest(devices, metrics, since, groups)
    positions = _newest_positions([series.id for series in candidates.series], candidates.candidates, since)
    points: dict[tuple[str, str], Point] = {}
    for series in candidates.series:
        if series.id not in positions or _is_removed(*positions[series.id]):
            continue  # without a point, or replaced by another kind of value, which is as new
        point = _to_point(series, *positions[series.id])
        other = points.get((series.device_id, series.metric_name))  # the same metric in another kind of value
        if other is None or other.timestamp <= point.timestamp:
            points[series.device_id, series.metric_name] = point
    return LatestPoints([points[key] for key in sorted(points)], candidates.damaged)


def read_last_seen_times(devices: Sequence[str], lookback: timedelta = MAX_LOOKBACK) -> dict[str, datetime]:
    """Return when each of these devices last sent a point, in one read; devices without points are left out."""
    if not devices:
        return {}
    since = to_microseconds(datetime.now(UTC) - lookback)
    candidates = newest.find_latest(devices, None, since)
    positions = _newest_positions([series.id for series in candidates.series], candidates.candidates, since)
    times: dict[str, int] = {}
    for series in candidates.series:
        if series.id in positions:
            part, position = positions[series.id]
            times[series.device_id] = max(times.get(series.device_id, 0), int(part.times[position]))
    return {device_id: to_datetime(time) for device_id, time in times.items()}


def _newest_positions(ids: list[int], candidates: list[newest.Candidate], since: int) -> dict[int, tuple[Columns, int]]:
    """Return (part, position) of the newest point by series id; of two writes of one time the later wins.

    Candidates come newest first, so the search ends when all that are left are older than the points found so far.
    """
    best: dict[int, tuple[int, int, Columns, int]] = {}
    sorted_ids = np.array(sorted(ids), np.int64)
    for candidate in candidates:
        if len(best) == len(ids) and min(best.values(), key=itemgetter(0))[0] > candidate.time_to:
            break
        for series_id, position in _last_positions(candidate.part, ids, sorted_ids):
            time = int(candidate.part.times[position])
            if time >= since and (series_id not in best or best[series_id][:2] <= (time, candidate.seq)):
                best[series_id] = (time, candidate.seq, candidate.part, position)
    return {series_id: (part, position) for series_id, (_, _, part, position) in best.items()}


def _last_positions(part: Columns, ids: list[int], sorted_ids: Ints) -> Iterable[tuple[int, int]]:
    """Return (series id, position of its last point) of the series that are in a part."""
    if len(ids) <= MAX_SINGLE_LOOKUPS:
        spans = ((series_id, part.span(series_id)) for series_id in ids)
        return [(series_id, span.stop - 1) for series_id, span in spans if span.stop]
    found = np.searchsorted(part.ids, sorted_ids)
    found[found == len(part.ids)] = 0
    matches = np.flatnonzero(part.ids[found] == sorted_ids)
    return zip(sorted_ids[matches].tolist(), (part.offsets[found[matches] + 1] - 1).tolist(), strict=True)


def _is_removed(part: Columns, position: int) -> bool:
    return part.contexts is not None and part.dictionary[part.contexts[position]] == REMOVED


def _to_point(series: newest.NamedSeries, part: Columns, position: int) -> Point:
    context = b"" if part.contexts is None else part.dictionary[part.contexts[position]]
    unit, tags, metadata = read_context(context)
    value, metric = to_json_value(part.values[position], series.kind), series.metric_name
    unit = unit or current_registry().unit(metric)
    return Point(series.device_id, metric, to_datetime(part.times[position]), value, unit, tags, metadata)


_METRICS_OF_DEVICE = f"""
SELECT DISTINCT s.metric_name FROM metrics_series s JOIN metrics_device d ON d.id = s.device_id
WHERE d.device_id = %(device)s AND (%(groups)s::text[] IS NULL OR {block_cache.IN_GROUPS}) ORDER BY 1
"""  # noqa: S608 - a constant with a constant in it


def list_device_metrics(device_id: str, groups: Sequence[str] | None = None) -> list[str]:
    """Return the names of the metrics that a device has sent; none if it is in none of these groups (None: any)."""
    names = {"device": device_id, "groups": None if groups is None else list(groups)}
    with read_connection() as connection:
        rows = connection.execute(_METRICS_OF_DEVICE, names).fetchall()
    return [name for (name,) in rows]
