"""How far each target has read the outbox and the stream of commits, stored in the database.

A cursor moves only if nobody has moved it since it was read, so that a replay, or a relay that took over, is noticed.
"""

from metrics.events.reader import Band
from metrics.storage.connection import Connection

CHECKPOINT_AGE = 600  # seconds that delivered events are kept for a replay

_CREATE = """
INSERT INTO metrics_eventcursor
    (name, epoch, low, high, last_id, checkpoint_xid, checkpoint_at, next_checkpoint_xid, seen_at)
VALUES (%(name)s, %(epoch)s, 0, 0, 0, 0, now(), 0, now())
ON CONFLICT (name) DO UPDATE SET epoch = %(epoch)s, low = 0, high = 0, last_id = 0, checkpoint_xid = 0,
    checkpoint_at = now(), next_checkpoint_xid = 0, seen_at = now()
WHERE metrics_eventcursor.epoch <> %(epoch)s
"""
_READ = "SELECT low, high, last_id FROM metrics_eventcursor WHERE name = %s"
# `checkpoint_xid` follows `low` ten to twenty minutes later: until then the events can be replayed.
_MOVE = """
UPDATE metrics_eventcursor SET low = %(low)s, high = %(high)s, last_id = %(last_id)s, seen_at = now(),
    checkpoint_xid = CASE WHEN due THEN least(next_checkpoint_xid, %(low)s) ELSE least(checkpoint_xid, %(low)s) END,
    next_checkpoint_xid = CASE WHEN due THEN %(low)s ELSE next_checkpoint_xid END,
    checkpoint_at = CASE WHEN due THEN now() ELSE checkpoint_at END
FROM (
    SELECT checkpoint_at < now() - make_interval(secs => %(age)s) AS due FROM metrics_eventcursor WHERE name = %(name)s
) age
WHERE name = %(name)s AND (low, high, last_id) = (%(low_was)s, %(high_was)s, %(last_id_was)s)
"""
_REWIND = """
UPDATE metrics_eventcursor c SET high = low, low = least(low, first.xid), last_id = 0
FROM (
    SELECT coalesce(min(xid::text::bigint), %(none)s) AS xid FROM metrics_event
    WHERE time >= now() - make_interval(secs => %(seconds)s)
) first WHERE name = %(name)s
"""
# Lines of the journal younger than PACK_DELAY are rows of their own; before them, whole packs are sent again.
_REWIND_POSITIONS = """
UPDATE bus_commitposition p SET seq = least(p.seq, first.seq - 1)
FROM (
    SELECT shard, min(seq) AS seq FROM (
        SELECT shard, min(seq) AS seq FROM metrics_journal
        WHERE at >= now() - make_interval(secs => %(seconds)s) GROUP BY shard
        UNION ALL
        SELECT shard, min(seq_from) FROM metrics_journalpack
        WHERE at_to >= now() - make_interval(secs => %(seconds)s) GROUP BY shard
    ) lines GROUP BY shard
) first WHERE p.shard = first.shard AND p.target = %(name)s
"""
_POSITIONS = "SELECT shard, seq FROM bus_commitposition WHERE target = %s"
_MOVE_POSITION = """
INSERT INTO bus_commitposition (target, shard, seq) VALUES (%s, %s, %s)
ON CONFLICT (target, shard) DO UPDATE SET seq = EXCLUDED.seq WHERE bus_commitposition.seq = %s
"""


class CursorMoved(Exception):
    """Another process moved the cursor: a replay, or a relay that took over."""


def load_cursor(connection: Connection, name: str, epoch: str) -> Band:
    """Return the position of a target in the outbox.

    A new target starts with everything that the outbox has; so does every target after the database was restored into
    another cluster, whose transactions have other numbers.
    """
    connection.execute(_CREATE, {"name": name, "epoch": epoch})
    row = connection.execute(_READ, (name,)).fetchone()
    assert row is not None
    return Band(*row)


def move_cursor(connection: Connection, name: str, was: Band, now: Band) -> None:
    """Store a position. Raises CursorMoved if the stored one is not `was`."""
    moved = connection.execute(
        _MOVE,
        {
            "name": name,
            "low": now.low,
            "high": now.high,
            "last_id": now.last_id,
            "age": CHECKPOINT_AGE,
            "low_was": was.low,
            "high_was": was.high,
            "last_id_was": was.last_id,
        },
    )
    if not moved.rowcount:
        raise CursorMoved


def rewind_cursor(connection: Connection, name: str, seconds: float) -> None:
    """Move a target back in the outbox, so that it gets the events of the last `seconds` again."""
    connection.execute(_REWIND, {"name": name, "seconds": seconds, "none": 2**62})


def load_positions(connection: Connection, name: str) -> dict[int, int]:
    """Return the last commit by shard whose data events a target has received."""
    return dict(connection.execute(_POSITIONS, (name,)).fetchall())


def move_position(connection: Connection, name: str, shard: int, was: int | None, now: int) -> None:
    """Store a position in the stream of commits. Raises CursorMoved if the stored one is not `was`."""
    if not connection.execute(_MOVE_POSITION, (name, shard, now, was)).rowcount:
        raise CursorMoved


def rewind_positions(connection: Connection, name: str, seconds: float) -> None:
    """Move a target back in the stream of commits to the first commit of the last `seconds`."""
    connection.execute(_REWIND_POSITIONS, {"name": name, "seconds": seconds})
