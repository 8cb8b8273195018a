"""The rejected inbox in the database: one row per who, what and why, and packets of points that can be replayed.

A row's count moves every second while a device is broken, so it is small; points come in packets of what one flush
held, and `ingest.rejected.retention` makes few of many.
"""

from typing import Any, NamedTuple

from ingest.rejected.points import KeptPoint, pack
from metrics.storage.connection import Connection

_COUNT = """
INSERT INTO ingest_rejected AS r (sender, device_id, metric_name, reason, first_at, last_at, count, detail)
SELECT sender, device_id, metric_name, reason, to_timestamp(first_at), to_timestamp(last_at), count, detail
FROM unnest(%s::text[], %s::text[], %s::text[], %s::text[], %s::float8[], %s::float8[], %s::bigint[], %s::text[])
    WITH ORDINALITY AS g (sender, device_id, metric_name, reason, first_at, last_at, count, detail, place)
ORDER BY place
ON CONFLICT (sender, device_id, metric_name, reason) DO UPDATE
SET count = r.count + excluded.count, last_at = greatest(r.last_at, excluded.last_at), detail = excluded.detail
RETURNING sender, device_id, metric_name, reason, id
"""
_PACKETS = """
INSERT INTO ingest_rejectedpacket (rejected_id, points, size, payload)
SELECT * FROM unnest(%s::bigint[], %s::int[], %s::int[], %s::bytea[])
"""
LONGEST_DETAIL = 500


class Line(NamedTuple):
    """What gathered of one who, what and why."""

    sender: str
    device_id: str
    metric_name: str
    reason: str
    first_at: float  # seconds since 1970
    last_at: float
    total: int
    detail: str
    points: list[KeptPoint]


def write(connection: Connection, lines: list[Line]) -> None:
    """Add lines to the inbox, in one transaction."""
    columns: list[list[Any]] = [[str(line[place]) for line in lines] for place in range(4)]
    columns += [[line[place] for line in lines] for place in (4, 5, 6)]
    columns.append([line.detail[:LONGEST_DETAIL].replace("\0", "") for line in lines])
    packets = {line[:4]: (len(line.points), pack(line.points)) for line in lines if line.points}
    with connection.transaction():
        numbers = {tuple(row[:4]): row[4] for row in connection.execute(_COUNT, columns)}
        if packets:
            rows = [(numbers[key], points, len(payload), payload) for key, (points, payload) in packets.items()]
            connection.execute(_PACKETS, [list(column) for column in zip(*rows, strict=True)])
