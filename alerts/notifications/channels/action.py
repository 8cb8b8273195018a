"""Actions: Python functions that the installation registers by name, called with the payload."""

from collections.abc import Callable
from functools import cache
from typing import Any

from django.conf import settings
from django.db import close_old_connections, connection
from django.utils.module_loading import import_string

from alerts.models import Channel
from alerts.notifications.channels.transport import MOST_KEPT, Message, NotSent, Sent

Action = Callable[[dict[str, Any]], Any]


class ActionChannel:
    """A call of a function, which says that it failed by raising. It has to end within 20 s, or it is called again."""

    def check(self, channel: Channel) -> list[tuple[str, str]]:
        if channel.action in settings.ALERT_ACTIONS:
            return []
        return [("action", f"{', '.join(sorted(settings.ALERT_ACTIONS))} are accepted")]

    def send(self, channel: Channel, message: Message) -> Sent:
        path = settings.ALERT_ACTIONS.get(channel.action)
        if path is None:
            raise NotSent(f"no action is registered as {channel.action!r}", again=False)
        close_old_connections()
        try:
            answer = action_at(path)(message.payload)
        except NotSent:
            raise
        except Exception as error:  # whatever somebody else's function raises is its answer
            raise NotSent(f"{type(error).__name__}: {error}"[:MOST_KEPT]) from error
        finally:
            connection.close()
        return Sent(answer="" if answer is None else str(answer)[:MOST_KEPT])


@cache
def action_at(path: str) -> Action:
    """The function with this dotted path. Raises ImportError; TypeError where it cannot be called."""
    found = import_string(path)
    if not callable(found):
        raise TypeError(f"{path} cannot be called")
    return found
