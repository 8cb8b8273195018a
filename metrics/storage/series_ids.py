"""How new series are numbered: those of one metric side by side, whatever devices they belong to.

Series are stored in order of their number, 256 of them to a bucket. Series of one metric are alike, so side by side
they take half the bytes, and a question about one metric of a fleet reads a tenth of the blocks that it would read
if a device's metrics stood side by side. A metric gets its numbers in lanes that grow: a rare one wastes few, and
shares its bucket with others; a fleet's has buckets of its own.
"""

from collections.abc import Sequence
from typing import Any

FIRST_RANGE_SIZE, RANGE_GROWTH, MAX_RANGE_SIZE = 8, 4, 256  # series of a lane; the longest is a whole bucket

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
# For whoever inserts without a number; and no number is given again when the series that had it is deleted.
_ADVANCE_SEQUENCE = "SELECT setval(pg_get_serial_sequence('metrics_series', 'id'), %s - 1)"


def lock_series_ids(connection: Any) -> None:
    """Until the end of the transaction, nobody else numbers series."""
    connection.execute(_LOCK)


def allocate_series_ids(connection: Any, metrics: Sequence[str]) -> list[int]:
    """A number for a new series of each of these metrics, in this order. The caller holds the lock."""
    lanes = {metric: (at, end, size) for metric, at, end, size in connection.execute(_RANGES, (list(metrics),))}
    [top] = connection.execute(_FIRST_UNUSED_ID).fetchone()
    found = []
    for metric in metrics:
        at, end, size = lanes.get(metric, (0, 0, 0))
        if at == end:
            size = min(size * RANGE_GROWTH, MAX_RANGE_SIZE) or FIRST_RANGE_SIZE
            at = -(-top // size) * size
            top = end = at + size
        found.append(at)
        lanes[metric] = (at + 1, end, size)
    connection.execute(_STORE_RANGES, (list(lanes), *map(list, zip(*lanes.values(), strict=True))))
    connection.execute(_ADVANCE_SEQUENCE, (top,))
    return found
