"""Actions that every installation has. An action is a function that receives the payload of a delivery.

The top level of the payload has the fields of the most severe alert (`description`, `severity`, `device_id`, …);
`alerts` lists all alerts of the delivery.
"""

import logging
from typing import Any

from django.contrib.auth import get_user_model
from django.db.models import Q

from alerts.models import NoticeKind
from alerts.notifications.channels.action import ACCEPTED_BY
from alerts.notifications.channels.email import build_mail, send_mails
from alerts.notifications.channels.transport import ChannelMessage
from alerts.notifications.messages import EVENTS
from metrics.models import Device
from rest.caller import OPERATORS, Caller

log = logging.getLogger(__name__)
_LOG_LEVELS = {"info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}


def log_alert(payload: dict[str, Any]) -> None:
    """Write one log line per alert, at the log level of its severity; resolved alerts at INFO."""
    for alert in payload["alerts"]:
        level = logging.INFO if alert["resolved_at"] else _LOG_LEVELS.get(alert["level"], logging.CRITICAL)
        log.log(level, "%s: %s (%s)", payload["event"], alert["message"], alert["alert_id"])


def send_notification(payload: dict[str, Any]) -> str:
    """Send an e-mail to every admin and operator who has an address, with the alerts of the devices that they see."""
    users = get_user_model().objects.filter(Q(is_superuser=True) | Q(groups__name=OPERATORS), is_active=True)
    mails = []
    for user in users.exclude(email="").distinct().order_by("pk"):
        visible = _narrow(payload, Caller.of_user(user))
        if visible is not None:  # one e-mail each, so that recipients do not see each other's addresses
            mails.append(build_mail(user.email, [user.email], _message(visible)))
    send_mails(mails, _message(payload))
    return f"{len(mails)} {'e-mail' if len(mails) == 1 else 'e-mails'} sent"


def _message(payload: dict[str, Any]) -> ChannelMessage:
    return ChannelMessage(payload["delivery_id"], payload["title"], payload, payload.get(ACCEPTED_BY, ()))


def _narrow(payload: dict[str, Any], caller: Caller) -> dict[str, Any] | None:
    """Return the payload with the alerts of devices that a caller sees; None if it sees none of them.

    The title of a delivery may name the device, the group and the level of a hidden alert, so it is replaced.
    """
    if caller.sees_all:
        return payload
    names = {alert["device_id"] for alert in payload["alerts"]}
    visible = set(Device.objects.visible_to(caller).filter(device_id__in=names).values_list("device_id", flat=True))
    alerts = [alert for alert in payload["alerts"] if alert["device_id"] in visible]
    if not alerts or len(alerts) == payload["count"]:
        return payload if alerts else None
    first = alerts[0]
    is_new = payload["event"] == EVENTS[NoticeKind.FIRED]
    prefix = first["level"].upper() if is_new else payload["title"].partition("] ")[0].removeprefix("[")
    more = f", and {len(alerts) - 1} more" if len(alerts) > 1 else ""
    title = f"[{prefix}] {first['message']}{more}"
    return payload | first | {"title": title, "count": len(alerts), "incident": None, "alerts": alerts}
