"""Notices that are due become deliveries: one for all that tell of one thing, so that a storm is one message."""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from django.db import connection, transaction
from django.db.models import OuterRef, Subquery

from alerts import silences, timeline
from alerts.models import Alert, Channel, Delivery, EventKind, Incident, Notice, NoticeKind, NoticeStatus, Rule, Status
from alerts.notifications import enqueue, incidents, messages

FEWEST: Final = 3  # alerts of one cause that go together though they are no incident
MOST: Final = 20_000  # notices at once

# What is due, by channel, kind, and whether it waited for others of its kind.
_DUE: Final = """
SELECT DISTINCT channel_name, kind, due_at > created_at FROM alerts_notice
WHERE status = 'waiting' AND delivery_id IS NULL AND due_at <= %s
"""
# With one that waited for others go those others; none overtakes an earlier notice of its alert.
_TAKE: Final = """
SELECT n.id, n.alert_id, n.channel_name, n.kind
FROM alerts_notice n JOIN unnest(%s::text[], %s::text[], %s::boolean[]) due (channel_name, kind, held)
    ON due.channel_name = n.channel_name AND due.kind = n.kind AND due.held = (n.due_at > n.created_at)
WHERE n.status = 'waiting' AND n.delivery_id IS NULL AND NOT EXISTS (
    SELECT FROM alerts_notice t
    WHERE t.alert_id = n.alert_id AND t.channel_name = n.channel_name AND t.status = 'waiting' AND t.id < n.id)
ORDER BY n.id LIMIT %s FOR UPDATE OF n SKIP LOCKED
"""
_ASSIGN: Final = """
UPDATE alerts_notice n SET delivery_id = a.delivery
FROM unnest(%s::bigint[], %s::bigint[]) a (notice, delivery) WHERE n.id = a.notice
"""


@dataclass(frozen=True, slots=True)
class Taken:
    """A notice that this process holds."""

    pk: int
    alert: Alert
    channel_name: str
    kind: str


def form(now: datetime) -> int:
    """Make deliveries of the notices that are due. Returns how many there are."""
    due = _due(now)
    if not due:
        return 0
    with transaction.atomic():
        taken = _take(due)
        quiet = silences.covering({one.alert.pk for one in taken}, now)
        going, silenced = _sorted_out(taken, quiet)
        made = _make(going, now)
    timeline.tell(silenced, EventKind.SILENCED, enqueue.BY, now)  # which locks alerts, so not while notices are held
    return made


def _due(now: datetime) -> list[tuple[str, str, bool]]:
    with connection.cursor() as cursor:
        cursor.execute(_DUE, [now])
        due = cursor.fetchall()
    if not due:
        return []
    last = Delivery.objects.filter(channel_name=OuterRef("name"), test=False).order_by("-id").values("created_at")[:1]
    gathering = Channel.objects.filter(gather_seconds__gt=0, name__in={name for name, _, _ in due})
    sent = gathering.annotate(last=Subquery(last)).values_list("name", "gather_seconds", "last")
    held = {name for name, gather, at in sent if at is not None and (now - at).total_seconds() < gather}
    return [one for one in due if one[0] not in held]


def _take(due: Sequence[tuple[str, str, bool]]) -> list[Taken]:
    with connection.cursor() as cursor:
        cursor.execute(_TAKE, [*(list(column) for column in zip(*due, strict=True)), MOST])
        rows = cursor.fetchall()
    alerts = Alert.objects.defer("evidence").in_bulk({row[1] for row in rows})
    # Of thousands of alerts there are few rules and incidents: joined, each of them would be read as often.
    rules = Rule.objects.in_bulk({alert.rule_id for alert in alerts.values() if alert.rule_id is not None})
    shared = Incident.objects.in_bulk({alert.incident_id for alert in alerts.values() if alert.incident_id is not None})
    for alert in alerts.values():
        alert.rule, alert.incident = rules.get(alert.rule_id or 0), shared.get(alert.incident_id or 0)
    return [Taken(pk, alerts[alert], name, kind) for pk, alert, name, kind in rows]


def _sorted_out(taken: Sequence[Taken], quiet: dict[int, str]) -> tuple[list[Taken], dict[int, str]]:
    """Those that are to be sent, and why alerts were silenced meanwhile. The others are marked."""
    going: list[Taken] = []
    late: list[Taken] = []
    silenced: defaultdict[str, list[Taken]] = defaultdict(list)
    told = _told([one for one in taken if one.kind == NoticeKind.RESOLVED])
    for one in taken:
        if one.kind == NoticeKind.RESOLVED:
            (going if (one.alert.pk, one.channel_name) in told else late).append(one)
        elif one.kind != NoticeKind.FIRED and one.alert.status != Status.ACTIVE:
            late.append(one)
        elif one.alert.pk in quiet:
            silenced[quiet[one.alert.pk]].append(one)
        else:
            going.append(one)
    _mark(late, NoticeStatus.DROPPED, "nobody needs to be told any more")
    for reason, ones in silenced.items():
        _mark(ones, NoticeStatus.SILENCED, reason)
    return going, {one.alert.pk: reason for reason, ones in silenced.items() for one in ones}


