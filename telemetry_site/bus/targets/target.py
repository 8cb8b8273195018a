"""Interface of all targets of the event bus."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Protocol

from telemetry_site.bus.cloud_event import CloudEvent

WINDOW = 256  # events that are sent before their acknowledgements are awaited


class Stream(Enum):
    """The two kinds of events: of the outbox, which are never lost, and data events, of which the newest are kept."""

    EVENTS = "events"
    DATA = "data"


@dataclass(slots=True)
class Delivery:
    """Result of sending a window of events.

    count    how many of its first events are stored by the target
    error    why the next one is not; it is sent again
    refused  why the target will never accept the next one; it is parked
    retry_after  seconds that the target asks to wait
    """

    count: int
    error: str = ""
    refused: str = ""
    retry_after: float = 0.0


class TargetUnavailable(Exception):
    """The target cannot be reached; the message is for operators."""


class Target(Protocol):
    """One target. Its relay calls all methods in one thread. Every call returns within seconds."""

    name: str
    streams: Sequence[Stream]
    drops_duplicates_for: float  # seconds after an event was stored

    def open(self) -> None:
        """Connect. Raises TargetUnavailable."""

    def newest_id(self, stream: Stream) -> str | None:
        """Return the id of the last stored event; None if the target does not know it. Raises TargetUnavailable."""

    def send(self, stream: Stream, events: Sequence[CloudEvent]) -> Delivery:
        """Send events in order. Raises TargetUnavailable if nothing is known about any of them."""

    def sync_interval(self) -> str:
        """Return how often the target syncs its files, for a NATS server; empty if the question does not apply."""

    def close(self) -> None:
        """Close connections. A target may be opened again."""
