"""The edge agent of a device, from the metrics that it sends about itself."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from metrics.query.latest import Point
from metrics.value_text import duration_text, number_text

VERSION = "agent.version"
QUEUED, OLDEST, DROPPED = "agent.queue.depth", "agent.queue.oldest_unsent_seconds", "agent.queue.dropped"
CONFIGURATION = "agent.config.version"
ERRORS = ("agent.config.error", "agent.update.error")
REASONS = "agent.queue.dropped."


@dataclass(frozen=True, slots=True)
class AgentState:
    """The last report of the agent.

    queued         snapshots that were not delivered yet; `oldest` is the age of the first of them
    dropped        snapshots that it had to drop since its installation; `reasons` has their number by reason
    configuration  version of the site's configuration that is in force; 0 if the agent has only its own
    errors         why a configuration or program of the site is not used
    last_contact   time of the newest snapshot
    """

    version: str
    queued: int
    oldest: float
    dropped: int
    reasons: tuple[tuple[str, int], ...]
    configuration: int
    errors: tuple[str, ...]
    last_contact: datetime

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

    @property
    def reasons_text(self) -> str:
        """The drops by reason, empty if there are none."""
        return ", ".join(f"{number_text(count)} {reason}" for reason, count in self.reasons)

    @property
    def changed_at(self) -> datetime | None:
        """The time at which the configuration in force was set; None for the agent's own."""
        return datetime.fromtimestamp(self.configuration, UTC) if self.configuration else None


def agent_state(points: Iterable[Point]) -> AgentState | None:
    """Return the state of the agent of a device from its newest values; None if it has no agent."""
    newest = {point.metric_name: point for point in points if point.metric_name.startswith("agent.")}
    version = newest.get(VERSION)
    if version is None or not isinstance(version.value, str):
        return None

    def number(name: str) -> float:
        point: Any = newest.get(name)
        return float(point.value) if point is not None and isinstance(point.value, int | float) else 0.0

    reasons = [(name.removeprefix(REASONS), int(number(name))) for name in sorted(newest) if name.startswith(REASONS)]
    texts = [newest[name].value for name in ERRORS if name in newest]
    return AgentState(
        version.value,
        int(number(QUEUED)),
        number(OLDEST),
        int(number(DROPPED)),
        tuple((reason, count) for reason, count in reasons if count),
        int(number(CONFIGURATION)),
        tuple(text for text in texts if isinstance(text, str) and text != "none"),
        version.timestamp,
    )
