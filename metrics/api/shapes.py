"""The shapes of answers, wherever they are given."""

from http import HTTPStatus
from typing import Any

from metrics.query import Point

LONGEST_LOOKBACK = 3650 * 86400  # seconds


def latest_shape(point: Point) -> dict[str, Any]:
    """PRD E3-US2."""
    return {
        "device_id": point.device_id,
        "metric_name": point.metric_name,
        "value": point.value,
        "unit": point.unit,
        "timestamp": point.timestamp,
        "tags": point.tags,
        "metadata": point.metadata,
    }


def problem(status: int, detail: str, errors: list[dict[str, Any]] | None = None) -> dict[str, Any]:
    """The body of an error: RFC 9457, whose `detail` is the PRD's."""
    return {
        "type": "about:blank",
        "title": HTTPStatus(status).phrase,
        "status": status,
        "detail": detail,
        "errors": errors or [],
    }
