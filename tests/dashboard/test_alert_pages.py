"""The pages of alerts as the server renders them: what they show to whom, and what their forms do."""

import re
from datetime import datetime, timedelta
from typing import Any

import pytest
from django.contrib.auth import get_user_model
from django.contrib.auth.models import Group
from django.db import connection
from django.template import loader
from django.test import Client, RequestFactory
from django.test.utils import CaptureQueriesContext
from django.utils import timezone
from django.utils.html import escape

from alerts import alert_actions
from alerts.models import Alert, Incident, Level, Pattern, Resolution, Rule, Status
from alerts.rules import lifecycle
from metrics.models import Device, DeviceGroup, MetricDefinition
from rest.caller import OPERATORS


@pytest.fixture
def rule(site: None) -> Rule:
    fields = {"name": "Too warm", "metric_name": "temperature", "threshold_value": 2.0, "level": "critical"}
    return lifecycle.create(fields | {"notification_channels": ["duty"]}, "user:mei")


def raised(rule: Rule, device_id: str, message: str, minutes_ago: float = 5, **more: Any) -> Alert:
    """An alert as the evaluator raises it."""
    device = Device.objects.get_or_create(device_id=device_id)[0]
    at = timezone.now() - timedelta(minutes=minutes_ago)
    fields = {"level": rule.level, "metric_name": rule.metric_name, "value": 4.25, "threshold": 2.0} | more
    alert = Alert(
        rule=rule,
        rule_name=rule.name,
        device=device,
        device_name=device_id,
        message=message,
        triggered_at=at,
        raised_at=at,
        last_breach_at=at,
        **fields,
    )
    return alert_actions.open_alerts([alert])[0]


def of(alert: Alert) -> Any:
    return Alert.objects.filter(pk=alert.pk)


def person(name: str, *, operates: bool = False, group: str = "site a") -> Client:
    user = get_user_model().objects.create_user(name)
    DeviceGroup.objects.get_or_create(name=group)[0].members.add(user)
    if operates:
        user.groups.add(Group.objects.get_or_create(name=OPERATORS)[0])
    client = Client()
    client.force_login(user)
    return client


@pytest.fixture
def mine(rule: Rule) -> Alert:
    """Of a device of `site a`."""
    alert = raised(rule, "room-7", "Room 7 is too warm")
    alert.device.groups.add(DeviceGroup.objects.get_or_create(name="site a")[0])  # type: ignore[union-attr]
    return alert


@pytest.fixture
def theirs(rule: Rule) -> Alert:
    return raised(rule, "elsewhere", "Elsewhere is too warm")


def titles(page: str) -> list[str]:
    return re.findall(r"<a href=\"/alerts/alt_\w+/\" data-row>([^<]+)</a>", page)


