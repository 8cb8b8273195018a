"""Request statistics of all processes, one row per minute and kind of request.

Each process adds its counters about once a second, beside the requests, on a connection with short timeouts. While the
database is unavailable the counters keep adding up in memory.
"""

from dataclasses import dataclass

from metrics.statistics.histogram import percentile, ratio
from metrics.storage.connection import Connection, monitoring_connection
from rest.request_stats import INGEST, OTHER, Counts, tally

WINDOW = 5  # minutes, including the current one, that rates and latencies cover
KEPT_HOURS = 48

_ADD = """
INSERT INTO metrics_activity AS held (minute, kind, requests, failures, seconds, points, rejected, latencies)
VALUES (date_trunc('minute', now()), %s, %s, %s, %s, %s, %s, %s)
ON CONFLICT (minute, kind) DO UPDATE SET requests = held.requests + EXCLUDED.requests,
    failures = held.failures + EXCLUDED.failures, seconds = held.seconds + EXCLUDED.seconds,
    points = held.points + EXCLUDED.points, rejected = held.rejected + EXCLUDED.rejected,
    latencies = ARRAY(SELECT coalesce(a, 0) + coalesce(b, 0)
        FROM unnest(held.latencies, EXCLUDED.latencies) WITH ORDINALITY both_(a, b, n) ORDER BY n)
"""
_RECENT = """
SELECT kind, requests, failures, seconds, points, rejected, latencies FROM metrics_activity
WHERE minute > date_trunc('minute', now()) - make_interval(mins => %s)
"""
_ELAPSED = "SELECT extract(epoch FROM now() - date_trunc('minute', now()) + make_interval(mins => %s))::float8"


def write() -> None:
    """Add what this process has counted to the row of the minute. Raises StorageUnavailable, and has lost nothing."""
    taken = {kind: counts for kind, counts in sorted(tally.take().items()) if counts.any}
    if not taken:
        return
    try:
        with monitoring_connection() as connection, connection.transaction():
            for kind, counts in taken.items():  # in order: two processes that write at once wait in line, not in a ring
                connection.execute(_ADD, (kind, *counts.as_row()))
    except BaseException:
        tally.give_back(taken)
        raise


@dataclass(frozen=True, slots=True)
class Recent:
    """What was counted by all processes in the last minutes."""

    seconds: float  # that these minutes are long
    kinds: dict[str, Counts]

    @property
    def all(self) -> Counts:
        found = Counts()
        for one in self.kinds.values():
            found.add(one)
        return found

    @property
    def points_per_second(self) -> float:
        return ratio(self.kinds[INGEST].points, self.seconds)


def recent(connection: Connection) -> Recent:
    """The last WINDOW minutes by the clock, of which one is running."""
    found = {INGEST: Counts(), OTHER: Counts()}
    for kind, *counts in connection.execute(_RECENT, (WINDOW,)):
        found[kind].add(Counts(*counts))
    [seconds] = connection.execute(_ELAPSED, (WINDOW - 1,)).fetchone() or (0.0,)
    return Recent(seconds, found)


def shape(counts: Counts) -> dict[str, float | int | None]:
    """How a kind of requests fared, as people read it."""
    late = percentile(counts.latencies, 0.95)
    return {
        "requests": counts.requests,
        "avg_latency": round(1000 * ratio(counts.seconds, counts.requests), 3),
        "p95_latency": None if late is None else round(1000 * late, 3),
        "error_rate": round(ratio(counts.failures, counts.requests), 6),
    }


def drop_old(connection: Connection) -> None:
    """Let go of what is older than two days."""
    connection.execute("DELETE FROM metrics_activity WHERE minute < now() - make_interval(hours => %s)", (KEPT_HOURS,))
