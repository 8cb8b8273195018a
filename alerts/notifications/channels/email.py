"""E-mail, sent through the mail server of EMAIL_URL."""

import smtplib
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from socket import socket
from typing import Any, NamedTuple

from django.conf import settings
from django.core.exceptions import ValidationError
from django.core.mail import EmailMessage
from django.core.mail.backends.smtp import EmailBackend
from django.core.validators import validate_email

from alerts.models import Channel
from alerts.notifications.channels.transport import MAX_RESPONSE_LENGTH, ChannelMessage, SendFailed, SendReceipt
from rest.outgoing.deadline import Deadline

MAX_ADDRESSES = 100
SEND_TIMEOUT = 20.0  # seconds for all recipients; EMAIL_TIMEOUT limits each SMTP step
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
        return send_mails([build_mail(address, channel.addresses, message) for address in channel.addresses], message)


def send_mails(mails: "Sequence[RecipientMail]", message: ChannelMessage) -> SendReceipt:
    """Send the mails of a message to the recipients that have not accepted it earlier. Raises SendFailed.

    Each recipient is a transaction of its own, so that one who is rejected does not stop the others.
    """
    if not settings.EMAIL_HOST:
        raise SendFailed(NOT_CONFIGURED, retry=False)
    accepted: list[str] = []
    failures: dict[str, RecipientFailure] = {}
    with Deadline(SEND_TIMEOUT) as deadline:
        backend = DeadlineBackend(deadline)
        for mail in mails:
            if mail.recipient in message.accepted_by:
                continue
            if failure := _send(backend, mail, deadline):
                failures[mail.recipient] = failure
            else:
                accepted.append(mail.recipient)
        with suppress(OSError):
            backend.close()
    if failures:
        raise _summarize(failures, accepted)
    return SendReceipt(250)


class RecipientFailure(NamedTuple):
    """Why one recipient did not accept the message; the fields are those of SendFailed."""

    error: str
    retry: bool
    status: int | None = None
    response: str = ""


class RecipientMail(EmailMessage):
    """E-mail to one of the recipients that its header names."""

    recipient = ""

    def recipients(self) -> list[str]:
        return [self.recipient]


class DeadlineBackend(EmailBackend):
    """Django's SMTP connection; the deadline limits it from the greeting of the server on."""

    def __init__(self, deadline: Deadline) -> None:
        super().__init__(timeout=settings.EMAIL_TIMEOUT)
        self.deadline = deadline

    @property
    def connection_class(self) -> Callable[..., smtplib.SMTP]:  # type: ignore[override]  # Django only calls it
        return partial(_TlsSession if self.use_ssl else _Session, self.deadline)


class _Session(smtplib.SMTP):
    def __init__(self, deadline: Deadline, *args: Any, **options: Any) -> None:
        self.deadline = deadline
        super().__init__(*args, **options)

    def _get_socket(self, *args: Any) -> socket:
        sock: socket = super()._get_socket(*args)  # type: ignore[misc]  # smtplib's method to override for this
        self.deadline.watch(sock)
        return sock


class _TlsSession(smtplib.SMTP_SSL, _Session):
    """The method of SMTP_SSL encrypts the socket that the one of _Session returns."""

    def __init__(self, deadline: Deadline, *args: Any, **options: Any) -> None:
        self.deadline = deadline
        smtplib.SMTP_SSL.__init__(self, *args, **options)


def build_mail(address: str, shown: Sequence[str], message: ChannelMessage) -> RecipientMail:
    """Return the mail of a message to one address; `shown` are the addresses in its header."""
    headers = {"Message-ID": f"<{message.delivery_id}@telemetry>", "Idempotency-Key": message.delivery_id}
    subject = " ".join(message.title.split())[:MAX_SUBJECT_LENGTH]
    mail = RecipientMail(subject, message.text, None, shown, headers=headers)
    mail.recipient = address
    return mail


def _send(backend: DeadlineBackend, mail: RecipientMail, deadline: Deadline) -> RecipientFailure | None:
    """Send a mail over the open session, or a new one. Returns why it failed."""
    late = RecipientFailure(f"mail server error: no response within {SEND_TIMEOUT:g} s", retry=True)
    if deadline.expired:
        return late
    try:
        backend.open()
        backend.send_messages([mail])
        return None
    except smtplib.SMTPRecipientsRefused as refused:
        [(code, response)] = refused.recipients.values()
        failure = RecipientFailure(f"SMTP {code}", code < 500, code, _decode(response))
    except smtplib.SMTPResponseException as refused:
        code = refused.smtp_code
        failure = RecipientFailure(f"SMTP {code}", code < 500, code, _decode(refused.smtp_error))
    except (OSError, ValueError, AttributeError) as error:  # SMTPException is an OSError
        failure = RecipientFailure(f"mail server error: {error or type(error).__name__}", retry=True)
    with suppress(OSError, AttributeError):
        backend.close()  # the next recipient gets a new session: this one may have ended
    return late if deadline.expired else failure


def _summarize(failures: dict[str, RecipientFailure], accepted: list[str]) -> SendFailed:
    address, first = next(iter(failures.items()))
    others = f" and {len(failures) - 1} more" if len(failures) > 1 else ""
    responses = "\n".join(f"{name}: {failure.response or failure.error}" for name, failure in failures.items())
    return SendFailed(
        f"{first.error} for {address}{others}",
        any(failure.retry for failure in failures.values()),
        first.status,
        responses[:MAX_RESPONSE_LENGTH],
        accepted_by=accepted,
    )


def _decode(response: bytes | str) -> str:
    return response.decode("utf-8", "replace") if isinstance(response, bytes) else response
