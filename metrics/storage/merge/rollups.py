"""The table of rollups: what five minutes and hours of a day amounted to, kept longer than its points.

They are written with the day's final blocks, in the same transaction, for every series that the merge touched. So a
day of a bucket that has rollups has those of all its numeric series; while points wait to be merged into a day, its
rollups are out of date and questions read the points.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from metrics.storage.connection import Connection
from metrics.storage.format.codec import Columns, Ints
from metrics.storage.format.layout import BUCKET, day_of
from metrics.storage.format.rollup_codec import Summary, decode_summary, encode_summary, summarised, together
from metrics.storage.merge.retention_policies import DEFAULT, Policy, is_over, policies
from metrics.storage.shards import Number, of_series
from metrics.storage.units import SECOND

MINUTES, HOUR = 300, 3600  # seconds of an interval
RESOLUTIONS = (MINUTES, HOUR)
# Intervals of one row, at the most. A row is decoded whole, and the chart of a series over months reads one of hours
# for each day; four times as many intervals would save 4 % of their bytes and take it twice as long.
ROW = {MINUTES: 4096, HOUR: 1024}
DENSE_ENOUGH = 15  # points of five minutes, on average: rollups of fewer cost more than the points

_TOUCHED = """
SELECT id, payload FROM metrics_rollup WHERE shard = %s AND bucket = %s AND resolution = %s AND day = %s
  AND series_from <= %s AND series_to >= %s
"""
_INSERT = """
INSERT INTO metrics_rollup (shard, bucket, resolution, day, series_from, series_to, intervals, keep, payload)
VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s)
"""


class Place(NamedTuple):
    """A day of a bucket."""

    shard: int
    bucket: int
    day: int


def existing(connection: Connection, place: Place) -> set[int]:
    """The resolutions of which a day has rollups."""
    found = connection.execute(
        "SELECT DISTINCT resolution FROM metrics_rollup WHERE shard = %s AND bucket = %s AND day = %s",
        (place.shard, place.bucket, place.day),
    )
    return {resolution for (resolution,) in found}


def fitting(points: Columns) -> set[int]:
    """The resolutions that a day is to have in which there are these points."""
    intervals = len(summarised(points, MINUTES * SECOND))
    return {MINUTES, HOUR} if len(points) >= DENSE_ENOUGH * intervals else {HOUR}


def drop(connection: Connection, place: Place) -> None:
    """Remove the rollups of a day."""
    connection.execute(
        "DELETE FROM metrics_rollup WHERE shard = %s AND bucket = %s AND day = %s",
        (place.shard, place.bucket, place.day),
    )


def write(
    connection: Connection, place: Place, points: Columns, kept: Mapping[int, Policy], now: float, resolutions: set[int]
) -> None:
    """Make the rollups of series of whose day these are all points; what there was of them is replaced.

    A series whose points of that day may be gone already keeps the rollups that it has.
    """
    lasting = [not is_over(place.day, kept.get(series, DEFAULT).points, now) for series in points.ids.tolist()]
    for resolution in resolutions:
        made = summarised(points, resolution * SECOND).of(np.array(lasting, bool))
        if len(made.ids):
            _replace(connection, place, resolution, made, kept)


def _replace(connection: Connection, place: Place, resolution: int, made: Summary, kept: Mapping[int, Policy]) -> None:
    where = (place.shard, place.bucket, resolution, place.day, int(made.ids[-1]), int(made.ids[0]))
    rows = connection.execute(_TOUCHED, where, binary=True).fetchall()
    if rows:
        held = together([decode_summary(payload, resolution * SECOND) for _, payload in rows])
        held = held.of(~np.isin(held.ids, made.ids))
        kept = {**kept, **policies(connection, held.ids.tolist())}
        made = together([held, made])
        delete(connection, place.shard, [number for number, _ in rows])
    insert(connection, place, resolution, made, kept)


def insert(connection: Connection, place: Place, resolution: int, made: Summary, kept: Mapping[int, Policy]) -> None:
    """Store a summary, in rows of series that are kept equally long."""
    days = np.array([kept_days(kept.get(series, DEFAULT), resolution) for series in made.ids.tolist()])
    with connection.cursor() as cursor:
        cursor.executemany(
            _INSERT,
            [
                (
                    *(place.shard, place.bucket, resolution, place.day),
                    *(int(row.ids[0]), int(row.ids[-1]), len(row), keep, encode_summary(row)),
                )
                for keep in np.unique(days).tolist()
                for row in made.of(days == keep).rows(ROW[resolution])
            ],
        )


def delete(connection: Connection, shard: int, numbers: Sequence[int]) -> None:
    """Remove rows."""
    connection.execute("DELETE FROM metrics_rollup WHERE shard = %s AND id = ANY(%s)", (shard, list(numbers)))


def kept_days(policy: Policy, resolution: int) -> int:
    """How long rollups of a resolution are kept: never less long than the points.

    Where a day of a bucket has rollups, questions take them for all series whose points are there.
    """
    return max(policy.points, policy.minutes if resolution == MINUTES else policy.hours)


# --- reading ----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Rolling:
    """How a question may be answered from rollups.

    resolution  seconds of their intervals
    gone        µs: points of before are gone, and rollups are all there is
    instead     whether they may stand in for points that are still there
    thinned     to how many points the answer is thinned: hours will do for days that have no finer ones, and nothing
                stands in where there are no more points than that
    """

    resolution: int
    gone: int
    instead: bool
    thinned: int | None = None


class RolledRow(NamedTuple):
    """A row of rollups that a question would read."""

    shard: int
    id: int
    bucket: int
    day: int
    intervals: int
    series_from: int
    series_to: int
    resolution: int


_FIND = """
SELECT shard, id, bucket, day, intervals, series_from, series_to, resolution FROM metrics_rollup
WHERE shard = ANY(%(shards)s) AND bucket = ANY(%(buckets)s) AND resolution = ANY(%(resolutions)s)
  AND day BETWEEN %(first)s AND %(last)s AND series_from <= %(high)s AND series_to >= %(low)s
