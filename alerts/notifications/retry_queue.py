"""Queue of deliveries: claimed with a lease, sent, recorded, and retried after a failure.

Each delivery is sent at least once; all attempts have the same delivery ID (Idempotency-Key).
"""

import logging
from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Any

from django.db import connection, transaction
from django.db.models import OuterRef, Subquery

from alerts.events import record_alert_events
from alerts.models import Delivery, DeliveryStatus, EventKind, NoticeStatus
from alerts.notifications.channels.transport import SendFailed, SendReceipt
from alerts.timeline import NOTIFICATION_AUTHOR
from alerts.visibility import visible_channels, visible_deliveries
from rest.caller import Caller

log = logging.getLogger(__name__)

LEASE = timedelta(seconds=30)  # longer than an attempt of any channel kind takes
MAX_CONCURRENT_PER_CHANNEL = 2  # deliveries to one channel that a sender has in flight; 1 after a failure
MAX_ATTEMPTS = 10
RETRY_DELAYS = (5, 15, 45, 120, 300, 300, 600, 600, 900)  # seconds after each attempt: 48 minutes in total
SMTP_OK = 250  # status of an accepted e-mail
MAX_RETRY_AFTER = 900.0  # seconds: upper bound of the Retry-After that a channel may ask for

DeliveryAttempt = tuple[Delivery, SendReceipt | SendFailed]

_CLAIM_DELIVERIES = """
UPDATE alerts_delivery SET status = 'sending', leased_until = %(until)s, attempts = attempts + 1
WHERE id IN (
    SELECT d.id FROM (SELECT id FROM alerts_channel UNION ALL SELECT NULL) c CROSS JOIN LATERAL (
        SELECT id, due_at FROM alerts_delivery
        WHERE channel_id IS NOT DISTINCT FROM c.id AND status IN ('waiting', 'sending') AND due_at <= %(now)s
            AND (leased_until IS NULL OR leased_until < %(now)s) AND id <> ALL(%(in_flight)s)
        ORDER BY due_at, id
        LIMIT greatest(0, %(per_channel)s - (SELECT count(*) FROM unnest(%(busy)s::bigint[]) b WHERE b = c.id))
        FOR UPDATE SKIP LOCKED
    ) d WHERE coalesce(c.id = ANY(%(failing)s), FALSE) = %(only_failing)s
    ORDER BY d.due_at, d.id LIMIT %(free)s
) RETURNING id
"""
# Events are inserted before notices are updated, in the order of alerts: resolving alerts takes the same lock order.
_INSERT_EVENTS = """
INSERT INTO alerts_alertevent (alert_id, at, kind, by, note, details)
SELECT n.alert_id, %(now)s, %(kind)s, %(by)s, d.channel_name,
    jsonb_build_object('channel', d.channel_name, 'delivery_id', d.delivery_id, 'notice', n.kind, 'error', d.error)
FROM alerts_notice n JOIN alerts_delivery d ON d.id = n.delivery_id
WHERE d.id = ANY(%(deliveries)s) ORDER BY n.alert_id
RETURNING alert_id, note
"""
_UPDATE_NOTICES = "UPDATE alerts_notice SET status = %(status)s WHERE delivery_id = ANY(%(deliveries)s)"


def claim_deliveries(
    now: datetime,
    free: int,
    in_flight: Iterable[Delivery] = (),
    failing: Iterable[int] = (),
    only_failing: bool = False,
) -> list[Delivery]:
    """Claim at most `free` deliveries that are due or whose lease expired, also those of deleted channels.

    `in_flight` are the deliveries of this sender, so that a slow channel delays no other; `failing` are the channels
    whose last attempt failed, which are claimed separately from the others.
    """
    values: dict[str, Any] = {
        "now": now,
        "until": now + LEASE,
        "in_flight": [delivery.pk for delivery in in_flight],
        "busy": [delivery.channel_id for delivery in in_flight if delivery.channel_id is not None],
        "failing": list(failing),
        "only_failing": only_failing,
        "per_channel": 1 if only_failing else MAX_CONCURRENT_PER_CHANNEL,
        "free": free,
    }
    with connection.cursor() as cursor:
        cursor.execute(_CLAIM_DELIVERIES, values)
        claimed = [pk for (pk,) in cursor.fetchall()]
    return list(Delivery.objects.filter(pk__in=claimed).select_related("channel").order_by("pk")) if claimed else []


def next_attempt_at(attempts: int, failure: SendFailed, now: datetime) -> datetime | None:
    """Return when to try again after this many attempts; None if there is no further one."""
    if not failure.retry or attempts >= MAX_ATTEMPTS:
        return None
    delay = max(RETRY_DELAYS[min(attempts, len(RETRY_DELAYS)) - 1], min(failure.retry_after or 0.0, MAX_RETRY_AFTER))
    return now + timedelta(seconds=delay)


