"""Counts of stored points per series, in total and by hour, updated by every write.

A row counts a *range* of series (column `stretch`) as an array indexed by series id: one row for all time, and one
for each of the last hours that have points. Every transaction that adds points to merged blocks or removes them updates
the counts as its last step. The all-time row is the lock of its range; ranges are locked in ascending
order, so that no two transactions deadlock.

A point that was sent again is stored twice, and counts twice, until its two blocks are merged.
"""

from collections.abc import Iterator, Sequence
from functools import cached_property

import numpy as np

from metrics.storage.connection import Connection, database_time
from metrics.storage.format.codec import Columns, DamagedPayload, Ints, decode, read_point_counts, seal, unseal
from metrics.storage.format.compression import FAST_COMPRESSION, pack, unpack
from metrics.storage.format.layout import SERIES_PER_BUCKET, drop_removed, select_points

SERIES_PER_RANGE = 4096
HOUR = 3_600_000_000  # µs
HOURLY_RETENTION = 25  # hours: a day, and the rest of its first hour
ALL_TIME = 0  # value of `hour` in the all-time row

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

# The columns from which the points per series of a block are read: a block of several series needs its payload's head.
COUNT_COLUMNS = """series_from, series_to, points, CASE WHEN series_from < series_to THEN
    substring(payload FROM 1 FOR (512 + 16 * (series_to - series_from + 1))::int) END"""

_CountKey = tuple[int, int]  # range, hour


