"""Alerting in the Django admin: the validation and the actions of the API."""

from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth import get_user_model
from django.test import Client
from django.utils import timezone

from alerts.models import Alert, Channel, Delivery, Route, Rule, RuleVersion, Silence
from metrics.models import AuditEntry
from tests.alerts.factories import create_alert, create_device, create_rule

RULE: dict[str, Any] = {
    "name": "Too hot",
    "enabled": "on",
    "level": "critical",
    "kind": "threshold",
    "metric_name": "temperature",
    "condition": ">",
    "threshold_value": "80",
    "device_ids": "boiler\r\npump, the old one",
    "evaluation_window": 300,
    "trigger_count": 1,
    "cooldown_minutes": 0,
    "auto_resolve": "on",
}
WEBHOOK: dict[str, Any] = {
    "name": "hook",
    "kind": "webhook",
    "url": "https://8.8.8.8/services/token-in-path",
    "secret": "s3cret",
    "gather_seconds": 0,
    "enabled": "on",
}


@pytest.fixture
def browser(site: None) -> Client:
    client = Client()
    client.force_login(get_user_model().objects.create_superuser("boss"))
    return client


def submit(browser: Client, page: str, fields: dict[str, Any]) -> dict[str, Any]:
    """Submit a form. Returns its errors by field, or {} if it was accepted."""
    response = browser.post(f"/admin/alerts/{page}/", fields)
    return {} if response.status_code == 302 else response.context["adminform"].form.errors


def run_action(browser: Client, model: str, action: str, rows: list[Any]) -> str:
    data = {"action": action, "_selected_action": [row.pk for row in rows]}
    return browser.post(f"/admin/alerts/{model}/", data, follow=True).content.decode()


@pytest.mark.slow
def test_rule_created_and_changed_in_admin_has_versions(browser: Client):
    assert submit(browser, "rule/add", RULE) == {}
    rule = Rule.objects.get()
    assert (rule.device_ids, rule.threshold_value, rule.parameters) == (["boiler", "pump, the old one"], 80, {})
    assert (rule.created_by, rule.version) == ("user:boss", 1)
    assert submit(browser, f"rule/{rule.pk}/change", RULE | {"threshold_value": '"open"', "condition": "=="}) == {}
    rule.refresh_from_db()
    assert (rule.threshold_value, rule.version) == ("open", 2)
    assert RuleVersion.objects.filter(by="user:boss").count() == 2
    page = browser.get(f"/admin/alerts/rule/{rule.pk}/change/").content.decode()
    assert page.count("user:boss") >= 3
    assert AuditEntry.objects.filter(object_type="alert rule", actor="user:boss").count() == 2


INVALID_FIELDS = [
    ({"threshold_value": '"hot"'}, "threshold_value"),
    ({"clear_threshold": "90"}, "clear_threshold"),
    ({"aggregation": "middle"}, "aggregation"),
    ({"evaluation_window": 0}, "evaluation_window"),
    ({"parameters": '{"horizon": 5}'}, "parameters"),
    ({"description": "{place}"}, "description"),
    ({"runbook_url": "javascript:alert(1)"}, "runbook_url"),
]


@pytest.mark.parametrize(("invalid", "field"), INVALID_FIELDS, ids=[field for _, field in INVALID_FIELDS])
def test_invalid_rule_field_is_rejected_as_in_the_api(browser: Client, invalid: dict[str, Any], field: str):
    assert list(submit(browser, "rule/add", RULE | invalid)) == [field]
    assert not Rule.objects.exists()


@pytest.mark.slow
def test_selected_rules_are_enabled_disabled_and_deleted(browser: Client):
    rules = [create_rule(name=name) for name in "ab"]
    alert = create_alert(rules[0], create_device("boiler"))
    assert "2 rules disabled" in run_action(browser, "rule", "disable", rules)
    assert set(Rule.objects.values_list("enabled", "version")) == {(False, 2)}
    assert "2 rules enabled" in run_action(browser, "rule", "enable", rules)
    browser.post(f"/admin/alerts/rule/{rules[0].pk}/delete/", {"post": "yes"})
    alert.refresh_from_db()
    assert (alert.status, alert.resolution, Rule.objects.count()) == ("resolved", "rule", 1)


