"""Subscriptions: double opt-in, one-click unsubscription, rate limits, and one message per update."""

import re
from datetime import timedelta
from typing import Any

import pytest
from django.test import Client
from django.utils import timezone

from dashboard.status_page import incidents, subscriptions
from dashboard.status_page.messages import Message, build_mail, build_messages
from dashboard.status_page.models import IncidentKind, StatusDelivery, StatusPage, StatusSubscriber
from rest.caller import Caller
from tests.dashboard.status_page.factories import create_component, create_page

CALLER = Caller.internal("user:mei")
HOUR = timedelta(hours=1)


@pytest.fixture
def page(site: None, settings: Any) -> StatusPage:
    settings.SITE_URL = "https://monitor.example.com"
    return create_page()


def subscribe(address: str = "anna@example.com", **fields: Any) -> Any:
    return Client().post("/status/main/subscribe/", {"kind": "email", "address": address} | fields)


def confirmed(page: StatusPage, address: str, *components: Any) -> StatusSubscriber:
    subscriber = StatusSubscriber.objects.create(page=page, kind="email", address=address, confirmed_at=timezone.now())
    subscriber.components.set(components)
    return subscriber


def links(text: str) -> dict[str, str]:
    """Return the paths of the links in a message by their kind."""
    return {kind: f"/status/main/{kind}/{token}/" for kind, token in re.findall(r"main/(\w+)/([^/\s]+)/", text)}


def waiting_message() -> Message:
    rows = StatusDelivery.objects.filter(finished_at=None).select_related("subscriber__page", "update__incident__page")
    [message] = build_messages(list(rows))
    assert isinstance(message, Message)
    return message


def test_address_is_subscribed_only_after_its_owner_confirms(page: StatusPage) -> None:
    assert subscribe().status_code == 200
    subscriber = StatusSubscriber.objects.get()
    assert subscriber.confirmed_at is None
    link = links(waiting_message().text)["confirm"]
    assert Client().get(link).status_code == 200  # as a mail scanner does
    subscriber.refresh_from_db()
    assert subscriber.confirmed_at is None
    assert "Subscribed" in Client().post(link).text
    subscriber.refresh_from_db()
    assert subscriber.confirmed_at is not None


def test_answer_is_the_same_for_known_and_unknown_addresses(page: StatusPage) -> None:
    confirmed(page, "known@example.com")
    times = re.compile(r"\d{4}-\d\d-\d\d [\d:]+")
    known, unknown = (times.sub("", subscribe(f"{name}@example.com").text) for name in ("known", "unknown"))
    assert known == unknown


def test_request_for_known_address_does_not_change_its_subscription(page: StatusPage) -> None:
    component = create_component(page, "Portal")
    subscriber = confirmed(page, "anna@example.com", component)
    subscribe("anna@example.com")
    assert list(subscriber.components.all()) == [component]
    Client().post(links(waiting_message().text)["confirm"])
    assert not subscriber.components.exists()


def test_confirmation_is_sent_to_an_address_at_most_once_an_hour(page: StatusPage) -> None:
    now = timezone.now()
    for minutes in (0, 10, 59):
        subscriptions.request_subscription(page, "email", "anna@example.com", [], now + timedelta(minutes=minutes))
    assert StatusDelivery.objects.count() == 1
    StatusDelivery.objects.update(finished_at=now)
    subscriptions.request_subscription(page, "email", "anna@example.com", [], now + timedelta(minutes=61))
    assert StatusDelivery.objects.count() == 2


def test_sixth_request_of_a_client_is_answered_429(page: StatusPage) -> None:
    statuses = [subscribe(f"person{number}@example.com").status_code for number in range(6)]
    assert statuses == [200] * 5 + [429]
    assert StatusSubscriber.objects.count() == 5


@pytest.mark.parametrize(
    "fields",
    [
        {"address": "nobody"}, {"address": ""}, {"address": "a@b.example\r\nBcc: x@y.example"}, {"kind": "fax"},
        {"address": "ftp://example.com", "kind": "webhook"}, {"components": ["cmp_unknown"]}, {"address": "a\0b@c.de"},
    ],
)  # fmt: skip
def test_invalid_subscription_is_rejected_with_422(page: StatusPage, fields: dict[str, Any]) -> None:
    assert subscribe(**{"address": "anna@example.com"} | fields).status_code == 422
    assert not StatusSubscriber.objects.exists()


@pytest.mark.parametrize("token", ["x", "WyJzc2JfMSIsW11d:1abc:def", "%00", "a" * 3000])
def test_wrong_links_answer_without_change(page: StatusPage, token: str) -> None:
    confirmed(page, "anna@example.com")
    assert Client().post(f"/status/main/confirm/{token}/").status_code in (400, 404)
    assert Client().post(f"/status/main/unsubscribe/{token}/").status_code in (200, 400, 404)
    assert StatusSubscriber.objects.count() == 1


