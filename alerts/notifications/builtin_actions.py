"""Actions that every installation has. An action is a function that receives the payload of a delivery.

The top level of the payload has the fields of the most severe alert (`description`, `severity`, `device_id`, …);
`alerts` lists all alerts of the delivery.
"""

import logging
from typing import Any

from django.contrib.auth import get_user_model
from django.db.models import Q

from alerts.notifications.channels.action import ACCEPTED_BY
from alerts.notifications.channels.email import send_emails
from alerts.notifications.channels.transport import ChannelMessage
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
    """Send an e-mail to every admin and operator who has an address and may see one of the devices."""
    device_ids = {alert["device_id"] for alert in payload["alerts"]}
    users = get_user_model().objects.filter(Q(is_superuser=True) | Q(groups__name=OPERATORS), is_active=True)
    candidates = users.exclude(email="").distinct().order_by("pk")
    addresses = [user.email for user in candidates if _sees_any(Caller.of_user(user), device_ids)]
    message = ChannelMessage(payload["delivery_id"], payload["title"], payload, payload.get(ACCEPTED_BY, ()))
    send_emails(addresses, message, separately=True)
    return f"{len(addresses)} {'e-mail' if len(addresses) == 1 else 'e-mails'} sent"


def _sees_any(caller: Caller, device_ids: set[str]) -> bool:
    return caller.is_admin or Device.objects.visible_to(caller).filter(device_id__in=device_ids).exists()
