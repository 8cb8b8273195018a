"""Effects of events of other services. Each is one transaction, and a repeated event has no effect."""

import logging
from collections.abc import Callable

from django.db import connection, transaction

from metrics.audit.actor import acting_as
from metrics.devices.delete_device import delete_device
from rest.caller import Caller
from rest.errors import NotFound
from rest.names import NAME_LENGTH
from telemetry_site.bus.inbound.incoming_event import IncomingEvent, InvalidEvent
from telemetry_site.bus.inbound.user_removal import remove_user

log = logging.getLogger(__name__)

KEEP_HANDLED_DAYS = 40  # longer than messages stay in the stream that is created for them

_REMEMBER = """
INSERT INTO bus_handledmessage (source, message_id) VALUES (%s, %s) ON CONFLICT DO NOTHING RETURNING 1
"""
_FORGET = """
DELETE FROM bus_handledmessage WHERE (source, message_id) IN (
    SELECT source, message_id FROM bus_handledmessage
    WHERE handled_at < now() - make_interval(days => %s) LIMIT 10000
)
"""


def device_deleted(event: IncomingEvent, by: Caller) -> str:
    """Delete the device with its points; return what was done. Raises InvalidEvent."""
    device_id = event.text("device_id", NAME_LENGTH)
    if device_id is None:
        raise InvalidEvent("device_id is missing: it must be a text of 1 to 200 characters")
    try:
        deletion = delete_device(device_id, by)
    except NotFound:
        return f"device {device_id} does not exist"
    return f"device {device_id} is deleted ({deletion.deletion_id})"


def user_deleted(event: IncomingEvent, by: Caller) -> str:
    """Disable the user and hand over what the user owned; return what was done. Raises InvalidEvent."""
    return remove_user(
        username=event.text("username", 150) or event.text("user_id", 150),
        email=event.text("email", 254),
        successor=event.text("successor", 150),
    )


HANDLERS: dict[str, Callable[[IncomingEvent, Caller], str]] = {
    "device.deleted": device_deleted,
    "user.deleted": user_deleted,
}


def find_handler(event_type: str) -> Callable[[IncomingEvent, Caller], str] | None:
    """Return the handler of `device.deleted`, `com.example.device.deleted` and so on; None for other types."""
    name = ".".join(event_type.rsplit(".", 2)[-2:])
    return HANDLERS.get(name)


def handle(event: IncomingEvent) -> str:
    """Process an event in one transaction; return what was done. Raises InvalidEvent."""
    handler = find_handler(event.type)
    if handler is None:
        return f"{event.type} concerns nothing here"
    caller = Caller.internal(f"bus:{event.source}"[:200])
    with transaction.atomic(), acting_as(caller):
        with connection.cursor() as cursor:
            cursor.execute(_REMEMBER, (event.source, event.id))
            if cursor.fetchone() is None:
                return "processed already"
        result = handler(event, caller)
    log.info("bus: %s from %s: %s", event.type, event.source, result)
    return result


def forget_handled() -> int:
    """Delete records of events that were processed long ago; return their number."""
    with connection.cursor() as cursor:
        cursor.execute(_FORGET, (KEEP_HANDLED_DAYS,))
        return cursor.rowcount
