"""Retention of the rejected inbox: limits on age, rows, points per row and total size."""

from ingest.rejected.point_packets import RejectedPoint, pack, unpack
from metrics.storage.connection import Connection

RETENTION_DAYS = 30
MAX_ROWS = 100_000
MAX_POINTS_OF_ROW = 1_000  # the newest
MAX_BYTES_OF_ROW = 256 * 1024
MAX_BYTES = 64 * 2**20  # of all packets
MAX_PACKETS_OF_ROW = 16
RETENTION_BATCH = 200  # rows of one statement

_LOCK = "SELECT pg_try_advisory_lock(7204, 0)"
_UNLOCK = "SELECT pg_advisory_unlock(7204, 0)"
_EXPIRED = "SELECT id FROM ingest_rejected WHERE last_at < now() - make_interval(days => %s) ORDER BY id LIMIT %s"
_OVER_MAX_ROWS = "SELECT id FROM ingest_rejected ORDER BY last_at DESC, id DESC OFFSET %s LIMIT %s"
_DELETE_OVER_MAX_BYTES = """
DELETE FROM ingest_rejectedpacket WHERE id <= (
    SELECT max(id) FROM (SELECT id, sum(size) OVER (ORDER BY id DESC) AS so_far FROM ingest_rejectedpacket) p
    WHERE so_far > %s
)"""
_FRAGMENTED = """
SELECT rejected_id FROM ingest_rejectedpacket GROUP BY rejected_id
HAVING count(*) > %s OR sum(points) > %s OR (sum(size) > %s AND count(*) > 1) ORDER BY sum(size) DESC LIMIT %s
"""


def apply_retention(connection: Connection) -> int:
    """Delete and merge what exceeds the limits; return the number of deleted rows. One process at a time does it."""
    row = connection.execute(_LOCK).fetchone()
    if not row or not row[0]:
        return 0
    try:
        connection.execute(_DELETE_OVER_MAX_BYTES, (MAX_BYTES,))
        deleted = 0
        for query, limit in ((_EXPIRED, RETENTION_DAYS), (_OVER_MAX_ROWS, MAX_ROWS)):
            while ids := [row_id for (row_id,) in connection.execute(query, (limit, RETENTION_BATCH))]:
                deleted += delete_rows(connection, ids)
        limits = (MAX_PACKETS_OF_ROW, MAX_POINTS_OF_ROW, MAX_BYTES_OF_ROW, RETENTION_BATCH)
        for (row_id,) in connection.execute(_FRAGMENTED, limits).fetchall():
            _merge_packets(connection, row_id)
        return deleted
    finally:
        connection.execute(_UNLOCK)


def delete_rows(connection: Connection, ids: list[int]) -> int:
    """Delete rows with their points; return the number of deleted rows."""
    with connection.transaction():
        # The lock orders this with a flush: its points are deleted as well, or it creates a new row.
        connection.execute("SELECT id FROM ingest_rejected WHERE id = ANY(%s) ORDER BY id FOR UPDATE", (ids,))
        connection.execute("DELETE FROM ingest_rejectedpacket WHERE rejected_id = ANY(%s)", (ids,))
        return connection.execute("DELETE FROM ingest_rejected WHERE id = ANY(%s)", (ids,)).rowcount


def _merge_packets(connection: Connection, row_id: int) -> None:
    """Merge the newest points of a row into one packet."""
    with connection.transaction():
        packets, points = lock_points(connection, row_id)
        replace_points(connection, packets, newest_within_limits(points))


def lock_points(connection: Connection, row_id: int) -> tuple[list[int], list[RejectedPoint]]:
    """Lock the packets of a row until the transaction ends; return (their ids, their points, oldest first).

    Points that arrive meanwhile are in other packets.
    """
    rows = connection.execute(
        "SELECT id, payload FROM ingest_rejectedpacket WHERE rejected_id = %s ORDER BY id FOR UPDATE", (row_id,)
    ).fetchall()
    return [row[0] for row in rows], [point for row in rows for point in unpack(row[1])]


def replace_points(connection: Connection, packets: list[int], points: list[RejectedPoint]) -> None:
    """Replace the points of locked packets; the id of the newest packet, and with it the age, is kept."""
    if not packets:
        return
    if points:
        payload = pack(points)
        connection.execute(
            "UPDATE ingest_rejectedpacket SET points = %s, size = %s, payload = %s WHERE id = %s",
            (len(points), len(payload), payload, packets.pop()),
        )
    connection.execute("DELETE FROM ingest_rejectedpacket WHERE id = ANY(%s)", (packets,))


def newest_within_limits(points: list[RejectedPoint]) -> list[RejectedPoint]:
    """Return as many of the newest points as a row may have."""
    points = points[-MAX_POINTS_OF_ROW:]
    while len(points) > 1 and len(pack(points)) > MAX_BYTES_OF_ROW:
        points = points[len(points) // 4 + 1 :]
    return points
