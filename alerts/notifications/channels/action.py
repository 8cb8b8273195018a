"""Actions: Python functions that the installation registers by name; they are called with the payload."""

from collections.abc import Callable
from functools import cache
from typing import Any

from django.conf import settings
from django.db import close_old_connections, connection
from django.utils.module_loading import import_string

from alerts.models import Channel
from alerts.notifications.channels.transport import MAX_RESPONSE_LENGTH, ChannelMessage, SendFailed, SendReceipt

ACCEPTED_BY = "accepted_by"  # key of the payload in retries: the recipients that accepted an earlier attempt

Action = Callable[[dict[str, Any]], Any]


class ActionChannel:
    """Transport that calls a registered function; the function raises if it fails.

    A call that takes longer than the lease of its delivery (30 s) is repeated by another process.
    """

    def check(self, channel: Channel) -> list[tuple[str, str]]:
        if channel.action in settings.ALERT_ACTIONS:
            return []
        return [("action", f"must be one of {', '.join(sorted(settings.ALERT_ACTIONS))}")]

    def send(self, channel: Channel, message: ChannelMessage) -> SendReceipt:
        path = settings.ALERT_ACTIONS.get(channel.action)
        if path is None:
            raise SendFailed(f"no action is registered as {channel.action!r}", retry=False)
        earlier = {ACCEPTED_BY: list(message.accepted_by)} if message.accepted_by else {}
        close_old_connections()
        try:
            result = import_action(path)(message.payload | earlier)
        except SendFailed:
            raise
        except Exception as error:  # a registered function may raise anything
            raise SendFailed(f"{type(error).__name__}: {error}"[:MAX_RESPONSE_LENGTH]) from error
        finally:
            connection.close()
        return SendReceipt(response="" if result is None else str(result)[:MAX_RESPONSE_LENGTH])


@cache
def import_action(path: str) -> Action:
    """Import the function with this dotted path. Raises ImportError, or TypeError if it is not callable."""
    function = import_string(path)
    if not callable(function):
        raise TypeError(f"{path} is not callable")
    return function
