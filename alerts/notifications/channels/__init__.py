"""Kinds of channels: one class for each, found by the kind."""

from typing import Final

from alerts.models import ChannelKind
from alerts.notifications.channels.action import ActionChannel
from alerts.notifications.channels.apprise_ import AppriseChannel
from alerts.notifications.channels.email import Email
from alerts.notifications.channels.transport import Transport
from alerts.notifications.channels.webhook import Webhook

TRANSPORTS: Final[dict[str, Transport]] = {
    ChannelKind.WEBHOOK: Webhook(),
    ChannelKind.EMAIL: Email(),
    ChannelKind.APPRISE: AppriseChannel(),
    ChannelKind.ACTION: ActionChannel(),
}
