"""Letting go of what is past its retention: whole rows of days that no metric keeps any longer."""

import time

from metrics.models import DEFAULT_RETENTION_DAYS
from metrics.storage.blocks import DAY
from metrics.storage.connection import Connection

BATCHES_KEPT_DAYS = 7  # how long a batch id is remembered
JOURNAL_KEPT_DAYS = 30  # how long it is known who sent what; the chain can be followed from any entry on


def drop_expired(connection: Connection, now: float | None = None) -> int:
    """Delete blocks of days past the longest retention, old batch ids and journal; returns the blocks deleted."""
    row = connection.execute("SELECT max(retention_days) FROM metrics_metricdefinition").fetchone()
    days = max(DEFAULT_RETENTION_DAYS, (row and row[0]) or 0)
    last = int((time.time() if now is None else now) * 1_000_000) // DAY - days - 1
    connection.execute(
        "DELETE FROM metrics_ingestedbatch WHERE at < now() - make_interval(days => %s)", (BATCHES_KEPT_DAYS,)
    )
    connection.execute("DELETE FROM metrics_journal WHERE at < now() - make_interval(days => %s)", (JOURNAL_KEPT_DAYS,))
    connection.execute("DELETE FROM metrics_damagedblock WHERE time_to < %s", (last * DAY,))
    return connection.execute("DELETE FROM metrics_block WHERE day < %s", (last,)).rowcount
