"""PRD epic 4, criterion by criterion: alert rules, and acknowledging and resolving alerts."""

from typing import Any

import pytest

from alerts.evaluation.evaluator import Evaluator
from alerts.models import Alert, Level
from metrics.storage.connection import dedicated_connection
from tests.alerts.conftest import run
from tests.alerts.factories import create_alert, create_device, create_rule
from tests.conftest import API, ApiClient, point
from tests.prd.conftest import names, within_once

RULES = "alerts/rules"
CPU: dict[str, Any] = {
    "name": "High CPU Usage",
    "description": "Alert when CPU exceeds 90%",
    "metric_name": "cpu_percent",
    "condition": ">",
    "threshold_value": 90,
    "evaluation_window": 300,
    "trigger_count": 3,
    "level": "warning",
    "device_ids": [],
    "notification_channels": ["slack", "email"],
    "cooldown_minutes": 15,
    "auto_resolve": True,
    "auto_resolve_timeout": 600,
}
REQUIRED = ("name", "metric_name", "condition", "threshold_value")
REQUIRED_FIELDS = {name: CPU[name] for name in REQUIRED}


@pytest.fixture
def three_rules(sender: ApiClient) -> ApiClient:
    """Three rules that differ in level, metric and whether they are enabled."""
    for changes in (
        {"name": "a"},
        {"name": "b", "level": "critical"},
        {"name": "c", "metric_name": "m", "enabled": False},
    ):
        assert sender.post(RULES, CPU | changes).status == 201
    return sender


@pytest.fixture
def three_alerts(sender: ApiClient) -> list[Alert]:
    """Three alerts, a minute apart: active and critical, active, resolved."""
    cpu_rule, humidity_rule = create_rule(level="critical"), create_rule(name="Too wet", metric_name="humidity")
    alerts = [
        create_alert(cpu_rule, create_device("boiler"), 0),
        create_alert(humidity_rule, create_device("boiler"), 1),
        create_alert(humidity_rule, create_device("pump"), 2),
    ]
    assert sender.call("PUT", f"alerts/{alerts[2].alert_id}/resolve", {}).status == 200
    return alerts


# --- E4-US1: create a rule ---------------------------------------------------------------------------


@pytest.mark.parametrize("prefix", [API, "/api/v1"])
def test_e4_us1_ac1_the_endpoint_accepts_a_rule(sender: ApiClient, prefix: str) -> None:
    assert sender.post(f"{prefix}/{RULES}", CPU).status == 201


@pytest.mark.parametrize("name", REQUIRED)
def test_e4_us1_ac2_name_metric_condition_and_threshold_are_required(sender: ApiClient, name: str) -> None:
    assert sender.post(RULES, REQUIRED_FIELDS).status == 201
    response = sender.post(RULES, {key: value for key, value in REQUIRED_FIELDS.items() if key != name})
    assert response.status == 400 and names(response.json["errors"], "field") == [name]


@pytest.mark.parametrize("condition", [">", "<", ">=", "<=", "==", "!="])
def test_e4_us1_ac3_six_conditions_are_accepted(sender: ApiClient, condition: str) -> None:
    assert sender.post(RULES, CPU | {"condition": condition}).json["condition"] == condition


def test_e4_us1_ac3_other_conditions_are_rejected(sender: ApiClient) -> None:
    assert sender.post(RULES, CPU | {"condition": "=>"}).status == 400


@pytest.mark.parametrize("level", ["info", "warning", "error", "critical", "emergency"])
def test_e4_us1_ac4_five_levels_are_accepted(sender: ApiClient, level: str) -> None:
    assert sender.post(RULES, CPU | {"level": level}).json["level"] == level
    assert len(Level) == 5 and sender.post(RULES, CPU | {"level": "fatal"}).status == 400


