"""Metrics of the evaluator itself: throughput, latency and backlog, stored for /status and the health check."""

import json
import time

from django.db import connection

from alerts.evaluation.watched_series import WatchedSeries
from alerts.models import Alert, Rule
from metrics.storage.read.block_cache import CommitCursor
from metrics.storage.units import to_datetime

REPORT_INTERVAL = 2.0  # seconds
_WRITE = """
INSERT INTO alerts_evaluatorreport (id, at, figures) VALUES (1, %s, %s::jsonb)
ON CONFLICT (id) DO UPDATE SET at = EXCLUDED.at, figures = EXCLUDED.figures
"""


class SelfMetrics:
    """Counters of one evaluator since it was started; rate and latency are of the time since the last report."""

    def __init__(self) -> None:
        self._points = self._watched_points = self._alerts = 0
        self._points_before = 0
        self._reported = time.monotonic()
        self._latencies: list[int] = []

    def count_points(self, points: int, watched: int) -> None:
        self._points += points
        self._watched_points += watched

    def count_alerts(self, alerts: int) -> None:
        self._alerts += alerts

    def record_latency(self, microseconds: int) -> None:
        """Record the time from the commit of the oldest point to the commit of its alerts."""
        self._latencies.append(microseconds)

    def is_due(self) -> bool:
        return time.monotonic() - self._reported >= REPORT_INTERVAL

    def write(self, watched: WatchedSeries, now: int, position: int, backlog: CommitCursor) -> None:
        """Store a report. `position`: commit time (µs) of the last evaluated commit; `backlog`: commits per shard."""
        elapsed = max(time.monotonic() - self._reported, 0.001)
        waiting = sum(backlog.values())
        figures = {
            "events": self._points,
            "watched_events": self._watched_points,
            "points_per_second": round((self._points - self._points_before) / elapsed, 1),
            "alerts_raised": self._alerts,
            "alerts_open": Alert.objects.open().without_shadows().count(),
            "latency_ms": round(max(self._latencies, default=0) / 1000, 1),
            "seq_behind": waiting,
            "oldest_seconds": round((now - position) / 1_000_000, 1) if waiting else 0.0,
            "rules": len(watched.rules),
            "suspended": Rule.objects.filter(enabled=True).exclude(suspended="").count(),
            "watched_series": sum(len(state.inputs) for state in watched.states.values()),
        }
        with connection.cursor() as cursor:
            cursor.execute(_WRITE, (to_datetime(now), json.dumps(figures)))
        self._reported, self._points_before, self._latencies = time.monotonic(), self._points, []
