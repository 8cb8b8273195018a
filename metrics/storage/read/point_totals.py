"""Totals of stored points: the counts of merged points plus the unmerged commits.

No merged block is read. Among unmerged commits a point that was sent twice counts once.
"""

import threading
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from metrics.storage import shards
from metrics.storage.connection import Connection
from metrics.storage.format.codec import Columns, DamagedPayload, Ints
from metrics.storage.format.layout import UNMERGED, drop_removed_of_all, merge_by_encoding, select_series
from metrics.storage.merge import point_counts
from metrics.storage.merge.point_counts import ALL_TIME, SERIES_PER_RANGE, count_by_hour, split_by_range
from metrics.storage.read.block_cache import BlockKey, read_blocks

MAX_UNMERGED_POINTS = 2_000_000  # points of commits that are read; with more the workers are far behind

_UNMERGED = """
SELECT y.shard, y.seq, y.points, octet_length(y.payload)
FROM metrics_young y JOIN metrics_merged m ON m.shard = y.shard
WHERE m.shard = ANY(%s) AND y.seq > m.seq ORDER BY y.shard, y.seq
"""
_RANGES = """
SELECT stretch, hour, points, bytes, pending IS NOT NULL, payload FROM metrics_count
WHERE shard = ANY(%s) AND stretch = ANY(%s) AND (hour = 0 OR hour BETWEEN %s AND %s)
"""
_ALL_RANGES = "SELECT stretch, hour, points, bytes, pending IS NOT NULL, payload FROM metrics_count WHERE hour = 0"
_HOURS = "SELECT stretch, hour, payload FROM metrics_count WHERE stretch = ANY(%s) AND hour BETWEEN %s AND %s"
_SUMS = "SELECT hour, sum(points) FROM metrics_count WHERE hour BETWEEN %s AND %s GROUP BY hour"
# As one byte string, which is an array already: a million rows would take ten times as long.
_ALL_SERIES_DEVICES = "SELECT string_agg(int8send(id) || int8send(device_id), ''::bytea) FROM metrics_series"
_LISTED_SERIES_DEVICES = f"{_ALL_SERIES_DEVICES} WHERE id = ANY(%s)"
MAX_LISTED_SERIES = 10_000  # series looked up by id; for more all series are read

Bools = NDArray[np.bool_]


@dataclass(slots=True)
class UnmergedPoints:
    """Unmerged points, each series and time once; average bytes per point; reasons why points are missing."""

    parts: list[Columns]
    bytes_per_point: float
    incomplete: list[str]

    def __len__(self) -> int:
        return sum(map(len, self.parts))


def read_unmerged_points(connection: Connection, series: Ints | None = None) -> UnmergedPoints:
    """Read the unmerged points of these series (ascending; None: all)."""
    keys: list[BlockKey] = []
    points, size, incomplete = 0, 0, []
    requested = list(shards.all_shards()) if series is None else np.unique(shards.shards_of_series(series)).tolist()
    rows = connection.execute(_UNMERGED, (requested,)).fetchall()
    for shard, seq, commit_points, length in rows:
        if points + commit_points > MAX_UNMERGED_POINTS:
            uncounted = sum(row[2] for row in rows[len(keys) :])
            incomplete.append(f"{uncounted} points that wait to be merged are not counted yet")
            break
        keys.append((UNMERGED, (shard, seq)))
        points, size = points + commit_points, size + length
    damaged: list[str] = []
    parts = [part for block_parts in read_blocks(connection, keys, damaged).values() for part in block_parts]
    if series is not None:
        parts = [selected for part in parts if len(selected := select_series(part, series))]
    incomplete += [f"{name} is damaged and was uncounted out" for name in damaged]
    return UnmergedPoints(drop_removed_of_all(merge_by_encoding(parts)), size / points if points else 0.0, incomplete)


@dataclass(slots=True)
class SeriesTotals:
    """Points of each series in total and by hour (since 1970); stored bytes; reasons why counts are incomplete."""

    total: Ints
    hours: dict[int, Ints]
    stored_bytes: float
    incomplete: list[str]