def test_e4_us1_ac5_devices_groups_window_and_count_are_optional(sender: ApiClient) -> None:
    minimal = sender.post(RULES, REQUIRED_FIELDS).json
    assert (minimal["device_ids"], minimal["device_groups"]) == ([], [])
    assert (minimal["evaluation_window"], minimal["trigger_count"]) == (300, 1)
    optional_fields = {"device_ids": ["d"], "device_groups": ["site a"], "evaluation_window": 60, "trigger_count": 2}
    full = sender.post(RULES, REQUIRED_FIELDS | optional_fields).json
    assert {name: full[name] for name in optional_fields} == optional_fields


def test_e4_us1_ac6_channels_cooldown_and_auto_resolve_are_optional(sender: ApiClient) -> None:
    minimal = sender.post(RULES, REQUIRED_FIELDS).json
    assert (minimal["notification_channels"], minimal["cooldown_minutes"], minimal["auto_resolve"]) == ([], 0, True)
    optional_fields = {"notification_channels": ["slack"], "cooldown_minutes": 5, "auto_resolve": False}
    full = sender.post(RULES, REQUIRED_FIELDS | optional_fields).json
    assert {name: full[name] for name in optional_fields} == optional_fields


def test_e4_us1_ac8_create_returns_the_rule_with_its_rule_id(sender: ApiClient) -> None:
    created = sender.post(RULES, CPU).json
    assert created["rule_id"].startswith("rule_") and {name: created[name] for name in CPU} == CPU
    assert created["unconfigured_channels"] == ["slack", "email"]


# --- E4-US2: list rules ------------------------------------------------------------------------------


def test_e4_us2_ac1_list_contains_every_rule(three_rules: ApiClient) -> None:
    assert names(three_rules.get(RULES).json["rules"], "name") == ["a", "b", "c"]


@pytest.mark.slow
def test_e4_us2_ac2_the_list_is_filtered_by_enabled_level_and_metric(three_rules: ApiClient) -> None:
    for query, expected in {"enabled=false": ["c"], "level=critical": ["b"], "metric_name=m": ["c"]}.items():
        assert names(three_rules.get(f"{RULES}?{query}").json["rules"], "name") == expected
    assert names(three_rules.get(f"{RULES}?enabled=true&level=critical").json["rules"], "name") == ["b"]


def test_e4_us2_ac3_list_has_pages(three_rules: ApiClient) -> None:
    assert names(three_rules.get(f"{RULES}?limit=2").json["rules"], "name") == ["a", "b"]
    assert names(three_rules.get(f"{RULES}?limit=2&offset=2").json["rules"], "name") == ["c"]


def test_e4_us2_ac4_list_returns_the_total(three_rules: ApiClient) -> None:
    page = three_rules.get(f"{RULES}?level=warning&limit=1").json
    assert (page["total"], page["count"], page["limit"], page["offset"]) == (2, 1, 1, 0)


@pytest.mark.slow
def test_e4_us2_ac5_list_takes_less_than_100_ms(three_rules: ApiClient) -> None:
    within_once(0.1, lambda: three_rules.get(RULES))


# --- E4-US3: one rule --------------------------------------------------------------------------------


def test_e4_us3_ac1_a_rule_is_found_by_its_id(sender: ApiClient) -> None:
    created = sender.post(RULES, CPU).json
    assert sender.get(f"{RULES}/{created['rule_id']}").json == created


def test_e4_us3_ac2_rule_has_trigger_count_and_last_trigger(sender: ApiClient) -> None:
    rule = create_rule()
    assert sender.get(f"{RULES}/{rule.rule_id}").json["last_triggered"] is None
    create_alert(rule, create_device("boiler"))
    last_alert = create_alert(rule, create_device("pump"), minutes=5)
    rule_body = sender.get(f"{RULES}/{rule.rule_id}").json
    assert (rule_body["total_triggers"], rule_body["last_triggered"]) == (
        2,
        f"{last_alert.triggered_at:%Y-%m-%dT%H:%M:%SZ}",
    )


def test_e4_us3_ac3_unknown_rule_returns_404(sender: ApiClient) -> None:
    assert sender.get(f"{RULES}/rule_0000000000000000").status == 404


@pytest.mark.slow
def test_e4_us3_ac4_get_takes_less_than_50_ms(sender: ApiClient) -> None:
    rule = create_rule()
    within_once(0.05, lambda: sender.get(f"{RULES}/{rule.rule_id}"))


