"""A silenced alert is shown as silenced on every page."""

import re
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from alerts import alert_actions, silences
from alerts.models import Alert, Resolution, Rule, Silence
from alerts.rules import lifecycle
from alerts.silenced_alerts import covering_silences, silenced_periods
from rest.caller import Caller
from tests.dashboard.factories import open_alert, queryset_of

RAVI = Caller("user:ravi", "admin")


@pytest.fixture
def rule(site: None) -> Rule:
    return lifecycle.create({"name": "Too warm", "metric_name": "temperature", "threshold_value": 2.0}, "user:mei")


@pytest.fixture
def alert(rule: Rule) -> Alert:
    return open_alert(rule, "room-7", "Room 7 is too warm")


def silence(**fields: Any) -> Silence:
    defaults = {"device_ids": ["room-7"], "reason": "Defrosting", "ends_at": timezone.now() + timedelta(hours=2)}
    return silences.create_silence(defaults | fields, RAVI)


def text_of(page: str) -> str:
    return " ".join(re.sub(r"<[^>]+>", " ", page).split())


def notes_of(page: str) -> list[str]:
    return re.findall(r'class="talk">([^<]+)<', page)


@pytest.mark.slow
def test_every_list_shows_the_end_and_the_author_of_a_silence(client: Client, rule: Rule, alert: Alert):
    open_alert(rule, "room-8", "Room 8 is too warm")
    covering = silence()
    text = f"silenced until {covering.ends_at:%-d %b %H:%M} by ravi"
    for path in ("/alerts/", "/devices/room-7/", f"/alerts/{alert.alert_id}/"):
        page = text_of(client.get(path).content.decode())
        assert text in page, path
    assert client.get(f"/alerts/updates/?shown={alert.alert_id}").json()["alerts"][alert.alert_id]["silenced"] == text
    assert text_of(client.get("/alerts/").content.decode()).count("silenced until") == 1
    overview = text_of(client.get("/").content.decode())
    assert "1 active silence : 1 of the open alerts is silenced." in overview.replace("silence:", "silence :")


def test_related_alerts_are_shown_as_silenced(client: Client, rule: Rule, alert: Alert):
    other = open_alert(rule, "room-8", "Room 8 is too warm")
    silence()
    page = client.get(f"/alerts/{other.alert_id}/").content.decode()
    assert "Silence 1 h" in page and "silenced until" in text_of(page[page.index(">Same rule<") :])


@pytest.mark.slow
def test_alert_page_offers_to_end_the_silence_instead_of_another(client: Client, alert: Alert):
    path = f"/alerts/{alert.alert_id}/"
    assert "Silence 1 h" in client.get(path).content.decode()
    covering = silence()
    page = client.get(path).content.decode()
    assert "Silence 1 h" not in page and "Silence until resolved" not in page and "End now" in page
    response = client.post(f"/silences/{covering.silence_id}/end/", {"back": path})
    assert response["Location"] == path
    page = client.get(path).content.decode()
    assert "Silence 1 h" in page and "End now" not in page
    timeline = text_of(page[page.index('id="timeline"') :])
    assert "Silenced by ravi until" in timeline and "Silence of ravi ended Defrosting" in timeline


@pytest.mark.slow
def test_silence_until_resolved_is_shown_as_such(client: Client, alert: Alert):
    client.post(f"/alerts/{alert.alert_id}/silence/", {"lasting": "resolved"})
    page = text_of(client.get(f"/alerts/{alert.alert_id}/").content.decode())
    assert "silenced until resolved by mei" in page and "Silenced by mei until resolved" in page
    alert_actions.resolve(queryset_of(alert), Resolution.RECOVERED, "evaluator")
    page = text_of(client.get(f"/alerts/{alert.alert_id}/").content.decode())
    assert "silenced until resolved by mei" not in page and "Silenced by mei until resolved" in page


def test_alert_under_several_silences_shows_the_one_that_ends_last(alert: Alert):
    now = timezone.now()
    silence(ends_at=now + timedelta(hours=1))
    longest = silence(ends_at=now + timedelta(hours=5))
    silence(ends_at=now + timedelta(hours=9), device_ids=["other"])
    weekly = {"days": list(range(7)), "from": f"{now:%H:%M}", "to": f"{now + timedelta(minutes=90):%H:%M}"}
    silence(ends_at=now + timedelta(days=9), weekly=weekly)
    cover = covering_silences([alert])[alert.pk]
    assert (cover.silence, cover.until) == (longest, longest.ends_at)


def test_recurring_silence_ends_with_its_window(alert: Alert):
    now = timezone.now().replace(second=0, microsecond=0)
    weekly = {"days": list(range(7)), "from": f"{now:%H:%M}", "to": f"{now + timedelta(minutes=90):%H:%M}"}
    silence(ends_at=now + timedelta(days=9), weekly=weekly)
    assert covering_silences([alert])[alert.pk].until == now + timedelta(minutes=90)


def test_silences_before_and_after_the_alert_are_not_in_its_timeline(client: Client, rule: Rule):
    now = timezone.now()
    alert = open_alert(rule, "room-7", "Room 7 is too warm", minutes_ago=10)
    early = silence(reason="early")
    Silence.objects.filter(pk=early.pk).update(starts_at=now - timedelta(hours=2), ends_at=now - timedelta(hours=1))
    silence(reason="later", starts_at=now + timedelta(hours=1))
    silence(reason="now")
    page = client.get(f"/alerts/{alert.alert_id}/").content.decode()
    assert "now" in notes_of(page) and not {"early", "later"} & set(notes_of(page))


def test_recurring_silence_covers_an_alert_once_for_each_occurrence(rule: Rule):
    alert = open_alert(rule, "room-7", "Room 7 is too warm")
    opened = datetime(2026, 3, 2, 20, tzinfo=UTC)
    alert.triggered_at = opened
    alert.save()
    nightly = silence(
        ends_at=timezone.now() + timedelta(days=9), weekly={"days": [*range(7)], "from": "01:00", "to": "03:00"}
    )
    Silence.objects.filter(pk=nightly.pk).update(
        starts_at=opened - timedelta(days=30), ends_at=opened + timedelta(hours=30)
    )

    def find(now: datetime) -> list[tuple[datetime, datetime]]:
        return [(period.begin, period.end) for period in silenced_periods(alert, now)]

    first, second = (datetime(2026, 3, day, 1, tzinfo=UTC) for day in (3, 4))
    assert find(opened + timedelta(hours=4)) == []
    assert find(first + timedelta(hours=1)) == [(first, first + timedelta(hours=2))]
    # The silence ends within the second occurrence.
    assert find(second + timedelta(days=9)) == [
        (second, second + timedelta(hours=1)),
        (first, first + timedelta(hours=2)),
    ]


@pytest.mark.slow
def test_number_of_queries_does_not_grow_with_silences(client: Client, rule: Rule):
    for number in range(20):
        open_alert(rule, f"d{number}", f"alert {number}")
        silence(device_ids=[f"d{number}"])
    client.get("/alerts/")
    with CaptureQueriesContext(connection) as queries:
        page = client.get("/alerts/").content.decode()
    assert page.count("silenced until") == 20 and len(queries) <= 22
    with CaptureQueriesContext(connection) as queries:
        client.get("/overview/alerts/")
    assert len(queries) <= 12
