"""The rendered pages of rules: the list, the form, versions, shadow rules and permissions."""

import re
from typing import Any

import pytest
from django.db import connection
from django.http import QueryDict
from django.test import Client
from django.test.utils import CaptureQueriesContext

from alerts.models import Alert, Channel, Mode, Rule, Status
from alerts.rules import lifecycle
from dashboard.forms.rules import RuleEditForm
from tests.dashboard.factories import client_of, open_alert
from tests.dashboard.submitted_form import SubmittedForm

FORM: dict[str, Any] = {
    "name": "Too warm", "metric_name": "temperature", "kind": "threshold", "condition": ">", "threshold_value": "2,5",
    "clear_threshold": "1.5", "aggregation": "avg", "level": "critical", "evaluation_window": "5",
    "evaluation_window_unit": "60", "trigger_count": "3",
    "device_ids": "room-7\r\nroom 8\r\n", "cooldown_minutes": "10",
    "device_groups": ["site a"], "notification_channels": ["duty"], "auto_resolve": "on", "auto_resolve_timeout": "2",
    "auto_resolve_timeout_unit": "3600", "runbook_url": "https://example.com", "description": "Look at {device}.",
}  # fmt: skip


def live_rule() -> Rule:
    return Rule.objects.get(mode=Mode.LIVE)


@pytest.fixture
def rule(site: None) -> Rule:
    fields = {"name": "Too warm", "metric_name": "temperature", "threshold_value": 2.0, "level": "critical"}
    return lifecycle.create(fields | {"notification_channels": ["duty"]}, "user:ana")


def form_of(rule: Rule, **changes: Any) -> dict[str, Any]:
    """Return the submitted form of a rule."""
    return FORM | {"version": str(rule.version)} | changes


class TestForm:
    @pytest.mark.slow
    def test_submitted_form_creates_a_rule(self, client: Client):
        response = client.post("/rules/new/", FORM)
        rule = live_rule()
        assert response["Location"] == f"/rules/{rule.rule_id}/"
        document = lifecycle.document_of(rule)
        assert document == {
            "name": "Too warm", "description": "Look at {device}.", "runbook_url": "https://example.com",
            "enabled": True, "metric_name": "temperature", "kind": "threshold", "condition": ">",
            "threshold_value": 2.5, "clear_threshold": 1.5, "aggregation": "avg", "parameters": {}, "level": "critical",
            "evaluation_window": 300, "trigger_count": 3, "device_ids": ["room-7", "room 8"],
            "device_groups": ["site a"], "notification_channels": ["duty"], "cooldown_minutes": 10,
            "auto_resolve": True, "auto_resolve_timeout": 7200,
        }  # fmt: skip
        page = client.get(response["Location"]).content.decode()
        for text in ('value="2.5"', "room-7\nroom 8", "duty (not configured)", "Version 1"):
            assert text in page

    @pytest.mark.parametrize(
        ("kind", "inputs", "parameters"),
        [
            ("trend", {"measure": "rate"}, {"measure": "rate"}),
            ("forecast", {"horizon": "2", "horizon_unit": "3600"}, {"horizon": 7200}),
            ("anomaly", {}, {}),
            ("anomaly", {"sensitivity": "calm"}, {"sensitivity": "calm"}),
            ("absence", {"expected_interval": "60", "expected_interval_unit": "1"}, {"expected_interval": 60}),
        ],
    )
    def test_each_kind_saves_its_own_parameters(
        self, client: Client, kind: str, inputs: dict[str, Any], parameters: dict[str, Any]
    ):
        form = FORM | {"kind": kind} | inputs
        if kind != "trend":
            form |= {"clear_threshold": ""}
        client.post("/rules/new/", form)
        rule = live_rule()
        assert (rule.kind, rule.parameters, rule.aggregation) == (kind, parameters, "")
        assert (rule.threshold_value is None) is (kind in ("anomaly", "absence"))

    @pytest.mark.parametrize(
        ("changes", "error"),
        [
            ({"name": ""}, "may not be blank"),
            ({"threshold_value": ""}, "is required for a rule of kind threshold"),
            ({"threshold_value": "warm"}, "a text or boolean is accepted"),
            ({"clear_threshold": "3"}, "must not be above threshold_value"),
            ({"clear_threshold": "x"}, "Enter a number"),
            ({"trigger_count": "0"}, "greater than or equal to 1"),
            ({"trigger_count": "many"}, "Enter a whole number"),
            ({"evaluation_window": "900", "evaluation_window_unit": "86400"}, "less than or equal to 604800"),
            ({"runbook_url": "javascript:x"}, "begins with https"),
            ({"kind": "none"}, "forecast, composite are accepted"),
            ({"kind": "composite"}, "a list of 2 to 8 conditions"),
            ({"kind": "forecast", "clear_threshold": "", "horizon": ""}, "seconds are accepted"),
        ],
    )
    def test_invalid_form_shows_errors_and_keeps_its_texts(self, client: Client, changes: dict[str, Any], error: str):
        response = client.post("/rules/new/", FORM | changes)
        page = response.content.decode()
        assert response.status_code == 422 and error in page and "room-7\r\nroom 8" in page
        assert not Rule.objects.exists()
        checked = client.post("/rules/check/", FORM | changes).json()
        assert checked["document"] is None and error in str(checked["errors"])

    def test_unedited_form_submits_the_same_rule(self, client: Client):
        client.post("/rules/new/", FORM)
        rule = live_rule()
        page = client.get(f"/rules/{rule.rule_id}/").content.decode()
        submitted = QueryDict(mutable=True)
        for name, values in SubmittedForm(page).fields.items():
            submitted.setlist(name, values)
        form = RuleEditForm(submitted, rule)
        assert form.is_valid() and form.cleaned_data == lifecycle.document_of(rule)


