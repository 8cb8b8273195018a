"""Statistics of a device, and of all devices that are visible to a caller."""

from collections import Counter
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
from django.db.models import Count

from metrics.alert_summary import registered_summary
from metrics.models import Device, MetricDefinition, MetricType, Series
from metrics.query import latest
from metrics.statistics import request_history
from metrics.statistics.histogram import (
    count_by_type,
    format_hour,
    largest_counts,
    last_day_hours,
    points_per_minute,
    ratio,
    top_metrics,
)
from metrics.storage.read import point_totals
from metrics.storage.read.plan import snapshot
from rest.caller import Caller

ACTIVE_PERIOD = timedelta(days=1)
MAX_DEVICE_TYPES = 50
UNSPECIFIED = "unspecified"  # type of devices without one
METRIC_TYPES = [kind.value for kind in MetricType]

# Distinct metric names by index skip scan, one step each, however many series there are; counted by type.
_METRICS_BY_TYPE = """
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
    """Return the statistics of a device (PRD E6-US1); zeros if it does not exist or is not visible to the caller.

    Counts by hour cover the last 24 hours of the clock, including the current one; `active_metrics` have a point in
    the last 24 hours to the second. `avg_frequency` is points per minute since the first of these hours with points.
    `storage_size` is bytes of payload: of a block with several series, the series' fraction of its points.
    """
    now = now or datetime.now(UTC)
    devices = Device.objects.visible_to(caller).filter(device_id=device_id)
    rows = sorted(Series.objects.filter(device__in=devices).values_list("id", "metric_name"))
    names = sorted({name for _, name in rows})
    types = dict(MetricDefinition.objects.filter(name__in=names).values_list("name", "metric_type"))
    hours = last_day_hours(int(now.timestamp()) // 3600)
    with snapshot() as connection:
        totals = point_totals.count_series_points(connection, np.array([number for number, _ in rows], np.int64), hours)
    newest = (
        latest.read_latest_points([device_id], None, latest.MAX_LOOKBACK, now) if rows else latest.LatestPoints([], [])
    )
    points: Counter[str] = Counter()
    for (_, name), count in zip(rows, totals.total.tolist(), strict=True):
        points[name] += count
    last_day = {hour: int(counts.sum()) for hour, counts in totals.hours.items()}
    return {
        "device_id": device_id,
        "total_metrics": len(names),
        "active_metrics": sum(point.timestamp >= now - ACTIVE_PERIOD for point in newest.points),
        "data_points_count": sum(points.values()),
        "last_update": max((point.timestamp for point in newest.points), default=None),
        "storage_size": round(totals.stored_bytes),
        "avg_frequency": round(points_per_minute(last_day, now), 3),
        "last_24h_points": sum(last_day.values()),
        "last_24h_alerts": registered_summary().count_last_day(caller, device_id),
        "metrics_by_type": count_by_type([types.get(name, MetricType.GAUGE) for name in names], METRIC_TYPES),
        "top_metrics": top_metrics(points),
    } | _incomplete(totals.incomplete)


def service_statistics(caller: Caller, now: datetime | None = None) -> dict[str, Any]:
    """Return statistics of the devices that are visible to a caller, and of the service (PRD E6-US2).

    Those of the service are the same for all callers and cover the last five minutes: stored `points_per_second`,
    `avg_latency` (ms until the response begins), `error_rate` (fraction of responses with status 500 and above), for
    all requests and by kind.
    """
    hours = last_day_hours(int((now or datetime.now(UTC)).timestamp()) // 3600)
    devices = Device.objects.visible_to(caller)
    visible = None if caller.sees_all else list(devices.values_list("pk", flat=True))
    with snapshot() as connection:
        totals = point_totals.count_fleet_points(connection, hours, visible)
        by_type = dict(
            connection.execute(_METRICS_BY_TYPE, {"devices": visible, "gauge": MetricType.GAUGE.value}).fetchall()
        )
        recent = request_history.read_recent(connection)
    requests = recent.all
    return {
        "total_devices": len(visible) if visible is not None else devices.count(),
        "active_devices": totals.devices,
        "total_metrics": sum(by_type.values()),
        "total_data_points": totals.points,
        "points_per_second": round(recent.points_per_second, 3),
        "avg_latency": round(1000 * ratio(requests.seconds, requests.requests), 3),
        "error_rate": round(ratio(requests.failures, requests.requests), 6),
        "last_24h_points": sum(totals.hours.values()),
        "last_24h_alerts": registered_summary().count_last_day(caller, None),
        "devices_by_type": _devices_by_type(devices),
        "metrics_by_type": dict.fromkeys(METRIC_TYPES, 0) | by_type,
        "data_by_hour": [{"hour": format_hour(hour), "points": points} for hour, points in totals.hours.items()],
        "requests": {kind: request_history.format_counts(counts) for kind, counts in recent.kinds.items()},
    } | _incomplete(totals.incomplete)


def _devices_by_type(devices: Any) -> dict[str, int]:
    rows = devices.order_by().values_list("device_type").annotate(number=Count("pk"))
    return largest_counts({kind or UNSPECIFIED: number for kind, number in rows}, MAX_DEVICE_TYPES)


def _incomplete(missing: list[str]) -> dict[str, Any]:
    return {"incomplete": missing} if missing else {}