@transaction.atomic
def record_attempts(attempts: Iterable[DeliveryAttempt], now: datetime) -> None:
    """Store the result of each attempt, and add events of finished deliveries to the timelines of their alerts."""
    finished: dict[DeliveryStatus, list[int]] = {DeliveryStatus.SENT: [], DeliveryStatus.FAILED: []}
    for delivery, result in sorted(attempts, key=lambda attempt: attempt[0].pk):
        if isinstance(result, SendReceipt):
            if _record_sent(delivery, result, now):
                finished[DeliveryStatus.SENT].append(delivery.pk)
        elif status := _record_failure(delivery, result, now):
            finished[status].append(delivery.pk)
    _close_notices(finished[DeliveryStatus.SENT], EventKind.NOTIFIED, NoticeStatus.SENT, now)
    _close_notices(finished[DeliveryStatus.FAILED], EventKind.FAILED, NoticeStatus.FAILED, now)


def find_failing_channels(caller: Caller) -> list[Delivery]:
    """Return the last attempted delivery of every enabled channel where that attempt failed, sorted by channel.

    Channels and deliveries are those that the caller sees.
    """
    attempted = visible_deliveries(caller).filter(channel_name=OuterRef("name"), attempts__gt=0, test=False)
    known = attempted.exclude(status=DeliveryStatus.SENDING, error="").order_by("-id")
    channels = visible_channels(caller).filter(enabled=True).annotate(last=Subquery(known.values("pk")[:1]))
    return list(
        Delivery.objects.filter(pk__in=channels.values("last"))
        .exclude(error="")
        .defer("payload")
        .order_by("channel_name")
    )


def describe_status(delivery: Delivery) -> str:
    """Return the status for people, such as "Retrying (HTTP 500, attempt 3 of 10, next 20:05 UTC)"."""
    name, details = status_parts(delivery)
    if is_retried(delivery):
        details.append(f"next {delivery.due_at:%H:%M} UTC")
    return f"{name} ({', '.join(details)})" if details else name


def status_parts(delivery: Delivery) -> tuple[str, list[str]]:
    """Return the status, and the details of the last attempt."""
    if is_retried(delivery):
        name = "Retrying"
    else:
        name = "Queued" if delivery.status == DeliveryStatus.WAITING else DeliveryStatus(delivery.status).label
    code = f"{'SMTP' if delivery.answer_status == SMTP_OK else 'HTTP'} {delivery.answer_status}"
    details = [delivery.error or (code if delivery.answer_status else "")]
    if not delivery.test and (delivery.error or delivery.attempts > 1):
        details.append(f"attempt {delivery.attempts} of {MAX_ATTEMPTS}")
    return name, [detail for detail in details if detail]


def is_retried(delivery: Delivery) -> bool:
    """Return whether an attempt has failed and the next one is scheduled."""
    return delivery.status == DeliveryStatus.WAITING and delivery.attempts > 0


def _record_sent(delivery: Delivery, receipt: SendReceipt, now: datetime) -> bool:
    """Store a successful attempt, even if its lease expired and another sender claimed the delivery meanwhile."""
    unfinished = Delivery.objects.filter(pk=delivery.pk, status__in=[DeliveryStatus.WAITING, DeliveryStatus.SENDING])
    response = {"answer_status": receipt.status, "answer": receipt.response, "error": ""}
    return bool(unfinished.update(status=DeliveryStatus.SENT, sent_at=now, leased_until=None, **response))


def _record_failure(delivery: Delivery, failure: SendFailed, now: datetime) -> DeliveryStatus | None:
    """Schedule the next attempt, or finish the delivery if there is none. Returns the status of a finished delivery.

    A delivery that at least one recipient accepted counts as sent, and keeps the error of the others.
    """
    due_at = None if delivery.test else next_attempt_at(delivery.attempts, failure, now)
    accepted_by = [*delivery.accepted_by, *failure.accepted_by]
    final = DeliveryStatus.SENT if accepted_by else DeliveryStatus.FAILED
    leased = Delivery.objects.filter(pk=delivery.pk, status=DeliveryStatus.SENDING, leased_until=delivery.leased_until)
    updated = leased.update(
        status=final if due_at is None else DeliveryStatus.WAITING,
        due_at=due_at or now,
        sent_at=now if due_at is None and accepted_by else None,
        leased_until=None,
        error=failure.error,
        accepted_by=accepted_by,
        answer_status=failure.status,
        answer=failure.response,
    )
    if not updated:
        return None
    following = "no further attempt" if due_at is None else f"next attempt at {due_at:%H:%M:%S} UTC"
    log.log(
        logging.ERROR if due_at is None else logging.WARNING,
        "notification %s to channel %s failed in attempt %d of %d: %s; %s",
        delivery.delivery_id,
        delivery.channel_name,
        delivery.attempts,
        MAX_ATTEMPTS,
        failure.error,
        following,
    )
    return final if due_at is None else None


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
        channels: dict[int, str] = dict(cursor.fetchall())
        cursor.execute(_UPDATE_NOTICES, values)
    record_alert_events(channels, event, NOTIFICATION_AUTHOR)
