"""Channel kinds: one transport class per kind."""

from alerts.models import ChannelKind
from alerts.notifications.channels.action import ActionChannel
from alerts.notifications.channels.apprise_ import AppriseChannel
from alerts.notifications.channels.email import EmailChannel
from alerts.notifications.channels.transport import Transport
from alerts.notifications.channels.webhook import WebhookChannel

TRANSPORTS: dict[str, Transport] = {
    ChannelKind.WEBHOOK: WebhookChannel(),
    ChannelKind.EMAIL: EmailChannel(),
    ChannelKind.APPRISE: AppriseChannel(),
    ChannelKind.ACTION: ActionChannel(),
}
