"""Bounded journal: the newest collections of each collector are kept."""

from metrics.storage.connection import Connection

MAX_COLLECTIONS = 2_000  # of a collector
MAX_DELETED = 10_000  # of a collector in one run

_TRIM = """
DELETE FROM ingest_collection WHERE id IN (
    SELECT old.id FROM ingest_collector c CROSS JOIN LATERAL (
        SELECT id FROM ingest_collection WHERE collector_id = c.id
        ORDER BY started_at DESC, id DESC OFFSET %s LIMIT %s) old)
"""


def apply_retention(connection: Connection) -> int:
    """Delete the journal rows beyond the limit; return their number."""
    return connection.execute(_TRIM, (MAX_COLLECTIONS, MAX_DELETED)).rowcount
