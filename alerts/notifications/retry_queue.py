"""Queue of deliveries: claimed with a lease, sent, recorded, and retried after a failure.

Each delivery is sent at least once; all attempts have the same delivery ID (Idempotency-Key).
"""

from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from typing import Any

from django.db import connection, transaction

from alerts.models import Delivery, DeliveryStatus, EventKind, NoticeStatus
from alerts.notifications.channels.transport import SendFailed, SendReceipt
from alerts.timeline import NOTIFICATION_AUTHOR

LEASE = timedelta(seconds=30)  # longer than an attempt of any channel kind takes
MAX_CONCURRENT_PER_CHANNEL = 2  # deliveries to one channel that a sender has in flight
MAX_ATTEMPTS = 10
RETRY_DELAYS = (5, 15, 45, 120, 300, 300, 600, 600, 900)  # seconds after each attempt: 48 minutes in total
MAX_RETRY_AFTER = 900.0  # seconds: upper bound of the Retry-After that a channel may ask for

DeliveryAttempt = tuple[Delivery, SendReceipt | SendFailed]

_CLAIM_DELIVERIES = """
UPDATE alerts_delivery SET status = 'sending', leased_until = %(until)s, attempts = attempts + 1
WHERE id IN (
    SELECT d.id FROM (SELECT id FROM alerts_channel UNION ALL SELECT NULL) c CROSS JOIN LATERAL (
        SELECT id, due_at FROM alerts_delivery
        WHERE channel_id IS NOT DISTINCT FROM c.id AND status IN ('waiting', 'sending') AND due_at <= %(now)s
            AND (leased_until IS NULL OR leased_until < %(now)s)
        ORDER BY due_at, id
        LIMIT greatest(0, %(per_channel)s - (SELECT count(*) FROM unnest(%(busy)s::bigint[]) b WHERE b = c.id))
        FOR UPDATE SKIP LOCKED
    ) d ORDER BY d.due_at, d.id LIMIT %(free)s
) RETURNING id
"""
# Events are inserted before notices are updated, in the order of alerts: resolving alerts takes the same lock order.
_INSERT_EVENTS = """
INSERT INTO alerts_alertevent (alert_id, at, kind, by, note, details)
SELECT n.alert_id, %(now)s, %(kind)s, %(by)s, d.channel_name,
    jsonb_build_object('channel', d.channel_name, 'delivery_id', d.delivery_id, 'notice', n.kind, 'error', d.error)
FROM alerts_notice n JOIN alerts_delivery d ON d.id = n.delivery_id
WHERE d.id = ANY(%(deliveries)s) ORDER BY n.alert_id
"""
_UPDATE_NOTICES = "UPDATE alerts_notice SET status = %(status)s WHERE delivery_id = ANY(%(deliveries)s)"


def claim_deliveries(now: datetime, busy: Sequence[int], free: int) -> list[Delivery]:
    """Claim at most `free` deliveries that are due or whose lease expired, also those of deleted channels.

    `busy` lists the channel of every delivery that this sender has in flight: a slow channel delays no other.
    """
    values: dict[str, Any] = {
        "now": now,
        "until": now + LEASE,
        "busy": list(busy),
        "per_channel": MAX_CONCURRENT_PER_CHANNEL,
        "free": free,
    }
    with connection.cursor() as cursor:
        cursor.execute(_CLAIM_DELIVERIES, values)
        claimed = [pk for (pk,) in cursor.fetchall()]
    return list(Delivery.objects.filter(pk__in=claimed).select_related("channel").order_by("pk")) if claimed else []


@transaction.atomic
def record_attempts(attempts: Iterable[DeliveryAttempt], now: datetime) -> None:
    """Store the result of each attempt, and add events of finished deliveries to the timelines of their alerts."""
    sent, failed = [], []
    for delivery, result in sorted(attempts, key=lambda attempt: attempt[0].pk):
        if isinstance(result, SendReceipt):
            if _record_sent(delivery, result, now):
                sent.append(delivery.pk)
        elif _retry_or_fail(delivery, result, now):
            failed.append(delivery.pk)
    _close_notices(sent, EventKind.NOTIFIED, NoticeStatus.SENT, now)
    _close_notices(failed, EventKind.FAILED, NoticeStatus.FAILED, now)


def describe_status(delivery: Delivery) -> str:
    """Return the status for people, such as "retrying (HTTP 500, attempt 3 of 10)"."""
    if delivery.status == DeliveryStatus.WAITING and delivery.attempts:
        return f"retrying ({delivery.error}, attempt {delivery.attempts} of {MAX_ATTEMPTS})"
    if delivery.status == DeliveryStatus.FAILED:
        return f"failed ({delivery.error}, attempt {delivery.attempts} of {MAX_ATTEMPTS})"
    return str(delivery.status)


def _record_sent(delivery: Delivery, receipt: SendReceipt, now: datetime) -> bool:
    """Store a successful attempt, even if its lease expired and another sender claimed the delivery meanwhile."""
    unfinished = Delivery.objects.filter(pk=delivery.pk, status__in=[DeliveryStatus.WAITING, DeliveryStatus.SENDING])
    response = {"answer_status": receipt.status, "answer": receipt.response, "error": ""}
    return bool(unfinished.update(status=DeliveryStatus.SENT, sent_at=now, leased_until=None, **response))


def _retry_or_fail(delivery: Delivery, failure: SendFailed, now: datetime) -> bool:
    """Schedule the next attempt, or fail the delivery if there is none. Returns whether it failed."""
    is_last = delivery.test or not failure.retry or delivery.attempts >= MAX_ATTEMPTS
    delay = max(
        RETRY_DELAYS[min(delivery.attempts, len(RETRY_DELAYS)) - 1], min(failure.retry_after or 0.0, MAX_RETRY_AFTER)
    )
    leased = Delivery.objects.filter(pk=delivery.pk, status=DeliveryStatus.SENDING, leased_until=delivery.leased_until)
    updated = leased.update(
        status=DeliveryStatus.FAILED if is_last else DeliveryStatus.WAITING,
        due_at=now if is_last else now + timedelta(seconds=delay),
        leased_until=None,
        error=failure.error,
        answer_status=failure.status,
        answer=failure.response,
    )
    return bool(updated) and is_last


def _close_notices(deliveries: list[int], event: EventKind, status: NoticeStatus, now: datetime) -> None:
    if not deliveries:
        return
    values: dict[str, Any] = {
        "deliveries": deliveries,
        "kind": event,
        "status": status,
        "now": now,
        "by": NOTIFICATION_AUTHOR,
    }
    with connection.cursor() as cursor:
        cursor.execute(_INSERT_EVENTS, values)
        cursor.execute(_UPDATE_NOTICES, values)
