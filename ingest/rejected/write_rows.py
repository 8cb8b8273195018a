"""The tables of the rejected inbox: a row per sender, device, metric and reason, and packets of replayable points.

A row's count changes every second while a device sends invalid points, so rows are small. Each flush adds a packet of
points; `ingest.rejected.retention` merges packets.
"""

from typing import Any, NamedTuple

from ingest.rejected.point_packets import RejectedPoint, pack
from metrics.storage.connection import Connection

_ADD_COUNTS = """
INSERT INTO ingest_rejected AS r (sender, device_id, metric_name, reason, first_at, last_at, count, detail)
SELECT sender, device_id, metric_name, reason, to_timestamp(first_at), to_timestamp(last_at), count, detail
FROM unnest(%s::text[], %s::text[], %s::text[], %s::text[], %s::float8[], %s::float8[], %s::bigint[], %s::text[])
    WITH ORDINALITY AS g (sender, device_id, metric_name, reason, first_at, last_at, count, detail, place)
ORDER BY place
ON CONFLICT (sender, device_id, metric_name, reason) DO UPDATE
SET count = r.count + excluded.count, last_at = greatest(r.last_at, excluded.last_at), detail = excluded.detail
RETURNING sender, device_id, metric_name, reason, id
"""
_ADD_PACKETS = """
INSERT INTO ingest_rejectedpacket (rejected_id, points, size, payload)
SELECT * FROM unnest(%s::bigint[], %s::int[], %s::int[], %s::bytea[])
"""
MAX_DETAIL_LENGTH = 500


class InboxRow(NamedTuple):
    """The counts and points that a flush adds to a row of the inbox."""

    sender: str
    device_id: str
    metric_name: str
    reason: str
    first_at: float  # seconds since 1970
    last_at: float
    total: int
    detail: str
    points: list[RejectedPoint]


def write_rows(connection: Connection, rows: list[InboxRow]) -> None:
    """Add counts and points to the inbox in one transaction."""
    columns: list[list[Any]] = [[str(row[index]) for row in rows] for index in range(4)]
    columns += [[row[index] for row in rows] for index in (4, 5, 6)]
    columns.append([row.detail[:MAX_DETAIL_LENGTH].replace("\0", "") for row in rows])
    payloads = {row[:4]: (len(row.points), pack(row.points)) for row in rows if row.points}
    with connection.transaction():
        ids = {tuple(row[:4]): row[4] for row in connection.execute(_ADD_COUNTS, columns)}
        if payloads:
            packets = [(ids[key], points, len(payload), payload) for key, (points, payload) in payloads.items()]
            connection.execute(_ADD_PACKETS, [list(column) for column in zip(*packets, strict=True)])