class TestInbox:
    def test_an_empty_inbox_says_that_nothing_needs_anyone(self, client: Client):
        assert "No open alerts" in client.get("/alerts/").content.decode()

    def test_it_shows_what_is_wrong_with_value_limit_and_unit(self, client: Client, mine: Alert):
        MetricDefinition.objects.create(name="temperature", data_type="numeric", unit="celsius")
        page = client.get("/alerts/").content.decode()
        for words in ("Room 7 is too warm", "4.25\xa0°C", "threshold 2", "Critical", "<title>(1) Alerts"):
            assert words in page

    def test_the_worst_comes_first_and_of_a_level_the_newest(self, client: Client, rule: Rule):
        for n, level in enumerate(["warning", "emergency", "info", "critical", "error", "critical"]):
            raised(rule, f"d{n}", f"{level} {n}", minutes_ago=60 - n, level=level)
        expected = ["emergency 1", "critical 5", "critical 3", "error 4", "warning 0", "info 2"]
        assert titles(client.get("/alerts/").content.decode()) == expected

    def test_sections_tell_what_needs_someone_what_somebody_has_and_what_is_over(self, client: Client, rule: Rule):
        alerts = {name: raised(rule, name, name) for name in ("free", "taken", "over")}
        alert_actions.acknowledge(of(alerts["taken"]), "user:ana")
        alert_actions.resolve(of(alerts["over"]), Resolution.RECOVERED, "evaluator")
        page = client.get("/alerts/").content.decode()
        assert titles(page) == ["free", "taken", "over"]
        assert (
            page.index('id="active"')
            < page.index(">free<")
            < page.index('id="acknowledged"')
            < page.index("<span>ana</span>")
        )
        for view, expected in (("active", ["free"]), ("acknowledged", ["taken"]), ("resolved", ["over"]), ("mine", [])):
            assert titles(client.get(f"/alerts/?view={view}").content.decode()) == expected

    @pytest.mark.parametrize(
        ("query", "found"),
        [
            ("level=error", ["error"]),
            ("level=none", []),
            ("group=site+b", ["grouped"]),
            ("device=d-old", ["old"]),
            ("owner=user:ana", ["owned"]),
            ("owner=me", []),
            ("owner=nobody", ["error", "grouped", "old"]),
            ("age=o1", ["old"]),
            ("age=u1", ["error", "grouped", "owned"]),
            ("age=x", ["error", "grouped", "old", "owned"]),
            ("q=OLD", ["old"]),
            ("q=too+warm", ["error", "grouped", "old", "owned"]),
            ("q=%00", ["error", "grouped", "old", "owned"]),
            ("rule=rule_none", []),
        ],
    )
    def test_filters_leave_what_is_asked_for(self, client: Client, rule: Rule, query: str, found: list[str]):
        raised(rule, "d-error", "error", level="error")
        grouped = raised(rule, "d-grouped", "grouped")
        grouped.device.groups.add(DeviceGroup.objects.create(name="site b"))  # type: ignore[union-attr]
        raised(rule, "d-old", "old", minutes_ago=90)
        alert_actions.assign(of(raised(rule, "d-owned", "owned")), "user:ana", "user:mei")
        assert sorted(titles(client.get(f"/alerts/?{query}").content.decode())) == found

    def test_an_incident_is_one_row_with_the_worst_of_it_on_top(self, client: Client, rule: Rule):
        incident = Incident.objects.create(cause="group:mill", title="Mill is silent")
        for n in range(25):
            raised(rule, f"pump-{n:02}", f"pump {n}", incident=incident, level="error" if n == 7 else "warning")
        raised(rule, "alone", "alone", level="info")
        page = client.get("/alerts/").content.decode()
        assert titles(page) == ["Mill is silent", "alone"]
        assert "25 alerts in this incident" in page and page.count(">pump ") == 20 and ">pump 7<" not in page
        client.post("/alerts/act/", {"acknowledge": incident.incident_id})
        assert Alert.objects.filter(status=Status.ACKNOWLEDGED).count() == 25

    def test_shadows_are_in_no_list_and_late_alerts_say_so(self, client: Client, rule: Rule):
        raised(rule, "a", "of a shadow", shadow=True)
        over = {"status": Status.RESOLVED, "resolution": Resolution.RETROACTIVE, "resolved_at": timezone.now()}
        raised(rule, "b", "came late", retroactive=True, **over)
        page = client.get("/alerts/").content.decode()
        assert titles(page) == ["came late"] and "late data" in page and "<title>Alerts" in page

    def test_pages_lead_through_every_alert(self, client: Client, rule: Rule):
        levels = Level.values
        expected = [raised(rule, f"d{n}", f"alert {n}", minutes_ago=n, level=levels[n % 5]).message for n in range(120)]
        seen, path = [], "/alerts/?view=active"
        while path:
            page = client.get(path).content.decode()
            seen += titles(page)
            following = re.search(r'rel="next" href="([^"]+)"', page)
            path = "/alerts/" + following[1].replace("&amp;", "&") if following else ""
        assert sorted(seen) == sorted(expected) and len(seen) == 120
        assert [int(words.split()[1]) % 5 for words in seen] == sorted([n % 5 for n in range(120)], reverse=True)

    def test_what_the_page_costs_does_not_grow(self, client: Client, rule: Rule):
        incident = Incident.objects.create(cause="rule", title="Many")
        for n in range(60):
            raised(rule, f"d{n}", f"alert {n}", incident=incident if n % 2 else None)
        client.get("/alerts/")
        with CaptureQueriesContext(connection) as asked:
            page = client.get("/alerts/").content.decode()
        assert len(asked) <= 22, [one["sql"][:120] for one in asked]
        assert page.count('class="arow ') == 31

    def test_messages_are_never_markup(self, client: Client, rule: Rule):
        name = "<img src=x onerror=alert(1)>"
        alert = raised(rule, name, name)
        for path in ("/alerts/", f"/alerts/{alert.alert_id}/"):
            page = client.get(path).content.decode()
            assert name not in page
            assert not re.search(r"\sstyle=|\son[a-z]+=|<style|<script>", page.replace(escape(name), ""))


