"""Delete events of the outbox that everybody has read, and repair their order after a restore."""

from metrics.storage.connection import Connection

MIN_AGE = 600  # seconds that events are kept for clients and targets that resume
CURSOR_TIMEOUT = 7 * 86_400  # seconds without contact after which a target no longer keeps events
DELETE_BATCH = 10_000
MAX_BATCHES = 50  # per run

# Whole transactions in their order, so that an event proves that all later ones are still there. The newest transaction
# stays as this proof. No target has a cursor: age alone decides.
_DELETE = """
WITH kept AS (
    (SELECT xid FROM metrics_event ORDER BY xid DESC LIMIT 1)
    UNION ALL
    (SELECT xid FROM metrics_event WHERE time >= now() - make_interval(secs => %(age)s) ORDER BY xid LIMIT 1)
    UNION ALL
    SELECT checkpoint_xid::text::xid8 FROM metrics_eventcursor
    WHERE seen_at >= now() - make_interval(secs => %(timeout)s)
), first_kept AS (SELECT xid FROM kept ORDER BY xid LIMIT 1)
DELETE FROM metrics_event WHERE id IN (
    SELECT e.id FROM metrics_event e, first_kept WHERE e.xid < first_kept.xid ORDER BY e.xid, e.id LIMIT %(batch)s
)
"""
# A dump that is restored into another cluster has transaction ids that this cluster has not assigned yet. Readers would
# wait for these transactions. As events of this transaction, targets get them, possibly again.
_ADOPT = """
UPDATE metrics_event SET xid = pg_current_xact_id() WHERE xid >= pg_snapshot_xmax(pg_current_snapshot())
"""


def trim_events(connection: Connection) -> int:
    """Delete events that are ten minutes old and that all targets have passed; return how many.

    Targets keep `checkpoint_xid` behind their position by at least ten minutes, so that events can be replayed. At most
    MAX_BATCHES batches per call.
    """
    connection.execute(_ADOPT)
    parameters = {"age": MIN_AGE, "timeout": CURSOR_TIMEOUT, "batch": DELETE_BATCH}
    deleted = 0
    for _ in range(MAX_BATCHES):
        count = connection.execute(_DELETE, parameters).rowcount
        deleted += count
        if count < DELETE_BATCH:
            break
    return deleted
