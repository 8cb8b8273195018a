"""Create, validate, change and delete channels and routes, and send test messages."""

import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from typing import Any, TypeVar

from django.db import connection, transaction
from django.utils import timezone

from alerts import recurring_windows
from alerts.models import Channel, ChannelKind, Delivery, DeliveryStatus, Level, Route
from alerts.notifications import messages, retry_queue
from alerts.notifications.channels import TRANSPORTS
from alerts.notifications.sender import send
from metrics.models import NAME_LENGTH
from rest.errors import InvalidFields, TelemetryError
from rest.names import name_error

CHANNEL_FIELDS = (
    "name", "kind", "url", "addresses", "action", "secret", "enabled", "gather_seconds", "send_resolved",
)  # fmt: skip
ROUTE_FIELDS = (
    "name", "enabled", "levels", "device_groups", "weekly", "channels", "repeat_minutes", "escalation",
)  # fmt: skip
TARGET_FIELDS = {  # the field that holds the target, by kind of channel
    ChannelKind.WEBHOOK: "url",
    ChannelKind.APPRISE: "url",
    ChannelKind.EMAIL: "addresses",
    ChannelKind.ACTION: "action",
}
ChannelOrRoute = TypeVar("ChannelOrRoute", Channel, Route)

MAX_GATHER_SECONDS = 86_400  # seconds
MAX_STEP_MINUTES = 7 * 24 * 60  # minutes
MAX_ESCALATION_STEPS = 10
MAX_CONCURRENT_TESTS = 4  # in a process: each occupies a thread while the receiver answers

_tests: set[int] = set()  # channels whose test is running
_tests_lock = threading.Lock()


class ChannelBusy(TelemetryError):
    """The channel, or too many channels, are being tested."""

    status = 409
    retry_after = 10


def create_channel(fields: Mapping[str, Any], by: str) -> Channel:
    """Create a channel. Raises InvalidFields."""
    return _save(Channel(created_by=by), CHANNEL_FIELDS, fields, check_channel)


@transaction.atomic
def change_channel(channel: Channel, fields: Mapping[str, Any]) -> Channel:
    """Update some fields of a channel. Raises InvalidFields."""
    return _save(Channel.objects.select_for_update().get(pk=channel.pk), CHANNEL_FIELDS, fields, check_channel)


def delete_channel(channel: Channel) -> None:
    """Delete a channel.

    Its deliveries are kept and unfinished ones fail; rules and routes list the channel as unconfigured.
    """
    channel.delete()


def check_channel(channel: Channel) -> None:
    """Validate a channel. Raises InvalidFields with all errors."""
    errors = _find_name_errors(channel)
    if not 0 <= channel.gather_seconds <= MAX_GATHER_SECONDS:
        errors.append(("gather_seconds", f"must be 0 to {MAX_GATHER_SECONDS} seconds"))
    if len(channel.secret) > NAME_LENGTH:
        errors.append(("secret", f"must have at most {NAME_LENGTH} characters"))
    if channel.kind not in ChannelKind.values:
        errors.append(("kind", f"must be one of {', '.join(ChannelKind.values)}"))
    else:
        target = TARGET_FIELDS[ChannelKind(channel.kind)]
        unused = {name for name in TARGET_FIELDS.values() if name != target and getattr(channel, name)}
        errors += [(name, f"must be empty: a channel of kind {channel.kind} uses {target}") for name in sorted(unused)]
        if not getattr(channel, target):
            errors.append((target, f"is required for a channel of kind {channel.kind}"))
        else:
            errors += TRANSPORTS[channel.kind].check(channel)
    if errors:
        raise InvalidFields(errors)


def create_route(fields: Mapping[str, Any], by: str) -> Route:
    """Create a route. Raises InvalidFields."""
    return _save(Route(created_by=by), ROUTE_FIELDS, fields, check_route)


@transaction.atomic
def change_route(route: Route, fields: Mapping[str, Any]) -> Route:
    """Update some fields of a route. Raises InvalidFields."""
    return _save(Route.objects.select_for_update().get(pk=route.pk), ROUTE_FIELDS, fields, check_route)