def test_confirmation_link_of_other_page_and_expired_link_are_rejected(page: StatusPage) -> None:
    subscribe()
    link = links(waiting_message().text)["confirm"]
    create_page("other")
    assert Client().post(link.replace("/main/", "/other/")).status_code == 404
    old = subscriptions.CONFIRMATION_PERIOD
    subscriptions.CONFIRMATION_PERIOD = timedelta(seconds=-1)
    try:
        assert Client().post(link).status_code == 404
    finally:
        subscriptions.CONFIRMATION_PERIOD = old
    assert StatusSubscriber.objects.get().confirmed_at is None


def test_page_without_public_address_has_no_subscriptions(page: StatusPage, settings: Any) -> None:
    settings.SITE_URL = ""
    assert subscribe().status_code == 404
    assert "subscribe/" not in Client().get("/status/").text


def test_mail_has_headers_for_one_click_unsubscription_and_they_work(page: StatusPage) -> None:
    confirmed(page, "anna@example.com")
    incidents.create_incident(page, IncidentKind.INCIDENT, {"title": "Outage", "text": "On it."}, CALLER)
    mail = build_mail(waiting_message()).message()
    assert mail["List-Unsubscribe-Post"] == "List-Unsubscribe=One-Click"
    url = mail["List-Unsubscribe"].strip("<>")
    assert url.startswith("https://monitor.example.com/status/main/unsubscribe/")
    path = url.removeprefix("https://monitor.example.com")
    client = Client(enforce_csrf_checks=True)
    assert client.get(path).status_code == 200 and StatusSubscriber.objects.exists()
    body = "List-Unsubscribe=One-Click"
    assert client.post(path, body, content_type="application/x-www-form-urlencoded").status_code == 200
    assert not StatusSubscriber.objects.exists()
    assert client.post(path, body, content_type="application/x-www-form-urlencoded").status_code == 200


def test_maintenance_is_announced_started_and_ended_once_each(page: StatusPage) -> None:
    confirmed(page, "anna@example.com")
    now = timezone.now()
    fields = {"title": "Network", "starts_at": now + HOUR, "ends_at": now + 2 * HOUR}
    incidents.create_incident(page, IncidentKind.MAINTENANCE, fields, CALLER, now)
    for minutes in (0, 30, 60, 60, 90, 120, 120, 150):
        incidents.run_maintenances(now + timedelta(minutes=minutes))
    statuses = StatusDelivery.objects.order_by("id").values_list("update__status", flat=True)
    assert list(statuses) == ["scheduled", "in_progress", "completed"]


def test_maintenance_missed_by_worker_is_started_and_ended_in_order(page: StatusPage) -> None:
    confirmed(page, "anna@example.com")
    now = timezone.now()
    fields = {"title": "Network", "starts_at": now + HOUR, "ends_at": now + 2 * HOUR}
    maintenance = incidents.create_incident(page, IncidentKind.MAINTENANCE, fields, CALLER, now)
    incidents.run_maintenances(now + 5 * HOUR)
    maintenance.refresh_from_db()
    assert (maintenance.status, maintenance.closed_at) == ("completed", maintenance.ends_at)
    statuses = StatusDelivery.objects.order_by("id").values_list("update__status", flat=True)
    assert list(statuses) == ["scheduled", "in_progress", "completed"]


def test_subscriber_of_component_gets_updates_of_it_its_group_and_its_parts(page: StatusPage) -> None:
    services = create_component(page, "Services")
    portal = create_component(page, "Portal", services, device_groups=["a"])
    alarms = create_component(page, "Alarms", services, device_groups=["b"])
    subscribers = {
        "portal": confirmed(page, "portal@example.com", portal),
        "services": confirmed(page, "services@example.com", services),
        "alarms": confirmed(page, "alarms@example.com", alarms),
        "all": confirmed(page, "all@example.com"),
    }
    StatusSubscriber.objects.create(page=page, kind="email", address="unconfirmed@example.com")

    def notified(*components: Any) -> set[str]:
        StatusDelivery.objects.all().delete()
        incidents.create_incident(page, IncidentKind.INCIDENT, {"title": "x", "components": components}, CALLER)
        rows = set(StatusDelivery.objects.values_list("subscriber_id", flat=True))
        return {name for name, subscriber in subscribers.items() if subscriber.pk in rows}

    assert notified(portal) == {"portal", "services", "all"}
    assert notified(services) == {"portal", "services", "alarms", "all"}
    assert notified() == set(subscribers)
