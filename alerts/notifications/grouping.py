"""Group due notices into deliveries: alerts of one incident or cause are sent as one message."""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.db import connection, transaction
from django.db.models import OuterRef, Subquery
from django.db.models.fields.json import KT

from alerts import silences, timeline
from alerts.alert_values import compares_values, read_current_values
from alerts.models import Alert, Channel, Delivery, EventKind, Incident, Notice, NoticeKind, NoticeStatus, Rule, Status
from alerts.notifications import incidents, messages
from alerts.notifications.channels.transport import MAX_TEXT_ALERTS

MIN_GROUP_SIZE = 3  # alerts of one cause that are grouped without an incident
NOTICE_BATCH = 20_000  # notices per transaction

AlertFields = dict[tuple[int, bool], dict[str, Any]]  # by alert and whether it has just opened

# (channel, kind, delayed) of the notices that are due; `delayed` notices waited to be grouped.
_DUE = """
SELECT DISTINCT channel_name, kind, due_at > created_at FROM alerts_notice
WHERE status = 'waiting' AND delivery_id IS NULL AND due_at <= %s
"""
# A due delayed notice takes the other delayed ones of its channel and kind with it. A notice waits while an earlier one
# of the same alert and channel is waiting, so that notifications of an alert arrive in order.
_CLAIM_NOTICES = """
SELECT n.id, n.alert_id, n.channel_name, n.kind
FROM alerts_notice n JOIN unnest(%s::text[], %s::text[], %s::boolean[]) due (channel_name, kind, delayed)
    ON due.channel_name = n.channel_name AND due.kind = n.kind AND due.delayed = (n.due_at > n.created_at)
WHERE n.status = 'waiting' AND n.delivery_id IS NULL AND NOT EXISTS (
    SELECT FROM alerts_notice t
    WHERE t.alert_id = n.alert_id AND t.channel_name = n.channel_name AND t.status = 'waiting' AND t.id < n.id)
ORDER BY n.id LIMIT %s FOR UPDATE OF n SKIP LOCKED
"""
_SET_DELIVERY = """
UPDATE alerts_notice n SET delivery_id = a.delivery
FROM unnest(%s::bigint[], %s::bigint[]) a (notice, delivery) WHERE n.id = a.notice
"""


@dataclass(frozen=True, slots=True)
class ClaimedNotice:
    """Notice whose row this transaction has locked."""

    pk: int
    alert: Alert
    channel_name: str
    kind: str


def create_deliveries(now: datetime) -> int:
    """Create deliveries of the due notices. Returns their number."""
    due = _list_due(now)
    if not due:
        return 0
    with transaction.atomic():
        claimed = _claim_notices(due)
        silenced = silences.find_covering({notice.alert.pk for notice in claimed}, now)
        to_send, silenced_alerts = _filter_notices(claimed, silenced)
        count = _group_and_insert(to_send, now)
    # After the transaction: events lock their alerts, and notices must not stay locked meanwhile.
    timeline.add_events(silenced_alerts, EventKind.SILENCED, timeline.NOTIFICATION_AUTHOR, now)
    return count


def _list_due(now: datetime) -> list[tuple[str, str, bool]]:
    """Return (channel, kind, delayed) of due notices, without channels that are still gathering."""
    with connection.cursor() as cursor:
        cursor.execute(_DUE, [now])
        due = cursor.fetchall()
    if not due:
        return []
    last = Delivery.objects.filter(channel_name=OuterRef("name"), test=False).order_by("-id").values("created_at")[:1]
    channels = Channel.objects.filter(gather_seconds__gt=0, name__in={name for name, _, _ in due})
    last_deliveries = channels.annotate(last=Subquery(last)).values_list("name", "gather_seconds", "last")
    gathering = {
        name
        for name, seconds, last_at in last_deliveries
        if last_at is not None and (now - last_at).total_seconds() < seconds
    }
    return [row for row in due if row[0] not in gathering]


def _claim_notices(due: Sequence[tuple[str, str, bool]]) -> list[ClaimedNotice]:
    with connection.cursor() as cursor:
        cursor.execute(_CLAIM_NOTICES, [*(list(column) for column in zip(*due, strict=True)), NOTICE_BATCH])
        rows = cursor.fetchall()
    alerts = Alert.objects.defer("evidence").annotate(unit=KT("evidence__unit")).in_bulk({row[1] for row in rows})
    # Thousands of alerts have few rules and incidents: a join would read each of those once per alert.
    rules = Rule.objects.in_bulk({alert.rule_id for alert in alerts.values() if alert.rule_id is not None})
    incident_ids = {alert.incident_id for alert in alerts.values() if alert.incident_id is not None}
    incidents_by_pk = Incident.objects.in_bulk(incident_ids)
    for alert in alerts.values():
        alert.rule, alert.incident = rules.get(alert.rule_id or 0), incidents_by_pk.get(alert.incident_id or 0)
    return [ClaimedNotice(pk, alerts[alert], name, kind) for pk, alert, name, kind in rows]