class TestVersions:
    def test_saving_creates_a_version_only_for_changes(self, client: Client, rule: Rule):
        page = client.post(
            f"/rules/{rule.rule_id}/", form_of(rule, note="Nights are warm"), follow=True
        ).content.decode()
        assert "Version 2 saved." in page and "Nights are warm" in page
        assert re.search(r"<b>threshold</b> <s>2</s> 2.5", page)
        unchanged = client.post(f"/rules/{rule.rule_id}/", form_of(live_rule()), follow=True).content.decode()
        assert "No changes to save" in unchanged and live_rule().version == 2

    def test_form_of_an_older_version_is_rejected_and_kept(self, client: Client, rule: Rule):
        lifecycle.change(rule, {"threshold_value": 9}, "user:ana")
        response = client.post(f"/rules/{rule.rule_id}/", form_of(rule, threshold_value="7"))
        page = response.content.decode()
        assert response.status_code == 422 and "Not saved: ana changed this rule" in page and 'value="7"' in page
        assert live_rule().threshold_value == 9
        client.post(f"/rules/{rule.rule_id}/", form_of(live_rule(), threshold_value="7"))
        assert live_rule().threshold_value == 7

    @pytest.mark.slow
    def test_earlier_version_is_restored(self, client: Client, rule: Rule):
        lifecycle.change(rule, {"threshold_value": 9}, "user:ana")
        restored = client.post(f"/rules/{rule.rule_id}/restore/", {"version": "1"}, follow=True)
        assert "Version 1 restored as version 3." in restored.content.decode() and live_rule().threshold_value == 2
        for version in ("77", "x", "9" * 30, ""):
            page = client.post(f"/rules/{rule.rule_id}/restore/", {"version": version}, follow=True).content.decode()
            assert "Not restored" in page

    @pytest.mark.slow
    def test_shadow_is_created_compared_and_promoted(self, client: Client, rule: Rule):
        client.post(f"/rules/{rule.rule_id}/", form_of(rule, **{"as": "shadow"}))
        shadow = Rule.objects.get(mode=Mode.SHADOW)
        assert shadow.shadow_of == rule and live_rule().version == 1
        open_alert(shadow, "a", "a", minutes_ago=-1, shadow=True)
        page = client.get(f"/rules/{rule.rule_id}/").content.decode()
        assert re.search(r"0 alerts</td>\s*<td class=\"num\">1 alert<", page)
        assert "1 shadow" in client.get("/rules/").content.decode()
        page = client.post(f"/rules/{shadow.rule_id}/promote/", follow=True).content.decode()
        assert "Shadow promoted: version 2 of Too warm saved." in page and live_rule().threshold_value == 2.5
        assert client.post(f"/rules/{rule.rule_id}/promote/").status_code == 404

    def test_deleting_a_rule_resolves_its_open_alerts(self, client: Client, rule: Rule):
        open_alert(rule, "a", "a")
        page = client.post(f"/rules/{rule.rule_id}/delete/", follow=True).content.decode()
        assert "Too warm deleted. 1 open alert resolved." in page and "No rules yet" in page
        assert Alert.objects.get().status == Status.RESOLVED


