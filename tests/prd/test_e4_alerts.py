"""PRD epic 4, criterion by criterion: alert rules, and the life of alerts as people move it."""

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
BARE = {name: CPU[name] for name in REQUIRED}


@pytest.fixture
def catalogue(sender: ApiClient) -> ApiClient:
    """Three rules that differ in level, metric and whether they are enabled."""
    for more in (
        {"name": "a"},
        {"name": "b", "level": "critical"},
        {"name": "c", "metric_name": "m", "enabled": False},
    ):
        assert sender.post(RULES, CPU | more).status == 201
    return sender


@pytest.fixture
def raised(sender: ApiClient) -> list[Alert]:
    """Three alerts, a minute apart: active and critical, active, resolved."""
    hot, wet = create_rule(level="critical"), create_rule(name="Too wet", metric_name="humidity")
    made = [
        create_alert(hot, create_device("boiler"), 0),
        create_alert(wet, create_device("boiler"), 1),
        create_alert(wet, create_device("pump"), 2),
    ]
    assert sender.call("PUT", f"alerts/{made[2].alert_id}/resolve", {}).status == 200
    return made


# --- E4-US1: create a rule ---------------------------------------------------------------------------


@pytest.mark.parametrize("prefix", [API, "/api/v1"])
def test_e4_us1_ac1_the_endpoint_accepts_a_rule(sender: ApiClient, prefix: str) -> None:
    assert sender.post(f"{prefix}/{RULES}", CPU).status == 201


@pytest.mark.parametrize("name", REQUIRED)
def test_e4_us1_ac2_name_metric_condition_and_threshold_are_required(sender: ApiClient, name: str) -> None:
    assert sender.post(RULES, BARE).status == 201
    answer = sender.post(RULES, {key: value for key, value in BARE.items() if key != name})
    assert answer.status == 422 and names(answer.json["errors"], "field") == [name]


@pytest.mark.parametrize("condition", [">", "<", ">=", "<=", "==", "!="])
def test_e4_us1_ac3_six_conditions_are_accepted(sender: ApiClient, condition: str) -> None:
    assert sender.post(RULES, CPU | {"condition": condition}).json["condition"] == condition


def test_e4_us1_ac3_other_conditions_are_rejected(sender: ApiClient) -> None:
    assert sender.post(RULES, CPU | {"condition": "=>"}).status == 422


@pytest.mark.parametrize("level", ["info", "warning", "error", "critical", "emergency"])
def test_e4_us1_ac4_five_levels_are_accepted(sender: ApiClient, level: str) -> None:
    assert sender.post(RULES, CPU | {"level": level}).json["level"] == level
    assert len(Level) == 5 and sender.post(RULES, CPU | {"level": "fatal"}).status == 422


def test_e4_us1_ac5_devices_groups_window_and_count_are_optional(sender: ApiClient) -> None:
    bare = sender.post(RULES, BARE).json
    assert (bare["device_ids"], bare["device_groups"]) == ([], [])
    assert (bare["evaluation_window"], bare["trigger_count"]) == (300, 1)
    more = {"device_ids": ["d"], "device_groups": ["site a"], "evaluation_window": 60, "trigger_count": 2}
    full = sender.post(RULES, BARE | more).json
    assert {name: full[name] for name in more} == more


def test_e4_us1_ac6_channels_cooldown_and_auto_resolve_are_optional(sender: ApiClient) -> None:
    bare = sender.post(RULES, BARE).json
    assert (bare["notification_channels"], bare["cooldown_minutes"], bare["auto_resolve"]) == ([], 0, True)
    more = {"notification_channels": ["slack"], "cooldown_minutes": 5, "auto_resolve": False}
    full = sender.post(RULES, BARE | more).json
    assert {name: full[name] for name in more} == more


def test_e4_us1_ac8_create_returns_the_rule_with_its_rule_id(sender: ApiClient) -> None:
    made = sender.post(RULES, CPU).json
    assert made["rule_id"].startswith("rule_") and {name: made[name] for name in CPU} == CPU
    assert made["unconfigured_channels"] == ["slack", "email"]


# --- E4-US2: list rules ------------------------------------------------------------------------------


def test_e4_us2_ac1_list_contains_every_rule(catalogue: ApiClient) -> None:
    assert names(catalogue.get(RULES).json["rules"], "name") == ["a", "b", "c"]


def test_e4_us2_ac2_the_list_is_filtered_by_enabled_level_and_metric(catalogue: ApiClient) -> None:
    for asked, expected in {"enabled=false": ["c"], "level=critical": ["b"], "metric_name=m": ["c"]}.items():
        assert names(catalogue.get(f"{RULES}?{asked}").json["rules"], "name") == expected
    assert names(catalogue.get(f"{RULES}?enabled=true&level=critical").json["rules"], "name") == ["b"]


