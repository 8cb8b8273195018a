"""The queue of snapshots that have not been sent; when it is full, the oldest are dropped."""

import json
import threading
from array import array
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from ingest.collectors.sensors import Measurement

Labels = tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The measurements of one time: plain numbers and shared labels, so that an hour takes a few hundred kilobytes."""

    at: float
    labels: Labels
    values: "array[float]"

    def points(self) -> list[dict[str, Any]]:
        """Return the points of the ingestion API."""
        time = datetime.fromtimestamp(self.at, UTC).isoformat().replace("+00:00", "Z")
        return [
            {"timestamp": time, "metric_name": metric, "value": value} | ({"unit": unit} if unit else {})
            for (metric, unit), value in zip(self.labels, self.values, strict=True)
        ]


def encode(snapshots: Sequence[Snapshot]) -> bytes:
    """Return the body of one batch request."""
    points = [point for snapshot in snapshots for point in snapshot.points()]
    return json.dumps({"data_points": points}, separators=(",", ":")).encode()


class SnapshotQueue:
    """Snapshots in order of time. One thread adds, another takes."""

    def __init__(self, max_snapshots: int) -> None:
        self._max_snapshots = max_snapshots
        self._waiting: deque[Snapshot] = deque()
        self._labels: dict[Labels, Labels] = {}
        self._changed = threading.Condition()
        self.dropped = 0

    def __len__(self) -> int:
        return len(self._waiting)

    def add(self, at: float, measurements: Sequence[Measurement]) -> None:
        labels = tuple((measurement.metric, measurement.unit) for measurement in measurements)
        with self._changed:
            shared = self._labels.setdefault(labels, labels)
            self._waiting.append(Snapshot(at, shared, array("d", (measurement.value for measurement in measurements))))
            self._trim()
            self._changed.notify()

    def take(self, max_points: int) -> list[Snapshot]:
        """Remove and return the oldest snapshots that fit into one request, at least one unless the queue is empty."""
        taken: list[Snapshot] = []
        with self._changed:
            points = 0
            while self._waiting and (not taken or points + len(self._waiting[0].values) <= max_points):
                points += len(self._waiting[0].values)
                taken.append(self._waiting.popleft())
        return taken

    def give_back(self, taken: Sequence[Snapshot]) -> None:
        """Put snapshots back that could not be sent."""
        with self._changed:
            self._waiting.extendleft(reversed(taken))
            self._trim()

    def wait(self, seconds: float) -> bool:
        """Wait for a snapshot; return whether there is one."""
        with self._changed:
            return self._changed.wait_for(lambda: bool(self._waiting), seconds)

    def _trim(self) -> None:
        while len(self._waiting) > self._max_snapshots:
            self._waiting.popleft()
            self.dropped += 1
