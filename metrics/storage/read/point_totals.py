"""How many points there are, asked: what is counted of merged points, and the commits that are not merged yet.

Nothing that is merged is read. Of the commits that are not, a point that was sent twice counts once.
"""

import threading
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from metrics.storage.connection import Connection
from metrics.storage.format.codec import Columns, DamagedPayload, Ints
from metrics.storage.format.layout import merge_by_encoding, select_series
from metrics.storage.merge import point_counts
from metrics.storage.merge.point_counts import ALL_TIME, SERIES_PER_RANGE, count_by_hour, split_by_range
from metrics.storage.read.block_cache import BlockKey, read_blocks

MAX_UNMERGED_POINTS = 2_000_000  # points of commits that are looked at; where more wait the workers are far behind

_UNMERGED = """
SELECT y.shard, y.seq, y.points, octet_length(y.payload) FROM metrics_young y JOIN metrics_merged m USING (shard)
WHERE y.seq > m.seq ORDER BY y.shard, y.seq
"""
_RANGES = """
SELECT stretch, hour, points, bytes, pending IS NOT NULL, payload FROM metrics_count
WHERE stretch = ANY(%s) AND (hour = 0 OR hour BETWEEN %s AND %s)
"""
_ALL_RANGES = "SELECT stretch, hour, points, bytes, pending IS NOT NULL, payload FROM metrics_count WHERE hour = 0"
_HOURS = "SELECT stretch, hour, payload FROM metrics_count WHERE stretch = ANY(%s) AND hour BETWEEN %s AND %s"
_SUMS = "SELECT hour, sum(points) FROM metrics_count WHERE hour BETWEEN %s AND %s GROUP BY hour"
# As one value, which is an array as it is: a million rows of their own take ten times as long.
_ALL_SERIES_DEVICES = "SELECT string_agg(int8send(id) || int8send(device_id), ''::bytea) FROM metrics_series"
_LISTED_SERIES_DEVICES = f"{_ALL_SERIES_DEVICES} WHERE id = ANY(%s)"
MAX_LISTED_SERIES = 10_000  # series that are looked up one by one

Bools = NDArray[np.bool_]


@dataclass(slots=True)
class UnmergedPoints:
    """Commits that are not merged yet: each series and time once; bytes a point; what is not in it."""

    parts: list[Columns]
    bytes_per_point: float
    missing: list[str]

    def __len__(self) -> int:
        return sum(map(len, self.parts))


def read_unmerged_points(connection: Connection, series: Ints | None = None) -> UnmergedPoints:
    """What is not merged yet, of these series (ascending; None: of all)."""
    keys: list[BlockKey] = []
    points, size, missing = 0, 0, []
    rows = connection.execute(_UNMERGED).fetchall()
    for shard, seq, many, length in rows:
        if points + many > MAX_UNMERGED_POINTS:
            left = sum(row[2] for row in rows[len(keys) :])
            missing.append(f"{left} points that wait to be merged are not counted yet")
            break
        keys.append((0, (shard, seq)))
        points, size = points + many, size + length
    damaged: list[str] = []
    parts = [part for held in read_blocks(connection, keys, damaged).values() for part in held]
    if series is not None:
        parts = [some for part in parts if len(some := select_series(part, series))]
    missing += [f"{name} is damaged and was left out" for name in damaged]
    return UnmergedPoints(merge_by_encoding(parts), size / points if points else 0.0, missing)


@dataclass(slots=True)
class SeriesTotals:
    """Of some series: points of each in all, and by hour (since 1970); bytes; what is not counted."""

    total: Ints
    hours: dict[int, Ints]
    size: float
    missing: list[str]


def count_series_points(connection: Connection, series: Ints, hours: range) -> SeriesTotals:
    """The counts of series (ascending), in all and of these hours; `size` is their share of what they are stored in."""
    found = SeriesTotals(
        np.zeros(len(series), np.int64), {hour: np.zeros(len(series), np.int64) for hour in hours}, 0.0, []
    )
    places = {stretch: slice(low, high) for stretch, low, high in split_by_range(series)}
    rows = connection.execute(_RANGES, (list(places), hours[0], hours[-1]), binary=True)
    for stretch, hour, points, size, pending, payload in rows:
        here = _decode_range(payload, pending, found.missing)[series[places[stretch]] - stretch * SERIES_PER_RANGE]
        if hour != ALL_TIME:
            found.hours[hour][places[stretch]] += here
            continue
        found.total[places[stretch]] += here
        found.size += size * int(here.sum()) / max(points, 1)
    fresh = read_unmerged_points(connection, series)
    found.missing += fresh.missing
    found.size += fresh.bytes_per_point * len(fresh)
    for part in fresh.parts:
        np.add.at(found.total, series.searchsorted(part.ids), np.diff(part.offsets))
        for hour, some, lengths in count_by_hour(part):
            if hour in found.hours:
                np.add.at(found.hours[hour], series.searchsorted(some), lengths)
    return found


@dataclass(slots=True)
class FleetTotals:
    """Of many devices: points in all and by hour, devices that were heard in these hours; what is not counted."""

    points: int
    hours: dict[int, int]
    devices: int
    missing: list[str] = field(default_factory=list)


