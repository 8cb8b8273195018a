"""The rendered pages of alerts and patterns, and the actions on alerts."""

import re
from datetime import datetime, timedelta

import pytest
from django.contrib.auth import get_user_model
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
from tests.dashboard.factories import client_of, open_alert, queryset_of


@pytest.fixture
def rule(site: None) -> Rule:
    fields = {"name": "Too warm", "metric_name": "temperature", "threshold_value": 2.0, "level": "critical"}
    return lifecycle.create(fields | {"notification_channels": ["duty"]}, "user:mei")


@pytest.fixture
def visible_alert(rule: Rule) -> Alert:
    """Open an alert of a device in the group `site a`."""
    alert = open_alert(rule, "room-7", "Room 7 is too warm")
    alert.device.groups.add(DeviceGroup.objects.get_or_create(name="site a")[0])  # type: ignore[union-attr]
    return alert


@pytest.fixture
def hidden_alert(rule: Rule) -> Alert:
    return open_alert(rule, "elsewhere", "Elsewhere is too warm")


def row_titles(page: str) -> list[str]:
    return re.findall(r"<a href=\"/alerts/alt_\w+/\" data-row>([^<]+)</a>", page)


class TestInbox:
    def test_empty_inbox_shows_no_open_alerts(self, client: Client):
        assert "No open alerts" in client.get("/alerts/").content.decode()

    @pytest.mark.slow
    def test_inbox_shows_message_value_threshold_and_unit(self, client: Client, visible_alert: Alert):
        MetricDefinition.objects.create(name="temperature", data_type="numeric", unit="celsius")
        page = client.get("/alerts/").content.decode()
        for text in ("Room 7 is too warm", "4.25\xa0°C", "threshold 2", "Critical", "<title>(1) Alerts"):
            assert text in page

    @pytest.mark.slow
    def test_alerts_are_ordered_by_level_and_then_newest_first(self, client: Client, rule: Rule):
        for number, level in enumerate(["warning", "emergency", "info", "critical", "error", "critical"]):
            open_alert(rule, f"d{number}", f"{level} {number}", minutes_ago=60 - number, level=level)
        expected = ["emergency 1", "critical 5", "critical 3", "error 4", "warning 0", "info 2"]
        assert row_titles(client.get("/alerts/").content.decode()) == expected

    @pytest.mark.slow
    def test_inbox_has_a_section_for_each_status(self, client: Client, rule: Rule):
        alerts = {name: open_alert(rule, name, name) for name in ("free", "taken", "over")}
        alert_actions.acknowledge(queryset_of(alerts["taken"]), "user:ana")
        alert_actions.resolve(queryset_of(alerts["over"]), Resolution.RECOVERED, "evaluator")
        page = client.get("/alerts/").content.decode()
        assert row_titles(page) == ["free", "taken", "over"]
        assert (
            page.index('id="active"')
            < page.index(">free<")
            < page.index('id="acknowledged"')
            < page.index(">ana</span>")
        )
        for view, expected in (("active", ["free"]), ("acknowledged", ["taken"]), ("resolved", ["over"]), ("mine", [])):
            assert row_titles(client.get(f"/alerts/?view={view}").content.decode()) == expected

    @pytest.mark.slow
    @pytest.mark.parametrize(
        ("query", "expected"),
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
    def test_filters_select_matching_alerts(self, client: Client, rule: Rule, query: str, expected: list[str]):
        open_alert(rule, "d-error", "error", level="error")
        grouped = open_alert(rule, "d-grouped", "grouped")
        grouped.device.groups.add(DeviceGroup.objects.create(name="site b"))  # type: ignore[union-attr]
        open_alert(rule, "d-old", "old", minutes_ago=90)
        alert_actions.assign(queryset_of(open_alert(rule, "d-owned", "owned")), "user:ana", "user:mei")
        assert sorted(row_titles(client.get(f"/alerts/?{query}").content.decode())) == expected

    @pytest.mark.slow
    def test_incident_is_one_row_with_its_worst_alert_first(self, client: Client, rule: Rule):
        incident = Incident.objects.create(cause="group:mill", title="Mill is silent")
        for number in range(25):
            open_alert(
                rule,
                f"pump-{number:02}",
                f"pump {number}",
                incident=incident,
                level="error" if number == 7 else "warning",
            )
        open_alert(rule, "alone", "alone", level="info")
        page = client.get("/alerts/").content.decode()
        assert row_titles(page) == ["pump 7", "alone"]
        assert "25 alerts in this incident" in page and page.count(">pump ") == 21
        client.post("/alerts/act/", {"acknowledge": f"{incident.incident_id}:active"})
        assert Alert.objects.filter(status=Status.ACKNOWLEDGED).count() == 25

    @pytest.mark.slow
    def test_shadow_alerts_are_hidden_and_late_alerts_are_tagged(self, client: Client, rule: Rule):
        open_alert(rule, "a", "of a shadow", shadow=True)
        resolved = {"status": Status.RESOLVED, "resolution": Resolution.RETROACTIVE, "resolved_at": timezone.now()}
        open_alert(rule, "b", "came late", retroactive=True, **resolved)
        page = client.get("/alerts/").content.decode()
        assert row_titles(page) == ["came late"] and "late data" in page and "<title>Alerts" in page

    @pytest.mark.slow
    def test_inbox_pages_contain_every_alert(self, client: Client, rule: Rule):
        levels = Level.values
        expected = [
            open_alert(rule, f"d{number}", f"alert {number}", minutes_ago=number, level=levels[number % 5]).message
            for number in range(120)
        ]
        titles, path = [], "/alerts/?view=active"
        while path:
            page = client.get(path).content.decode()
            titles += row_titles(page)
            next_link = re.search(r'rel="next" href="([^"]+)"', page)
            path = "/alerts/" + next_link[1].replace("&amp;", "&") if next_link else ""
        assert sorted(titles) == sorted(expected) and len(titles) == 120
        assert [int(title.split()[1]) % 5 for title in titles] == sorted(
            [number % 5 for number in range(120)], reverse=True
        )

    @pytest.mark.slow
    def test_number_of_queries_does_not_grow_with_alerts(self, client: Client, rule: Rule):
        incident = Incident.objects.create(cause="rule", title="Many")
        for number in range(60):
            open_alert(rule, f"d{number}", f"alert {number}", incident=incident if number % 2 else None)
        client.get("/alerts/")
        with CaptureQueriesContext(connection) as queries:
            page = client.get("/alerts/").content.decode()
        assert len(queries) <= 22, [query["sql"][:120] for query in queries]
        assert page.count('class="arow ') == 31

    def test_messages_are_escaped(self, client: Client, rule: Rule):
        name = "<img src=x onerror=alert(1)>"
        alert = open_alert(rule, name, name)
        for path in ("/alerts/", f"/alerts/{alert.alert_id}/"):
            page = client.get(path).content.decode()
            assert name not in page
            assert not re.search(r"\sstyle=|\son[a-z]+=|<style|<script>", page.replace(escape(name), ""))


class TestPermissions:
    @pytest.mark.slow
    def test_viewer_sees_alerts_of_own_groups_and_no_actions(self, visible_alert: Alert, hidden_alert: Alert):
        viewer = client_of("v")
        page = viewer.get("/alerts/").content.decode()
        assert row_titles(page) == [visible_alert.message] and "Acknowledge<" not in page and "<title>(1)" in page
        assert "Acknowledge" not in viewer.get(f"/alerts/{visible_alert.alert_id}/").content.decode()
        assert viewer.get(f"/alerts/{hidden_alert.alert_id}/").status_code == 404
        response = viewer.get("/alerts/updates/", {"shown": f"{visible_alert.alert_id},{hidden_alert.alert_id}"}).json()
        assert set(response["alerts"]) == {visible_alert.alert_id} and response["newer"] == 1
        assert viewer.post("/alerts/act/", {"verb": "resolve", "alert": visible_alert.alert_id}).status_code == 403

    @pytest.mark.slow
    def test_operator_changes_only_visible_alerts(self, visible_alert: Alert, hidden_alert: Alert):
        operator = client_of("o", operates=True)
        form = {"verb": "resolve", "alert": [visible_alert.alert_id, hidden_alert.alert_id], "note": "Door was open."}
        page = operator.post("/alerts/act/", form, follow=True).content.decode()
        assert "1 alert resolved." in page
        assert (queryset_of(visible_alert).get().status, queryset_of(hidden_alert).get().status) == (
            Status.RESOLVED,
            Status.ACTIVE,
        )
        assert queryset_of(visible_alert).get().resolution_note == "Door was open."

    def test_anonymous_visitor_is_redirected_to_login(self, visible_alert: Alert):
        for path in ("/alerts/", "/alerts/updates/", f"/alerts/{visible_alert.alert_id}/"):
            assert Client().get(path)["Location"].startswith("/login/")

    def test_actions_require_a_csrf_token(self, visible_alert: Alert):
        csrf_client = Client(enforce_csrf_checks=True)
        csrf_client.force_login(get_user_model().objects.create_superuser("boss"))
        assert csrf_client.post("/alerts/act/", {"acknowledge": visible_alert.alert_id}).status_code == 403
        assert csrf_client.get("/alerts/act/").status_code == 405


class TestActions:
    @pytest.mark.slow
    def test_acknowledge_sets_the_owner(self, client: Client, visible_alert: Alert):
        page = client.post("/alerts/act/", {"acknowledge": visible_alert.alert_id}, follow=True).content.decode()
        assert "1 alert acknowledged." in page and "Acknowledged <span>1</span>" in page
        assert queryset_of(visible_alert).get().owner == "user:mei"
        repeated = client.post("/alerts/act/", {"acknowledge": visible_alert.alert_id}, follow=True).content.decode()
        assert "already acknowledged" in repeated

    def test_selected_alerts_are_assigned_and_unassigned(
        self, client: Client, visible_alert: Alert, hidden_alert: Alert
    ):
        alert_ids = [visible_alert.alert_id, hidden_alert.alert_id]
        assert (
            "2 alerts assigned."
            in client.post("/alerts/act/", {"verb": "assign", "alert": alert_ids}, follow=True).content.decode()
        )
        assert {alert.owner for alert in Alert.objects.all()} == {"user:mei"}
        client.post("/alerts/act/", {"verb": "assign", "alert": visible_alert.alert_id, "owner": ""})
        assert queryset_of(visible_alert).get().owner == ""

    @pytest.mark.slow
    def test_comment_without_note_is_rejected(self, client: Client, visible_alert: Alert):
        form = {"verb": "comment", "alert": visible_alert.alert_id, "note": " "}
        assert "Enter a note first" in client.post("/alerts/act/", form, follow=True).content.decode()
        response = client.post("/alerts/act/", form | {"note": "Seen."}, headers={"Accept": "application/json"}).json()
        state = {"status": "active", "owner": "", "incident_open": False, "silenced": ""}
        assert response["changed"] == {visible_alert.alert_id: state}
        assert visible_alert.events.last().note == "Seen."

    @pytest.mark.slow
    def test_empty_selection_and_unknown_action_are_rejected(self, client: Client, visible_alert: Alert):
        page = client.post("/alerts/act/", {"verb": "resolve"}, follow=True).content.decode()
        assert "Select at least one alert" in page
        assert client.post("/alerts/act/", {"verb": "delete", "alert": visible_alert.alert_id}).status_code == 400

    @pytest.mark.parametrize(
        ("back", "target"), [("/alerts/?level=error", "/alerts/?level=error"), ("//evil", "/alerts/")]
    )
    def test_action_redirects_to_pages_of_this_site_only(
        self, client: Client, visible_alert: Alert, back: str, target: str
    ):
        response = client.post("/alerts/act/", {"acknowledge": visible_alert.alert_id, "back": back})
        assert (response.status_code, response["Location"]) == (302, target)


class TestAlertPage:
    def test_alert_page_shows_values_notes_and_notifications(self, client: Client, visible_alert: Alert):
        alert_actions.comment(queryset_of(visible_alert), "user:ravi", "Driver is on site.")
        page = client.get(f"/alerts/{visible_alert.alert_id}/").content.decode()
        for text in (
            "Room 7 is too warm",
            "Unassigned",
            "4.25",
            "Driver is on site.",
            "duty",
            "Channel not configured",
            "Too warm",
        ):
            assert text in page

    def test_related_alerts_of_device_and_rule_are_listed_once(self, client: Client, rule: Rule, visible_alert: Alert):
        other_rule = lifecycle.create({"name": "Damp", "metric_name": "humidity", "threshold_value": 70}, "user:mei")
        open_alert(other_rule, "room-7", "Room 7 is damp")
        open_alert(rule, "room-8", "Room 8 is too warm")
        page = client.get(f"/alerts/{visible_alert.alert_id}/").content.decode()
        assert page.index("Same device") < page.index("Room 7 is damp") < page.index("Same rule")
        assert page.count("Room 8 is too warm") == 1

    def test_runbook_is_a_link_only_for_web_addresses(self, client: Client, rule: Rule):
        safe = open_alert(rule, "a", "a", runbook_url="https://example.com/book")
        unsafe = open_alert(rule, "b", "b", runbook_url="javascript:alert(1)")
        assert 'href="https://example.com/book"' in client.get(f"/alerts/{safe.alert_id}/").content.decode()
        assert 'href="javascript' not in client.get(f"/alerts/{unsafe.alert_id}/").content.decode()

    def test_alert_is_shown_after_its_rule_and_device_are_deleted(
        self, client: Client, rule: Rule, visible_alert: Alert
    ):
        rule.delete()
        Device.objects.all().delete()
        page = client.get(f"/alerts/{visible_alert.alert_id}/").content.decode()
        assert "Room 7 is too warm" in page and "room-7" in page

    def test_unknown_alert_is_404(self, client: Client):
        assert client.get("/alerts/alt_none/").status_code == 404

    def test_chart_of_resolved_alert_ends_an_hour_after_it(self, client: Client, visible_alert: Alert):
        resolved_at = timezone.now() - timedelta(minutes=1)
        alert_actions.resolve(
            queryset_of(visible_alert), Resolution.RECOVERED, "evaluator", at={visible_alert.pk: resolved_at}
        )
        page = client.get(f"/alerts/{visible_alert.alert_id}/").content.decode()
        window = re.search(r'"window": \[(\d+), (\d+)\]', page)
        assert window and datetime.fromtimestamp(int(window[2]) / 1000, resolved_at.tzinfo) - resolved_at == timedelta(
            hours=1
        ) - timedelta(microseconds=resolved_at.microsecond % 1000)
        assert "resolved: values recovered" in page


class TestUpdates:
    def test_updates_count_newer_alerts_and_return_shown_ones(self, client: Client, rule: Rule, visible_alert: Alert):
        open_alert(rule, "b", "newer")
        alert_actions.acknowledge(queryset_of(visible_alert), "user:ana")
        response = client.get("/alerts/updates/", {"since": visible_alert.pk, "shown": visible_alert.alert_id}).json()
        assert response["newer"] == 1 and response["newest"] == "newer"
        assert response["counts"] == "2 open, 1 unacknowledged"
        state = {"status": "acknowledged", "owner": "ana", "incident_open": False, "silenced": ""}
        assert response["alerts"] == {visible_alert.alert_id: state}

    @pytest.mark.parametrize("since", ["", "x", "-1", "9" * 30])
    def test_invalid_parameters_are_ignored(self, client: Client, since: str):
        assert client.get("/alerts/updates/", {"since": since, "shown": "\0"}).status_code == 200

    def test_updates_take_few_queries(self, client: Client, rule: Rule, visible_alert: Alert):
        client.get("/alerts/updates/")
        with CaptureQueriesContext(connection) as queries:
            client.get("/alerts/updates/", {"since": "1", "shown": visible_alert.alert_id})
        assert len(queries) <= 6


class TestPatterns:
    def test_viewer_sees_patterns_of_visible_devices(self, client: Client, visible_alert: Alert, hidden_alert: Alert):
        assert "Room 7 flaps" not in client.get("/patterns/").content.decode()
        for device_id, description in (("room-7", "Room 7 flaps"), ("elsewhere", "Elsewhere flaps")):
            Pattern.objects.create(
                kind="flapping", subject={}, support=4, confidence=0.8, description=description, devices=[device_id]
            )
        page = client.get("/patterns/").content.decode()
        assert "Room 7 flaps" in page and "Elsewhere flaps" in page and "80%" in page and "4 times" in page
        page = client_of("v").get("/patterns/").content.decode()
        assert "Room 7 flaps" in page and "Elsewhere flaps" not in page

    def test_list_without_patterns_says_so(self, client: Client):
        assert "No patterns found" in client.get("/patterns/?from=x").content.decode()


@pytest.mark.parametrize("page", ["403.html", "403_csrf.html", "404.html"])
def test_error_pages_run_no_queries(page: str, site: None) -> None:
    # They are rendered in a thread that never returns its connection to the pool.
    request = RequestFactory().get("/nowhere/")
    request.user = get_user_model().objects.create_user("somebody")
    with CaptureQueriesContext(connection) as queries:
        loader.get_template(page).render({}, request)
    assert [query["sql"] for query in queries] == []