class TestList:
    def test_list_shows_conditions_and_warnings(self, client: Client, rule: Rule):
        Channel.objects.create(name="known", kind="webhook", url="https://example.com")
        pumps = [f"pump {n}" for n in range(5)]
        fields = {"notification_channels": ["duty", "known"], "suspended": "division by zero", "device_ids": pumps}
        Rule.objects.filter(pk=rule.pk).update(**fields)
        page = client.get("/rules/").content.decode()
        warnings = ("No data yet: temperature", "Unknown device: pump 0, pump 1, pump 2 and 2 more")
        for text in (
            "temperature is above 2",
            "Channel not configured: duty",
            "Suspended",
            "division by zero",
            *warnings,
        ):
            assert text in page
        assert "No rule with" in client.get("/rules/?q=none").content.decode()

    @pytest.mark.slow
    def test_list_has_pages_and_takes_few_queries(self, client: Client, rule: Rule):
        for number in range(120):
            lifecycle.create({"name": f"rule {number:03}", "metric_name": "m", "threshold_value": number}, "user:ana")
        client.get("/rules/")
        with CaptureQueriesContext(connection) as queries:
            page = client.get("/rules/").content.decode()
        assert len(queries) <= 7 and page.count('<th scope="row">') == 50
        assert "rule 119" in client.get("/rules/?from=100").content.decode()


class TestPermissions:
    @pytest.mark.slow
    def test_viewers_read_operators_switch_and_admins_change_rules(self, rule: Rule):
        viewer, operator = client_of("v"), client_of("o", operates=True)
        lifecycle.change(rule, {"device_groups": ["site a"]}, "user:ana")
        for client in (viewer, operator):
            page = client.get(f"/rules/{rule.rule_id}/").content.decode()
            assert "disabled" in page and "Save as" not in page and "Delete" not in page
            for path in ("new", "check", f"{rule.rule_id}", f"{rule.rule_id}/restore", f"{rule.rule_id}/delete"):
                assert client.post(f"/rules/{path}/", FORM).status_code == 403, path
            assert client.get("/rules/new/").status_code == 403
        assert viewer.post(f"/rules/{rule.rule_id}/switch/", {"enabled": "no"}).status_code == 403
        page = operator.post(f"/rules/{rule.rule_id}/switch/", {"enabled": "no", "back": "list"}, follow=True)
        assert "Too warm disabled." in page.content.decode() and not live_rule().enabled

    @pytest.mark.slow
    def test_rule_of_all_devices_is_shown_to_operators_without_a_switch(self, rule: Rule):
        operator = client_of("o", operates=True)
        for path in ("/rules/", f"/rules/{rule.rule_id}/"):
            page = operator.get(path).content.decode()
            assert "Too warm" in page and f"/rules/{rule.rule_id}/switch/" not in page
        assert operator.post(f"/rules/{rule.rule_id}/switch/", {"enabled": "no"}).status_code == 403
        assert live_rule().enabled

    def test_anonymous_visitor_is_redirected_to_login(self, rule: Rule):
        for path in ("/rules/", "/rules/new/", f"/rules/{rule.rule_id}/"):
            assert Client().get(path)["Location"].startswith("/login/")

    def test_unknown_rule_is_404(self, client: Client):
        assert client.get("/rules/rule_none/").status_code == 404
