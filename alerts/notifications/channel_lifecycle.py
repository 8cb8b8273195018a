"""Channels and routes made, changed and deleted: checked whole each time. And channels tried."""

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any, Final, TypeVar

from django.db import transaction
from django.utils import timezone

from alerts import recurring_windows
from alerts.models import Channel, ChannelKind, Delivery, DeliveryStatus, Level, Route
from alerts.notifications import messages, retry_queue
from alerts.notifications.channels import TRANSPORTS
from alerts.notifications.sender import send
from metrics.models import NAME_LENGTH
from rest.errors import InvalidFields

CHANNEL_FIELDS: Final = (
    "name", "kind", "url", "addresses", "action", "secret", "enabled", "gather_seconds", "send_resolved",
)  # fmt: skip
ROUTE_FIELDS: Final = (
    "name", "enabled", "levels", "device_groups", "weekly", "channels", "repeat_minutes", "escalation",
)  # fmt: skip
OF_KIND: Final = {  # the field that says where a channel leads
    ChannelKind.WEBHOOK: "url",
    ChannelKind.APPRISE: "url",
    ChannelKind.EMAIL: "addresses",
    ChannelKind.ACTION: "action",
}
Row = TypeVar("Row", Channel, Route)

LONGEST_GATHERING: Final = 86_400  # seconds
LONGEST_STEP: Final = 7 * 24 * 60  # minutes
MOST_STEPS: Final = 10


def create_channel(fields: Mapping[str, Any], by: str) -> Channel:
    """A new channel. Raises InvalidFields."""
    channel = _with(Channel(created_by=by), CHANNEL_FIELDS, fields)
    check_channel(channel)
    channel.save()
    return channel


@transaction.atomic
def change_channel(channel: Channel, fields: Mapping[str, Any]) -> Channel:
    """Set some fields of a channel. Raises InvalidFields."""
    channel = _with(Channel.objects.select_for_update().get(pk=channel.pk), CHANNEL_FIELDS, fields)
    check_channel(channel)
    channel.save()
    return channel


def delete_channel(channel: Channel) -> None:
    """Its deliveries stay; the sender finds those on their way, and fails them. Rules show it as unconfigured."""
    channel.delete()


def check_channel(channel: Channel) -> None:
    """Raises InvalidFields with everything that is wrong with it."""
    errors = _named(channel)
    if not 0 <= channel.gather_seconds <= LONGEST_GATHERING:
        errors.append(("gather_seconds", f"0 to {LONGEST_GATHERING} are accepted"))
    if len(channel.secret) > NAME_LENGTH:
        errors.append(("secret", f"at most {NAME_LENGTH} characters are accepted"))
    if channel.kind not in ChannelKind.values:
        errors.append(("kind", f"{', '.join(ChannelKind.values)} are accepted"))
    else:
        asked = OF_KIND[ChannelKind(channel.kind)]
        foreign = {name for name in OF_KIND.values() if name != asked and getattr(channel, name)}
        errors += [(name, f"of a channel of kind {channel.kind} {asked} is asked for") for name in sorted(foreign)]
        if not getattr(channel, asked):
            errors.append((asked, f"is asked for of a channel of kind {channel.kind}"))
        else:
            errors += TRANSPORTS[channel.kind].check(channel)
    if errors:
        raise InvalidFields(errors)


def create_route(fields: Mapping[str, Any], by: str) -> Route:
    """A new route. Raises InvalidFields."""
    route = _with(Route(created_by=by), ROUTE_FIELDS, fields)
    check_route(route)
    route.save()
    return route


@transaction.atomic
def change_route(route: Route, fields: Mapping[str, Any]) -> Route:
    """Set some fields of a route. Raises InvalidFields."""
    route = _with(Route.objects.select_for_update().get(pk=route.pk), ROUTE_FIELDS, fields)
    check_route(route)
    route.save()
    return route


def check_route(route: Route) -> None:
    """Raises InvalidFields with everything that is wrong with it. Channels may be named before there are any."""
    errors = _named(route)
    if not set(route.levels) <= set(Level.values):
        errors.append(("levels", f"{', '.join(Level.values)} are accepted"))
    if not route.channels and not route.escalation:
        errors.append(("channels", "it would tell nobody: name a channel, or a step of escalation with one"))
    if route.repeat_minutes is not None and not 1 <= route.repeat_minutes <= LONGEST_STEP:
        errors.append(("repeat_minutes", f"1 to {LONGEST_STEP} are accepted, or null"))
    if detail := recurring_windows.check(route.weekly):
        errors.append(("weekly", detail))
    if not _steps_are_good(route.escalation):
        accepted = '{"after_minutes": 10, "channels": ["name"]}'
        errors.append(("escalation", f"a list of at most {MOST_STEPS} steps such as {accepted} is accepted"))
    if errors:
        raise InvalidFields(errors)


def test_send(channel: Channel, by: str, now: datetime | None = None) -> Delivery:
    """Tell a channel at once of an alert that there is not, and return what came of it. Tried once."""
    now = now or timezone.now()
    title = f"[TEST] {channel.name}, asked for by {by}"[: 2 * NAME_LENGTH]
    delivery = Delivery(channel=channel, channel_name=channel.name, title=title, test=True, created_at=now, due_at=now)
    delivery.payload = messages.payload_of(
        delivery.delivery_id, "test", title, [messages.trial_fields(channel, now)], now
    )
    delivery.status, delivery.attempts, delivery.leased_until = DeliveryStatus.SENDING, 1, now + retry_queue.LEASE
    delivery.save()
    retry_queue.mark([(delivery, send(delivery))], timezone.now())
    delivery.refresh_from_db()
    return delivery


def _with(row: Row, names: Iterable[str], fields: Mapping[str, Any]) -> Row:
    """The row with those of its fields that are given."""
    for name in names:
        if name in fields:
            setattr(row, name, fields[name])
    return row


def _named(row: Channel | Route) -> list[tuple[str, str]]:
    if not 0 < len(row.name.strip()) <= NAME_LENGTH or not row.name.isprintable():
        return [("name", f"a name of 1 to {NAME_LENGTH} characters is accepted")]
    if type(row)._default_manager.filter(name=row.name).exclude(pk=row.pk).exists():
        return [("name", f"{row.name!r} is taken")]
    return []


def _steps_are_good(steps: Any) -> bool:
    if not isinstance(steps, list) or len(steps) > MOST_STEPS:
        return False
    return all(
        isinstance(step, dict)
        and set(step) == {"after_minutes", "channels"}
        and type(step["after_minutes"]) is int
        and 1 <= step["after_minutes"] <= LONGEST_STEP
        and isinstance(step["channels"], list)
        and bool(step["channels"])
        and all(isinstance(name, str) and 0 < len(name) <= NAME_LENGTH for name in step["channels"])
        for step in steps
    )
