"""Subscriptions with double opt-in. Nobody learns from an answer whether an address is subscribed."""

from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import NamedTuple

from django.core import signing
from django.core.exceptions import ValidationError
from django.core.validators import validate_email
from django.db import IntegrityError, transaction

from dashboard.status_page.models import (
    ADDRESS_LENGTH,
    StatusComponent,
    StatusDelivery,
    StatusPage,
    StatusSubscriber,
    SubscriberKind,
)
from rest.errors import InvalidField, RateLimited
from rest.outgoing.http_connection import parse_url
from rest.rate_limit import Limit, buckets

CONFIRMATION_PERIOD = timedelta(days=2)
CONFIRMATION_INTERVAL = timedelta(hours=1)  # between two requests to confirm that one address gets
MAX_EMAIL_LENGTH = 254
MAX_COMPONENTS = 100
# Requests of one IP address, and of all addresses together to one page.
CLIENT_LIMIT = Limit(rate=1 / 60, burst=5)
PAGE_LIMIT = Limit(rate=1, burst=60)
_CONFIRM, _UNSUBSCRIBE = "status.confirm", "status.unsubscribe"  # salts


class Confirmation(NamedTuple):
    """The subscriber and the components of a confirmation link."""

    subscriber: StatusSubscriber
    component_ids: list[str]


def check_limits(page: StatusPage, client: str) -> None:
    """Count a request to subscribe. Raises RateLimited."""
    for name, limit in ((f"status subscriptions from {client}", CLIENT_LIMIT), (f"status page {page.pk}", PAGE_LIMIT)):
        if wait := buckets.take(name, limit):
            raise RateLimited("too many subscription requests", wait)


def request_subscription(
    page: StatusPage, kind: str, address: str, component_ids: Iterable[str], now: datetime
) -> None:
    """Send a request to confirm to an address, at most once an hour. Raises InvalidField.

    Nothing changes until the address confirms, so a request for another person's address has no effect but one message.
    """
    if kind not in SubscriberKind.values:
        raise InvalidField("kind", f"must be {' or '.join(SubscriberKind.values)}")
    address = _checked_address(kind, address)
    chosen = list(component_ids)[: MAX_COMPONENTS + 1]
    known = set(page.components.filter(component_id__in=chosen).values_list("component_id", flat=True))
    if len(chosen) > MAX_COMPONENTS or not known.issuperset(chosen):
        raise InvalidField("components", f"must be at most {MAX_COMPONENTS} components of this page")
    with transaction.atomic():
        subscriber, _ = StatusSubscriber.objects.get_or_create(page=page, kind=kind, address=address)
        requests = subscriber.deliveries.filter(update=None, created_at__gt=now - CONFIRMATION_INTERVAL)
        if requests.exists():
            return
        subscriber.requested = chosen
        subscriber.save(update_fields=["requested"])
        try:
            with transaction.atomic():
                StatusDelivery.objects.create(subscriber=subscriber, created_at=now, due_at=now)
        except IntegrityError:
            return  # another request is waiting


def _checked_address(kind: str, address: str) -> str:
    address = address.strip()
    if kind == SubscriberKind.EMAIL:
        try:
            validate_email(address)
        except ValidationError:
            raise InvalidField("address", "must be an e-mail address such as name@example.com") from None
        if len(address) > MAX_EMAIL_LENGTH:
            raise InvalidField("address", f"must have at most {MAX_EMAIL_LENGTH} characters")
        return address.lower()
    try:
        parse_url(address)
    except ValueError as error:
        raise InvalidField("address", str(error)) from None
    return address[:ADDRESS_LENGTH]


def confirmation_token(subscriber: StatusSubscriber) -> str:
    return signing.dumps([subscriber.subscriber_id, subscriber.requested], salt=_CONFIRM)


def unsubscribe_token(subscriber: StatusSubscriber) -> str:
    return signing.dumps(subscriber.subscriber_id, salt=_UNSUBSCRIBE)


def read_confirmation(page: StatusPage, token: str) -> Confirmation | None:
    """Return what a link confirms; None if it is wrong or too old."""
    try:
        subscriber_id, component_ids = signing.loads(token, salt=_CONFIRM, max_age=CONFIRMATION_PERIOD)
    except (signing.BadSignature, ValueError, TypeError):
        return None
    subscriber = page.subscribers.filter(subscriber_id=subscriber_id).first()
    return Confirmation(subscriber, component_ids) if subscriber is not None else None


@transaction.atomic
def confirm(confirmation: Confirmation, now: datetime) -> None:
    """Make a subscription effective, for the components that were chosen with the request."""
    subscriber = confirmation.subscriber
    subscriber.confirmed_at = subscriber.confirmed_at or now
    subscriber.save(update_fields=["confirmed_at"])
    chosen = StatusComponent.objects.filter(page=subscriber.page_id, component_id__in=confirmation.component_ids)
    subscriber.components.set(chosen)


def read_unsubscription(page: StatusPage, token: str) -> StatusSubscriber | None:
    """Return the subscriber of a link, which never expires; None if it is wrong or used already."""
    try:
        subscriber_id = signing.loads(token, salt=_UNSUBSCRIBE)
    except (signing.BadSignature, ValueError):
        return None
    return page.subscribers.filter(subscriber_id=subscriber_id).first()


def delete_unconfirmed(now: datetime) -> int:
    """Delete addresses that were not confirmed in time; return their number."""
    old = StatusSubscriber.objects.filter(confirmed_at=None, created_at__lt=now - CONFIRMATION_PERIOD)
    return old.exclude(deliveries__created_at__gt=now - CONFIRMATION_PERIOD).delete()[0]