def _filter_notices(
    claimed: Sequence[ClaimedNotice], silenced: dict[int, str]
) -> tuple[list[ClaimedNotice], dict[int, str]]:
    """Return the notices to send, and the reason per alert that was silenced meanwhile; the others are closed."""
    to_send: list[ClaimedNotice] = []
    undelivered: list[ClaimedNotice] = []
    inactive: list[ClaimedNotice] = []
    by_silence: defaultdict[str, list[ClaimedNotice]] = defaultdict(list)
    delivered = _find_delivered([notice for notice in claimed if notice.kind == NoticeKind.RESOLVED])
    for notice in claimed:
        if notice.kind == NoticeKind.RESOLVED:
            (to_send if (notice.alert.pk, notice.channel_name) in delivered else undelivered).append(notice)
        elif notice.kind != NoticeKind.FIRED and notice.alert.status != Status.ACTIVE:
            inactive.append(notice)
        elif notice.alert.pk in silenced:
            by_silence[silenced[notice.alert.pk]].append(notice)
        else:
            to_send.append(notice)
    _close(undelivered, NoticeStatus.DROPPED, "the channel was not notified that the alert opened")
    _close(inactive, NoticeStatus.DROPPED, "the alert was acknowledged or resolved before the notification was sent")
    for reason, notices in by_silence.items():
        _close(notices, NoticeStatus.SILENCED, reason)
    return to_send, {notice.alert.pk: reason for reason, notices in by_silence.items() for notice in notices}


def _find_delivered(resolved: Sequence[ClaimedNotice]) -> set[tuple[int, str]]:
    """Return (alert, channel) pairs whose channel was notified that the alert opened."""
    if not resolved:
        return set()
    sent = Notice.objects.filter(alert__in={notice.alert.pk for notice in resolved}, status=NoticeStatus.SENT)
    return set(sent.exclude(kind=NoticeKind.RESOLVED).values_list("alert_id", "channel_name"))


def _close(notices: Sequence[ClaimedNotice], status: NoticeStatus, reason: str) -> None:
    if notices:
        Notice.objects.filter(pk__in=[notice.pk for notice in notices]).update(status=status, reason=reason)


def _group_and_insert(to_send: Sequence[ClaimedNotice], now: datetime) -> int:
    channels = Channel.objects.in_bulk({notice.channel_name for notice in to_send}, field_name="name")
    by_channel: defaultdict[tuple[str, str], list[ClaimedNotice]] = defaultdict(list)
    for notice in to_send:
        by_channel[notice.channel_name, notice.kind].append(notice)
    alert_fields: AlertFields = {}  # built once for all channels
    deliveries: list[Delivery] = []
    groups: list[list[ClaimedNotice]] = []
    for (name, kind), notices in by_channel.items():
        channel = channels.get(name)
        if channel is None:
            _close(notices, NoticeStatus.UNCONFIGURED, "the channel was deleted")
            continue
        for cause, group in _group_by_cause(notices, all_in_one=channel.gather_seconds > 0):
            deliveries.append(_build_delivery(channel, kind, cause, group, alert_fields, now))
            groups.append(group)
    _insert(deliveries)
    pairs = [(notice.pk, delivery.pk) for delivery, group in zip(deliveries, groups, strict=True) for notice in group]
    if pairs:
        with connection.cursor() as cursor:
            cursor.execute(_SET_DELIVERY, [list(column) for column in zip(*pairs, strict=True)])
    return len(deliveries)


def _insert(deliveries: Sequence[Delivery]) -> None:
    """Insert deliveries of one alert in bulk and larger ones one by one: quoting large rows in bulk is slow."""
    Delivery.objects.bulk_create([delivery for delivery in deliveries if delivery.payload["count"] == 1])
    for delivery in deliveries:
        if delivery.payload["count"] > 1:
            delivery.save(force_insert=True)


def _group_by_cause(
    notices: Sequence[ClaimedNotice], all_in_one: bool
) -> Iterator[tuple[str | None, list[ClaimedNotice]]]:
    """Yield the notices of each message with their cause: by incident, then by common cause, then one by one."""
    if all_in_one:
        yield None, list(notices)
        return
    by_incident: defaultdict[str, list[ClaimedNotice]] = defaultdict(list)
    ungrouped: dict[int, ClaimedNotice] = {}
    for notice in notices:
        if notice.alert.incident is not None:
            by_incident[notice.alert.incident.cause].append(notice)
        else:
            ungrouped[notice.pk] = notice
    yield from by_incident.items()
    large_enough = len(ungrouped) >= MIN_GROUP_SIZE
    causes = incidents.find_causes([notice.alert for notice in ungrouped.values()]) if large_enough else {}
    by_notice = {pk: causes[notice.alert.pk] for pk, notice in ungrouped.items() if causes}
    for cause, members in incidents.group_by_cause(by_notice, MIN_GROUP_SIZE):
        yield cause, [ungrouped.pop(pk) for pk in members]
    for notice in ungrouped.values():
        yield None, [notice]


def _build_delivery(
    channel: Channel,
    kind: str,
    cause: str | None,
    group: Sequence[ClaimedNotice],
    alert_fields: AlertFields,
    now: datetime,
) -> Delivery:
    alerts = messages.sort_by_severity({notice.alert.pk: notice.alert for notice in group}.values())
    is_new = kind == NoticeKind.FIRED  # its value is the current one
    current = {} if is_new else read_current_values(alerts[:MAX_TEXT_ALERTS])
    for alert in alerts:
        if (alert.pk, is_new) not in alert_fields:
            value = alert.value if is_new and compares_values(alert) else current.get(alert.pk)
            alert_fields[alert.pk, is_new] = messages.build_alert_fields(alert, value)
    title = messages.build_title(kind, alerts, cause, current)
    delivery = Delivery(channel=channel, channel_name=channel.name, title=title, created_at=now, due_at=now)
    incidents_of_group = list({alert.incident_id: alert.incident for alert in alerts}.values())
    delivery.payload = messages.build_payload(
        delivery.delivery_id,
        messages.EVENTS[NoticeKind(kind)],
        title,
        [alert_fields[alert.pk, is_new] for alert in alerts],
        now,
        incidents_of_group[0] if cause is not None or len(incidents_of_group) == 1 else None,
    )
    return delivery
