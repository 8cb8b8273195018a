"""Keeps the rejected inbox small, whatever comes in: so many rows, so many points of a row, so many bytes in all."""

from ingest.rejected.points import KeptPoint, pack, unpack
from metrics.storage.connection import Connection

KEPT_DAYS = 30
MOST_ROWS = 100_000
MOST_POINTS_OF_ROW = 1_000  # the newest are kept
MOST_BYTES_OF_ROW = 256 * 1024
MOST_BYTES = 64 * 2**20  # of all points, packed
MOST_PACKETS_OF_ROW = 16
AT_ONCE = 200  # rows that one call packs anew

_LOCK = "SELECT pg_try_advisory_lock(7204, 0)"
_UNLOCK = "SELECT pg_advisory_unlock(7204, 0)"
_OLD = "SELECT id FROM ingest_rejected WHERE last_at < now() - make_interval(days => %s) ORDER BY id LIMIT %s"
_TOO_MANY = "SELECT id FROM ingest_rejected ORDER BY last_at DESC, id DESC OFFSET %s LIMIT %s"
_BEYOND = """
DELETE FROM ingest_rejectedpacket WHERE id <= (
    SELECT max(id) FROM (SELECT id, sum(size) OVER (ORDER BY id DESC) AS so_far FROM ingest_rejectedpacket) p
    WHERE so_far > %s
)"""
_SCATTERED = """
SELECT rejected_id FROM ingest_rejectedpacket GROUP BY rejected_id
HAVING count(*) > %s OR sum(points) > %s OR (sum(size) > %s AND count(*) > 1) ORDER BY sum(size) DESC LIMIT %s
"""


def tidy(connection: Connection) -> int:
    """Let go of what is too old or too much; returns how many rows went. One process at a time does it."""
    row = connection.execute(_LOCK).fetchone()
    if not row or not row[0]:
        return 0
    try:
        connection.execute(_BEYOND, (MOST_BYTES,))
        gone = 0
        for query, bound in ((_OLD, KEPT_DAYS), (_TOO_MANY, MOST_ROWS)):
            while found := [number for (number,) in connection.execute(query, (bound, AT_ONCE))]:
                gone += discard(connection, found)
        scattered = (MOST_PACKETS_OF_ROW, MOST_POINTS_OF_ROW, MOST_BYTES_OF_ROW, AT_ONCE)
        for (number,) in connection.execute(_SCATTERED, scattered).fetchall():
            _gather(connection, number)
        return gone
    finally:
        connection.execute(_UNLOCK)


def discard(connection: Connection, numbers: list[int]) -> int:
    """Delete rows with their points; returns how many there were."""
    with connection.transaction():
        # Locked first: a flush that adds points to one of them comes before this or makes a new row.
        connection.execute("SELECT id FROM ingest_rejected WHERE id = ANY(%s) ORDER BY id FOR UPDATE", (numbers,))
        connection.execute("DELETE FROM ingest_rejectedpacket WHERE rejected_id = ANY(%s)", (numbers,))
        return connection.execute("DELETE FROM ingest_rejected WHERE id = ANY(%s)", (numbers,)).rowcount


def _gather(connection: Connection, number: int) -> None:
    """One packet of the newest points of a row."""
    with connection.transaction():
        held, points = hold(connection, number)
        replace(connection, held, newest(points))


def hold(connection: Connection, number: int) -> tuple[list[int], list[KeptPoint]]:
    """(ids of packets, their points, oldest first) of a row, which nobody else changes until the transaction ends.

    What arrives meanwhile is in packets of its own.
    """
    rows = connection.execute(
        "SELECT id, payload FROM ingest_rejectedpacket WHERE rejected_id = %s ORDER BY id FOR UPDATE", (number,)
    ).fetchall()
    return [row[0] for row in rows], [point for row in rows for point in unpack(row[1])]


def replace(connection: Connection, held: list[int], points: list[KeptPoint]) -> None:
    """These points in place of all that the held packets have; the newest packet's id stays, and so its age."""
    if not held:
        return
    if points:
        payload = pack(points)
        connection.execute(
            "UPDATE ingest_rejectedpacket SET points = %s, size = %s, payload = %s WHERE id = %s",
            (len(points), len(payload), payload, held.pop()),
        )
    connection.execute("DELETE FROM ingest_rejectedpacket WHERE id = ANY(%s)", (held,))


def newest(points: list[KeptPoint]) -> list[KeptPoint]:
    """As many of the last points as a row may have."""
    points = points[-MOST_POINTS_OF_ROW:]
    while len(points) > 1 and len(pack(points)) > MOST_BYTES_OF_ROW:
        points = points[len(points) // 4 + 1 :]
    return points
