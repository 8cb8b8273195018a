"""E-mail, sent through the mail server of EMAIL_URL."""

import smtplib
import socket
import threading
from contextlib import suppress

from django.conf import settings
from django.core.exceptions import ValidationError
from django.core.mail import EmailMessage, get_connection
from django.core.validators import validate_email

from alerts.models import Channel
from alerts.notifications.channels.transport import MAX_RESPONSE_LENGTH, ChannelMessage, SendFailed, SendReceipt

MAX_ADDRESSES = 100
SEND_TIMEOUT = 20.0  # seconds
MAX_SUBJECT_LENGTH = 200
NOT_CONFIGURED = "no mail server is configured: set EMAIL_URL, such as smtp+tls://user:password@mail.example.com"


class EmailChannel:
    """Transport that sends one e-mail to all addresses of the channel; all attempts have the same Message-ID."""

    def check(self, channel: Channel) -> list[tuple[str, str]]:
        accepted = f"must be a list of 1 to {MAX_ADDRESSES} e-mail addresses"
        if not 1 <= len(channel.addresses) <= MAX_ADDRESSES:
            return [("addresses", accepted)]
        for address in channel.addresses:
            try:
                validate_email(address)
            except ValidationError:
                return [("addresses", f"{address!r} is not an e-mail address: {accepted}")]
        return []

    def send(self, channel: Channel, message: ChannelMessage) -> SendReceipt:
        return send_email(channel.addresses, message)


def send_email(addresses: list[str], message: ChannelMessage) -> SendReceipt:
    """Send a message to these addresses. Raises SendFailed."""
    if not settings.EMAIL_HOST:
        raise SendFailed(NOT_CONFIGURED, retry=False)
    headers = {"Message-ID": f"<{message.delivery_id}@telemetry>", "Idempotency-Key": message.delivery_id}
    subject = " ".join(message.title.split())[:MAX_SUBJECT_LENGTH]
    connection = get_connection(timeout=settings.EMAIL_TIMEOUT)
    # EMAIL_TIMEOUT limits each SMTP step; the timer limits the whole session.
    timer = threading.Timer(SEND_TIMEOUT, lambda: _abort(connection))
    timer.daemon = True
    timer.start()
    try:
        EmailMessage(subject, message.text, None, addresses, headers=headers, connection=connection).send()
    except smtplib.SMTPRecipientsRefused as refused:
        retry = any(code < 500 for code, _ in refused.recipients.values())
        response = str(refused)[:MAX_RESPONSE_LENGTH]
        raise SendFailed("the mail server rejected all recipients", retry, response=response) from None
    except smtplib.SMTPResponseException as refused:
        response = _decode(refused.smtp_error)
        raise SendFailed(f"SMTP {refused.smtp_code}", refused.smtp_code < 500, refused.smtp_code, response) from None
    except (OSError, ValueError, AttributeError) as error:  # SMTPException is an OSError
        raise SendFailed(f"mail server error: {error or type(error).__name__}") from None
    finally:
        timer.cancel()
    return SendReceipt(250)


def _decode(response: bytes | str) -> str:
    return (response.decode("utf-8", "replace") if isinstance(response, bytes) else response)[:MAX_RESPONSE_LENGTH]


def _abort(connection: object) -> None:
    """Shut down the socket of Django's mail connection, which wakes the thread that waits for it."""
    session = getattr(connection, "connection", None)
    sock = getattr(session, "sock", None)
    if sock is not None:
        with suppress(OSError):  # the session has ended already
            socket.socket.shutdown(sock, socket.SHUT_RDWR)  # close() would not wake the waiting thread
