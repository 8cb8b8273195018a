"""The series of a subscription, from the stored devices and metrics."""

from collections.abc import Iterator
from typing import Any

from metrics.storage.connection import Connection, read_connection
from metrics.storage.format.codec import Ints, Kind
from metrics.streams.feeds import FeedKey
from metrics.streams.series_points import StreamedSeries

# All kinds of values of a metric of a device have one id in streams, that of the first.
_SELECT = """
SELECT s.id, s.kind, d.device_id, s.metric_name, CASE WHEN s.has_other_kinds THEN
    (SELECT min(o.id) FROM metrics_series o WHERE o.device_id = s.device_id AND o.metric_name = s.metric_name)
    ELSE s.id END
FROM metrics_series s JOIN metrics_device d ON d.id = s.device_id
"""
_BY_ID = f"{_SELECT} WHERE s.id = ANY(%s)"
_BY_NAMES = f"""{_SELECT}
WHERE (%(devices)s::text[] IS NULL OR d.device_id = ANY(%(devices)s))
  AND (%(metrics)s::text[] IS NULL OR s.metric_name = ANY(%(metrics)s))
ORDER BY d.device_id, s.metric_name
"""


def read_series(connection: Connection, ids: Ints) -> list[tuple[int, StreamedSeries]]:
    """Return these series by id; those that were deleted are left out."""
    return list(_named(connection.execute(_BY_ID, (ids.tolist(),))))


def find_series(connection: Connection, key: FeedKey) -> list[tuple[int, StreamedSeries]]:
    """Return the series that match a subscription by id, in order of device and metric."""
    parameters = {
        "devices": None if key.devices is None else sorted(key.devices),
        "metrics": None if key.metrics is None else sorted(key.metrics),
    }
    return list(_named(connection.execute(_BY_NAMES, parameters)))


def find_series_of_feed(key: FeedKey) -> list[tuple[int, StreamedSeries]]:
    """Return the series that match a subscription now by id. Raises StorageUnavailable."""
    with read_connection() as connection:
        return find_series(connection, key)


def _named(rows: Any) -> Iterator[tuple[int, StreamedSeries]]:
    for series_id, kind, device_id, metric_name, streamed_id in rows:
        yield series_id, StreamedSeries(streamed_id, device_id, metric_name, Kind(kind))
