"""Process-wide cache of devices, metric definitions and series, so that a point costs no database query.

A series is resolved to a *row*: an index into four arrays that hold the series id, its bounds and its retention, so
that a batch is validated column by column. Rows are added at first sight.

The registry is replaced when the revision changes (a definition, an API key or a membership changed, or a device was
deleted). The process that commits a change uses no older registry afterwards; every other process reads the revision
each REVISION_PERIOD, and uses no registry that is older than MAX_AGE.
"""

import logging
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from django.conf import settings
from numpy.typing import NDArray
from psycopg.errors import ForeignKeyViolation

from metrics.storage import series_ids, shards
from metrics.storage.connection import Connection, read_connection, registry_connection
from metrics.storage.errors import StorageUnavailable
from metrics.storage.format.codec import Kind
from metrics.storage.merge.retention_policies import DEFAULT_RETENTION_DAYS
from metrics.storage.units import DAY
from metrics.storage.write.other_kinds import record_new_kinds

log = logging.getLogger(__name__)

DeviceSpans = Sequence[tuple[str, int, int]]  # device_id, index of its first point, index after its last
MAX_LAYOUTS = 256  # a layout takes a few kilobytes
REVISION_PERIOD = 0.5  # seconds between two reads of the revision
MAX_AGE = 1.0  # seconds
KIND_OF_TYPE = {  # by data_type of a metric definition
    "numeric": Kind.NUMERIC,
    "boolean": Kind.BOOLEAN,
    "string": Kind.STRING,
    "json": Kind.JSON,
    "geolocation": Kind.GEOLOCATION,
    "binary": Kind.BINARY,
}

_FIND_DEVICES = "SELECT device_id, id FROM metrics_device WHERE device_id = ANY(%s)"
# With DO NOTHING, a device that another process creates meanwhile would be in no row and in no snapshot.
_CREATE_DEVICES = """
INSERT INTO metrics_device (device_id, name, created_at)
SELECT device_id, '', now() FROM unnest(%s::text[]) AS new (device_id)
ON CONFLICT (device_id) DO UPDATE SET name = metrics_device.name RETURNING device_id, id, xmax::text = '0' AS is_new
"""
_EXISTING_NAMES = """
SELECT 'device_id', device_id FROM metrics_device WHERE device_id = ANY(%s)
UNION SELECT 'metric_name', metric_name FROM metrics_series WHERE metric_name = ANY(%s)
"""
_FIND_SERIES = """
SELECT s.device_id, s.metric_name, s.id FROM metrics_series s
JOIN unnest(%s::bigint[], %s::text[]) AS g (device_id, metric_name) USING (device_id, metric_name) WHERE s.kind = %s
"""
_INSERT_SERIES = """
INSERT INTO metrics_series (id, device_id, metric_name, kind)
SELECT id, device_id, metric_name, %s FROM unnest(%s::bigint[], %s::bigint[], %s::text[]) g (id, device_id, metric_name)
"""


@dataclass(frozen=True, slots=True)
class IngestDefinition:
    """The part of a metric definition that ingestion needs."""

    kind: Kind
    low: float
    high: float
    retention: int  # µs
    unit: str | None = None


_NO_ROWS: dict[str, int] = {}
DEFAULT_DEFINITION = IngestDefinition(Kind.NUMERIC, -np.inf, np.inf, DEFAULT_RETENTION_DAYS * DAY)


