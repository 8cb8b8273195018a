"""Allocation of series ids: series of one metric get neighbouring ids, whichever devices they belong to.

Series are stored in order of their id, 256 of them to a bucket. Series of one metric are similar, so side by side
they take half the bytes, and a query of one metric over all devices reads a tenth of the blocks that it would read
if the metrics of a device were side by side. Each metric gets its ids from ranges that grow: a rare metric wastes
few ids and shares its bucket with others; a metric of many devices fills buckets of its own.
"""

from collections.abc import Sequence
from typing import Any

FIRST_RANGE_SIZE, RANGE_GROWTH, MAX_RANGE_SIZE = 8, 4, 256  # series; the largest range is a bucket

_LOCK = "LOCK TABLE metrics_lane IN SHARE ROW EXCLUSIVE MODE"
_RANGES = 'SELECT metric_name, next, "end", size FROM metrics_lane WHERE metric_name = ANY(%s)'
_FIRST_UNUSED_ID = """
SELECT greatest((SELECT max("end") FROM metrics_lane), (SELECT max(id) + 1 FROM metrics_series),
    pg_sequence_last_value(pg_get_serial_sequence('metrics_series', 'id')::regclass) + 1, 0)
"""
_STORE_RANGES = """
INSERT INTO metrics_lane (metric_name, next, "end", size)
SELECT * FROM unnest(%s::text[], %s::bigint[], %s::bigint[], %s::smallint[])
ON CONFLICT (metric_name) DO UPDATE SET next = EXCLUDED.next, "end" = EXCLUDED."end", size = EXCLUDED.size
"""
# For series inserted without an id; and the id of a deleted series is not used again.
_ADVANCE_SEQUENCE = "SELECT setval(pg_get_serial_sequence('metrics_series', 'id'), %s - 1)"


def lock_series_ids(connection: Any) -> None:
    """Lock the allocation of series ids until the end of the transaction."""
    connection.execute(_LOCK)


def allocate_series_ids(connection: Any, metrics: Sequence[str]) -> list[int]:
    """Return an id for a new series of each of these metrics, in this order. The caller holds the lock."""
    ranges = {
        metric: (next_id, end, size) for metric, next_id, end, size in connection.execute(_RANGES, (list(metrics),))
    }
    [first_unused] = connection.execute(_FIRST_UNUSED_ID).fetchone()
    ids = []
    for metric in metrics:
        next_id, end, size = ranges.get(metric, (0, 0, 0))
        if next_id == end:
            size = min(size * RANGE_GROWTH, MAX_RANGE_SIZE) or FIRST_RANGE_SIZE
            next_id = -(-first_unused // size) * size
            first_unused = end = next_id + size
        ids.append(next_id)
        ranges[metric] = (next_id + 1, end, size)
    connection.execute(_STORE_RANGES, (list(ranges), *map(list, zip(*ranges.values(), strict=True))))
    connection.execute(_ADVANCE_SEQUENCE, (first_unused,))
    return ids
