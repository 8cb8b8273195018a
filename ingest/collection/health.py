"""Health of collectors: how many fail, and whether workers collect at all."""

from typing import NamedTuple

from metrics.storage.connection import Connection

OVERDUE_SECONDS = 60.0

_COUNTS = """
SELECT count(*), count(*) FILTER (WHERE s.error <> ''),
    count(*) FILTER (WHERE s.due_at < now() - make_interval(secs => %s)
        AND (s.leased_until IS NULL OR s.leased_until < now()))
FROM ingest_collector c JOIN ingest_collectorstate s ON s.collector_id = c.id WHERE c.enabled
"""


class CollectorHealth(NamedTuple):
    """Numbers of enabled collectors: all, those whose last collection failed, and those that no worker collects."""

    enabled: int
    failing: int
    overdue: int

    @property
    def detail(self) -> str:
        """The state in a sentence. Failing collectors are a problem of their targets, overdue ones of this site."""
        if self.overdue:
            return f"{self.overdue:,} of {self.enabled:,} collectors are overdue: no worker collects them"
        return f"{self.failing:,} of {self.enabled:,} collectors fail" if self.failing else "all collectors succeed"


def read_collector_health(connection: Connection) -> CollectorHealth:
    row = connection.execute(_COUNTS, (OVERDUE_SECONDS,)).fetchone()
    return CollectorHealth(*row) if row else CollectorHealth(0, 0, 0)
