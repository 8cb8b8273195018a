"""Checks that the stored point counts equal the counts found by reading every block."""

from collections import Counter

import numpy as np

from metrics.storage.connection import Connection
from metrics.storage.format.codec import decode
from metrics.storage.format.layout import drop_removed
from metrics.storage.merge import point_counts
from metrics.storage.merge.point_counts import ALL_TIME, HOUR, SERIES_PER_RANGE

PointsByHour = dict[int, dict[int, int]]  # hour: series: points


def read_stored_counts(connection: Connection) -> PointsByHour:
    """Read the stored counts, and check that their sums match their payloads."""
    counts: PointsByHour = {ALL_TIME: {}}
    for count_range, hour, points, payload in connection.execute(
        "SELECT stretch, hour, points, payload FROM metrics_count", binary=True
    ):
        counts_of_range = point_counts.decode_counts(payload)
        assert counts_of_range.sum() == points and counts_of_range.min() >= 0
        hour_counts = counts.setdefault(hour, {})
        for index in np.flatnonzero(counts_of_range).tolist():
            hour_counts[count_range * SERIES_PER_RANGE + index] = hour_counts.get(
                count_range * SERIES_PER_RANGE + index, 0
            ) + int(counts_of_range[index])
    return {hour: hour_counts for hour, hour_counts in counts.items() if hour_counts}


def count_stored_points(connection: Connection) -> PointsByHour:
    """Count the points of every merged block."""
    counts: dict[int, Counter[int]] = {}
    for (payload,) in connection.execute("SELECT payload FROM metrics_block", binary=True):
        for columns in map(drop_removed, decode(payload)):
            for series, time in zip(columns.series().tolist(), columns.times.tolist(), strict=True):
                counts.setdefault(ALL_TIME, Counter())[series] += 1
                counts.setdefault(time // HOUR, Counter())[series] += 1
    return {hour: dict(hour_counts) for hour, hour_counts in counts.items()}


def sizes_match(connection: Connection) -> bool:
    """Return whether the stored byte counts match the blocks."""
    [(counted_bytes, stored_bytes)] = connection.execute(
        "SELECT (SELECT coalesce(sum(bytes), 0) FROM metrics_count),"
        " (SELECT coalesce(sum(octet_length(payload)), 0) FROM metrics_block)"
    ).fetchall()
    return int(counted_bytes) == int(stored_bytes)


def check_point_counts(connection: Connection, by_hour: bool = False) -> dict[int, int]:
    """Check the stored counts, of every hour too if asked, and return the points of every series."""
    stored_counts, block_counts = read_stored_counts(connection), count_stored_points(connection)
    assert stored_counts.get(ALL_TIME, {}) == block_counts.get(ALL_TIME, {})
    assert not by_hour or stored_counts == block_counts
    assert sizes_match(connection)
    return stored_counts.get(ALL_TIME, {})


def count_unmerged_points(connection: Connection) -> Counter[int]:
    """Count the unmerged points of every series, repeated points each time."""
    counts: Counter[int] = Counter()
    for (payload,) in connection.execute(
        "SELECT payload FROM metrics_young y JOIN metrics_merged m USING (shard) WHERE y.seq > m.seq", binary=True
    ):
        for columns in map(drop_removed, decode(payload)):
            counts.update(columns.series().tolist())
    return counts