def count_series_points(connection: Connection, series: Ints, hours: range) -> SeriesTotals:
    """Count the points of these series (ascending) in total and in these hours, and estimate their stored bytes."""
    totals = SeriesTotals(
        np.zeros(len(series), np.int64), {hour: np.zeros(len(series), np.int64) for hour in hours}, 0.0, []
    )
    positions = {count_range: slice(low, high) for count_range, low, high in split_by_range(series)}
    requested = np.unique(shards.shards_of_series(series)).tolist()
    rows = connection.execute(_RANGES, (requested, list(positions), hours[0], hours[-1]), binary=True)
    for count_range, hour, points, size, pending, payload in rows:
        counts = _decode_range(payload, pending, totals.incomplete)[
            series[positions[count_range]] - count_range * SERIES_PER_RANGE
        ]
        if hour != ALL_TIME:
            totals.hours[hour][positions[count_range]] += counts
            continue
        totals.total[positions[count_range]] += counts
        totals.stored_bytes += size * int(counts.sum()) / max(points, 1)
    unmerged = read_unmerged_points(connection, series)
    totals.incomplete += unmerged.incomplete
    totals.stored_bytes += unmerged.bytes_per_point * len(unmerged)
    for part in unmerged.parts:
        np.add.at(totals.total, series.searchsorted(part.ids), np.diff(part.offsets))
        for hour, part_series, lengths in count_by_hour(part):
            if hour in totals.hours:
                np.add.at(totals.hours[hour], series.searchsorted(part_series), lengths)
    return totals


@dataclass(slots=True)
class FleetTotals:
    """Points of many devices in total and by hour; devices active in these hours; reasons for incomplete counts."""

    points: int
    hours: dict[int, int]
    devices: int
    incomplete: list[str] = field(default_factory=list)


def count_fleet_points(connection: Connection, hours: range, devices: Sequence[int] | None = None) -> FleetTotals:
    """Count the points of all devices, or of the devices with these keys."""
    unmerged = read_unmerged_points(connection)
    incomplete: list[str] = []
    totals = _read_totals(connection, unmerged, incomplete)
    is_active = np.zeros(len(totals), bool)
    for part in unmerged.parts:
        for hour, series, _ in count_by_hour(part):
            is_active[series] |= hour in hours
    series = np.flatnonzero(totals)
    device_of = series_devices.find_devices(connection, series)
    if devices is None:
        by_hour = _count_all_by_hour(connection, hours, totals > 0, is_active, incomplete)
        selected = None
    else:
        mask = _mask_of(devices, int(device_of.max(initial=0)) + 1)[device_of]
        series, device_of = series[mask], device_of[mask]
        selected = _mask_of(series, len(totals))
        by_hour = _count_series_by_hour(connection, hours, selected, is_active, incomplete)
    for part in unmerged.parts:
        for hour, part_series, lengths in count_by_hour(part):
            if hour in by_hour:
                by_hour[hour] += int(lengths.sum() if selected is None else lengths[selected[part_series]].sum())
    active_devices = _mask_of(device_of[is_active[series]], int(device_of.max(initial=0)) + 1)[1:]  # 0 is no device
    return FleetTotals(
        int(totals[series].sum()), by_hour, int(active_devices.sum()), [*unmerged.incomplete, *incomplete]
    )


def _mask_of(positions: Iterable[int] | Ints, size: int) -> Bools:
    """Return a mask of length `size` that is true at these positions."""
    numbers = positions if isinstance(positions, np.ndarray) else np.fromiter(positions, np.int64)
    mask = np.zeros(size, bool)
    mask[numbers[numbers < size]] = True
    return mask


def _count_all_by_hour(
    connection: Connection, hours: range, stored: Bools, is_active: Bools, incomplete: list[str]
) -> dict[int, int]:
    """Return the points of every hour, and mark active series in `is_active`.

    A device that sends all the time was active in this hour or the one before, so other hours are read only for others.
    """
    by_hour = dict.fromkeys(hours, 0)
    by_hour |= {hour: int(points) for hour, points in connection.execute(_SUMS, (hours[0], hours[-1]))}
    for hour_range in (hours[-1:], hours[-2:-1], hours[:-2]):
        ranges = np.flatnonzero((stored & ~is_active).reshape(-1, SERIES_PER_RANGE).any(axis=1)).tolist()
        if ranges:
            for count_range, _, payload in connection.execute(
                _HOURS, (ranges, hour_range[0], hour_range[-1]), binary=True
            ):
                is_active[count_range * SERIES_PER_RANGE : (count_range + 1) * SERIES_PER_RANGE] |= (
                    _decode_range(payload, False, incomplete) > 0
                )
    return by_hour