def check_route(route: Route) -> None:
    """Validate a route. Raises InvalidFields with all errors. Channels need not exist yet."""
    errors = _find_name_errors(route)
    if not set(route.levels) <= set(Level.values):
        errors.append(("levels", f"must be a list of {', '.join(Level.values)}"))
    if not route.channels and not route.escalation:
        errors.append(("channels", "at least one channel or escalation step is required"))
    if route.repeat_minutes is not None and not 1 <= route.repeat_minutes <= MAX_STEP_MINUTES:
        errors.append(("repeat_minutes", f"must be 1 to {MAX_STEP_MINUTES} minutes, or null"))
    if detail := recurring_windows.validate(route.weekly):
        errors.append(("weekly", detail))
    if not _are_valid_steps(route.escalation):
        example = '{"after_minutes": 10, "channels": ["name"]}'
        errors.append(("escalation", f"must be a list of at most {MAX_ESCALATION_STEPS} steps such as {example}"))
    if errors:
        raise InvalidFields(errors)


def send_test(channel: Channel, by: str, now: datetime | None = None) -> Delivery:
    """Send a test message to a channel now, once, and return the delivery with its result. Raises ChannelBusy."""
    now = now or timezone.now()
    title = f"[TEST] {channel.name}, requested by {by}"[: 2 * NAME_LENGTH]
    delivery = Delivery(channel=channel, channel_name=channel.name, title=title, test=True, created_at=now, due_at=now)
    delivery.payload = messages.build_payload(
        delivery.delivery_id, "test", title, [messages.build_test_alert_fields(channel, now)], now
    )
    delivery.status, delivery.attempts, delivery.leased_until = DeliveryStatus.SENDING, 1, now + retry_queue.LEASE
    with _running_test(channel):
        delivery.save()
        if not connection.in_atomic_block:
            connection.close()  # others use it while the receiver answers
        result = send(delivery)
    retry_queue.record_attempts([(delivery, result)], timezone.now())
    delivery.refresh_from_db()
    return delivery


@contextmanager
def _running_test(channel: Channel) -> Iterator[None]:
    """Limit the threads that wait for receivers. Raises ChannelBusy."""
    with _tests_lock:
        if channel.pk in _tests:
            raise ChannelBusy(f"a test of {channel.name} is running: try again in some seconds")
        if len(_tests) >= MAX_CONCURRENT_TESTS:
            raise ChannelBusy(f"{MAX_CONCURRENT_TESTS} channel tests are running: try again in some seconds")
        _tests.add(channel.pk)
    try:
        yield
    finally:
        with _tests_lock:
            _tests.discard(channel.pk)


def reset_running_tests() -> None:
    """Forget running tests: a forked child has none of the threads that run them."""
    _tests.clear()


def _save(
    row: ChannelOrRoute, names: Iterable[str], fields: Mapping[str, Any], check: Callable[[ChannelOrRoute], None]
) -> ChannelOrRoute:
    """Set the fields that are present, and save the row. Raises InvalidFields."""
    for name in names:
        if name in fields:
            setattr(row, name, fields[name])
    check(row)
    row.save()
    return row


def _find_name_errors(row: Channel | Route) -> list[tuple[str, str]]:
    if not 0 < len(row.name.strip()) <= NAME_LENGTH or not row.name.isprintable():
        return [("name", f"must be 1 to {NAME_LENGTH} printable characters")]
    if (error := name_error(row.name)) and not type(row)._default_manager.filter(name=row.name, pk=row.pk).exists():
        return [("name", error)]
    if type(row)._default_manager.filter(name=row.name).exclude(pk=row.pk).exists():
        return [("name", f"{row.name!r} is already used")]
    return []


def _are_valid_steps(steps: Any) -> bool:
    if not isinstance(steps, list) or len(steps) > MAX_ESCALATION_STEPS:
        return False
    return all(
        isinstance(step, dict)
        and set(step) == {"after_minutes", "channels"}
        and type(step["after_minutes"]) is int
        and 1 <= step["after_minutes"] <= MAX_STEP_MINUTES
        and isinstance(step["channels"], list)
        and bool(step["channels"])
        and all(isinstance(name, str) and 0 < len(name) <= NAME_LENGTH for name in step["channels"])
        for step in steps
    )