"""


def exist_between(connection: Connection, series: Ints, resolution: int, start: int, end: int) -> bool:
    """Whether buckets of these series have rollups of a resolution from one time to another (µs)."""
    shards, buckets = np.unique(of_series(series)).tolist(), np.unique(series // BUCKET).tolist()
    found = connection.execute(
        "SELECT 1 FROM metrics_rollup WHERE shard = ANY(%s) AND bucket = ANY(%s) AND resolution = %s"
        " AND day BETWEEN %s AND %s LIMIT 1",
        (shards, buckets, resolution, day_of(start), day_of(end - 1)),
    )
    return found.fetchone() is not None


def find(connection: Connection, wanted: Mapping[str, object], rolling: Rolling) -> list[RolledRow]:
    """Rows that may hold what is wanted: shards, buckets, first and last day, low and high series; of a day finer ones
    first."""
    resolutions = {rolling.resolution} if rolling.thinned is None else {rolling.resolution, HOUR}
    found = [RolledRow(*row) for row in connection.execute(_FIND, {**wanted, "resolutions": list(resolutions)})]
    return sorted(found, key=lambda row: (row.bucket, row.day, row.resolution, row.series_from))


def fetch(connection: Connection, rows: Sequence[RolledRow]) -> dict[Number, bytes]:
    """Payloads by (shard, id)."""
    found: dict[Number, bytes] = {}
    for shard in {row.shard for row in rows}:
        numbers = [row.id for row in rows if row.shard == shard]
        statement = "SELECT id, payload FROM metrics_rollup WHERE shard = %s AND id = ANY(%s)"
        for number, payload in connection.execute(statement, (shard, numbers), binary=True):
            found[shard, number] = payload
    return found


def coarsest(edges: Ints) -> int | None:
    """The coarsest resolution that these edges (µs), the first and the last apart, do not cut; None: both are cut."""
    for resolution in reversed(RESOLUTIONS):
        if not (edges[1:-1] % (resolution * SECOND)).any():
            return resolution
    return None
