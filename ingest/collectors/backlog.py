"""What was measured and not yet delivered: bounded, oldest dropped first."""

import json
import threading
from array import array
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from ingest.collectors.sensors import Reading

Labels = tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The readings of one moment. Bare numbers beside shared labels: an hour of them is a few hundred kilobytes."""

    at: float
    labels: Labels
    values: "array[float]"

    def points(self) -> list[dict[str, Any]]:
        """As the ingest API takes them."""
        time = datetime.fromtimestamp(self.at, UTC).isoformat().replace("+00:00", "Z")
        return [
            {"timestamp": time, "metric_name": metric, "value": value} | ({"unit": unit} if unit else {})
            for (metric, unit), value in zip(self.labels, self.values, strict=True)
        ]


def encode(snapshots: Sequence[Snapshot]) -> bytes:
    """The body of one batch request."""
    points = [point for snapshot in snapshots for point in snapshot.points()]
    return json.dumps({"data_points": points}, separators=(",", ":")).encode()


class Backlog:
    """Snapshots that wait, in order of time. One thread adds, another takes."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._waiting: deque[Snapshot] = deque()
        self._labels: dict[Labels, Labels] = {}
        self._changed = threading.Condition()
        self.dropped = 0

    def __len__(self) -> int:
        return len(self._waiting)

    def add(self, at: float, readings: Sequence[Reading]) -> None:
        labels = tuple((reading.metric, reading.unit) for reading in readings)
        with self._changed:
            shared = self._labels.setdefault(labels, labels)
            self._waiting.append(Snapshot(at, shared, array("d", (reading.value for reading in readings))))
            self._trim()
            self._changed.notify()

    def take(self, most_points: int) -> list[Snapshot]:
        """The oldest, as many as fit into one request; at least one where any wait."""
        taken: list[Snapshot] = []
        with self._changed:
            points = 0
            while self._waiting and (not taken or points + len(self._waiting[0].values) <= most_points):
                points += len(self._waiting[0].values)
                taken.append(self._waiting.popleft())
        return taken

    def give_back(self, taken: Sequence[Snapshot]) -> None:
        """Those could not be delivered now."""
        with self._changed:
            self._waiting.extendleft(reversed(taken))
            self._trim()

    def wait(self, seconds: float) -> bool:
        """Wait until there is something to take, at most so long; whether there is."""
        with self._changed:
            return self._changed.wait_for(lambda: bool(self._waiting), seconds)

    def _trim(self) -> None:
        while len(self._waiting) > self._most:
            self._waiting.popleft()
            self.dropped += 1
