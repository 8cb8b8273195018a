"""Replay of parked messages, from the API and the admin page."""

from django.db import transaction

from metrics.audit.record import record
from telemetry_site.bus.cloud_event import CloudEvent
from telemetry_site.bus.inbound.handlers import handle
from telemetry_site.bus.inbound.incoming_event import InvalidEvent, read_event
from telemetry_site.bus.models import MAX_REASON_LENGTH, Direction, ParkedMessage
from telemetry_site.bus.targets.configured import configured_targets
from telemetry_site.bus.targets.target import Stream, TargetUnavailable


class ReplayFailed(Exception):
    """The message stays parked; the message says why."""


def replay_parked(number: int) -> str:
    """Process or send a parked message again and delete it; return what was done. Raises ReplayFailed.

    A message that another request is replaying, or that is gone, is not touched.
    """
    try:
        with transaction.atomic():
            message = ParkedMessage.objects.select_for_update(skip_locked=True).filter(pk=number).first()
            if message is None:
                raise ReplayFailed("the message is being replayed, or it is not parked any more")
            result = _process(message) if message.direction == Direction.INBOUND else _send(message)
            record("replayed", ("parked message", str(number)), after={"type": message.type, "result": result})
            message.delete()
    except (InvalidEvent, TargetUnavailable) as error:
        _store_reason(number, str(error))
        raise ReplayFailed(str(error)) from error
    return result


def _process(message: ParkedMessage) -> str:
    _check_complete(message)
    payload = bytes(message.payload)
    return handle(read_event(message.subject, message.headers, payload, message.message_id))


def _send(message: ParkedMessage) -> str:
    """Send an outbound message to its target. Raises TargetUnavailable."""
    _check_complete(message)
    target = next((target for target in configured_targets() if target.name == message.peer), None)
    if target is None:
        raise TargetUnavailable(f"the target {message.peer} is not configured any more")
    attributes = message.headers
    event = CloudEvent(
        attributes["id"], attributes["source"], attributes["type"], attributes["subject"], attributes["time"],
        attributes["dataschema"], bytes(message.payload),
    )  # fmt: skip
    stream = Stream.DATA if event.type.startswith("telemetry.data.") else Stream.EVENTS
    try:
        target.open()
        delivery = target.send(stream, [event])
    finally:
        target.close()
    if not delivery.count:
        raise TargetUnavailable(delivery.refused or delivery.error)
    return f"sent to {message.peer}"


def _check_complete(message: ParkedMessage) -> None:
    if not message.is_complete:
        raise InvalidEvent(f"only a part of its {message.size:,} bytes is stored")


def _store_reason(number: int, reason: str) -> None:
    ParkedMessage.objects.filter(pk=number).update(reason=reason[:MAX_REASON_LENGTH])