# --- E4-US4: enable, disable -------------------------------------------------------------------------


@pytest.mark.parametrize("enabled", [False, True])
def test_e4_us4_ac1_a_rule_is_enabled_and_disabled(sender: ApiClient, enabled: bool) -> None:
    rule = create_rule(enabled=not enabled)
    assert sender.call("PUT", f"{RULES}/{rule.rule_id}/enable", {"enabled": enabled}).status == 200
    assert sender.get(f"{RULES}/{rule.rule_id}").json["enabled"] is enabled


def test_e4_us4_ac2_body_has_the_field_enabled(sender: ApiClient) -> None:
    rule = create_rule()
    assert sender.call("PUT", f"{RULES}/{rule.rule_id}/enable", {}).status == 400
    assert sender.call("PUT", f"{RULES}/{rule.rule_id}/enable", {"enabled": "off and on"}).status == 400


def test_e4_us4_ac3_enable_returns_success(sender: ApiClient) -> None:
    response = sender.call("PUT", f"{RULES}/{create_rule().rule_id}/enable", {"enabled": False}).json
    assert response["success"] is True and "disabled" in response["message"]


@pytest.mark.slow
def test_e4_us4_ac4_enable_applies_to_the_next_point(sender: ApiClient) -> None:
    rule = create_rule()
    with dedicated_connection() as connection:
        evaluator = Evaluator(connection)
        for enabled, devices in ((False, []), (True, ["b"]), (False, ["b"])):
            sender.call("PUT", f"{RULES}/{rule.rule_id}/enable", {"enabled": enabled})
            assert sender.post(f"devices/{'b' if enabled else 'a'}/telemetry", point("temperature", 95.0)).status == 200
            run(evaluator)
            assert list(Alert.objects.values_list("device_name", flat=True)) == devices


@pytest.mark.slow
def test_e4_us4_ac5_enable_takes_less_than_50_ms(sender: ApiClient) -> None:
    rule, state = create_rule(), {"enabled": True}

    def toggle() -> Any:
        state["enabled"] = not state["enabled"]
        return sender.call("PUT", f"{RULES}/{rule.rule_id}/enable", state)

    within_once(0.05, toggle)


# --- E4-US5: list alerts -----------------------------------------------------------------------------


@pytest.mark.slow
def test_e4_us5_ac1_list_contains_every_alert(sender: ApiClient, three_alerts: list[Alert]) -> None:
    assert set(names(sender.get("alerts").json["alerts"], "alert_id")) == {alert.alert_id for alert in three_alerts}


@pytest.mark.slow
def test_e4_us5_ac2_the_list_is_filtered_by_status_level_device_and_time(
    sender: ApiClient, three_alerts: list[Alert]
) -> None:
    for query, expected in {
        "status=active": [1, 0],
        "status=active&level=critical": [0],
        "device_id=pump": [2],
        "start_time=2026-01-01T12:01:00Z": [2, 1],
        "end_time=2026-01-01T12:01:00Z": [0],
    }.items():
        alert_ids = names(sender.get(f"alerts?{query}").json["alerts"], "alert_id")
        assert alert_ids == [three_alerts[index].alert_id for index in expected], query


@pytest.mark.slow
def test_e4_us5_ac3_list_has_pages(sender: ApiClient, three_alerts: list[Alert]) -> None:
    page = sender.get("alerts?limit=1&offset=1").json
    assert names(page["alerts"], "alert_id") == [three_alerts[1].alert_id]
    assert (page["count"], page["limit"], page["offset"]) == (1, 1, 1)


@pytest.mark.slow
def test_e4_us5_ac4_list_returns_active_and_critical_counts(sender: ApiClient, three_alerts: list[Alert]) -> None:
    page = sender.get("alerts?status=active").json
    assert (page["active_count"], page["critical_count"], page["filters"]) == (2, 1, {"status": "active"})


