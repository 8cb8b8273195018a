"""Subscriptions: created by the API, used by streams, and deleted when no stream has used them for two minutes."""

from collections.abc import Collection
from datetime import timedelta
from typing import Any

from django.db import transaction
from django.utils import timezone

from dashboard.models import Subscription
from dashboard.streams.access import user_id_of
from dashboard.streams.data_subscription import SeriesFilter
from dashboard.streams.events import SubscriptionCancelled, SubscriptionCreated
from metrics.events.outbox import record_event
from rest.errors import TelemetryError

LIFETIME = timedelta(minutes=2)  # without an open stream
# Open streams extend it at this interval, so that it ends two minutes after the last of them.
EXTENSION_PERIOD = timedelta(seconds=30)
MAX_SUBSCRIPTIONS = 1_000  # of an owner


class TooManySubscriptions(TelemetryError):
    status = 429
    retry_after = 60


@transaction.atomic
def create(owner: str, **series: Any) -> Subscription:
    """Store a subscription. Raises TooManySubscriptions."""
    active = Subscription.objects.filter(owner=owner, expires_at__gt=timezone.now())
    if active[:MAX_SUBSCRIPTIONS].count() >= MAX_SUBSCRIPTIONS:
        raise TooManySubscriptions(f"at most {MAX_SUBSCRIPTIONS:,} subscriptions are accepted; cancel one")
    subscription = Subscription.objects.create(owner=owner, expires_at=timezone.now() + LIFETIME, **series)
    record_event(
        SubscriptionCreated(
            subscription_id=subscription.subscription_id,
            device_ids=subscription.device_ids,
            groups=subscription.groups,
            metric_names=subscription.metric_names,
            tags=subscription.tags,
            max_frequency=subscription.max_frequency,
            user_id=user_id_of(owner),
        )
    )
    return subscription


def cancel(subscription: Subscription) -> None:
    """Delete a subscription; its streams are closed in every process. Must run in a transaction."""
    record_event(
        SubscriptionCancelled(subscription_id=subscription.subscription_id, user_id=user_id_of(subscription.owner))
    )
    subscription.delete()


def open_subscription(subscription_id: str, owner: str) -> SeriesFilter | None:
    """Return the series of a subscription that a stream opens; None if it is unknown, expired or another caller's."""
    now = timezone.now()
    active = Subscription.objects.filter(subscription_id=subscription_id, owner=owner, expires_at__gt=now)
    if not active.update(expires_at=now + LIFETIME + EXTENSION_PERIOD):
        return None
    subscription = active.first()
    return None if subscription is None else series_of(subscription)


def extend(subscription_ids: Collection[str]) -> None:
    """Extend the subscriptions of open streams."""
    existing = Subscription.objects.filter(subscription_id__in=list(subscription_ids))
    existing.update(expires_at=timezone.now() + LIFETIME + EXTENSION_PERIOD)


def existing(subscription_ids: Collection[str]) -> set[str]:
    """Return those of these subscriptions that are not cancelled."""
    rows = Subscription.objects.filter(subscription_id__in=list(subscription_ids))
    return set(rows.values_list("subscription_id", flat=True))


def delete_expired() -> int:
    """Delete expired subscriptions; return how many."""
    return Subscription.objects.filter(expires_at__lte=timezone.now()).delete()[0]


def series_of(subscription: Subscription) -> SeriesFilter:
    """Return the filter that a subscription stores."""
    return SeriesFilter(
        None if subscription.device_ids is None else frozenset(subscription.device_ids),
        None if subscription.groups is None else tuple(subscription.groups),
        None if subscription.metric_names is None else frozenset(subscription.metric_names),
        frozenset(subscription.tags.items()),
        subscription.max_frequency,
    )
