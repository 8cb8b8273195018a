"""Counters of answered requests, per process: `metrics.statistics.request_history` stores them by the minute.

Counting is a few additions under a lock.
"""

import threading
from bisect import bisect_left
from dataclasses import dataclass, field

INGEST, OTHER = "ingest", "other"

# Upper bounds of the latency classes in seconds, each a fifth above the one before, from 0.1 ms to 30 s; the last class
# has no bound. A percentile calculated from them is within a fifth of the exact one.
LATENCIES: tuple[float, ...] = tuple(0.0001 * 1.2**power for power in range(70))


def latency_class(seconds: float) -> int:
    """Return the class of a latency, from 0 to len(LATENCIES)."""
    return bisect_left(LATENCIES, seconds)


def _classes() -> list[int]:
    return [0] * (len(LATENCIES) + 1)


@dataclass(slots=True)
class RequestCounts:
    """Counters of one kind of request: requests, failures (5xx), total seconds, stored and rejected points."""

    requests: int = 0
    failures: int = 0
    seconds: float = 0.0
    points: int = 0
    rejected: int = 0
    latencies: list[int] = field(default_factory=_classes)

    def add(self, other: "RequestCounts") -> None:
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


class RequestCounters:
    """Counters of a process that are not stored yet. Thread-safe."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Set every counter to zero."""
        self._lock = threading.Lock()
        self._counts = {INGEST: RequestCounts(), OTHER: RequestCounts()}

    def answered(self, kind: str, status: int, seconds: float) -> None:
        """Count a response and its latency."""
        latency = latency_class(seconds)
        with self._lock:
            counts = self._counts[kind]
            counts.requests += 1
            counts.failures += status >= 500
            counts.seconds += seconds
            counts.latencies[latency] += 1

    def stored(self, points: int) -> None:
        """Count committed points."""
        with self._lock:
            self._counts[INGEST].points += points

    def rejected(self, points: int) -> None:
        """Count rejected points."""
        with self._lock:
            self._counts[INGEST].rejected += points

    def take(self) -> dict[str, RequestCounts]:
        """Return all counters and reset them."""
        with self._lock:
            taken, self._counts = self._counts, {INGEST: RequestCounts(), OTHER: RequestCounts()}
        return taken

    def give_back(self, counts: dict[str, RequestCounts]) -> None:
        """Add counters back that could not be stored."""
        with self._lock:
            for kind, added in counts.items():
                self._counts[kind].add(added)


request_counters = RequestCounters()