class TestWhoSeesWhat:
    def test_a_viewer_sees_the_alerts_of_their_groups_and_no_verbs(self, mine: Alert, theirs: Alert):
        viewer = person("v")
        page = viewer.get("/alerts/").content.decode()
        assert titles(page) == [mine.message] and "Acknowledge<" not in page and "<title>(1)" in page
        assert "Acknowledge" not in viewer.get(f"/alerts/{mine.alert_id}/").content.decode()
        assert viewer.get(f"/alerts/{theirs.alert_id}/").status_code == 404
        told = viewer.get("/alerts/updates/", {"shown": f"{mine.alert_id},{theirs.alert_id}"}).json()
        assert set(told["alerts"]) == {mine.alert_id} and told["newer"] == 1
        assert viewer.post("/alerts/act/", {"verb": "resolve", "alert": mine.alert_id}).status_code == 403

    def test_an_operator_acts_on_what_they_see(self, mine: Alert, theirs: Alert):
        operator = person("o", operates=True)
        sent = {"verb": "resolve", "alert": [mine.alert_id, theirs.alert_id], "note": "Door was open."}
        page = operator.post("/alerts/act/", sent, follow=True).content.decode()
        assert "1 alert resolved." in page
        assert (of(mine).get().status, of(theirs).get().status) == (Status.RESOLVED, Status.ACTIVE)
        assert of(mine).get().resolution_note == "Door was open."

    def test_nobody_sees_anything_without_signing_in(self, mine: Alert):
        for path in ("/alerts/", "/alerts/updates/", f"/alerts/{mine.alert_id}/"):
            assert Client().get(path)["Location"].startswith("/login/")

    def test_verbs_ask_for_a_form_of_this_site(self, mine: Alert):
        strict = Client(enforce_csrf_checks=True)
        strict.force_login(get_user_model().objects.create_superuser("boss"))
        assert strict.post("/alerts/act/", {"acknowledge": mine.alert_id}).status_code == 403
        assert strict.get("/alerts/act/").status_code == 405


class TestVerbs:
    def test_acknowledging_makes_it_somebodys(self, client: Client, mine: Alert):
        page = client.post("/alerts/act/", {"acknowledge": mine.alert_id}, follow=True).content.decode()
        assert "1 alert acknowledged." in page and "Acknowledged <span>1</span>" in page
        assert of(mine).get().owner == "user:mei"
        again = client.post("/alerts/act/", {"acknowledge": mine.alert_id}, follow=True).content.decode()
        assert "already acknowledged" in again

    def test_many_are_given_to_oneself_or_to_somebody(self, client: Client, mine: Alert, theirs: Alert):
        both = [mine.alert_id, theirs.alert_id]
        assert (
            "2 alerts assigned."
            in client.post("/alerts/act/", {"verb": "assign", "alert": both}, follow=True).content.decode()
        )
        assert {one.owner for one in Alert.objects.all()} == {"user:mei"}
        client.post("/alerts/act/", {"verb": "assign", "alert": mine.alert_id, "owner": ""})
        assert of(mine).get().owner == ""

    def test_a_note_is_asked_for(self, client: Client, mine: Alert):
        sent = {"verb": "comment", "alert": mine.alert_id, "note": " "}
        assert "Enter a note first" in client.post("/alerts/act/", sent, follow=True).content.decode()
        told = client.post("/alerts/act/", sent | {"note": "Seen."}, headers={"Accept": "application/json"}).json()
        assert told["changed"] == [{"alert_id": mine.alert_id, "status": "active", "owner": ""}]
        assert mine.events.last().note == "Seen."

    def test_nothing_chosen_and_unknown_verbs_are_said(self, client: Client, mine: Alert):
        page = client.post("/alerts/act/", {"verb": "resolve"}, follow=True).content.decode()
        assert "Select at least one alert" in page
        assert client.post("/alerts/act/", {"verb": "delete", "alert": mine.alert_id}).status_code == 400

    @pytest.mark.parametrize(
        ("back", "goes"), [("/alerts/?level=error", "/alerts/?level=error"), ("//evil", "/alerts/")]
    )
    def test_a_form_leads_back_to_its_page_and_nowhere_else(self, client: Client, mine: Alert, back: str, goes: str):
        answer = client.post("/alerts/act/", {"acknowledge": mine.alert_id, "back": back})
        assert (answer.status_code, answer["Location"]) == (302, goes)


