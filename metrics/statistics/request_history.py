"""Request statistics of all processes, one row per minute and kind of request.

Each process adds its counters about once a second, beside the requests, on a connection with short timeouts. While the
database is unavailable the counters keep adding up in memory.
"""

from dataclasses import dataclass

from metrics.statistics.histogram import percentile, ratio
from metrics.storage.connection import Connection, monitoring_connection
from rest.request_stats import INGEST, OTHER, RequestCounts, request_counters

WINDOW_MINUTES = 5  # including the current one: of rates and latencies
RETENTION_HOURS = 48

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


def store_counters() -> None:
    """Add this process's counters to the rows of the current minute. Raises StorageUnavailable and keeps them then."""
    taken = {kind: counts for kind, counts in sorted(request_counters.take().items()) if counts.any}
    if not taken:
        return
    try:
        with monitoring_connection() as connection, connection.transaction():
            for kind, counts in taken.items():  # in the same order in every process, or they could deadlock
                connection.execute(_ADD, (kind, *counts.as_row()))
    except BaseException:
        request_counters.give_back(taken)
        raise


@dataclass(frozen=True, slots=True)
class RecentRequests:
    """Counters of all processes for the last minutes, by kind of request."""

    seconds: float  # that they cover
    kinds: dict[str, RequestCounts]

    @property
    def all(self) -> RequestCounts:
        total = RequestCounts()
        for counts in self.kinds.values():
            total.add(counts)
        return total

    @property
    def points_per_second(self) -> float:
        return ratio(self.kinds[INGEST].points, self.seconds)


def read_recent(connection: Connection) -> RecentRequests:
    """Return the counters of the last WINDOW_MINUTES, including the current minute."""
    by_kind = {INGEST: RequestCounts(), OTHER: RequestCounts()}
    for kind, *counts in connection.execute(_RECENT, (WINDOW_MINUTES,)):
        by_kind[kind].add(RequestCounts(*counts))
    [seconds] = connection.execute(_ELAPSED, (WINDOW_MINUTES - 1,)).fetchone() or (0.0,)
    return RecentRequests(seconds, by_kind)


def format_counts(counts: RequestCounts) -> dict[str, float | int | None]:
    """Return requests, latencies (ms) and error rate of one kind of request, as the API shows them."""
    p95 = percentile(counts.latencies, 0.95)
    return {
        "requests": counts.requests,
        "avg_latency": round(1000 * ratio(counts.seconds, counts.requests), 3),
        "p95_latency": None if p95 is None else round(1000 * p95, 3),
        "error_rate": round(ratio(counts.failures, counts.requests), 6),
    }


def delete_old_minutes(connection: Connection) -> None:
    """Delete rows older than RETENTION_HOURS."""
    connection.execute(
        "DELETE FROM metrics_activity WHERE minute < now() - make_interval(hours => %s)", (RETENTION_HOURS,)
    )
