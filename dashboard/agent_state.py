"""The edge agent of a device, from the metrics that it sends about itself."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from metrics.query.latest import Point
from metrics.value_text import duration_text, number_text

VERSION = "agent.version"
QUEUED, OLDEST, DROPPED = "agent.queue.depth", "agent.queue.oldest_unsent_seconds", "agent.queue.dropped"


@dataclass(frozen=True, slots=True)
class AgentState:
    """What the agent reported last.

    queued   snapshots that were not delivered yet; `oldest` is the age of the first of them
    dropped  snapshots that it had to drop since its installation
    """

    version: str
    queued: int
    oldest: float
    dropped: int

    @property
    def queue_text(self) -> str:
        """The queue in words, empty while nothing waits."""
        if not self.queued:
            return ""
        age = f", the oldest for {duration_text(self.oldest)}" if self.oldest >= 1 else ""
        return f"{number_text(self.queued)} in its queue{age}"

    @property
    def dropped_text(self) -> str:
        return f"{number_text(self.dropped)} dropped" if self.dropped else ""


def agent_state(points: Iterable[Point]) -> AgentState | None:
    """Return the state of the agent of a device from its newest values; None if it has no agent."""
    newest = {point.metric_name: point for point in points if point.metric_name.startswith("agent.")}
    version = newest.get(VERSION)
    if version is None or not isinstance(version.value, str):
        return None

    def number(name: str) -> float:
        point: Any = newest.get(name)
        return float(point.value) if point is not None and isinstance(point.value, int | float) else 0.0

    return AgentState(version.value, int(number(QUEUED)), number(OLDEST), int(number(DROPPED)))
