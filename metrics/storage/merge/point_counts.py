"""How many points of every series are stored, in all and by hour: kept while they come and go, never found by reading.

A row counts a *stretch* of series, an array by series number: one row for all times, and one for each of the last
hours that points were of. Whatever puts points into merged blocks or takes them out says so in the same transaction,
as the last thing that it does. The row of all times is the lock of its stretch; stretches are locked in ascending
order, so that no two transactions wait for each other.

What is counted is what is stored: a point that was sent again counts twice until its two blocks are merged.
"""

from collections.abc import Iterator, Sequence
from functools import cached_property

import numpy as np

from metrics.storage.connection import Connection, database_time
from metrics.storage.format.codec import Columns, DamagedPayload, Ints, decode, read_point_counts, seal, unseal
from metrics.storage.format.compression import FAST_COMPRESSION, pack, unpack
from metrics.storage.format.layout import SERIES_PER_BUCKET, select_points

SERIES_PER_RANGE = 4096  # series of a row
HOUR = 3_600_000_000  # µs
HOURLY_RETENTION = 25  # a day, and what is left of the hour that it began in
ALL_TIME = 0  # the hour of the row of all times

_LOCK = """
SELECT stretch, payload FROM metrics_count WHERE shard = %s AND stretch = ANY(%s) AND hour = 0
ORDER BY stretch FOR UPDATE
"""
_HOURS = "SELECT stretch, hour, payload FROM metrics_count WHERE shard = %s AND stretch = ANY(%s) AND hour = ANY(%s)"
_CREATE = """
INSERT INTO metrics_count (shard, stretch, hour, points, bytes, payload) VALUES (%s, %s, 0, 0, 0, %s)
ON CONFLICT DO NOTHING
"""
_STORE = """
INSERT INTO metrics_count (shard, stretch, hour, points, bytes, payload) VALUES (%s, %s, %s, %s, 0, %s)
ON CONFLICT (shard, stretch, hour) DO UPDATE SET points = EXCLUDED.points, payload = EXCLUDED.payload
"""
_ADD_BYTES = "UPDATE metrics_count SET bytes = bytes + %s WHERE shard = %s AND stretch = %s AND hour = 0"
_MARK = "UPDATE metrics_count SET pending = txid_current() WHERE shard = %s AND stretch = %s AND hour = 0"

# What tells how many points of which series are in a block: of one series the row, of more the payload's beginning.
COUNT_COLUMNS = """series_from, series_to, points, CASE WHEN series_from < series_to THEN
    substring(payload FROM 1 FOR (512 + 16 * (series_to - series_from + 1))::int) END"""

_CountKey = tuple[int, int]  # stretch, hour