def _told(resolved: Sequence[Taken]) -> set[tuple[int, str]]:
    """Of which alerts which channels have heard that they fired: where that failed, nothing is over."""
    if not resolved:
        return set()
    sent = Notice.objects.filter(alert__in={one.alert.pk for one in resolved}, status=NoticeStatus.SENT)
    return set(sent.exclude(kind=NoticeKind.RESOLVED).values_list("alert_id", "channel_name"))


def _mark(ones: Sequence[Taken], status: NoticeStatus, reason: str) -> None:
    if ones:
        Notice.objects.filter(pk__in=[one.pk for one in ones]).update(status=status, reason=reason)


def _make(going: Sequence[Taken], now: datetime) -> int:
    channels = Channel.objects.in_bulk({one.channel_name for one in going}, field_name="name")
    by_channel: defaultdict[tuple[str, str], list[Taken]] = defaultdict(list)
    for one in going:
        by_channel[one.channel_name, one.kind].append(one)
    fields: dict[int, dict[str, Any]] = {}  # of each alert, for however many channels
    deliveries: list[Delivery] = []
    members: list[list[Taken]] = []
    for (name, kind), ones in by_channel.items():
        channel = channels.get(name)
        if channel is None:
            _mark(ones, NoticeStatus.UNCONFIGURED, "there is no such channel any more")
            continue
        for cause, group in _groups(ones, together=channel.gather_seconds > 0):
            deliveries.append(_delivery(channel, kind, cause, group, fields, now))
            members.append(group)
    _insert(deliveries)
    pairs = [(one.pk, delivery.pk) for delivery, group in zip(deliveries, members, strict=True) for one in group]
    if pairs:
        with connection.cursor() as cursor:
            cursor.execute(_ASSIGN, [list(column) for column in zip(*pairs, strict=True)])
    return len(deliveries)


def _insert(deliveries: Sequence[Delivery]) -> None:
    """Those of one alert all at once; each storm by itself, since rows that go together are quoted sign by sign."""
    Delivery.objects.bulk_create([delivery for delivery in deliveries if delivery.payload["count"] == 1])
    for delivery in deliveries:
        if delivery.payload["count"] > 1:
            delivery.save(force_insert=True)


def _groups(ones: Sequence[Taken], together: bool) -> Iterator[tuple[str | None, list[Taken]]]:
    """What goes in one message, with its cause: incidents, then what shares a cause, then each by itself."""
    if together:
        yield None, list(ones)
        return
    by_incident: defaultdict[str, list[Taken]] = defaultdict(list)
    alone: dict[int, Taken] = {}
    for one in ones:
        if one.alert.incident is not None:
            by_incident[one.alert.incident.cause].append(one)
        else:
            alone[one.pk] = one
    yield from by_incident.items()
    causes = incidents.causes_of([one.alert for one in alone.values()]) if len(alone) >= FEWEST else {}
    by_notice = {pk: causes[one.alert.pk] for pk, one in alone.items() if causes}
    for cause, members in incidents.common(by_notice, FEWEST):
        yield cause, [alone.pop(pk) for pk in members]
    for one in alone.values():
        yield None, [one]


def _delivery(
    channel: Channel,
    kind: str,
    cause: str | None,
    group: Sequence[Taken],
    fields: dict[int, dict[str, Any]],
    now: datetime,
) -> Delivery:
    alerts = messages.worst_first({one.alert.pk: one.alert for one in group}.values())
    for alert in alerts:
        if alert.pk not in fields:
            fields[alert.pk] = messages.alert_fields(alert)
    title = messages.title_for(kind, alerts, cause)
    delivery = Delivery(channel=channel, channel_name=channel.name, title=title, created_at=now, due_at=now)
    shared: list[Incident | None] = list({alert.incident_id: alert.incident for alert in alerts}.values())
    delivery.payload = messages.payload_of(
        delivery.delivery_id,
        messages.EVENTS[NoticeKind(kind)],
        title,
        [fields[alert.pk] for alert in alerts],
        now,
        shared[0] if cause is not None or len(shared) == 1 else None,
    )
    return delivery
