"""What is counted, beside what is found by reading every block: the same, after every step."""

from collections import Counter

import numpy as np

from metrics.storage.connection import Connection
from metrics.storage.format.codec import decode
from metrics.storage.merge import point_counts
from metrics.storage.merge.point_counts import ALL_TIME, HOUR, SERIES_PER_RANGE

Found = dict[int, dict[int, int]]  # hour: series: points


def as_counted(connection: Connection) -> Found:
    """By the rows of counts, whose sums agree with what is in them."""
    found: Found = {ALL_TIME: {}}
    for stretch, hour, points, payload in connection.execute(
        "SELECT stretch, hour, points, payload FROM metrics_count", binary=True
    ):
        array = point_counts.decode_counts(payload)
        assert array.sum() == points and array.min() >= 0
        here = found.setdefault(hour, {})
        for at in np.flatnonzero(array).tolist():
            here[stretch * SERIES_PER_RANGE + at] = here.get(stretch * SERIES_PER_RANGE + at, 0) + int(array[at])
    return {hour: some for hour, some in found.items() if some}


def as_stored(connection: Connection) -> Found:
    """By looking at every point of every merged block."""
    found: dict[int, Counter[int]] = {}
    for (payload,) in connection.execute("SELECT payload FROM metrics_block", binary=True):
        for columns in decode(payload):
            for series, time in zip(columns.series().tolist(), columns.times.tolist(), strict=True):
                found.setdefault(ALL_TIME, Counter())[series] += 1
                found.setdefault(time // HOUR, Counter())[series] += 1
    return {hour: dict(some) for hour, some in found.items()}


def sizes_agree(connection: Connection) -> bool:
    """Whether the bytes that are kept are those of the blocks."""
    [(kept, there)] = connection.execute(
        "SELECT (SELECT coalesce(sum(bytes), 0) FROM metrics_count),"
        " (SELECT coalesce(sum(octet_length(payload)), 0) FROM metrics_block)"
    ).fetchall()
    return int(kept) == int(there)


def check(connection: Connection, by_hour: bool = False) -> dict[int, int]:
    """The points of every series as they are counted, having seen that this is right; of every hour too."""
    found, stored = as_counted(connection), as_stored(connection)
    assert found.get(ALL_TIME, {}) == stored.get(ALL_TIME, {})
    assert not by_hour or found == stored
    assert sizes_agree(connection)
    return found.get(ALL_TIME, {})


def young_counts(connection: Connection) -> Counter[int]:
    """The points of every series that are not merged yet, as often as they were sent."""
    found: Counter[int] = Counter()
    for (payload,) in connection.execute(
        "SELECT payload FROM metrics_young y JOIN metrics_merged m USING (shard) WHERE y.seq > m.seq", binary=True
    ):
        for columns in decode(payload):
            found.update(columns.series().tolist())
    return found
