"""The newest point of a series that a caller sees, read and answered alike by the fast lane and the REST view."""

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

from metrics.query.latest import Point, read_latest_points
from rest.caller import Caller
from rest.errors import NotFound

LATEST_PARAMETERS = ("lookback",)
MAX_LOOKBACK = 3650 * 86400  # seconds


def incomplete(damaged: Sequence[str]) -> dict[str, Any]:
    """Return the field `incomplete`, which names damaged data; an empty dict without damage."""
    return {"incomplete": [f"{name} is damaged and was left out" for name in damaged]} if damaged else {}


def latest_shape(point: Point) -> dict[str, Any]:
    """Return a point as PRD E3-US2 defines it."""
    return {
        "device_id": point.device_id,
        "metric_name": point.metric_name,
        "value": point.value,
        "unit": point.unit,
        "timestamp": point.timestamp,
        "tags": point.tags,
        "metadata": point.metadata,
    }


def answer_latest(caller: Caller, device_id: str, metric_name: str, lookback: timedelta) -> dict[str, Any]:
    """Return the response with the newest point of a series that the caller sees. Raises NotFound."""
    result = read_latest_points([device_id], [metric_name], lookback, groups=caller.narrowed(None))
    if not result.points:
        raise NotFound(_nothing_found(device_id, metric_name, lookback, result.damaged))
    return latest_shape(result.points[0]) | incomplete(result.damaged)


def _nothing_found(device_id: str, metric_name: str, lookback: timedelta, damaged: Sequence[str]) -> str:
    """Return the error message of a series without points in the lookback."""
    nothing = f"no data of {metric_name} of {device_id} in the last {lookback.total_seconds():.0f} seconds"
    return "; ".join([nothing, *incomplete(damaged).get("incomplete", [])])