class SeriesRegistry:
    """Definitions and series of one revision. It is replaced as a whole when the revision changes.

    Thread-safe: readers take no lock, because the arrays are filled before the name of the series is added.
    """

    def __init__(self, revision: int = -1, definitions: dict[str, IngestDefinition] | None = None) -> None:
        self.revision = revision
        self.definitions = definitions or {}
        self.has_bounds = any(
            definition.low > -np.inf or definition.high < np.inf for definition in self.definitions.values()
        )
        self.non_numeric_metrics = {
            name for name, definition in self.definitions.items() if definition.kind is not Kind.NUMERIC
        }
        self.shortest_retention = min(
            [DEFAULT_DEFINITION.retention, *(definition.retention for definition in self.definitions.values())]
        )
        self.series = np.zeros(1024, np.int64)
        self.low = np.full(1024, -np.inf)
        self.high = np.full(1024, np.inf)
        self.retention = np.full(1024, DEFAULT_DEFINITION.retention, np.int64)
        self._row_count = 0
        self._rows: dict[Kind, dict[str, dict[str, int]]] = {kind: {} for kind in Kind}
        self._devices: dict[str, int] = {}
        self._layouts: dict[tuple[str, str, int], tuple[DeviceSpans, list[str], NDArray[np.int64]]] = {}
        self._lock = threading.Lock()

    def unit(self, metric: str) -> str | None:
        """Return the unit in a metric's definition."""
        return self.definitions.get(metric, DEFAULT_DEFINITION).unit

    def cached_layout(self, groups: DeviceSpans, metrics: list[str]) -> NDArray[np.int64] | None:
        """Return the rows of an earlier batch with these devices and metrics: gateways repeat their series."""
        layout = self._layouts.get((groups[0][0], metrics[0], len(metrics)))
        return layout[2] if layout is not None and layout[0] == groups and layout[1] == metrics else None

    def cache_layout(self, groups: DeviceSpans, metrics: list[str], rows: NDArray[np.int64]) -> None:
        """Cache the rows of a batch."""
        if len(self._layouts) >= MAX_LAYOUTS:
            self._layouts.clear()
        self._layouts[groups[0][0], metrics[0], len(metrics)] = (groups, metrics, rows)

    def numeric_rows(self, device_id: str) -> dict[str, int]:
        """Return the known rows of a device's numeric metrics, by metric. Read-only."""
        return self._rows[Kind.NUMERIC].get(device_id, _NO_ROWS)

    def find_rows(self, devices: Iterable[tuple[str, Sequence[str]]], kind: Kind = Kind.NUMERIC) -> list[int]:
        """Return the rows of each device's metrics one after the other; -1 for an unknown series."""
        rows_by_device = self._rows[kind]
        rows: list[int] = []
        for device_id, metrics in devices:
            rows_by_metric = rows_by_device.get(device_id, _NO_ROWS)
            try:
                rows += list(map(rows_by_metric.__getitem__, metrics))  # raises before anything is added
            except KeyError:
                rows += [rows_by_metric.get(metric, -1) for metric in metrics]
        return rows

    def existing_names(self, names: list[str]) -> set[tuple[str, str]]:
        """Return ("device_id" or "metric_name", name) of those of these names that exist."""
        with read_connection() as connection:
            rows = connection.execute(_EXISTING_NAMES, (names, names)).fetchall()
        return {*rows, *(("metric_name", name) for name in names if name in self.definitions)}

    def create_missing(self, series: Iterable[tuple[str, str, Kind]]) -> None:
        """Add rows for these (device, metric, kind), creating new devices and series.

        With CREATE_ON_FIRST_SIGHT off, unknown devices and undefined metrics get no row.
        """
        by_kind: dict[Kind, set[tuple[str, str]]] = {}
        for device_id, metric, kind in series:
            if settings.CREATE_ON_FIRST_SIGHT or metric in self.definitions:
                by_kind.setdefault(kind, set()).add((device_id, metric))
        with self._lock, read_connection() as connection:
            for kind, pairs in by_kind.items():
                try:
                    self._create_missing(connection, kind, pairs)
                except ForeignKeyViolation:  # one of the devices was deleted since it was looked up
                    self._devices.clear()
                    self._create_missing(connection, kind, pairs)

    def _create_missing(self, connection: Any, kind: Kind, pairs: set[tuple[str, str]]) -> None:
        self._load_devices(connection, sorted({device_id for device_id, _ in pairs}))
        device_keys = [(self._devices[device], device, metric) for device, metric in pairs if device in self._devices]
        device_ids = {number: device for number, device, _ in device_keys}
        for (number, metric), series in _find_or_create_series(
            connection, sorted((row[0], row[2]) for row in device_keys), kind
        ):
            self._add(kind, device_ids[number], metric, series)

    def _load_devices(self, connection: Any, device_ids: list[str]) -> None:
        if missing := [device_id for device_id in device_ids if device_id not in self._devices]:
            self._devices.update(connection.execute(_FIND_DEVICES, (missing,)).fetchall())
        new = [device_id for device_id in missing if device_id not in self._devices]
        if new and settings.CREATE_ON_FIRST_SIGHT:  # ascending, so that two processes wait instead of deadlocking
            with connection.transaction():
                created = connection.execute(_CREATE_DEVICES, (new,)).fetchall()
                creation_listener(connection, [device_id for device_id, _, is_new in created if is_new])
            self._devices.update((device_id, number) for device_id, number, _ in created)

    def _add(self, kind: Kind, device_id: str, metric: str, series: int) -> None:
        rows_by_metric = self._rows[kind].setdefault(device_id, {})
        if metric in rows_by_metric:
            return
        row = self._row_count
        if row == len(self.series):
            grow = len(self.series)
            self.series = np.concatenate((self.series, np.zeros(grow, np.int64)))
            self.low = np.concatenate((self.low, np.full(grow, -np.inf)))
            self.high = np.concatenate((self.high, np.full(grow, np.inf)))
            self.retention = np.concatenate((self.retention, np.full(grow, DEFAULT_DEFINITION.retention, np.int64)))
        definition = self.definitions.get(metric, DEFAULT_DEFINITION)
        self.series[row] = series
        if kind is Kind.NUMERIC:
            self.low[row], self.high[row] = definition.low, definition.high
        self.retention[row] = definition.retention
        self._row_count += 1
        rows_by_metric[metric] = row  # last: a reader without the lock finds a complete row or none