def count_fleet_points(connection: Connection, hours: range, devices: Sequence[int] | None = None) -> FleetTotals:
    """The same of all devices, or of those with these keys."""
    fresh = read_unmerged_points(connection)
    missing: list[str] = []
    ever = _read_totals(connection, fresh, missing)
    heard = np.zeros(len(ever), bool)
    for part in fresh.parts:
        for hour, series, _ in count_by_hour(part):
            heard[series] |= hour in hours
    series = np.flatnonzero(ever)
    owner = series_devices.find_devices(connection, series)
    if devices is None:
        totals = _count_all_by_hour(connection, hours, ever > 0, heard, missing)
        seen = None
    else:
        mine = _mask_of(devices, int(owner.max(initial=0)) + 1)[owner]
        series, owner = series[mine], owner[mine]
        seen = _mask_of(series, len(ever))
        totals = _count_series_by_hour(connection, hours, seen, heard, missing)
    for part in fresh.parts:
        for hour, some, lengths in count_by_hour(part):
            if hour in totals:
                totals[hour] += int(lengths.sum() if seen is None else lengths[seen[some]].sum())
    active = _mask_of(owner[heard[series]], int(owner.max(initial=0)) + 1)[1:]  # 0 is nobody's
    return FleetTotals(int(ever[series].sum()), totals, int(active.sum()), [*fresh.missing, *missing])


def _mask_of(places: Iterable[int] | Ints, most: int) -> Bools:
    """Whether each number below `most` is one of these."""
    numbers = places if isinstance(places, np.ndarray) else np.fromiter(places, np.int64)
    found = np.zeros(most, bool)
    found[numbers[numbers < most]] = True
    return found


def _count_all_by_hour(
    connection: Connection, hours: range, stored: Bools, heard: Bools, missing: list[str]
) -> dict[int, int]:
    """The points of every hour; whoever has some is noted in `heard`.

    Who sends all the time was heard in this hour or the one before, and nobody looks for them in any other.
    """
    found = dict.fromkeys(hours, 0)
    found |= {hour: int(points) for hour, points in connection.execute(_SUMS, (hours[0], hours[-1]))}
    for some in (hours[-1:], hours[-2:-1], hours[:-2]):
        silent = np.flatnonzero((stored & ~heard).reshape(-1, SERIES_PER_RANGE).any(axis=1)).tolist()
        if silent:
            for stretch, _, payload in connection.execute(_HOURS, (silent, some[0], some[-1]), binary=True):
                heard[stretch * SERIES_PER_RANGE : (stretch + 1) * SERIES_PER_RANGE] |= (
                    _decode_range(payload, False, missing) > 0
                )
    return found


def _count_series_by_hour(
    connection: Connection, hours: range, seen: Bools, heard: Bools, missing: list[str]
) -> dict[int, int]:
    """The same of these series alone."""
    found = dict.fromkeys(hours, 0)
    stretches = np.flatnonzero(seen.reshape(-1, SERIES_PER_RANGE).any(axis=1)).tolist()
    for stretch, hour, payload in connection.execute(_HOURS, (stretches, hours[0], hours[-1]), binary=True):
        here, place = (
            _decode_range(payload, False, missing),
            slice(stretch * SERIES_PER_RANGE, (stretch + 1) * SERIES_PER_RANGE),
        )
        found[hour] += int(here[seen[place]].sum())
        heard[place] |= here > 0
    return found


def _read_totals(connection: Connection, fresh: UnmergedPoints, missing: list[str]) -> Ints:
    """The points of every series, by its number."""
    rows = connection.execute(_ALL_RANGES, binary=True).fetchall()
    last = max(
        [*(row[0] for row in rows), *(int(part.ids[-1]) // SERIES_PER_RANGE for part in fresh.parts)], default=-1
    )
    found = np.zeros((last + 1) * SERIES_PER_RANGE, np.int64)
    for stretch, _, _, _, pending, payload in rows:
        found[stretch * SERIES_PER_RANGE : (stretch + 1) * SERIES_PER_RANGE] += _decode_range(payload, pending, missing)
    for part in fresh.parts:
        found[part.ids] += np.diff(part.offsets)
    return found


def _decode_range(payload: bytes, pending: bool, missing: list[str]) -> Ints:
    """The counts of a stretch, none of them below nothing, as those are that wait to be made anew."""
    reason = "some of what is stored is being counted anew"
    try:
        found = point_counts.decode_counts(payload)
    except DamagedPayload:
        found, pending = np.zeros(SERIES_PER_RANGE, np.int64), True
    if pending and reason not in missing:
        missing.append(reason)
    return np.maximum(found, 0)


class SeriesDevices:
    """Which device each series is of, which never changes: a process asks once. Thread-safe."""

    def __init__(self) -> None:
        self._devices: Ints = np.zeros(0, np.int64)
        self._lock = threading.Lock()

    def find_devices(self, connection: Connection, series: Ints) -> Ints:
        """The keys of the devices of these series; 0 where there is none."""
        with self._lock:
            if len(series) and int(series[-1]) >= len(self._devices):
                grown = np.zeros(int(series[-1]) * 5 // 4 + SERIES_PER_RANGE, np.int64)
                grown[: len(self._devices)] = self._devices
                self._devices = grown
            unknown = series[self._devices[series] == 0]
            if len(unknown):
                numbers, devices = _read_series_devices(connection, unknown)
                known = numbers < len(self._devices)
                self._devices[numbers[known]] = devices[known]
            return self._devices[series]

    def forget(self) -> None:
        """Begin anew: between tests, whose numbers may be alike."""
        self._devices = np.zeros(0, np.int64)


def _read_series_devices(connection: Connection, series: Ints) -> tuple[Ints, Ints]:
    """Series and their devices: of these, or where they are many simply of all."""
    few = len(series) < MAX_LISTED_SERIES
    statement, given = (_LISTED_SERIES_DEVICES, (series.tolist(),)) if few else (_ALL_SERIES_DEVICES, None)
    row = connection.execute(statement, given, binary=True).fetchone()
    pairs = np.frombuffer(row[0] if row and row[0] else b"", ">i8").astype(np.int64).reshape(-1, 2)
    return pairs[:, 0], pairs[:, 1]


series_devices = SeriesDevices()
