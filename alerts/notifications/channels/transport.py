"""Interface of all channel kinds: the message, the receipt and the error of one attempt."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from alerts.alert_values import has_peak
from alerts.models import Channel
from metrics.value_text import NBSP, with_unit

MAX_RESPONSE_LENGTH = 1000  # characters that are stored
MAX_TEXT_ALERTS = 20  # alerts that the text of a message lists


@dataclass(frozen=True, slots=True)
class ChannelMessage:
    """Content of a delivery: `payload` for programs, `text` for people; `delivery_id` is the same in every attempt.

    accepted_by  recipients that accepted an earlier attempt
    """

    delivery_id: str
    title: str
    payload: dict[str, Any]
    accepted_by: Sequence[str] = ()

    @property
    def text(self) -> str:
        """Return a paragraph per alert, the most severe first."""
        alerts = self.payload["alerts"]
        is_new = self.payload["event"] in ("alert.triggered", "test")
        paragraphs = [_format_alert(alert, is_new) for alert in alerts[:MAX_TEXT_ALERTS]]
        if len(alerts) > MAX_TEXT_ALERTS:
            paragraphs.append(f"… and {self.payload['count'] - MAX_TEXT_ALERTS} more alerts")
        return "\n\n".join(paragraphs)


def _format_alert(alert: dict[str, Any], is_new: bool) -> str:
    lines = [
        f"{alert['level']}: {alert['message']}",
        f"device {alert['device_id']} · metric {alert['metric_name']} · opened {alert['triggered_at']}",
        "" if is_new else _format_values(alert),
        alert["description"],
        f"resolved {alert['resolved_at']} ({alert['resolution']})" if alert["resolved_at"] else "",
        alert["runbook_url"],
        alert["url"],
    ]
    return "\n".join(line for line in lines if line)


def _format_values(alert: dict[str, Any]) -> str:
    """Return the peak and the current value; deliveries of an earlier version have neither."""
    if "unit" not in alert:
        return ""
    worst, current = alert["worst_value"], alert["current_value"]
    values = [("peak", worst)] if has_peak(worst) else []
    values += [("now", current)] if current is not None else []
    texts = [f"{name} {with_unit(value, alert['unit'], alert['threshold_value'])}" for name, value in values]
    return " · ".join(texts).replace(NBSP, " ")


@dataclass(frozen=True, slots=True)
class SendReceipt:
    """Result of a successful attempt: the response of the receiving server."""

    status: int | None = None
    response: str = ""


@dataclass(slots=True)
class SendFailed(Exception):
    """A failed attempt.

    retry        whether a later attempt may succeed
    status       status code of the response
    retry_after  seconds that the receiving server asks to wait
    accepted_by  recipients that accepted the message all the same
    """

    error: str
    retry: bool = True
    status: int | None = None
    response: str = ""
    retry_after: float | None = field(default=None, kw_only=True)
    accepted_by: Sequence[str] = field(default=(), kw_only=True)

    def __str__(self) -> str:
        return self.error


class Transport(Protocol):
    """One channel kind. `send` is called in threads, outside of transactions, and returns within the lease."""

    def check(self, channel: Channel) -> list[tuple[str, str]]:
        """Return the errors of the channel as (field, message)."""

    def send(self, channel: Channel, message: ChannelMessage) -> SendReceipt:
        """Send the message. Raises SendFailed."""