class CountChange:
    """The points that a transaction adds to the merged points of a shard, and removes from them."""

    def __init__(self, connection: Connection, shard: int) -> None:
        self._connection, self._shard = connection, shard
        self._points: dict[_CountKey, Ints] = {}
        self._bytes: dict[int, int] = {}

    @cached_property
    def first_hour(self) -> int:
        """The first hour with a row of its own."""
        return int(database_time(self._connection) // 3600) - HOURLY_RETENTION

    def add(self, columns: Columns) -> None:
        self._move(columns, 1)

    def subtract(self, columns: Columns) -> None:
        self._move(columns, -1)

    def replace(self, before: Sequence[Columns], after: Sequence[Columns]) -> None:
        """Replace points after a merge; if no duplicate was dropped, the counts stay as they are."""
        if sum(map(len, before)) != sum(map(len, after)):
            for columns in before:
                self.subtract(columns)
            for columns in after:
                self.add(columns)

    def add_counts(self, series: Ints, lengths: Ints) -> None:
        """Add points per series that are older than the hours with rows of their own."""
        self._put(ALL_TIME, series, lengths)

    def add_bytes(self, bucket: int, size: int) -> None:
        """Add bytes to the payloads of a bucket."""
        count_range = bucket * SERIES_PER_BUCKET // SERIES_PER_RANGE
        self._bytes[count_range] = self._bytes.get(count_range, 0) + size

    def apply(self) -> None:
        """Store the change at the end of the transaction."""
        changed = {key: points for key, points in self._points.items() if points.any()}
        sizes = {count_range: size for count_range, size in self._bytes.items() if size}
        if changed:
            self._store(changed, sorted({count_range for count_range, _ in changed} | set(sizes)))
        for count_range, size in sorted(sizes.items()):
            addition = (size, self._shard, count_range)
            if not self._connection.execute(_ADD_BYTES, addition).rowcount:
                self._locked([count_range])  # the first block of the range holds only removed points
                self._connection.execute(_ADD_BYTES, addition)
        self._points, self._bytes = {}, {}

    def _store(self, changed: dict[_CountKey, Ints], ranges: list[int]) -> None:
        """Add the changed counts to the stored ones; their ranges stay locked until the end of the transaction."""
        stored = self._locked(ranges)
        if hours := sorted({hour for _, hour in changed} - {ALL_TIME}):
            rows = self._connection.execute(_HOURS, (self._shard, ranges, hours), binary=True).fetchall()
            stored |= {(count_range, hour): payload for count_range, hour, payload in rows}
        rows = []
        for key, points in sorted(changed.items()):
            if key in stored:
                points += self._decode(key, stored[key])
            elif points.min() < 0:  # an hour past its retention
                continue
            rows.append((self._shard, *key, int(points.sum()), encode_counts(points)))
        with self._connection.cursor() as cursor:
            cursor.executemany(_STORE, rows)

    def _locked(self, ranges: list[int]) -> dict[_CountKey, bytes]:
        """Lock and return the all-time rows, creating missing ones, which only merges of commits need."""
        stored = self._lock(ranges)
        if missing := [count_range for count_range in ranges if (count_range, ALL_TIME) not in stored]:
            zeros = encode_counts(np.zeros(SERIES_PER_RANGE, np.int64))
            with self._connection.cursor() as cursor:
                cursor.executemany(_CREATE, [(self._shard, count_range, zeros) for count_range in missing])
            stored |= self._lock(missing)
        return stored

    def _lock(self, ranges: list[int]) -> dict[_CountKey, bytes]:
        rows = self._connection.execute(_LOCK, (self._shard, ranges), binary=True).fetchall()
        return {(count_range, ALL_TIME): payload for count_range, payload in rows}

    def _decode(self, key: _CountKey, payload: bytes) -> Ints:
        try:
            return decode_counts(payload)
        except DamagedPayload:
            mark_for_rebuild(self._connection, self._shard, key[0])
            return np.zeros(SERIES_PER_RANGE, np.int64)

    def _move(self, columns: Columns, sign: int) -> None:
        columns = drop_removed(columns)
        self._put(ALL_TIME, columns.ids, np.diff(columns.offsets) * sign)
        if len(columns) and int(columns.times.max()) >= self.first_hour * HOUR:
            for hour, series, lengths in count_by_hour(columns):
                if hour >= self.first_hour:
                    self._put(hour, series, lengths * sign)

    def _put(self, hour: int, series: Ints, lengths: Ints) -> None:
        for count_range, low, high in split_by_range(series):
            points = self._points.setdefault((count_range, hour), np.zeros(SERIES_PER_RANGE, np.int64))
            points[series[low:high] - count_range * SERIES_PER_RANGE] += lengths[low:high]


def split_by_range(series: Ints) -> Iterator[tuple[int, int, int]]:
    """Split ascending series into (range, index of its first series, index after its last)."""
    if len(series):
        ranges = series // SERIES_PER_RANGE
        edges = [0, *(np.flatnonzero(np.diff(ranges)) + 1).tolist(), len(series)]
        for low, high in zip(edges[:-1], edges[1:], strict=True):
            yield int(ranges[low]), low, high


def count_by_hour(columns: Columns) -> Iterator[tuple[int, Ints, Ints]]:
    """Yield (hour, series, points of each). Most merges are within one hour, where single points are not read."""
    first, last = columns.times[columns.offsets[:-1]] // HOUR, columns.times[columns.offsets[1:] - 1] // HOUR
    lengths, within = np.diff(columns.offsets), first == last
    for hour in np.unique(first[within]).tolist():
        mask = within & (first == hour)
        yield hour, columns.ids[mask], lengths[mask]
    if not within.all():
        across = select_points(columns, np.repeat(~within, lengths))
        hours = across.times // HOUR
        begins = np.ones(len(hours), bool)
        begins[1:] = hours[1:] != hours[:-1]
        begins[across.offsets[:-1]] = True
        starts = np.flatnonzero(begins)
        series, lengths_across = across.series()[starts], np.diff(np.append(starts, len(hours)))
        for hour in np.unique(hours[starts]).tolist():
            mask = hours[starts] == hour
            yield hour, series[mask], lengths_across[mask]


def encode_counts(points: Ints) -> bytes:
    """Encode the counts of a range."""
    return seal(pack(points, FAST_COMPRESSION))


def decode_counts(payload: bytes) -> Ints:
    """Decode the counts of a range. Raises DamagedPayload."""
    counts: Ints = unpack(bytes(unseal(payload)), np.int64)
    return counts


def mark_for_rebuild(connection: Connection, shard: int, count_range: int) -> None:
    """Mark a range whose counts are to be rebuilt (metrics.storage.merge.rebuild_point_counts)."""
    connection.execute(_MARK, (shard, count_range))


def count_block(series_from: int, series_to: int, points: int, head: bytes | None) -> tuple[Ints, Ints] | None:
    """Return (series, points of each) of a block from its COUNT_COLUMNS; None if they do not suffice."""
    if head is None:
        return np.array([series_from], np.int64), np.array([points], np.int64)
    counts = read_point_counts(head)
    if counts is None or not len(counts[0]) or counts[1].sum() != points:
        return None
    return counts if (counts[0][0], counts[0][-1]) == (series_from, series_to) else None


def count_payload(payload: bytes) -> list[tuple[Ints, Ints]]:
    """Return (series, points of each) of a payload. Raises DamagedPayload."""
    return [(part.ids, np.diff(part.offsets)) for part in map(drop_removed, decode(payload))]


def delete_old_hours(connection: Connection) -> None:
    """Delete the rows of hours past their retention."""
    # One more hour is kept, because a merge may be writing to it.
    first = int(database_time(connection) // 3600) - HOURLY_RETENTION - 1
    connection.execute("DELETE FROM metrics_count WHERE hour <> 0 AND hour < %s", (first,))
