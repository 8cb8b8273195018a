"""Which rollups a read uses instead of points: the choice of a resolution, expired points, and stored rollup rows."""

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np

from metrics.storage.connection import Connection, read_connection
from metrics.storage.format.codec import Ints, Kind
from metrics.storage.format.layout import SERIES_PER_BUCKET, day_of
from metrics.storage.merge.rollups import FIVE_MINUTES, ONE_HOUR, RESOLUTIONS
from metrics.storage.series_registry import DEFAULT_DEFINITION, SeriesRegistry, current_registry
from metrics.storage.shards import BlockId, shards_of_series
from metrics.storage.units import DAY, SECOND

_FIND = """
SELECT shard, id, bucket, day, intervals, series_from, series_to, resolution FROM metrics_rollup
WHERE shard = ANY(%(shards)s) AND bucket = ANY(%(buckets)s) AND resolution = ANY(%(resolutions)s)
  AND day BETWEEN %(first)s AND %(last)s AND series_from <= %(high)s AND series_to >= %(low)s
"""


class StoredSeries(Protocol):
    """A series with the properties that decide how to read it."""

    @property
    def id(self) -> int: ...
    @property
    def kind(self) -> Kind: ...
    @property
    def metric_name(self) -> str: ...


class RollupChoice(NamedTuple):
    """Which rollups can answer a read.

    resolution       seconds; None: none can
    replaces_points  whether they are read instead of points that still exist
    """

    resolution: int | None
    replaces_points: bool


NO_ROLLUPS = RollupChoice(None, False)


@dataclass(frozen=True, slots=True)
class RollupUse:
    """How a query may use rollups.

    resolution       seconds of their intervals
    points_from      µs; older points have expired, so only rollups are left
    replaces_points  whether rollups may replace points that still exist
    max_points       number of points that the result is downsampled to: hourly rollups suffice for days without finer
                     ones, and rollups replace nothing if there are no more points than that
    """

    resolution: int
    points_from: int
    replaces_points: bool
    max_points: int | None = None


@dataclass(frozen=True, slots=True)
class PlanPiece:
    """Series (ascending ids) that are read in the same way: with the same rollups, from the same day on."""

    ids: Ints
    rollup_use: RollupUse | None = None


class RollupRow(NamedTuple):
    """A row of rollups without its payload."""

    shard: int
    id: int
    bucket: int
    day: int
    intervals: int
    series_from: int
    series_to: int
    resolution: int


# --- choice -----------------------------------------------------------------------------------------


def choose_for_buckets(edges: Ints, replaces_points: bool) -> RollupChoice:
    """Return the coarsest rollups that divide all edges (µs) of time buckets but the first and last."""
    for resolution in reversed(RESOLUTIONS):
        if not (edges[1:-1] % (resolution * SECOND)).any():
            return RollupChoice(resolution, replaces_points)
    return RollupChoice(None, replaces_points)


def choose_for_chart(length: int, max_points: int) -> RollupChoice:
    """Return the rollups for a time range of this length (µs) that is downsampled to `max_points`."""
    longest = 2 * length // max_points
    fine_enough = [resolution for resolution in RESOLUTIONS if resolution * SECOND <= longest]
    return RollupChoice(fine_enough[-1], True) if fine_enough else RollupChoice(FIVE_MINUTES, False)


def split_by_retention(
    series: Iterable[StoredSeries],
    choice: RollupChoice,
    max_points: int | None = None,
    registry: SeriesRegistry | None = None,
) -> list[PlanPiece]:
    """Split series by the retention of their points: it decides from which day on only rollups exist.

    With `max_points`, each series is downsampled to that many points. `registry` is the current one by default.
    """
    definitions = (registry or current_registry()).definitions
    by_retention: dict[int | None, list[int]] = {}
    for one_series in series:
        days = definitions.get(one_series.metric_name, DEFAULT_DEFINITION).retention // DAY
        has_rollups = choice.resolution is not None and one_series.kind.is_number
        by_retention.setdefault(days if has_rollups else None, []).append(one_series.id)
    pieces = []
    for retention_days, series_ids in by_retention.items():
        ids = np.unique(np.array(series_ids, np.int64))
        rollup_use = None
        if retention_days is not None and choice.resolution is not None:
            total = None if max_points is None else max_points * len(ids)
            rollup_use = RollupUse(choice.resolution, _retention_start(retention_days), choice.replaces_points, total)
        pieces.append(PlanPiece(ids, rollup_use))
    return pieces


def find_expiry_times(series: Iterable[StoredSeries], resolution: int | None, start: int, end: int) -> list[int]:
    """Return the times (µs) before which points of a range have expired that only hourly rollups replace.

    Rollups of the resolution (seconds; None: none) that the read uses do not count as missing.
    """
    if resolution == ONE_HOUR:
        return []
    expiry_times = []
    for piece in split_by_retention(series, RollupChoice(ONE_HOUR, False)):
        if piece.rollup_use is None or start >= (expired := piece.rollup_use.points_from):
            continue
        last = min(end, expired)
        with read_connection() as connection:
            if resolution is not None and _has_rollups(connection, piece.ids, resolution, start, last):
                continue
            if _has_rollups(connection, piece.ids, ONE_HOUR, start, last):
                expiry_times.append(expired)
    return list(dict.fromkeys(expiry_times))


def _retention_start(days: int) -> int:
    """Return the time (µs) before which points have expired."""
    return (time.time_ns() // 1000 - days * DAY) // DAY * DAY


def _has_rollups(connection: Connection, series: Ints, resolution: int, start: int, end: int) -> bool:
    """Return whether buckets of these series have rollups of a resolution from `start` to before `end` (µs)."""
    shards, buckets = np.unique(shards_of_series(series)).tolist(), np.unique(series // SERIES_PER_BUCKET).tolist()
    rows = connection.execute(
        "SELECT 1 FROM metrics_rollup WHERE shard = ANY(%s) AND bucket = ANY(%s) AND resolution = %s"
        " AND day BETWEEN %s AND %s LIMIT 1",
        (shards, buckets, resolution, day_of(start), day_of(end - 1)),
    )
    return rows.fetchone() is not None


# --- rows -------------------------------------------------------------------------------------------


def find_rollup_rows(
    connection: Connection, parameters: Mapping[str, object], rollup_use: RollupUse
) -> list[RollupRow]:
    """Return the rows of the requested shards, buckets, days and series, the finer resolution of a day first."""
    resolutions = {rollup_use.resolution} if rollup_use.max_points is None else {rollup_use.resolution, ONE_HOUR}
    rows = [RollupRow(*row) for row in connection.execute(_FIND, {**parameters, "resolutions": list(resolutions)})]
    return sorted(rows, key=lambda row: (row.bucket, row.day, row.resolution, row.series_from))


def read_payloads(connection: Connection, rows: Sequence[RollupRow]) -> dict[BlockId, bytes]:
    """Return the payloads of these rows by (shard, id)."""
    payloads: dict[BlockId, bytes] = {}
    for shard in {row.shard for row in rows}:
        ids = [row.id for row in rows if row.shard == shard]
        statement = "SELECT id, payload FROM metrics_rollup WHERE shard = %s AND id = ANY(%s)"
        for number, payload in connection.execute(statement, (shard, ids), binary=True):
            payloads[shard, number] = payload
    return payloads
