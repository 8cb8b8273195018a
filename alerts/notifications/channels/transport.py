"""What every kind of channel does, and how it says that it could not."""

from dataclasses import dataclass, field
from typing import Any, Protocol

from alerts.models import Channel

MOST_KEPT = 1000  # characters of an answer
MOST_SHOWN = 20  # alerts in a message that people read


@dataclass(frozen=True, slots=True)
class Message:
    """What is told: `payload` for programs, `text` for people, under one key however often it is sent."""

    delivery_id: str
    title: str
    payload: dict[str, Any]

    @property
    def text(self) -> str:
        """A line or a few for each alert, the worst first."""
        alerts = self.payload["alerts"]
        parts = [_told(alert) for alert in alerts[:MOST_SHOWN]]
        if len(alerts) > MOST_SHOWN:
            parts.append(f"… and {self.payload['count'] - MOST_SHOWN} more")
        return "\n\n".join(parts)


def _told(alert: dict[str, Any]) -> str:
    lines = [
        f"{alert['level']}: {alert['message']}",
        f"{alert['device_id']} · {alert['metric_name']} · {alert['triggered_at']}",
        alert["description"],
        f"resolved {alert['resolved_at']} ({alert['resolution']})" if alert["resolved_at"] else "",
        alert["runbook_url"],
        alert["url"],
    ]
    return "\n".join(line for line in lines if line)


@dataclass(frozen=True, slots=True)
class Sent:
    """It arrived; what the other side answered."""

    status: int | None = None
    answer: str = ""


@dataclass(slots=True)
class NotSent(Exception):
    """It did not arrive. `again`: whether it may, later; `wait`: after so many seconds, where the other side says."""

    error: str
    again: bool = True
    status: int | None = None
    answer: str = ""
    wait: float | None = field(default=None, kw_only=True)

    def __str__(self) -> str:
        return self.error


class Transport(Protocol):
    """One kind of channel. Called in threads, without a transaction; ends within TIME seconds."""

    def check(self, channel: Channel) -> list[tuple[str, str]]:
        """What is wrong with the channel: (field, what is accepted)."""

    def send(self, channel: Channel, message: Message) -> Sent:
        """Tell it. Raises NotSent."""