def _count_series_by_hour(
    connection: Connection, hours: range, selected: Bools, is_active: Bools, incomplete: list[str]
) -> dict[int, int]:
    """Return the points of every hour of the selected series, and mark active series in `is_active`."""
    by_hour = dict.fromkeys(hours, 0)
    ranges = np.flatnonzero(selected.reshape(-1, SERIES_PER_RANGE).any(axis=1)).tolist()
    for count_range, hour, payload in connection.execute(_HOURS, (ranges, hours[0], hours[-1]), binary=True):
        counts, positions = (
            _decode_range(payload, False, incomplete),
            slice(count_range * SERIES_PER_RANGE, (count_range + 1) * SERIES_PER_RANGE),
        )
        by_hour[hour] += int(counts[selected[positions]].sum())
        is_active[positions] |= counts > 0
    return by_hour


def _read_totals(connection: Connection, unmerged: UnmergedPoints, incomplete: list[str]) -> Ints:
    """Return the total points of every series, indexed by series id."""
    rows = connection.execute(_ALL_RANGES, binary=True).fetchall()
    last = max(
        [*(row[0] for row in rows), *(int(part.ids[-1]) // SERIES_PER_RANGE for part in unmerged.parts)], default=-1
    )
    totals = np.zeros((last + 1) * SERIES_PER_RANGE, np.int64)
    for count_range, _, _, _, pending, payload in rows:
        totals[count_range * SERIES_PER_RANGE : (count_range + 1) * SERIES_PER_RANGE] += _decode_range(
            payload, pending, incomplete
        )
    for part in unmerged.parts:
        totals[part.ids] += np.diff(part.offsets)
    return totals


def _decode_range(payload: bytes, pending: bool, incomplete: list[str]) -> Ints:
    """Decode the counts of a range; negative ones, possible while counts are rebuilt, become 0."""
    reason = "some point counts are being rebuilt"
    try:
        counts = point_counts.decode_counts(payload)
    except DamagedPayload:
        counts, pending = np.zeros(SERIES_PER_RANGE, np.int64), True
    if pending and reason not in incomplete:
        incomplete.append(reason)
    return np.maximum(counts, 0)


class SeriesDevices:
    """Cache of each series' device, which never changes. Thread-safe."""

    def __init__(self) -> None:
        self._devices: Ints = np.zeros(0, np.int64)
        self._lock = threading.Lock()

    def find_devices(self, connection: Connection, series: Ints) -> Ints:
        """Return the keys of the devices of these series; 0 where a series does not exist."""
        with self._lock:
            if len(series) and int(series[-1]) >= len(self._devices):
                grown = np.zeros(int(series[-1]) * 5 // 4 + SERIES_PER_RANGE, np.int64)
                grown[: len(self._devices)] = self._devices
                self._devices = grown
            unknown = series[self._devices[series] == 0]
            if len(unknown):
                numbers, devices = _read_series_devices(connection, unknown)
                is_known = numbers < len(self._devices)
                self._devices[numbers[is_known]] = devices[is_known]
            return self._devices[series]

    def forget(self) -> None:
        """Discard the cache."""
        self._devices = np.zeros(0, np.int64)


def _read_series_devices(connection: Connection, series: Ints) -> tuple[Ints, Ints]:
    """Read series and their devices: of these series, or of all if there are many."""
    is_listed = len(series) < MAX_LISTED_SERIES
    statement, parameters = (_LISTED_SERIES_DEVICES, (series.tolist(),)) if is_listed else (_ALL_SERIES_DEVICES, None)
    row = connection.execute(statement, parameters, binary=True).fetchone()
    pairs = np.frombuffer(row[0] if row and row[0] else b"", ">i8").astype(np.int64).reshape(-1, 2)
    return pairs[:, 0], pairs[:, 1]


series_devices = SeriesDevices()
