"""E-mail through Django, from the server that EMAIL_URL names."""

import smtplib
import socket
import threading
from contextlib import suppress
from typing import Final

from django.conf import settings
from django.core.exceptions import ValidationError
from django.core.mail import EmailMessage, get_connection
from django.core.validators import validate_email

from alerts.models import Channel
from alerts.notifications.channels.transport import MOST_KEPT, Message, NotSent, Sent

MOST_ADDRESSES: Final = 100
TOTAL: Final = 20.0  # seconds
LONGEST_SUBJECT: Final = 200
UNCONFIGURED: Final = "no mail server is set: EMAIL_URL names one, such as smtp+tls://user:password@mail.example.com"


class Email:
    """One message to all addresses of the channel; with one attempt or another it is the same Message-ID."""

    def check(self, channel: Channel) -> list[tuple[str, str]]:
        accepted = f"a list of 1 to {MOST_ADDRESSES} e-mail addresses is accepted"
        if not 1 <= len(channel.addresses) <= MOST_ADDRESSES:
            return [("addresses", accepted)]
        for address in channel.addresses:
            try:
                validate_email(address)
            except ValidationError:
                return [("addresses", f"{address!r} is none: {accepted}")]
        return []

    def send(self, channel: Channel, message: Message) -> Sent:
        return mail(channel.addresses, message)


def mail(addresses: list[str], message: Message) -> Sent:
    """Send a message to these addresses. Raises NotSent."""
    if not settings.EMAIL_HOST:
        raise NotSent(UNCONFIGURED, again=False)
    headers = {"Message-ID": f"<{message.delivery_id}@telemetry>", "Idempotency-Key": message.delivery_id}
    subject = " ".join(message.title.split())[:LONGEST_SUBJECT]
    connection = get_connection(timeout=settings.EMAIL_TIMEOUT)
    # The timeout is of each step, of which a slow server has many.
    timer = threading.Timer(TOTAL, lambda: _cut(connection))
    timer.daemon = True
    timer.start()
    try:
        EmailMessage(subject, message.text, None, addresses, headers=headers, connection=connection).send()
    except smtplib.SMTPRecipientsRefused as refused:
        again = any(code < 500 for code, _ in refused.recipients.values())
        raise NotSent("no recipient is taken", again, answer=str(refused)[:MOST_KEPT]) from None
    except smtplib.SMTPResponseException as refused:
        answer = _text(refused.smtp_error)
        error = f"the mail server answered {refused.smtp_code}"
        raise NotSent(error, refused.smtp_code < 500, refused.smtp_code, answer) from None
    except (OSError, ValueError, AttributeError) as error:  # SMTPException is an OSError
        raise NotSent(f"the mail server: {error or type(error).__name__}") from None
    finally:
        timer.cancel()
    return Sent(250)


def _text(answer: bytes | str) -> str:
    return (answer.decode("utf-8", "replace") if isinstance(answer, bytes) else answer)[:MOST_KEPT]


def _cut(connection: object) -> None:
    """Django's connection holds smtplib's, which holds the socket."""
    session = getattr(connection, "connection", None)
    sock = getattr(session, "sock", None)
    if sock is not None:
        with suppress(OSError):  # it was over by itself
            socket.socket.shutdown(sock, socket.SHUT_RDWR)  # which wakes whoever waits for it; closing does not
