"""What is stored of whom, in figures: the statistics of a device, and of all that a caller sees."""

from collections import Counter
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
from django.db.models import Count

from metrics.alert_summary import registered_summary
from metrics.models import Device, MetricDefinition, MetricType, Series
from metrics.query import latest
from metrics.statistics import request_history
from metrics.statistics.histogram import by_kind, hour_name, hours_until, largest, most, per_minute, ratio
from metrics.storage.read import point_totals
from metrics.storage.read.plan import snapshot
from rest.caller import Caller

EVER = timedelta(days=3650)
DAY = timedelta(days=1)
MOST_TYPES = 50  # of devices, that are named
UNSPECIFIED = "unspecified"  # devices of which nobody has said what they are
TYPES = [kind.value for kind in MetricType]

# The names of metrics by way of their index, one step each, however many series there are; and of what type they are.
_METRICS = """
WITH RECURSIVE names AS (
    (SELECT metric_name FROM metrics_series ORDER BY metric_name LIMIT 1)
    UNION ALL
    SELECT (SELECT s.metric_name FROM metrics_series s WHERE s.metric_name > n.metric_name
            ORDER BY s.metric_name LIMIT 1) FROM names n WHERE n.metric_name IS NOT NULL
)
SELECT coalesce(d.metric_type, %(gauge)s), count(*)
FROM names n LEFT JOIN metrics_metricdefinition d ON d.name = n.metric_name
WHERE n.metric_name IS NOT NULL AND (%(devices)s::bigint[] IS NULL OR EXISTS (
    SELECT 1 FROM metrics_series s WHERE s.metric_name = n.metric_name AND s.device_id = ANY(%(devices)s)))
GROUP BY 1
"""


def device_statistics(caller: Caller, device_id: str, now: datetime | None = None) -> dict[str, Any]:
    """PRD E6-US1; nothing but zeros of a device that is not there, or that the caller does not see.

    The last 24 hours are those of the clock, of which the last is running; `active_metrics` are those with a point in
    the last 24 hours to the second. `avg_frequency` is in points a minute, from the first of these hours that has a
    point until now. `storage_size` is in bytes of payload: of what is stored beside each series, its share by points.
    """
    now = now or datetime.now(UTC)
    known = Device.objects.visible_to(caller).filter(device_id=device_id)
    rows = sorted(Series.objects.filter(device__in=known).values_list("id", "metric_name"))
    names = sorted({name for _, name in rows})
    types = dict(MetricDefinition.objects.filter(name__in=names).values_list("name", "metric_type"))
    hours = hours_until(int(now.timestamp()) // 3600)
    with snapshot() as connection:
        found = point_totals.count_series_points(connection, np.array([number for number, _ in rows], np.int64), hours)
    newest = latest.read_latest_points([device_id], None, EVER, now) if rows else latest.LatestPoints([], [])
    points: Counter[str] = Counter()
    for (_, name), count in zip(rows, found.ever.tolist(), strict=True):
        points[name] += count
    last_day = {hour: int(some.sum()) for hour, some in found.hours.items()}
    return {
        "device_id": device_id,
        "total_metrics": len(names),
        "active_metrics": sum(point.timestamp >= now - DAY for point in newest.points),
        "data_points_count": sum(points.values()),
        "last_update": max((point.timestamp for point in newest.points), default=None),
        "storage_size": round(found.size),
        "avg_frequency": round(per_minute(last_day, now), 3),
        "last_24h_points": sum(last_day.values()),
        "last_24h_alerts": registered_summary().last_day(caller, device_id),
        "metrics_by_type": by_kind([types.get(name, MetricType.GAUGE) for name in names], TYPES),
        "top_metrics": most(points),
    } | _incomplete(found.missing)


def service_statistics(caller: Caller, now: datetime | None = None) -> dict[str, Any]:
    """PRD E6-US2, of the devices that the caller sees.

    What the service as a whole does is the same for everybody, and of the last five minutes: `points_per_second`
    (stored), `avg_latency` (ms, of all requests, until the answer begins), `error_rate` (share of answers of 500 and
    above), and the same of requests that bring measurements and of all others.
    """
    hours = hours_until(int((now or datetime.now(UTC)).timestamp()) // 3600)
    devices = Device.objects.visible_to(caller)
    seen = None if caller.groups is None and caller.device_id is None else list(devices.values_list("pk", flat=True))
    with snapshot() as connection:
        found = point_totals.count_fleet_points(connection, hours, seen)
        by_type = dict(connection.execute(_METRICS, {"devices": seen, "gauge": MetricType.GAUGE.value}).fetchall())
        recent = request_history.recent(connection)
    every = recent.all
    return {
        "total_devices": len(seen) if seen is not None else devices.count(),
        "active_devices": found.devices,
        "total_metrics": sum(by_type.values()),
        "total_data_points": found.points,
        "points_per_second": round(recent.points_per_second, 3),
        "avg_latency": round(1000 * ratio(every.seconds, every.requests), 3),
        "error_rate": round(ratio(every.failures, every.requests), 6),
        "last_24h_points": sum(found.hours.values()),
        "last_24h_alerts": registered_summary().last_day(caller, None),
        "devices_by_type": _types(devices),
        "metrics_by_type": dict.fromkeys(TYPES, 0) | by_type,
        "data_by_hour": [{"hour": hour_name(hour), "points": points} for hour, points in found.hours.items()],
        "requests": {kind: request_history.shape(counts) for kind, counts in recent.kinds.items()},
    } | _incomplete(found.missing)


def _types(devices: Any) -> dict[str, int]:
    """Devices by what they are; UNSPECIFIED where nobody has said."""
    rows = devices.order_by().values_list("device_type").annotate(number=Count("pk"))
    return largest({kind or UNSPECIFIED: number for kind, number in rows}, MOST_TYPES)


def _incomplete(missing: list[str]) -> dict[str, Any]:
    return {"incomplete": missing} if missing else {}