def _find_or_create_series(
    connection: Any, pairs: list[tuple[int, str]], kind: Kind
) -> Iterable[tuple[tuple[int, str], int]]:
    """Return the series of each (device, metric), creating the missing ones."""
    series = _find_series(connection, pairs, kind)
    if len(series) < len(pairs):
        with connection.transaction():
            series_ids.lock_series_ids(connection)
            series = _find_series(connection, pairs, kind)
            missing = [pair for pair in pairs if pair not in series]
            if not missing:  # another process created them first
                return series.items()
            new_ids = series_ids.allocate_series_ids(connection, [metric for _, metric in missing])
            devices, metrics = [device for device, _ in missing], [metric for _, metric in missing]
            connection.execute(_INSERT_SERIES, (kind, new_ids, devices, metrics))
            record_new_kinds(connection, devices, metrics, shards.all_shards())
            series.update(zip(missing, new_ids, strict=True))
    return series.items()


def _find_series(connection: Any, pairs: list[tuple[int, str]], kind: Kind) -> dict[tuple[int, str], int]:
    parameters = ([device for device, _ in pairs], [metric for _, metric in pairs], kind)
    return {(device, metric): number for device, metric, number in connection.execute(_FIND_SERIES, parameters)}


def _ignore_creation(connection: Connection, device_ids: list[str]) -> None:
    """Record nothing: the default outside of Django."""


# Called in the transaction that creates devices at first sight; MetricsConfig sets the one that records events.
creation_listener: Callable[[Connection, list[str]], None] = _ignore_creation

_registry = SeriesRegistry()
_required_revision = 0  # the last change of this process
_refreshed_at = float("-inf")  # by time.monotonic, as all times here; when the last successful read began
_failure: tuple[float, StorageUnavailable] | None = None  # when the last read began, and its error
_refresh_lock = threading.Lock()


def cached_registry() -> SeriesRegistry:
    """Return the registry as it is: for the event loop, after `metrics.required_revision.wait_until_current`."""
    return _registry


def current_registry() -> SeriesRegistry:
    """Return the registry, refreshed if it is outdated."""
    return refresh_registry() if is_outdated() else _registry


def is_outdated(revision: int = 0) -> bool:
    """Return whether the registry is too old, or lacks a change of this process or this revision."""
    return _registry.revision < max(revision, _required_revision) or time.monotonic() - _refreshed_at >= MAX_AGE


def require_revision(revision: int) -> None:
    """Apply a change that this process has committed: no older registry is used from now on."""
    global _required_revision
    with _refresh_lock:
        _required_revision = max(_required_revision, revision)


def refresh_registry(since: float | None = None) -> SeriesRegistry:
    """Read the revision, and replace the registry if the revision has changed. Raises StorageUnavailable.

    Callers that wait for each other share one read: the revision is read again only if the last read began before
    `since`, by default the time of the call.
    """
    global _registry, _required_revision, _refreshed_at, _failure
    since = time.monotonic() if since is None else since
    with _refresh_lock:
        if _refreshed_at >= since:
            return _registry
        if _failure is not None and _failure[0] >= since:
            raise _failure[1]
        began = time.monotonic()
        try:
            with registry_connection() as connection:
                row = connection.execute("SELECT number FROM metrics_revision").fetchone()
                revision = row[0] if row else 0
                if revision != _registry.revision:
                    _registry = SeriesRegistry(revision, _read_definitions(connection))
        except StorageUnavailable as error:
            _failure = began, error
            raise
        _required_revision = min(_required_revision, revision)  # lower only if the database was restored from a backup
        _refreshed_at, _failure = began, None
        return _registry


def series_exists_sql(series: str) -> str:
    """Return the SQL condition that a series ID (an expression) belongs to a series."""
    return f"EXISTS (SELECT FROM metrics_series WHERE metrics_series.id = {series})"


def reset_registry() -> None:
    """Discard the registry of this process."""
    global _registry, _required_revision, _refreshed_at, _failure
    _registry, _required_revision, _refreshed_at, _failure = SeriesRegistry(), 0, float("-inf"), None


def kind_of_type(metric: str, data_type: str) -> Kind:
    """Return the kind of a metric's values: numeric if the stored data type is unknown, as without a definition.

    The API accepts known types only, but a newer version or an SQL statement can have written another. It must not stop
    ingestion of all metrics.
    """
    kind = KIND_OF_TYPE.get(data_type)
    if kind is None:
        log.error(
            "metric %s has the unknown data type %r: its values are read as numeric; known types are %s",
            metric, data_type, ", ".join(KIND_OF_TYPE),
        )  # fmt: skip
        return DEFAULT_DEFINITION.kind
    return kind


def _read_definitions(connection: Any) -> dict[str, IngestDefinition]:
    rows = connection.execute(
        "SELECT name, data_type, min_value, max_value, retention_days, unit FROM metrics_metricdefinition"
    )
    return {
        name: IngestDefinition(
            kind_of_type(name, data_type),
            -np.inf if low is None else low,
            np.inf if high is None else high,
            days * DAY,
            unit or None,
        )
        for name, data_type, low, high, days, unit in rows
    }
