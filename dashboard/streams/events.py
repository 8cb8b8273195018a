"""Events of subscriptions. Only the user who created a subscription sees them."""

from typing import Any

from metrics.events.event import EventData


class _SubscriptionEvent(EventData, frozen=True, kw_only=True):
    subscription_id: str
    user_id: int | None = None

    @property
    def subject(self) -> str:
        return f"subscription/{self.subscription_id}"

    @property
    def owner(self) -> int | None:
        return self.user_id


class SubscriptionCreated(_SubscriptionEvent, frozen=True, kw_only=True):
    """A subscription to live values was created."""

    type = "subscription.created"
    device_ids: list[str] | None = None
    groups: list[str] | None = None
    metric_names: list[str] | None = None
    tags: dict[str, Any] = {}
    max_frequency: int = 1000


class SubscriptionCancelled(_SubscriptionEvent, frozen=True, kw_only=True):
    """A subscription to live values was cancelled; its streams are closed."""

    type = "subscription.cancelled"
