"""Alerting in Django's administration: the same checks as over the API, and the same verbs."""

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


def sent(browser: Client, page: str, fields: dict[str, Any]) -> dict[str, Any]:
    """What was wrong with a form, by field; nothing where it was taken."""
    answer = browser.post(f"/admin/alerts/{page}/", fields)
    return {} if answer.status_code == 302 else answer.context["adminform"].form.errors


def acted(browser: Client, model: str, action: str, rows: list[Any]) -> str:
    chosen = {"action": action, "_selected_action": [row.pk for row in rows]}
    return browser.post(f"/admin/alerts/{model}/", chosen, follow=True).content.decode()


def test_a_rule_that_is_made_and_changed_here_has_its_versions(browser: Client):
    assert sent(browser, "rule/add", RULE) == {}
    made = Rule.objects.get()
    assert (made.device_ids, made.threshold_value, made.parameters) == (["boiler", "pump, the old one"], 80, {})
    assert (made.created_by, made.version) == ("user:boss", 1)
    assert sent(browser, f"rule/{made.pk}/change", RULE | {"threshold_value": '"open"', "condition": "=="}) == {}
    made.refresh_from_db()
    assert (made.threshold_value, made.version) == ("open", 2)
    assert RuleVersion.objects.filter(by="user:boss").count() == 2
    page = browser.get(f"/admin/alerts/rule/{made.pk}/change/").content.decode()
    assert page.count("user:boss") >= 3
    assert AuditEntry.objects.filter(object_type="alert rule", actor="user:boss").count() == 2


WRONG = [
    ({"threshold_value": '"hot"'}, "threshold_value"),
    ({"clear_threshold": "90"}, "clear_threshold"),
    ({"aggregation": "middle"}, "aggregation"),
    ({"evaluation_window": 0}, "evaluation_window"),
    ({"parameters": '{"horizon": 5}'}, "parameters"),
    ({"description": "{place}"}, "description"),
    ({"runbook_url": "javascript:alert(1)"}, "runbook_url"),
]


@pytest.mark.parametrize(("more", "field"), WRONG, ids=[field for _, field in WRONG])
def test_a_rule_is_held_to_the_same_checks_as_over_the_api(browser: Client, more: dict[str, Any], field: str):
    assert list(sent(browser, "rule/add", RULE | more)) == [field]
    assert not Rule.objects.exists()


def test_rules_are_enabled_disabled_and_deleted(browser: Client):
    made = [create_rule(name=name) for name in "ab"]
    raised = create_alert(made[0], create_device("boiler"))
    assert "2 rules disabled" in acted(browser, "rule", "disable", made)
    assert set(Rule.objects.values_list("enabled", "version")) == {(False, 2)}
    assert "2 rules enabled" in acted(browser, "rule", "enable", made)
    browser.post(f"/admin/alerts/rule/{made[0].pk}/delete/", {"post": "yes"})
    raised.refresh_from_db()
    assert (raised.status, raised.resolution, Rule.objects.count()) == ("resolved", "rule", 1)


def test_alerts_are_moved_by_verbs_and_not_otherwise(browser: Client):
    hot = create_rule()
    made = [create_alert(hot, create_device(name)) for name in ("boiler", "pump")]
    assert "2 alerts acknowledged" in acted(browser, "alert", "acknowledge", made)
    assert "0 alerts acknowledged; 2 not, because of their status" in acted(browser, "alert", "acknowledge", made)
    assert "1 alert resolved" in acted(browser, "alert", "resolve", made[:1])
    assert list(Alert.objects.order_by("pk").values_list("status", "resolved_by")) == [
        ("resolved", "user:boss"),
        ("acknowledged", ""),
    ]
    path = f"/admin/alerts/alert/{made[0].pk}"
    assert "Acknowledged by user:boss" in browser.get(f"{path}/change/").content.decode()
    assert browser.post(f"{path}/change/", {"status": "active"}).status_code == 403
    assert browser.post(f"{path}/delete/", {"post": "yes"}).status_code == 403


def test_a_silence_is_made_changed_and_ended(browser: Client):
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
    assert sent(browser, "silence/add", fields) == {}
    made = Silence.objects.get()
    assert (made.levels, made.created_by) == (["info", "warning"], "user:boss")
    assert list(sent(browser, f"silence/{made.pk}/change", fields | {"device_ids": "", "levels": []})) == ["device_ids"]
    assert sent(browser, f"silence/{made.pk}/change", fields | {"reason": "longer"}) == {}
    assert "1 silence ended" in acted(browser, "silence", "end", [made])
    made.refresh_from_db()
    assert made.reason == "longer" and made.ends_at <= timezone.now()
    assert browser.post(f"/admin/alerts/silence/{made.pk}/delete/", {"post": "yes"}).status_code == 403


def test_the_secrets_of_a_channel_are_shown_to_nobody_and_kept_unless_replaced(browser: Client):
    assert sent(browser, "channel/add", WEBHOOK) == {}
    made = Channel.objects.get()
    pages = ("", f"{made.pk}/change/", f"{made.pk}/history/", f"{made.pk}/delete/")
    shown = "".join(browser.get(f"/admin/alerts/channel/{page}").content.decode() for page in pages)
    assert "token-in-path" not in shown and "s3cret" not in shown and "https://8.8.8.8" in shown
    assert sent(browser, f"channel/{made.pk}/change", WEBHOOK | {"url": "", "secret": "", "name": "other"}) == {}
    made.refresh_from_db()
    assert (made.name, made.url, made.secret) == ("other", WEBHOOK["url"], "s3cret")
    assert list(sent(browser, "channel/add", WEBHOOK | {"url": "http://127.0.0.1/"})) == ["url"]
    action = {"kind": "action", "url": "", "action": "log_alert"}
    assert sent(browser, f"channel/{made.pk}/change", WEBHOOK | action) == {}
    made.refresh_from_db()
    assert (made.url, made.action) == ("", "log_alert")


def test_a_channel_is_tried(browser: Client):
    made = Channel.objects.create(name="log", kind="action", action="log_alert")
    assert "Test message sent to log" in acted(browser, "channel", "send_test_message", [made])
    assert Delivery.objects.get().test


def test_a_route_is_held_to_the_same_checks_as_over_the_api(browser: Client):
    fields = {"name": "nights", "enabled": "on", "channels": "hook", "levels": ["critical"]}
    assert list(sent(browser, "route/add", fields | {"channels": ""})) == ["channels"]
    assert list(sent(browser, "route/add", fields | {"weekly": '{"days": [9]}'})) == ["weekly"]
    assert sent(browser, "route/add", fields) == {}
    made = Route.objects.get()
    assert (made.levels, made.escalation, made.created_by) == (["critical"], [], "user:boss")