class CountChange:
    """What a transaction adds to the merged points of a shard, and takes from them."""

    def __init__(self, connection: Connection, shard: int) -> None:
        self._connection, self._shard = connection, shard
        self._points: dict[_CountKey, Ints] = {}
        self._bytes: dict[int, int] = {}

    @cached_property
    def first_hour(self) -> int:
        """The first hour that is counted by itself."""
        return int(database_time(self._connection) // 3600) - HOURLY_RETENTION

    def add(self, columns: Columns) -> None:
        self._move(columns, 1)

    def subtract(self, columns: Columns) -> None:
        self._move(columns, -1)

    def replace(self, before: Sequence[Columns], after: Sequence[Columns]) -> None:
        """Points were put together anew: where none was dropped, nothing has changed."""
        if sum(map(len, before)) != sum(map(len, after)):
            for columns in before:
                self.subtract(columns)
            for columns in after:
                self.add(columns)

    def add_counts(self, series: Ints, lengths: Ints) -> None:
        """So many points of these series are there, of hours that are not counted by themselves."""
        self._put(ALL_TIME, series, lengths)

    def add_bytes(self, bucket: int, size: int) -> None:
        """The payloads of a bucket grew by so many bytes."""
        stretch = bucket * SERIES_PER_BUCKET // SERIES_PER_RANGE
        self._bytes[stretch] = self._bytes.get(stretch, 0) + size

    def apply(self) -> None:
        """Store it, at the end of the transaction."""
        moved = {place: points for place, points in self._points.items() if points.any()}
        sizes = {stretch: size for stretch, size in self._bytes.items() if size}
        if moved:
            self._keep(moved, sorted({stretch for stretch, _ in moved} | set(sizes)))
        for stretch, size in sorted(sizes.items()):
            self._connection.execute(_ADD_BYTES, (size, self._shard, stretch))
        self._points, self._bytes = {}, {}

    def _keep(self, moved: dict[_CountKey, Ints], stretches: list[int]) -> None:
        """Add what has moved to what there is; the stretches stay locked until the end of the transaction."""
        held = self._locked(stretches)
        if hours := sorted({hour for _, hour in moved} - {ALL_TIME}):
            rows = self._connection.execute(_HOURS, (self._shard, stretches, hours), binary=True).fetchall()
            held |= {(stretch, hour): payload for stretch, hour, payload in rows}
        rows = []
        for place, points in sorted(moved.items()):
            if place in held:
                points += self._known(place, held[place])
            elif points.min() < 0:  # an hour that is no longer kept
                continue
            rows.append((self._shard, *place, int(points.sum()), encode_counts(points)))
        with self._connection.cursor() as cursor:
            cursor.executemany(_STORE, rows)

    def _locked(self, stretches: list[int]) -> dict[_CountKey, bytes]:
        """The rows of all times; begun where there are none yet, which only young merges come to."""
        held = self._lock(stretches)
        if missing := [stretch for stretch in stretches if (stretch, ALL_TIME) not in held]:
            nothing = encode_counts(np.zeros(SERIES_PER_RANGE, np.int64))
            with self._connection.cursor() as cursor:
                cursor.executemany(_CREATE, [(self._shard, stretch, nothing) for stretch in missing])
            held |= self._lock(missing)
        return held

    def _lock(self, stretches: list[int]) -> dict[_CountKey, bytes]:
        rows = self._connection.execute(_LOCK, (self._shard, stretches), binary=True).fetchall()
        return {(stretch, ALL_TIME): payload for stretch, payload in rows}

    def _known(self, place: _CountKey, payload: bytes) -> Ints:
        try:
            return decode_counts(payload)
        except DamagedPayload:
            mark_for_rebuild(self._connection, self._shard, place[0])
            return np.zeros(SERIES_PER_RANGE, np.int64)

    def _move(self, columns: Columns, sign: int) -> None:
        self._put(ALL_TIME, columns.ids, np.diff(columns.offsets) * sign)
        if len(columns) and int(columns.times.max()) >= self.first_hour * HOUR:
            for hour, series, lengths in count_by_hour(columns):
                if hour >= self.first_hour:
                    self._put(hour, series, lengths * sign)

    def _put(self, hour: int, series: Ints, lengths: Ints) -> None:
        for stretch, low, high in split_by_range(series):
            points = self._points.setdefault((stretch, hour), np.zeros(SERIES_PER_RANGE, np.int64))
            points[series[low:high] - stretch * SERIES_PER_RANGE] += lengths[low:high]


def split_by_range(series: Ints) -> Iterator[tuple[int, int, int]]:
    """Ascending series as (stretch, from where, to where)."""
    if len(series):
        stretches = series // SERIES_PER_RANGE
        edges = [0, *(np.flatnonzero(np.diff(stretches)) + 1).tolist(), len(series)]
        for low, high in zip(edges[:-1], edges[1:], strict=True):
            yield int(stretches[low]), low, high


def count_by_hour(columns: Columns) -> Iterator[tuple[int, Ints, Ints]]:
    """How many points of which series are of which hour. Most merges are of one hour: nobody looks at each point."""
    first, last = columns.times[columns.offsets[:-1]] // HOUR, columns.times[columns.offsets[1:] - 1] // HOUR
    lengths, within = np.diff(columns.offsets), first == last
    for hour in np.unique(first[within]).tolist():
        here = within & (first == hour)
        yield hour, columns.ids[here], lengths[here]
    if not within.all():
        across = select_points(columns, np.repeat(~within, lengths))
        hours = across.times // HOUR
        begins = np.ones(len(hours), bool)
        begins[1:] = hours[1:] != hours[:-1]
        begins[across.offsets[:-1]] = True
        starts = np.flatnonzero(begins)
        series, many = across.series()[starts], np.diff(np.append(starts, len(hours)))
        for hour in np.unique(hours[starts]).tolist():
            here = hours[starts] == hour
            yield hour, series[here], many[here]


def encode_counts(points: Ints) -> bytes:
    """An array of a stretch to a payload."""
    return seal(pack(points, FAST_COMPRESSION))


def decode_counts(payload: bytes) -> Ints:
    """A payload to the array of a stretch. Raises DamagedPayload."""
    found: Ints = unpack(bytes(unseal(payload)), np.int64)
    return found


def mark_for_rebuild(connection: Connection, shard: int, stretch: int) -> None:
    """A stretch has to be counted anew (metrics.storage.merge.rebuild_point_counts)."""
    connection.execute(_MARK, (shard, stretch))


def count_block(series_from: int, series_to: int, points: int, head: bytes | None) -> tuple[Ints, Ints] | None:
    """(series, how many points of each) of a block, told from its ROW; None where that does not tell."""
    if head is None:
        return np.array([series_from], np.int64), np.array([points], np.int64)
    found = read_point_counts(head)
    if found is None or not len(found[0]) or found[1].sum() != points:
        return None
    return found if (found[0][0], found[0][-1]) == (series_from, series_to) else None


def count_payload(payload: bytes) -> list[tuple[Ints, Ints]]:
    """The same of a whole payload. Raises DamagedPayload."""
    return [(part.ids, np.diff(part.offsets)) for part in decode(payload)]


def delete_old_hours(connection: Connection) -> None:
    """Let go of hours that nobody asks for any more."""
    first = int(database_time(connection) // 3600) - HOURLY_RETENTION - 1  # one more: a merge may be at it
    connection.execute("DELETE FROM metrics_count WHERE hour <> 0 AND hour < %s", (first,))