def test_e4_us2_ac3_list_has_pages(catalogue: ApiClient) -> None:
    assert names(catalogue.get(f"{RULES}?limit=2").json["rules"], "name") == ["a", "b"]
    assert names(catalogue.get(f"{RULES}?limit=2&offset=2").json["rules"], "name") == ["c"]


def test_e4_us2_ac4_list_returns_the_total(catalogue: ApiClient) -> None:
    told = catalogue.get(f"{RULES}?level=warning&limit=1").json
    assert (told["total"], told["count"], told["limit"], told["offset"]) == (2, 1, 1, 0)


def test_e4_us2_ac5_list_takes_less_than_100_ms(catalogue: ApiClient) -> None:
    within_once(0.1, lambda: catalogue.get(RULES))


# --- E4-US3: one rule --------------------------------------------------------------------------------


def test_e4_us3_ac1_a_rule_is_found_by_its_id(sender: ApiClient) -> None:
    made = sender.post(RULES, CPU).json
    assert sender.get(f"{RULES}/{made['rule_id']}").json == made


def test_e4_us3_ac2_rule_has_trigger_count_and_last_trigger(sender: ApiClient) -> None:
    made = create_rule()
    assert sender.get(f"{RULES}/{made.rule_id}").json["last_triggered"] is None
    create_alert(made, create_device("boiler"))
    last = create_alert(made, create_device("pump"), minutes=5)
    told = sender.get(f"{RULES}/{made.rule_id}").json
    assert (told["total_triggers"], told["last_triggered"]) == (2, f"{last.triggered_at:%Y-%m-%dT%H:%M:%SZ}")


def test_e4_us3_ac3_unknown_rule_returns_404(sender: ApiClient) -> None:
    assert sender.get(f"{RULES}/rule_0000000000000000").status == 404


def test_e4_us3_ac4_get_takes_less_than_50_ms(sender: ApiClient) -> None:
    made = create_rule()
    within_once(0.05, lambda: sender.get(f"{RULES}/{made.rule_id}"))


# --- E4-US4: enable, disable -------------------------------------------------------------------------


@pytest.mark.parametrize("enabled", [False, True])
def test_e4_us4_ac1_a_rule_is_enabled_and_disabled(sender: ApiClient, enabled: bool) -> None:
    made = create_rule(enabled=not enabled)
    assert sender.call("PUT", f"{RULES}/{made.rule_id}/enable", {"enabled": enabled}).status == 200
    assert sender.get(f"{RULES}/{made.rule_id}").json["enabled"] is enabled


def test_e4_us4_ac2_body_has_the_field_enabled(sender: ApiClient) -> None:
    made = create_rule()
    assert sender.call("PUT", f"{RULES}/{made.rule_id}/enable", {}).status == 422
    assert sender.call("PUT", f"{RULES}/{made.rule_id}/enable", {"enabled": "off and on"}).status == 422


def test_e4_us4_ac3_enable_returns_success(sender: ApiClient) -> None:
    answer = sender.call("PUT", f"{RULES}/{create_rule().rule_id}/enable", {"enabled": False}).json
    assert answer["success"] is True and "disabled" in answer["message"]


def test_e4_us4_ac4_enable_applies_to_the_next_point(sender: ApiClient) -> None:
    made = create_rule()
    with dedicated_connection() as connection:
        evaluator = Evaluator(connection)
        for enabled, devices in ((False, []), (True, ["b"]), (False, ["b"])):
            sender.call("PUT", f"{RULES}/{made.rule_id}/enable", {"enabled": enabled})
            assert sender.post(f"devices/{'b' if enabled else 'a'}/telemetry", point("temperature", 95.0)).status == 200
            run(evaluator)
            assert list(Alert.objects.values_list("device_name", flat=True)) == devices


def test_e4_us4_ac5_enable_takes_less_than_50_ms(sender: ApiClient) -> None:
    made, state = create_rule(), {"enabled": True}

    def toggle() -> Any:
        state["enabled"] = not state["enabled"]
        return sender.call("PUT", f"{RULES}/{made.rule_id}/enable", state)

    within_once(0.05, toggle)


# --- E4-US5: list alerts -----------------------------------------------------------------------------


def test_e4_us5_ac1_list_contains_every_alert(sender: ApiClient, raised: list[Alert]) -> None:
    assert set(names(sender.get("alerts").json["alerts"], "alert_id")) == {one.alert_id for one in raised}


