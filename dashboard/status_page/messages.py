"""Messages to subscribers: e-mails with one-click unsubscription (RFC 8058), and webhooks in Statuspage's shape."""

import json
import logging
from collections.abc import Sequence
from typing import Any, NamedTuple

from django.template.loader import render_to_string
from django.utils import timezone

from alerts.notifications.channels import webhook
from alerts.notifications.channels.email import MAX_SUBJECT_LENGTH, RecipientMail, send_mails
from alerts.notifications.channels.transport import ChannelMessage, SendFailed, SendReceipt
from dashboard.status_page.addresses import page_url
from dashboard.status_page.models import StatusDelivery, StatusPage, SubscriberKind
from dashboard.status_page.snapshot import PageSnapshot, build_snapshot, public_incidents
from dashboard.status_page.statuspage_json import StatuspageDocuments
from dashboard.status_page.subscriptions import confirmation_token, unsubscribe_token
from rest.outgoing import ssrf_guard
from rest.outgoing.http_connection import parse_url

log = logging.getLogger(__name__)

NO_ADDRESS = "the page has no address: set TELEMETRY_SITE_URL, or a host name of the page"


class Message(NamedTuple):
    """Content of a delivery, which is read from the database before it is sent in a thread."""

    key: str
    kind: str
    address: str
    subject: str
    text: str
    payload: dict[str, Any]
    unsubscribe_url: str


def build_messages(deliveries: Sequence[StatusDelivery]) -> list[Message | SendFailed]:
    """Return the message of each delivery, or why there is none."""
    snapshots: dict[int, PageSnapshot] = {}
    messages: list[Message | SendFailed] = []
    for delivery in deliveries:
        page = delivery.subscriber.page
        if not page_url(page.slug, page.host_name):
            messages.append(SendFailed(NO_ADDRESS))
        elif not page.published:
            messages.append(SendFailed("the page is not published", retry=False))
        else:
            if page.pk not in snapshots:
                snapshots[page.pk] = build_snapshot(page, timezone.now())
            messages.append(_build_message(delivery, page, snapshots[page.pk]))
    return messages


def _build_message(delivery: StatusDelivery, page: StatusPage, snapshot: PageSnapshot) -> Message:
    subscriber, url = delivery.subscriber, page_url(page.slug, page.host_name)
    unsubscribe_url = f"{url}unsubscribe/{unsubscribe_token(subscriber)}/"
    context: dict[str, Any] = {"page": snapshot, "url": url, "unsubscribe_url": unsubscribe_url}
    documents = StatuspageDocuments(snapshot, url)
    payload: dict[str, Any] = {"meta": {"unsubscribe": unsubscribe_url}, "page": documents.webhook_page()}
    if delivery.update is None:
        confirm_url = f"{url}confirm/{confirmation_token(subscriber)}/"
        context |= {"confirm_url": confirm_url}
        payload["subscription"] = {"confirm_url": confirm_url}
        subject, template = f"Confirm your subscription to {page.title}", "status/confirmation.txt"
    else:
        [incident] = public_incidents([delivery.update.incident])
        update = next(one for one in incident.updates if one.id == delivery.update.update_id)
        context |= {"incident": incident, "update": update, "zone": snapshot.zone}
        payload["incident"] = documents.incident(incident)
        payload["incident_update_id"] = update.id
        status = update.status.replace("_", " ")
        subject, template = f"[{page.title}] {incident.title}: {status}", "status/update.txt"
    text = render_to_string(template, context).strip() + "\n"
    key = f"status-{delivery.pk}"
    return Message(key, subscriber.kind, subscriber.address, subject, text, payload, unsubscribe_url)


def send(message: Message | SendFailed) -> SendReceipt | SendFailed:
    """Send a message and return the result; never raises."""
    if isinstance(message, SendFailed):
        return message
    try:
        return _send_mail(message) if message.kind == SubscriberKind.EMAIL else _post(message)
    except SendFailed as failure:
        return failure
    except (ValueError, ssrf_guard.AddressForbidden) as refused:
        return SendFailed(str(refused), retry=False)
    except ssrf_guard.NameNotResolved as error:
        return SendFailed(str(error))
    except Exception as error:  # the other deliveries must be sent
        log.exception("%s: unexpected error", message.key)
        return SendFailed(f"{type(error).__name__}: {error}")


def build_mail(message: Message) -> RecipientMail:
    headers = {
        "Message-ID": f"<{message.key}@telemetry>",
        "Auto-Submitted": "auto-generated",
        "List-Unsubscribe": f"<{message.unsubscribe_url}>",
        "List-Unsubscribe-Post": "List-Unsubscribe=One-Click",
    }
    subject = " ".join(message.subject.split())[:MAX_SUBJECT_LENGTH]
    mail = RecipientMail(subject, message.text, None, [message.address], headers=headers)
    mail.recipient = message.address
    return mail


def _send_mail(message: Message) -> SendReceipt:
    return send_mails([build_mail(message)], ChannelMessage(message.key, message.subject, message.payload))


def _post(message: Message) -> SendReceipt:
    headers = {"Content-Type": "application/json", "Idempotency-Key": message.key}
    return webhook.post(parse_url(message.address), json.dumps(message.payload).encode(), headers)
