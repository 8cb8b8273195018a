"""Deliveries and notifications as the pages show them."""

from dataclasses import dataclass

from alerts.models import Delivery, DeliveryStatus, Notice
from alerts.notifications.retry_queue import MAX_ATTEMPTS

NOTIFICATION_REASONS = {
    "fired": "Opened",
    "resolved": "Resolved",
    "repeated": "Repeated",
    "escalated": "Escalated",
    "unsilenced": "Silence ended",
}
NOTIFICATION_STATUSES = {
    "waiting": "Queued",
    "sent": "Sent",
    "failed": "Failed",
    "silenced": "Silenced",
    "unconfigured": "Channel not configured",
    "dropped": "Not needed any more",
}
SIGNS = {"sent": "ok", "failed": "offline"}


@dataclass(frozen=True, slots=True)
class DeliveryRow:
    """A delivery with its status in words."""

    delivery: Delivery

    @property
    def sign(self) -> str:
        return SIGNS.get(self.delivery.status, "late")

    @property
    def status(self) -> str:
        """`Sent (HTTP 204)`; `Retrying (HTTP 500, attempt 7 of 10, next 20:05 UTC)`."""
        delivery, details = self.delivery, []
        if delivery.answer_status:
            details.append(f"HTTP {delivery.answer_status}")
        label = "Queued" if delivery.status == DeliveryStatus.WAITING else delivery.get_status_display()
        if delivery.status == DeliveryStatus.WAITING and delivery.attempts:
            label = "Retrying"
            details.append(f"attempt {delivery.attempts} of {MAX_ATTEMPTS}")
            details.append(f"next {delivery.due_at:%H:%M} UTC")
        return f"{label} ({', '.join(details)})" if details else label


@dataclass(frozen=True, slots=True)
class NotificationRow:
    """A notification of an alert, with the delivery that carries it."""

    notice: Notice

    @property
    def kind(self) -> str:
        return NOTIFICATION_REASONS.get(self.notice.kind, self.notice.get_kind_display())

    @property
    def sign(self) -> str:
        return SIGNS.get(self.notice.status, "never")

    @property
    def status(self) -> str:
        return NOTIFICATION_STATUSES.get(self.notice.status, self.notice.get_status_display())

    @property
    def detail(self) -> str:
        """The result of the delivery, and its attempts where there was more than one."""
        delivery = self.notice.delivery
        if delivery is None:
            return ""
        details = [f"HTTP {delivery.answer_status}" if delivery.answer_status else "", delivery.error]
        details.append(f"{delivery.attempts} attempts" if delivery.attempts > 1 else "")
        return ", ".join(filter(None, details))
