"""The actions that every installation has. An action is a function of the payload of a delivery.

The payload has the fields of the worst alert at its top (`description`, `severity`, `device_id`, …), and all of them
in `alerts`.
"""

import logging
from typing import Any

from django.contrib.auth import get_user_model
from django.db.models import Q

from alerts.notifications.channels.email import mail
from alerts.notifications.channels.transport import Message
from metrics.models import Device
from rest.caller import OPERATORS, Caller

logger = logging.getLogger(__name__)
_LEVELS = {"info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}


def log_alert(alert: dict[str, Any]) -> None:
    """A line in the log for every alert."""
    for one in alert["alerts"]:
        level = logging.INFO if one["resolved_at"] else _LEVELS.get(one["level"], logging.CRITICAL)
        logger.log(level, "%s: %s (%s)", alert["event"], one["message"], one["alert_id"])


def send_notification(alert: dict[str, Any]) -> str:
    """An e-mail to every admin and operator who has an address and sees one of the devices."""
    devices = {one["device_id"] for one in alert["alerts"]}
    people = get_user_model().objects.filter(Q(is_superuser=True) | Q(groups__name=OPERATORS), is_active=True)
    asked = people.exclude(email="").distinct().order_by("pk")
    addresses = [user.email for user in asked if _concerned(Caller.of_user(user), devices)]
    for address in addresses:  # one each: nobody reads there who else was told
        mail([address], Message(alert["delivery_id"], alert["title"], alert))
    return f"{len(addresses)} people were told"


def _concerned(caller: Caller, devices: set[str]) -> bool:
    return caller.is_admin or Device.objects.visible_to(caller).filter(device_id__in=devices).exists()
