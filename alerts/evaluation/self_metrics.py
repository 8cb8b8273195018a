"""What the evaluator tells of itself: how much it judges, how fast, and how far it is behind."""

import json
import time

from django.db import connection

from alerts.evaluation.watched_series import Watch
from alerts.models import Alert, Rule
from metrics.storage.read.block_cache import CommitCursor
from metrics.storage.units import to_datetime

PERIOD = 2.0  # seconds between reports
_WRITE = """
INSERT INTO alerts_evaluatorreport (id, at, figures) VALUES (1, %s, %s::jsonb)
ON CONFLICT (id) DO UPDATE SET at = EXCLUDED.at, figures = EXCLUDED.figures
"""


class Figures:
    """Of one evaluator. All counts are since it began, but for what is said to be of the last report."""

    def __init__(self) -> None:
        self._events = self._watched = self._raised = 0
        self._before = 0
        self._told = time.monotonic()
        self._latencies: list[int] = []

    def judged(self, points: int, watched: int) -> None:
        """Points came, so many of them of watched series."""
        self._events += points
        self._watched += watched

    def raised(self, alerts: int) -> None:
        self._raised += alerts

    def took(self, micro: int) -> None:
        """So long after the oldest of some commits was made, what was found in them stood in the database."""
        self._latencies.append(micro)

    def is_due(self) -> bool:
        """Whether it is some seconds since the last report."""
        return time.monotonic() - self._told >= PERIOD

    def write(self, watch: Watch, now: int, oldest: int, behind: CommitCursor) -> None:
        """Report, at a time. `oldest`: when the last judged commit was made; `behind`: commits to judge."""
        since = max(time.monotonic() - self._told, 0.001)
        waiting = sum(behind.values())
        figures = {
            "events": self._events,
            "watched_events": self._watched,
            "points_per_second": round((self._events - self._before) / since, 1),
            "alerts_raised": self._raised,
            "alerts_open": Alert.objects.open().without_shadows().count(),
            "latency_ms": round(max(self._latencies, default=0) / 1000, 1),
            "seq_behind": waiting,
            "oldest_seconds": round((now - oldest) / 1_000_000, 1) if waiting else 0.0,
            "rules": len(watch.rules),
            "suspended": Rule.objects.filter(enabled=True).exclude(suspended="").count(),
            "watched_series": sum(len(one.inputs) for one in watch.subjects.values()),
        }
        with connection.cursor() as cursor:
            cursor.execute(_WRITE, (to_datetime(now), json.dumps(figures)))
        self._told, self._before, self._latencies = time.monotonic(), self._events, []