@pytest.mark.slow
def test_alerts_change_through_actions_only(browser: Client):
    rule = create_rule()
    alerts = [create_alert(rule, create_device(name)) for name in ("boiler", "pump")]
    assert "2 alerts acknowledged" in run_action(browser, "alert", "acknowledge", alerts)
    assert "0 alerts acknowledged; 2 not, because of their status" in run_action(
        browser, "alert", "acknowledge", alerts
    )
    assert "1 alert resolved" in run_action(browser, "alert", "resolve", alerts[:1])
    assert list(Alert.objects.order_by("pk").values_list("status", "resolved_by")) == [
        ("resolved", "user:boss"),
        ("acknowledged", ""),
    ]
    path = f"/admin/alerts/alert/{alerts[0].pk}"
    assert "Acknowledged by user:boss" in browser.get(f"{path}/change/").content.decode()
    assert browser.post(f"{path}/change/", {"status": "active"}).status_code == 403
    assert browser.post(f"{path}/delete/", {"post": "yes"}).status_code == 403


@pytest.mark.slow
def test_silence_is_created_changed_and_ended_but_not_deleted(browser: Client):
    now = timezone.now()
    fields = {
        "kind": "silence",
        "device_ids": "boiler",
        "levels": ["info", "warning"],
        "starts_at_0": f"{now:%Y-%m-%d}",
        "starts_at_1": f"{now:%H:%M:%S}",
        "ends_at_0": f"{now + timedelta(days=2):%Y-%m-%d}",
        "ends_at_1": "12:00:00",
        "reason": "repair",
    }
    assert submit(browser, "silence/add", fields) == {}
    silence = Silence.objects.get()
    assert (silence.levels, silence.created_by) == (["info", "warning"], "user:boss")
    assert list(submit(browser, f"silence/{silence.pk}/change", fields | {"device_ids": "", "levels": []})) == [
        "device_ids"
    ]
    assert submit(browser, f"silence/{silence.pk}/change", fields | {"reason": "longer"}) == {}
    assert "1 silence ended" in run_action(browser, "silence", "end", [silence])
    silence.refresh_from_db()
    assert silence.reason == "longer" and silence.ends_at <= timezone.now()
    assert browser.post(f"/admin/alerts/silence/{silence.pk}/delete/", {"post": "yes"}).status_code == 403


@pytest.mark.slow
def test_channel_secrets_are_hidden_and_kept_unless_replaced(browser: Client):
    assert submit(browser, "channel/add", WEBHOOK) == {}
    channel = Channel.objects.get()
    pages = ("", f"{channel.pk}/change/", f"{channel.pk}/history/", f"{channel.pk}/delete/")
    content = "".join(browser.get(f"/admin/alerts/channel/{page}").content.decode() for page in pages)
    assert "token-in-path" not in content and "s3cret" not in content and "https://8.8.8.8" in content
    assert submit(browser, f"channel/{channel.pk}/change", WEBHOOK | {"url": "", "secret": "", "name": "other"}) == {}
    channel.refresh_from_db()
    assert (channel.name, channel.url, channel.secret) == ("other", WEBHOOK["url"], "s3cret")
    assert list(submit(browser, "channel/add", WEBHOOK | {"url": "http://127.0.0.1/"})) == ["url"]
    action = {"kind": "action", "url": "", "action": "log_alert"}
    assert submit(browser, f"channel/{channel.pk}/change", WEBHOOK | action) == {}
    channel.refresh_from_db()
    assert (channel.url, channel.action) == ("", "log_alert")


def test_test_message_action_sends_a_test_delivery(browser: Client):
    channel = Channel.objects.create(name="log", kind="action", action="log_alert")
    assert "Test message sent to log" in run_action(browser, "channel", "send_test_message", [channel])
    assert Delivery.objects.get().test


@pytest.mark.slow
def test_invalid_route_field_is_rejected_as_in_the_api(browser: Client):
    fields = {"name": "nights", "enabled": "on", "channels": "hook", "levels": ["critical"]}
    assert list(submit(browser, "route/add", fields | {"channels": ""})) == ["channels"]
    assert list(submit(browser, "route/add", fields | {"weekly": '{"days": [9]}'})) == ["weekly"]
    assert submit(browser, "route/add", fields) == {}
    route = Route.objects.get()
    assert (route.levels, route.escalation, route.created_by) == (["critical"], [], "user:boss")
