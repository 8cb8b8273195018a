"""What the requests of the site amount to: counted in memory by each process, added to a row of the minute by and by.

Counting is a few additions under a lock; writing happens beside the requests, about once a second, on a connection
that does not wait long. While the database is away the counts gather here.
"""

import os
import threading
from dataclasses import dataclass, field

from metrics.statistics.histogram import LATENCIES, latency_class, percentile, ratio
from metrics.storage.connection import Connection, watching

INGEST, OTHER = "ingest", "other"
WINDOW = 5  # minutes, the running one among them, that rates and latencies are told of
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


def _classes() -> list[int]:
    return [0] * (len(LATENCIES) + 1)


@dataclass(slots=True)
class Counts:
    """Requests of one kind: how many, of them failed (5xx), their seconds; points stored, and rejected."""

    requests: int = 0
    failures: int = 0
    seconds: float = 0.0
    points: int = 0
    rejected: int = 0
    latencies: list[int] = field(default_factory=_classes)

    def add(self, other: "Counts") -> None:
        self.requests += other.requests
        self.failures += other.failures
        self.seconds += other.seconds
        self.points += other.points
        self.rejected += other.rejected
        self.latencies = [a + b for a, b in zip(self.latencies, other.latencies, strict=True)]

    def as_row(self) -> tuple[object, ...]:
        return self.requests, self.failures, self.seconds, self.points, self.rejected, self.latencies

    @property
    def any(self) -> bool:
        return bool(self.requests or self.points or self.rejected)


class Tally:
    """What a process has counted and not written yet. Thread-safe."""

    def __init__(self) -> None:
        self.forget()

    def forget(self) -> None:
        """Begin anew: in a child, which must not write what its parent counted, and between tests."""
        self._lock = threading.Lock()
        self._counts = {INGEST: Counts(), OTHER: Counts()}

    def answered(self, kind: str, status: int, seconds: float) -> None:
        """A request of a kind was answered, so long after it came."""
        place = latency_class(seconds)
        with self._lock:
            counts = self._counts[kind]
            counts.requests += 1
            counts.failures += status >= 500
            counts.seconds += seconds
            counts.latencies[place] += 1

    def stored(self, points: int) -> None:
        """Points were committed."""
        with self._lock:
            self._counts[INGEST].points += points

    def rejected(self, points: int) -> None:
        """Points were found to be no good."""
        with self._lock:
            self._counts[INGEST].rejected += points

    def take(self) -> dict[str, Counts]:
        """Everything, of which nothing is left here."""
        with self._lock:
            taken, self._counts = self._counts, {INGEST: Counts(), OTHER: Counts()}
        return taken

    def give_back(self, counts: dict[str, Counts]) -> None:
        """What was taken and could not be written."""
        with self._lock:
            for kind, one in counts.items():
                self._counts[kind].add(one)


tally = Tally()
os.register_at_fork(after_in_child=tally.forget)


def write() -> None:
    """Add what this process has counted to the row of the minute. Raises StorageUnavailable, and has lost nothing."""
    taken = {kind: counts for kind, counts in sorted(tally.take().items()) if counts.any}
    if not taken:
        return
    try:
        with watching() as connection, connection.transaction():
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
