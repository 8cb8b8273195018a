"""Deliveries: claimed with a lease by whoever sends them, then marked. Sent at least once, always under one key."""

from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from typing import Any, Final

from django.db import connection, transaction

from alerts.models import Delivery, DeliveryStatus, EventKind, NoticeStatus
from alerts.notifications.channels.transport import NotSent, Sent

LEASE: Final = timedelta(seconds=30)  # longer than any kind of channel takes
AT_ONCE: Final = 2  # of one channel and sender
MOST_ATTEMPTS: Final = 10
PAUSES: Final = (5, 15, 45, 120, 300, 300, 600, 600, 900)  # seconds between attempts, 48 minutes in all
LONGEST_WAIT: Final = 900.0  # seconds, whatever a channel asks for
BY: Final = "notifications"

Outcome = tuple[Delivery, Sent | NotSent]

_CLAIM: Final = """
UPDATE alerts_delivery SET status = 'sending', leased_until = %(until)s, attempts = attempts + 1
WHERE id IN (
    SELECT d.id FROM (SELECT id FROM alerts_channel UNION ALL SELECT NULL) c CROSS JOIN LATERAL (
        SELECT id, due_at FROM alerts_delivery
        WHERE channel_id IS NOT DISTINCT FROM c.id AND status IN ('waiting', 'sending') AND due_at <= %(now)s
            AND (leased_until IS NULL OR leased_until < %(now)s)
        ORDER BY due_at, id
        LIMIT greatest(0, %(at_once)s - (SELECT count(*) FROM unnest(%(busy)s::bigint[]) b WHERE b = c.id))
        FOR UPDATE SKIP LOCKED
    ) d ORDER BY d.due_at, d.id LIMIT %(free)s
) RETURNING id
"""
# In the order of alerts, each of which is locked for a moment, and before notices: as those lock who resolve alerts.
_TELL: Final = """
INSERT INTO alerts_alertevent (alert_id, at, kind, by, note, details)
SELECT n.alert_id, %(now)s, %(kind)s, %(by)s, d.channel_name,
    jsonb_build_object('channel', d.channel_name, 'delivery_id', d.delivery_id, 'notice', n.kind, 'error', d.error)
FROM alerts_notice n JOIN alerts_delivery d ON d.id = n.delivery_id
WHERE d.id = ANY(%(deliveries)s) ORDER BY n.alert_id
"""
_NOTICES: Final = "UPDATE alerts_notice SET status = %(status)s WHERE delivery_id = ANY(%(deliveries)s)"


def claim(now: datetime, busy: Sequence[int], free: int) -> list[Delivery]:
    """Take deliveries that are due, or whose sender let its lease lapse, `free` at most; also of channels now deleted.

    `busy` names the channel of every delivery that this sender has in hand, so that a slow one holds up no other.
    """
    values: dict[str, Any] = {"now": now, "until": now + LEASE, "busy": list(busy), "at_once": AT_ONCE, "free": free}
    with connection.cursor() as cursor:
        cursor.execute(_CLAIM, values)
        claimed = [pk for (pk,) in cursor.fetchall()]
    return list(Delivery.objects.filter(pk__in=claimed).select_related("channel").order_by("pk")) if claimed else []


@transaction.atomic
def mark(outcomes: Iterable[Outcome], now: datetime) -> None:
    """Write down what became of deliveries, and in the timelines of their alerts."""
    sent, failed = [], []
    for delivery, outcome in sorted(outcomes, key=lambda one: one[0].pk):
        if isinstance(outcome, Sent):
            if _arrived(delivery, outcome, now):
                sent.append(delivery.pk)
        elif _came_back(delivery, outcome, now):
            failed.append(delivery.pk)
    _tell(sent, EventKind.NOTIFIED, NoticeStatus.SENT, now)
    _tell(failed, EventKind.FAILED, NoticeStatus.FAILED, now)


def _arrived(delivery: Delivery, outcome: Sent, now: datetime) -> bool:
    """What arrived is sent, even where the lease has lapsed and somebody else has it in hand by now."""
    unmarked = Delivery.objects.filter(pk=delivery.pk, status__in=[DeliveryStatus.WAITING, DeliveryStatus.SENDING])
    answer = {"answer_status": outcome.status, "answer": outcome.answer, "error": ""}
    return bool(unmarked.update(status=DeliveryStatus.SENT, sent_at=now, leased_until=None, **answer))


def _came_back(delivery: Delivery, outcome: NotSent, now: datetime) -> bool:
    """Have it wait for its next attempt; returns whether there is none."""
    last = delivery.test or not outcome.again or delivery.attempts >= MOST_ATTEMPTS
    pause = PAUSES[min(delivery.attempts, len(PAUSES)) - 1]
    wait = max(pause, min(outcome.wait or 0.0, LONGEST_WAIT))
    mine = Delivery.objects.filter(pk=delivery.pk, status=DeliveryStatus.SENDING, leased_until=delivery.leased_until)
    moved = mine.update(
        status=DeliveryStatus.FAILED if last else DeliveryStatus.WAITING,
        due_at=now if last else now + timedelta(seconds=wait),
        leased_until=None,
        error=outcome.error,
        answer_status=outcome.status,
        answer=outcome.answer,
    )
    return bool(moved) and last


def _tell(deliveries: list[int], event: EventKind, status: NoticeStatus, now: datetime) -> None:
    if not deliveries:
        return
    values: dict[str, Any] = {"deliveries": deliveries, "kind": event, "status": status, "now": now, "by": BY}
    with connection.cursor() as cursor:
        cursor.execute(_TELL, values)
        cursor.execute(_NOTICES, values)
