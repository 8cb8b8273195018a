"""Messages to subscribers reach a mail server and a web server, are retried, and are sent once by several workers."""

import threading
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection
from django.utils import timezone

from dashboard.status_page import deliveries, incidents
from dashboard.status_page.models import IncidentKind, StatusDelivery, StatusPage, StatusSubscriber
from rest.caller import Caller
from telemetry_site.env import Environment
from tests.alerts.receivers import Mailbox, WebhookReceiver, run_mail_server, run_receiver
from tests.dashboard.status_page.factories import create_component, create_page

CALLER = Caller.internal("user:mei")
LATER = timedelta(minutes=20)


@pytest.fixture
def page(site: None, settings: Any) -> StatusPage:
    settings.SITE_URL = "https://monitor.example.com"
    return create_page()


@pytest.fixture
def mailbox(settings: Any) -> Iterator[Mailbox]:
    with run_mail_server() as mailbox:
        settings.EMAIL_HOST, settings.EMAIL_PORT = "127.0.0.1", mailbox.port
        yield mailbox


@pytest.fixture
def receiver(settings: Any) -> Iterator[WebhookReceiver]:
    settings.ALLOW_PRIVATE_WEBHOOKS = Environment({"X": "127.0.0.0/8"}).networks("X")
    with run_receiver() as receiver:
        yield receiver


def confirmed(page: StatusPage, kind: str, address: str) -> StatusSubscriber:
    return StatusSubscriber.objects.create(page=page, kind=kind, address=address, confirmed_at=timezone.now())


def report(page: StatusPage, **fields: Any) -> Any:
    fields = {"title": "Outage", "text": "We are on it."} | fields
    return incidents.create_incident(page, IncidentKind.INCIDENT, fields, CALLER)


def test_each_update_is_mailed_once_and_in_order(page: StatusPage, mailbox: Mailbox) -> None:
    confirmed(page, "email", "anna@example.com")
    incident = report(page)
    incidents.add_update(incident, "identified", "A cable is broken.", CALLER)
    incidents.add_update(incident, "resolved", "Repaired.", CALLER)
    assert deliveries.send_due() == 3
    assert deliveries.send_due() == 0
    subjects = [mail.partition("Subject: ")[2].partition("\r\n")[0] for mail in mailbox.mails]
    title = "[Tarnholm status] Outage:"
    assert subjects == [f"{title} investigating", f"{title} identified", f"{title} resolved"]
    assert mailbox.recipients == ["anna@example.com"] * 3
    assert all("List-Unsubscribe-Post: List-Unsubscribe=One-Click" in mail for mail in mailbox.mails)


def test_webhook_gets_the_incident_in_the_shape_of_statuspage(page: StatusPage, receiver: WebhookReceiver) -> None:
    component = create_component(page, "Portal", device_groups=["a"])
    confirmed(page, "webhook", receiver.url)
    incident = report(page, components=[component])
    assert deliveries.send_due() == 1
    [request] = receiver.requests
    assert request.json["incident"]["id"] == incident.incident_id
    assert request.json["incident"]["incident_updates"][0]["body"] == "We are on it."
    assert request.json["incident"]["components"][0]["name"] == "Portal"
    assert request.json["page"]["status_indicator"] in ("minor", "major")
    assert request.json["meta"]["unsubscribe"].startswith("https://monitor.example.com/status/main/unsubscribe/")


def test_webhook_into_private_network_is_not_sent(page: StatusPage, receiver: WebhookReceiver, settings: Any) -> None:
    settings.ALLOW_PRIVATE_WEBHOOKS = []
    confirmed(page, "webhook", receiver.url)
    report(page)
    deliveries.send_due()
    delivery = StatusDelivery.objects.get()
    assert delivery.finished_at is not None and "not a public address" in delivery.error
    assert receiver.requests == []


def test_failed_message_is_retried_before_later_ones_are_sent(page: StatusPage, mailbox: Mailbox) -> None:
    confirmed(page, "email", "anna@example.com")
    incident = report(page)
    incidents.add_update(incident, "resolved", "Repaired.", CALLER)
    now = timezone.now()
    mailbox.reject = ("RCPT", "450 later")
    deliveries.send_due(now)
    assert mailbox.mails == []
    mailbox.reject = None
    deliveries.send_due(now + timedelta(seconds=1))  # before the retry is due
    assert mailbox.mails == []
    deliveries.send_due(now + LATER)
    assert ["investigating" in mail for mail in mailbox.mails] == [True, False]


def test_message_of_killed_worker_is_sent_after_its_lease(page: StatusPage, mailbox: Mailbox) -> None:
    confirmed(page, "email", "anna@example.com")
    report(page)
    now = timezone.now()
    assert len(deliveries._claim(now)) == 1  # and then the worker is killed
    deliveries.send_due(now)
    assert mailbox.mails == []
    deliveries.send_due(now + timedelta(seconds=31))
    assert len(mailbox.mails) == 1


@pytest.mark.slow
def test_two_workers_send_each_message_once(page: StatusPage, mailbox: Mailbox) -> None:
    addresses = [f"person{number}@example.com" for number in range(40)]
    for address in addresses:
        confirmed(page, "email", address)
    report(page)

    def work() -> None:
        deliveries.send_due()
        connection.close()

    workers = [threading.Thread(target=work) for _ in range(2)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert sorted(mailbox.recipients) == sorted(addresses)
    assert not StatusDelivery.objects.filter(finished_at=None).exists()