@pytest.mark.slow
def test_e4_us5_ac5_list_is_sorted_latest_first(sender: ApiClient, three_alerts: list[Alert]) -> None:
    times = names(sender.get("alerts").json["alerts"], "triggered_at")
    assert times == sorted(times, reverse=True)


@pytest.mark.slow
def test_e4_us5_ac6_list_takes_less_than_100_ms(sender: ApiClient, three_alerts: list[Alert]) -> None:
    within_once(0.1, lambda: sender.get("alerts?status=active"))


# --- E4-US6: acknowledge -----------------------------------------------------------------------------


def acknowledge_first(sender: ApiClient, three_alerts: list[Alert], body: dict[str, Any]) -> Any:
    response = sender.call("PUT", f"alerts/{three_alerts[0].alert_id}/acknowledge", body)
    assert response.status == 200
    return response.json


@pytest.mark.slow
def test_e4_us6_ac1_an_alert_is_acknowledged(sender: ApiClient, three_alerts: list[Alert]) -> None:
    acknowledge_first(sender, three_alerts, {})
    assert sender.get(f"alerts/{three_alerts[0].alert_id}").json["status"] == "acknowledged"


@pytest.mark.slow
def test_e4_us6_ac2_optional_note_is_stored(sender: ApiClient, three_alerts: list[Alert]) -> None:
    assert acknowledge_first(sender, three_alerts, {"note": "looking"})["alert"]["acknowledgement_note"] == "looking"


@pytest.mark.slow
def test_e4_us6_ac3_person_and_time_are_stored(sender: ApiClient, three_alerts: list[Alert]) -> None:
    alert = acknowledge_first(sender, three_alerts, {})["alert"]
    assert alert["acknowledged_by"].partition(":")[0] in ("user", "key") and alert["acknowledged_at"]


@pytest.mark.slow
def test_e4_us6_ac4_active_becomes_acknowledged(sender: ApiClient, three_alerts: list[Alert]) -> None:
    assert three_alerts[0].status == "active"
    assert acknowledge_first(sender, three_alerts, {})["alert"]["status"] == "acknowledged"
    assert sender.call("PUT", f"alerts/{three_alerts[2].alert_id}/acknowledge", {}).status == 409


def test_e4_us6_ac5_acknowledge_returns_success(sender: ApiClient, three_alerts: list[Alert]) -> None:
    assert acknowledge_first(sender, three_alerts, {})["success"] is True


# --- E4-US7: resolve ---------------------------------------------------------------------------------


def resolve_first(sender: ApiClient, three_alerts: list[Alert], body: dict[str, Any]) -> Any:
    response = sender.call("PUT", f"alerts/{three_alerts[0].alert_id}/resolve", body)
    assert response.status == 200
    return response.json


@pytest.mark.slow
def test_e4_us7_ac1_alert_is_resolved(sender: ApiClient, three_alerts: list[Alert]) -> None:
    resolve_first(sender, three_alerts, {})
    assert three_alerts[0].alert_id not in names(sender.get("alerts?status=active").json["alerts"], "alert_id")


@pytest.mark.parametrize("name", ["note", "resolution_note"])
def test_e4_us7_ac2_optional_note_is_stored(sender: ApiClient, three_alerts: list[Alert], name: str) -> None:
    assert resolve_first(sender, three_alerts, {name: "fixed"})["alert"]["resolution_note"] == "fixed"


@pytest.mark.slow
def test_e4_us7_ac3_person_and_time_are_stored(sender: ApiClient, three_alerts: list[Alert]) -> None:
    alert = resolve_first(sender, three_alerts, {})["alert"]
    assert alert["resolved_by"].partition(":")[0] in ("user", "key") and alert["resolved_at"]


@pytest.mark.slow
def test_e4_us7_ac4_its_status_is_resolved(sender: ApiClient, three_alerts: list[Alert]) -> None:
    assert resolve_first(sender, three_alerts, {})["alert"]["status"] == "resolved"


@pytest.mark.slow
def test_e4_us7_ac6_resolve_returns_success(sender: ApiClient, three_alerts: list[Alert]) -> None:
    assert resolve_first(sender, three_alerts, {})["success"] is True