class TestOneAlert:
    def test_it_says_what_is_wrong_since_when_and_who_was_told(self, client: Client, mine: Alert):
        alert_actions.comment(of(mine), "user:ravi", "Driver is on site.")
        page = client.get(f"/alerts/{mine.alert_id}/").content.decode()
        for words in (
            "Room 7 is too warm",
            "Unassigned",
            "4.25",
            "Driver is on site.",
            "duty",
            "Channel not configured",
            "Too warm",
        ):
            assert words in page

    def test_it_leads_to_others_of_its_device_rule_and_incident(self, client: Client, rule: Rule, mine: Alert):
        other = lifecycle.create({"name": "Damp", "metric_name": "humidity", "threshold_value": 70}, "user:mei")
        raised(other, "room-7", "Room 7 is damp")
        raised(rule, "room-8", "Room 8 is too warm")
        page = client.get(f"/alerts/{mine.alert_id}/").content.decode()
        assert page.index("Same device") < page.index("Room 7 is damp") < page.index("Same rule")
        assert page.count("Room 8 is too warm") == 1

    def test_a_runbook_is_a_link_only_where_it_is_a_page(self, client: Client, rule: Rule):
        safe = raised(rule, "a", "a", runbook_url="https://example.com/book")
        unsafe = raised(rule, "b", "b", runbook_url="javascript:alert(1)")
        assert 'href="https://example.com/book"' in client.get(f"/alerts/{safe.alert_id}/").content.decode()
        assert 'href="javascript' not in client.get(f"/alerts/{unsafe.alert_id}/").content.decode()

    def test_it_lives_on_without_its_rule_and_device(self, client: Client, rule: Rule, mine: Alert):
        rule.delete()
        Device.objects.all().delete()
        page = client.get(f"/alerts/{mine.alert_id}/").content.decode()
        assert "Room 7 is too warm" in page and "room-7" in page

    def test_an_unknown_one_is_not_found(self, client: Client):
        assert client.get("/alerts/alt_none/").status_code == 404

    def test_an_old_one_shows_the_time_around_it(self, client: Client, mine: Alert):
        at = timezone.now() - timedelta(minutes=1)
        alert_actions.resolve(of(mine), Resolution.RECOVERED, "evaluator", at={mine.pk: at})
        page = client.get(f"/alerts/{mine.alert_id}/").content.decode()
        window = re.search(r'"window": \[(\d+), (\d+)\]', page)
        assert window and datetime.fromtimestamp(int(window[2]) / 1000, at.tzinfo) - at == timedelta(
            hours=1
        ) - timedelta(microseconds=at.microsecond % 1000)
        assert "resolved: values recovered" in page


class TestNews:
    def test_newer_alerts_are_counted_and_shown_ones_told(self, client: Client, rule: Rule, mine: Alert):
        raised(rule, "b", "newer")
        alert_actions.acknowledge(of(mine), "user:ana")
        told = client.get("/alerts/updates/", {"since": mine.pk, "shown": mine.alert_id}).json()
        assert told["newer"] == 1 and told["unacknowledged"] == "1"
        assert told["alerts"] == {mine.alert_id: {"status": "acknowledged", "owner": "ana"}}

    @pytest.mark.parametrize("since", ["", "x", "-1", "9" * 30])
    def test_any_words_are_answered(self, client: Client, since: str):
        assert client.get("/alerts/updates/", {"since": since, "shown": "\0"}).status_code == 200

    def test_it_is_cheap(self, client: Client, rule: Rule, mine: Alert):
        client.get("/alerts/updates/")
        with CaptureQueriesContext(connection) as asked:
            client.get("/alerts/updates/", {"since": "1", "shown": mine.alert_id})
        assert len(asked) <= 5


class TestPatterns:
    def test_what_repeats_itself_is_told_of_devices_that_one_sees(self, client: Client, mine: Alert, theirs: Alert):
        assert "Room 7 flaps" not in client.get("/patterns/").content.decode()
        for device_id, words in (("room-7", "Room 7 flaps"), ("elsewhere", "Elsewhere flaps")):
            Pattern.objects.create(
                kind="flapping", subject={}, support=4, confidence=0.8, description=words, devices=[device_id]
            )
        page = client.get("/patterns/").content.decode()
        assert "Room 7 flaps" in page and "Elsewhere flaps" in page and "80%" in page and "4 times" in page
        page = person("v").get("/patterns/").content.decode()
        assert "Room 7 flaps" in page and "Elsewhere flaps" not in page

    def test_nothing_repeats_itself_at_first(self, client: Client):
        assert "No patterns found" in client.get("/patterns/?from=x").content.decode()


@pytest.mark.parametrize("page", ["403.html", "403_csrf.html", "404.html"])
def test_error_pages_ask_the_database_nothing(page: str, site: None) -> None:
    # They are made on a thread from which no connection is given back: a few of them would use up the pool.
    request = RequestFactory().get("/nowhere/")
    request.user = get_user_model().objects.create_user("somebody")
    with CaptureQueriesContext(connection) as asked:
        loader.get_template(page).render({}, request)
    assert [one["sql"] for one in asked] == []