def test_e4_us5_ac2_the_list_is_filtered_by_status_level_device_and_time(
    sender: ApiClient, raised: list[Alert]
) -> None:
    for asked, expected in {
        "status=active": [1, 0],
        "status=active&level=critical": [0],
        "device_id=pump": [2],
        "start_time=2026-01-01T12:01:00Z": [2, 1],
        "end_time=2026-01-01T12:01:00Z": [0],
    }.items():
        found = names(sender.get(f"alerts?{asked}").json["alerts"], "alert_id")
        assert found == [raised[place].alert_id for place in expected], asked


def test_e4_us5_ac3_list_has_pages(sender: ApiClient, raised: list[Alert]) -> None:
    told = sender.get("alerts?limit=1&offset=1").json
    assert names(told["alerts"], "alert_id") == [raised[1].alert_id]
    assert (told["count"], told["limit"], told["offset"]) == (1, 1, 1)


def test_e4_us5_ac4_list_returns_active_and_critical_counts(sender: ApiClient, raised: list[Alert]) -> None:
    told = sender.get("alerts?status=active").json
    assert (told["active_count"], told["critical_count"], told["filters"]) == (2, 1, {"status": "active"})


def test_e4_us5_ac5_list_is_sorted_latest_first(sender: ApiClient, raised: list[Alert]) -> None:
    times = names(sender.get("alerts").json["alerts"], "triggered_at")
    assert times == sorted(times, reverse=True)


def test_e4_us5_ac6_list_takes_less_than_100_ms(sender: ApiClient, raised: list[Alert]) -> None:
    within_once(0.1, lambda: sender.get("alerts?status=active"))


# --- E4-US6: acknowledge -----------------------------------------------------------------------------


def acknowledged(sender: ApiClient, raised: list[Alert], body: dict[str, Any]) -> Any:
    answer = sender.call("PUT", f"alerts/{raised[0].alert_id}/acknowledge", body)
    assert answer.status == 200
    return answer.json


def test_e4_us6_ac1_an_alert_is_acknowledged(sender: ApiClient, raised: list[Alert]) -> None:
    acknowledged(sender, raised, {})
    assert sender.get(f"alerts/{raised[0].alert_id}").json["status"] == "acknowledged"


def test_e4_us6_ac2_optional_note_is_stored(sender: ApiClient, raised: list[Alert]) -> None:
    assert acknowledged(sender, raised, {"note": "looking"})["alert"]["acknowledgement_note"] == "looking"


def test_e4_us6_ac3_person_and_time_are_stored(sender: ApiClient, raised: list[Alert]) -> None:
    told = acknowledged(sender, raised, {})["alert"]
    assert told["acknowledged_by"].partition(":")[0] in ("user", "key") and told["acknowledged_at"]


def test_e4_us6_ac4_active_becomes_acknowledged(sender: ApiClient, raised: list[Alert]) -> None:
    assert raised[0].status == "active"
    assert acknowledged(sender, raised, {})["alert"]["status"] == "acknowledged"
    assert sender.call("PUT", f"alerts/{raised[2].alert_id}/acknowledge", {}).status == 409


def test_e4_us6_ac5_acknowledge_returns_success(sender: ApiClient, raised: list[Alert]) -> None:
    assert acknowledged(sender, raised, {})["success"] is True


# --- E4-US7: resolve ---------------------------------------------------------------------------------


def resolved(sender: ApiClient, raised: list[Alert], body: dict[str, Any]) -> Any:
    answer = sender.call("PUT", f"alerts/{raised[0].alert_id}/resolve", body)
    assert answer.status == 200
    return answer.json


def test_e4_us7_ac1_alert_is_resolved(sender: ApiClient, raised: list[Alert]) -> None:
    resolved(sender, raised, {})
    assert raised[0].alert_id not in names(sender.get("alerts?status=active").json["alerts"], "alert_id")


@pytest.mark.parametrize("name", ["note", "resolution_note"])
def test_e4_us7_ac2_optional_note_is_stored(sender: ApiClient, raised: list[Alert], name: str) -> None:
    assert resolved(sender, raised, {name: "fixed"})["alert"]["resolution_note"] == "fixed"


def test_e4_us7_ac3_person_and_time_are_stored(sender: ApiClient, raised: list[Alert]) -> None:
    told = resolved(sender, raised, {})["alert"]
    assert told["resolved_by"].partition(":")[0] in ("user", "key") and told["resolved_at"]


def test_e4_us7_ac4_its_status_is_resolved(sender: ApiClient, raised: list[Alert]) -> None:
    assert resolved(sender, raised, {})["alert"]["status"] == "resolved"


def test_e4_us7_ac6_resolve_returns_success(sender: ApiClient, raised: list[Alert]) -> None:
    assert resolved(sender, raised, {})["success"] is True
