"""Look up series, and check names, in the tables of devices, groups and metrics."""

from collections.abc import Collection
from typing import NamedTuple

import numpy as np
from django.db import connection as default_connection

from metrics.query.accumulators import Ints
from metrics.storage.connection import Connection
from metrics.storage.format.codec import Kind

_IDENTITIES = """
SELECT s.id, s.kind, s.metric_name, d.id, d.device_id FROM metrics_series s JOIN metrics_device d ON d.id = s.device_id
WHERE s.id = ANY(%s)
"""
_SERIES_OF_METRICS = """
SELECT id FROM metrics_series WHERE metric_name = ANY(%(metrics)s)
    AND (%(device)s::bigint IS NULL OR device_id = %(device)s) ORDER BY id
"""
_SERIES_WITH_DEVICES = """
SELECT id, device_id FROM metrics_series WHERE %(metric)s::text IS NULL OR metric_name = %(metric)s ORDER BY device_id
"""
_DEVICES = """
SELECT id, device_id, coalesce(expected_interval, 0), (extract(epoch FROM created_at) * 1000000)::bigint,
    NOT EXISTS (SELECT FROM metrics_series s WHERE s.device_id = d.id) FROM metrics_device d ORDER BY id
"""
_UNKNOWN_NAMES = """
SELECT 'metrics', name FROM unnest(%s::text[]) AS n(name)
WHERE NOT EXISTS (SELECT FROM metrics_series s WHERE s.metric_name = n.name)
    AND NOT EXISTS (SELECT FROM metrics_metricdefinition d WHERE d.name = n.name)
UNION ALL
SELECT 'devices', name FROM unnest(%s::text[]) AS n(name)
WHERE NOT EXISTS (SELECT FROM metrics_device d WHERE d.device_id = n.name)
UNION ALL
SELECT 'groups', name FROM unnest(%s::text[]) AS n(name)
WHERE NOT EXISTS (SELECT FROM metrics_devicegroup g WHERE g.name = n.name)
"""


class SeriesIdentity(NamedTuple):
    """A series: its id, its kind of values, its metric and its device (primary key and device_id)."""

    id: int
    kind: Kind
    metric_name: str
    device: int
    device_id: str


class DeviceInterval(NamedTuple):
    """A device: primary key, device_id, expected seconds between points (0: not set), creation time (µs)."""

    pk: int
    device_id: str
    expected_interval: int
    created_at: int
    has_no_series: bool


def read_series_identities(connection: Connection, series: Ints) -> list[SeriesIdentity]:
    rows = connection.execute(_IDENTITIES, (series.tolist(),))
    return [SeriesIdentity(number, Kind(kind), *names) for number, kind, *names in rows]


def find_series_of_metrics(connection: Connection, metrics: Collection[str], device: int | None = None) -> Ints:
    """Return the ids of all series of these metrics, ascending; of one device (primary key) if given."""
    rows = connection.execute(_SERIES_OF_METRICS, {"metrics": list(metrics), "device": device}).fetchall()
    return np.array(rows, np.int64).reshape(-1)


def read_series_devices(connection: Connection, metric: str | None) -> Ints:
    """Return int64[n, 2]: id and device (primary key) of each series of a metric (None: of all), by device."""
    rows = connection.execute(_SERIES_WITH_DEVICES, {"metric": metric}).fetchall()
    return np.array(rows, np.int64).reshape(-1, 2)


def read_device_intervals(connection: Connection) -> list[DeviceInterval]:
    """Return all devices by primary key."""
    return [DeviceInterval(*row) for row in connection.execute(_DEVICES)]


def find_unknown_names(metrics: set[str], devices: set[str], groups: set[str]) -> dict[str, set[str]]:
    """Return the names that no metric (definition or series), device or group has, by kind."""
    unknown: dict[str, set[str]] = {"metrics": set(), "devices": set(), "groups": set()}
    with default_connection.cursor() as cursor:
        cursor.execute(_UNKNOWN_NAMES, [sorted(metrics), sorted(devices), sorted(groups)])
        for kind, name in cursor.fetchall():
            unknown[kind].add(name)
    return unknown
