"""Deliveries to subscribers: stored with the update, claimed with a lease, sent, and retried after a failure.

Each delivery is sent at least once, in the order of the updates; all attempts have the same ID.
"""

import logging
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from typing import Any

from django.db import connection
from django.utils import timezone

from alerts.notifications.channels.transport import SendFailed, SendReceipt
from alerts.notifications.retry_queue import LEASE, MAX_ATTEMPTS, next_attempt_at
from dashboard.status_page.messages import build_messages, send
from dashboard.status_page.models import StatusDelivery, StatusUpdate
from dashboard.status_page.tree import ComponentTree

log = logging.getLogger(__name__)

THREADS = 8
CLAIMED_AT_ONCE = 32
MAX_RUN_TIME = 45.0  # seconds of one task
MAX_ERROR_LENGTH = 1000

_ENQUEUE = """
INSERT INTO dashboard_statusdelivery (subscriber_id, update_id, due_at)
SELECT s.id, %(update)s, %(now)s FROM dashboard_statussubscriber s
WHERE s.page_id = %(page)s AND s.confirmed_at IS NOT NULL AND (
    %(everybody)s
    OR NOT EXISTS (SELECT FROM dashboard_statussubscriber_components c WHERE c.statussubscriber_id = s.id)
    OR EXISTS (SELECT FROM dashboard_statussubscriber_components c
        WHERE c.statussubscriber_id = s.id AND c.statuscomponent_id = ANY(%(components)s)))
ON CONFLICT DO NOTHING
"""
# Of each subscriber the oldest unfinished delivery, so that updates arrive in their order.
_CLAIM = """
UPDATE dashboard_statusdelivery SET leased_until = %(until)s, attempts = attempts + 1
WHERE id IN (
    SELECT d.id FROM dashboard_statusdelivery d
    WHERE d.finished_at IS NULL AND d.due_at <= %(now)s AND (d.leased_until IS NULL OR d.leased_until < %(now)s)
        AND NOT EXISTS (SELECT FROM dashboard_statusdelivery e
            WHERE e.subscriber_id = d.subscriber_id AND e.finished_at IS NULL AND e.id < d.id)
    ORDER BY d.due_at, d.id LIMIT %(limit)s
    FOR UPDATE SKIP LOCKED
) RETURNING id
"""


def enqueue(update: StatusUpdate) -> int:
    """Store a delivery of an update to each confirmed subscriber of its components; return their number.

    Subscribers of a group get updates of its components, and those of a component get updates of its groups.
    """
    incident = update.incident
    if not incident.page.published:
        return 0
    components = list(incident.components.all())
    tree = ComponentTree.of(incident.page.components.all())
    related = {pk for component in components for pk in tree.with_ancestors(component)}
    related |= {child.pk for component in components for child in tree.descendants(component)}
    values: dict[str, Any] = {
        "update": update.pk,
        "now": update.at,
        "page": incident.page_id,
        "everybody": not components,
        "components": sorted(related),
    }
    with connection.cursor() as cursor:
        cursor.execute(_ENQUEUE, values)
        return cursor.rowcount


def send_due(now: datetime | None = None) -> int:
    """Send all deliveries that are due; return the number of attempts."""
    ends_at, attempts = time.monotonic() + MAX_RUN_TIME, 0
    with ThreadPoolExecutor(THREADS, "status") as pool:
        while time.monotonic() < ends_at and (claimed := _claim(now or timezone.now())):
            messages = build_messages(claimed)
            for delivery, result in zip(claimed, pool.map(send, messages), strict=True):
                _record(delivery, result, now or timezone.now())
            attempts += len(claimed)
    return attempts


def _claim(now: datetime) -> list[StatusDelivery]:
    with connection.cursor() as cursor:
        cursor.execute(_CLAIM, {"now": now, "until": now + LEASE, "limit": CLAIMED_AT_ONCE})
        keys = [pk for (pk,) in cursor.fetchall()]
    rows = StatusDelivery.objects.filter(pk__in=keys).order_by("pk")
    return list(rows.select_related("subscriber__page", "update__incident__page"))


def _record(delivery: StatusDelivery, result: SendReceipt | SendFailed, now: datetime) -> None:
    """Store the result of an attempt, unless another sender has claimed the delivery meanwhile."""
    leased = StatusDelivery.objects.filter(pk=delivery.pk, leased_until=delivery.leased_until, finished_at=None)
    if isinstance(result, SendReceipt):
        leased.update(finished_at=now, leased_until=None, error="")
        return
    due_at = next_attempt_at(delivery.attempts, result, now)
    leased.update(
        finished_at=now if due_at is None else None,
        due_at=due_at or now,
        leased_until=None,
        error=result.error[:MAX_ERROR_LENGTH],
    )
    log.warning(
        "status delivery %d failed in attempt %d of %d: %s", delivery.pk, delivery.attempts, MAX_ATTEMPTS, result.error
    )


def delete_finished(before: datetime) -> int:
    """Delete deliveries that were finished before this time; return their number."""
    return StatusDelivery.objects.filter(finished_at__lt=before).delete()[0]
