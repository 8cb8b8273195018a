"""API of alert rules: validation, permissions, versions, shadow rules and filters."""

from typing import Any

import pytest

from alerts.models import Alert, Channel, NoiseScore, Rule, Status
from metrics.models import AuditEntry, DeviceGroup, MetricDefinition
from tests.alerts.factories import NOON, RULE_FIELDS, create_alert, create_device, create_rule
from tests.conftest import ApiClient, point, with_token

FORM_TYPE = "application/x-www-form-urlencoded"

RULES = "alerts/rules"
RULE_CHANGES: list[dict[str, Any]] = [  # one rule of each kind
    {"kind": "threshold", "aggregation": "p95", "clear_threshold": 75},
    {"condition": "==", "threshold_value": "open"},
    {"condition": "!=", "threshold_value": True},
    {"kind": "trend", "parameters": {"measure": "relative"}},
    {"kind": "anomaly", "condition": None, "threshold_value": None},
    {"kind": "absence", "metric_name": "*", "condition": None, "threshold_value": None},
    {"kind": "forecast", "parameters": {"horizon": 3600}},
    {
        "kind": "composite",
        "metric_name": None,
        "condition": None,
        "threshold_value": None,
        "parameters": {
            "operator": "or",
            "conditions": [
                {"metric_name": "temperature", "condition": ">", "threshold_value": 80},
                {"metric_name": "humidity", "condition": "<", "threshold_value": 10},
            ],
        },
    },
]


def body(**fields: Any) -> dict[str, Any]:
    """Return the fields of a rule with changes; a field that is None is omitted."""
    return {name: value for name, value in (RULE_FIELDS | fields).items() if value is not None}


@pytest.mark.parametrize(
    "changes", RULE_CHANGES, ids=[f"{changes.get('kind', changes.get('condition'))}" for changes in RULE_CHANGES]
)
def test_rule_of_every_kind_is_stored_as_sent(admin: ApiClient, changes: dict[str, Any]):
    rule_fields = body(**changes)
    created = admin.post(RULES, rule_fields)
    assert created.status == 201, created.json
    read = admin.get(f"{RULES}/{created.json['rule_id']}").json
    assert read == created.json and {name: read[name] for name in rule_fields} == rule_fields


INVALID_FIELDS: list[tuple[str, Any, str]] = [
    ("name", None, "required"),
    ("name", "a\nb", "control characters"),
    ("metric_name", None, "is required"),
    ("condition", None, "is required"),
    ("threshold_value", None, "is required"),
    ("condition", "=>", ">="),
    ("condition", 5, ">="),
    ("threshold_value", "hot", "with == or !="),
    ("threshold_value", [80], "a number"),
    ("threshold_value", {"of": 80}, "a number"),
    ("threshold_value", 10**400, "a number"),
    ("threshold_value", "", "a text of 1"),
    ("level", "fatal", "emergency"),
    ("kind", "magic", "threshold"),
    ("evaluation_window", 0, "greater than or equal to 1"),
    ("evaluation_window", -300, "greater than or equal to 1"),
    ("evaluation_window", 10**9, "less than or equal to"),
    ("evaluation_window", "soon", "integer"),
    ("trigger_count", 0, "greater than or equal to 1"),
    ("trigger_count", 1.5, "integer"),
    ("cooldown_minutes", -1, "greater than or equal to 0"),
    ("auto_resolve", "perhaps", "boolean"),
    ("auto_resolve_timeout", 0, "greater than or equal to 1"),
    ("device_ids", "device_001", "list"),
    ("device_ids.0", [{}], "string"),
    ("notification_channels", {"slack": True}, "list"),
    ("clear_threshold", 90, "must not be above"),
    ("clear_threshold", "cool", "a number"),
    ("clear_threshold", 10**400, "a number"),
    ("aggregation", "middle", "accepted are"),
    ("parameters", [], "dictionary"),
    ("parameters.horizon", {"horizon": 60}, "is unknown for kind threshold"),
    ("parameters", {"horizon": 10**400}, "out of the range"),
    ("runbook_url", "javascript:alert(1)", "https://"),
    ("name", "Too hot at {place}", "{device}"),
    ("description", "It is {value", "unbalanced brace"),
    ("runbook_url", "https://wiki.example.com/{metrics}", "{metric}"),
    ("colour", "red", "is not a known field"),
]


@pytest.mark.parametrize(
    ("field", "value", "text"), INVALID_FIELDS, ids=[f"{number}-{row[0]}" for number, row in enumerate(INVALID_FIELDS)]
)
def test_invalid_rule_is_rejected_with_its_field(admin: ApiClient, field: str, value: Any, text: str):
    response = admin.post(RULES, body(**{field.partition(".")[0]: value}))
    assert response.status in (400, 422)
    [error] = response.json["errors"]
    assert error["field"] == field and text in error["detail"]
    assert not Rule.objects.exists()


def test_all_invalid_fields_are_reported_together(admin: ApiClient):
    response = admin.post(RULES, body(evaluation_window=0, level="fatal"))
    assert response.status in (400, 422) and {error["field"] for error in response.json["errors"]} == {
        "evaluation_window",
        "level",
    }


@pytest.mark.parametrize("content", [b"[]", b"null", b'"rule"', b"7"])
def test_body_other_than_object_is_rejected(admin: ApiClient, content: bytes):
    assert admin.post(RULES, content).status == 400


def test_unknown_channels_and_metrics_are_stored_and_reported(admin: ApiClient):
    created = admin.post(RULES, body(notification_channels=["slack", "email"])).json
    assert (created["unconfigured_channels"], created["unknown_metric"]) == (["slack", "email"], True)
    Channel.objects.create(name="slack", kind="webhook", url="https://example.com/hook")
    MetricDefinition.objects.create(name="temperature", data_type="numeric")
    read = admin.get(f"{RULES}/{created['rule_id']}").json
    assert (read["unconfigured_channels"], read["unknown_metric"]) == (["email"], False)
    MetricDefinition.objects.all().delete()
    admin.post("devices/device_001/telemetry", point("temperature", 20.0))
    assert admin.get(f"{RULES}/{created['rule_id']}").json["unknown_metric"] is False


def test_unknown_devices_and_groups_are_stored_and_reported(admin: ApiClient):
    created = admin.post(RULES, body(device_ids=["pump_1", "pump_2"], device_groups=["hall"])).json
    assert (created["unknown_devices"], created["unknown_groups"]) == (["pump_1", "pump_2"], ["hall"])
    admin.post("devices/pump_2/telemetry", point("temperature", 20.0))
    DeviceGroup.objects.create(name="hall")
    read = admin.get(f"{RULES}/{created['rule_id']}").json
    assert (read["unknown_devices"], read["unknown_groups"]) == (["pump_1"], [])


def test_composite_rule_reports_any_unknown_metric(admin: ApiClient):
    MetricDefinition.objects.create(name="temperature", data_type="numeric")
    assert admin.post(RULES, body(**RULE_CHANGES[-1])).json["unknown_metric"] is True
    MetricDefinition.objects.create(name="humidity", data_type="numeric")
    assert admin.get(RULES).json["rules"][0]["unknown_metric"] is False


def test_wildcard_metric_is_never_reported_as_unknown(admin: ApiClient):
    assert admin.post(RULES, body(**RULE_CHANGES[5])).json["unknown_metric"] is False


def test_rule_shows_noise_score_and_reason_of_suspension(admin: ApiClient):
    rule = create_rule()
    NoiseScore.objects.create(rule=rule, figures={"score": 0.7})
    Rule.objects.filter(pk=rule.pk).update(suspended="division by zero")
    read = admin.get(f"{RULES}/{rule.rule_id}").json
    assert read["noise"]["score"] == 0.7 and read["noise"]["at"] and read["suspended"] == "division by zero"


# --- lists --------------------------------------------------------------------------------------------


@pytest.fixture
def five_rules(site: None) -> None:
    create_rule(name="a", level="critical")
    create_rule(name="b", level="emergency", enabled=False)
    create_rule(name="c", metric_name="humidity", description="Too wet")
    create_rule(name="d", kind="anomaly")
    shadow = create_rule(name="e")
    Rule.objects.filter(pk=shadow.pk).update(mode="shadow")


FILTERS = {
    "enabled=false": "b",
    "enabled=true": "acde",
    "level=critical": "a",
    "level=critical,emergency": "ab",
    "level=critical&level=emergency": "ab",
    "metric_name=humidity": "c",
    "kind=anomaly": "d",
    "mode=shadow": "e",
    "search=wet": "c",
    "level=critical&enabled=false": "",
}


@pytest.mark.parametrize("query", FILTERS)
def test_list_filters_rules(reader: ApiClient, five_rules: None, query: str):
    response = reader.get(f"{RULES}?{query}").json
    assert "".join(rule["name"] for rule in response["rules"]) == FILTERS[query] and response["total"] == len(
        FILTERS[query]
    )
    assert set(response["filters"]) == {parameter.partition("=")[0] for parameter in query.split("&")}


@pytest.mark.parametrize("query", ["level=fatal", "enabled=perhaps", "kind=x", "mode=x", "limit=0", "cursor=x"])
def test_invalid_filter_is_rejected_with_its_field(reader: ApiClient, query: str):
    response = reader.get(f"{RULES}?{query}")
    assert response.status == 400 and response.json["errors"][0]["field"] == query.partition("=")[0]


def test_cursor_returns_every_rule_once(reader: ApiClient, five_rules: None):
    names, cursor = [], ""
    while cursor is not None:
        response = reader.get(f"{RULES}?limit=2" + (f"&cursor={cursor}" if cursor else "")).json
        names += [rule["name"] for rule in response["rules"]]
        cursor = response["next_cursor"]
    assert names == list("abcde")


# --- changes, versions --------------------------------------------------------------------------------


@pytest.mark.slow
def test_change_creates_a_version_and_rollback_restores_one(admin: ApiClient):
    rule = create_rule(threshold_value=80)
    changed = admin.call("PATCH", f"{RULES}/{rule.rule_id}", {"threshold_value": 95, "level": "critical"})
    assert changed.status == 200 and (changed.json["version"], changed.json["threshold_value"]) == (2, 95)
    assert admin.call("PATCH", f"{RULES}/{rule.rule_id}", {"threshold_value": 95}).json["version"] == 2
    versions = admin.get(f"{RULES}/{rule.rule_id}/versions").json["versions"]
    assert [(version["version"], version["document"]["threshold_value"]) for version in versions] == [(2, 95), (1, 80)]
    assert admin.get(f"{RULES}/{rule.rule_id}/versions/1").json["by"] == "user:mei"
    rolled_back = admin.post(f"{RULES}/{rule.rule_id}/versions/1/rollback", {})
    assert (rolled_back.status, rolled_back.json["version"], rolled_back.json["threshold_value"]) == (200, 3, 80)
    for unknown_version in (9, 2**40):
        assert admin.get(f"{RULES}/{rule.rule_id}/versions/{unknown_version}").status == 404
        assert admin.post(f"{RULES}/{rule.rule_id}/versions/{unknown_version}/rollback", {}).status == 404


def test_boolean_threshold_differs_from_equal_number(admin: ApiClient):
    rule = create_rule(threshold_value=1, condition="==")
    changed = admin.call("PATCH", f"{RULES}/{rule.rule_id}", {"threshold_value": True})
    assert (changed.json["version"], changed.json["threshold_value"]) == (2, True)


def test_replacement_sets_omitted_fields_to_defaults(admin: ApiClient):
    rule = create_rule(level="critical", cooldown_minutes=15, device_ids=["a"])
    replaced = admin.call("PUT", f"{RULES}/{rule.rule_id}", RULE_FIELDS | {"name": "Hot"}).json
    assert (replaced["name"], replaced["level"], replaced["cooldown_minutes"], replaced["device_ids"]) == (
        *("Hot", "warning", 0),
        [],
    )
    assert admin.call("PUT", f"{RULES}/{rule.rule_id}", {"name": "Hot"}).status == 400


def test_change_inconsistent_with_other_fields_is_rejected(admin: ApiClient):
    rule = create_rule(clear_threshold=70)
    response = admin.call("PATCH", f"{RULES}/{rule.rule_id}", {"threshold_value": 60})
    assert response.status in (400, 422) and response.json["errors"][0]["field"] == "clear_threshold"
    rule.refresh_from_db()
    assert (rule.version, rule.threshold_value) == (1, 80)


def test_change_with_outdated_etag_is_rejected_with_412(admin: ApiClient):
    rule = create_rule()
    path = f"{RULES}/{rule.rule_id}"
    etag = admin.get(path).headers["ETag"]
    assert admin.call("PATCH", path, {"level": "error"}, If_Match=etag).status == 200
    for method, url, content in (
        ("PATCH", path, {"level": "info"}),
        ("PUT", path, RULE_FIELDS),
        ("PUT", f"{path}/enable", {"enabled": False}),
        ("POST", f"{path}/versions/1/rollback", {}),
        ("DELETE", path, None),
    ):
        assert admin.call(method, url, content, If_Match=etag).status == 412, (method, url)
    assert Rule.objects.get().level == "error"


@pytest.mark.slow
def test_enabling_resumes_a_suspended_rule(operator: ApiClient):
    rule = create_rule(device_groups=["site a"])
    Rule.objects.filter(pk=rule.pk).update(suspended="division by zero")
    response = operator.call("PUT", f"{RULES}/{rule.rule_id}/enable", {"enabled": True})
    assert response.status == 200 and response.json["success"] and response.json["rule"]["suspended"] == ""
    disabled = operator.call("PUT", f"{RULES}/{rule.rule_id}/enable", {"enabled": False}).json
    assert disabled["rule"]["enabled"] is False and "disabled" in disabled["message"]
    for invalid in ({}, {"enabled": "perhaps"}, {"enabled": "yes"}, {"enabled": 1}, {"enabled": None}):
        assert operator.call("PUT", f"{RULES}/{rule.rule_id}/enable", invalid).status == 400
    assert operator.call("PUT", f"{RULES}/{rule.rule_id}/enable", {"enabled": True, "force": True}).status == 422


def test_deleting_a_rule_resolves_and_keeps_its_alerts(admin: ApiClient):
    rule = create_rule()
    alert = create_alert(rule, create_device("boiler"))
    assert admin.call("DELETE", f"{RULES}/{rule.rule_id}").status == 200
    assert admin.get(f"{RULES}/{rule.rule_id}").status == 404
    alert.refresh_from_db()
    assert (alert.status, alert.resolution, alert.rule_name) == (Status.RESOLVED, "rule", "Too hot")
    assert admin.get(f"alerts/{alert.alert_id}").json["rule_id"] is None


@pytest.mark.slow
def test_every_change_is_in_the_audit_log(admin: ApiClient):
    rule = admin.post(RULES, RULE_FIELDS).json
    admin.call("PATCH", f"{RULES}/{rule['rule_id']}", {"level": "critical"})
    admin.call("DELETE", f"{RULES}/{rule['rule_id']}")
    entries = AuditEntry.objects.filter(object_type="alert rule").order_by("pk")
    assert list(entries.values_list("action", flat=True)) == ["created", "changed", "deleted"]


# --- shadow rules -------------------------------------------------------------------------------------


def test_promoted_shadow_rule_replaces_the_live_rule(admin: ApiClient):
    live = create_rule(name="Hot", enabled=False)
    created = admin.post(f"{RULES}/{live.rule_id}/shadow", {"threshold_value": 95, "name": "Hotter"})
    shadow = created.json
    assert created.status == 201
    assert (shadow["mode"], shadow["shadow_of"], shadow["enabled"]) == ("shadow", live.rule_id, True)
    alert = create_alert(Rule.objects.get(rule_id=shadow["rule_id"]), create_device("boiler"), shadow=True)
    assert admin.post(f"{RULES}/{shadow['rule_id']}/shadow", {}).status == 409
    promoted = admin.post(f"{RULES}/{shadow['rule_id']}/promote", {}).json
    assert (promoted["rule_id"], promoted["name"], promoted["enabled"]) == (live.rule_id, "Hot", False)
    assert (promoted["threshold_value"], promoted["version"]) == (95, 2)
    assert admin.get(f"{RULES}/{shadow['rule_id']}").status == 404
    assert Alert.objects.get(pk=alert.pk).status == Status.RESOLVED
    assert admin.post(f"{RULES}/{live.rule_id}/promote", {}).status == 409


@pytest.mark.slow
def test_shadow_rule_is_compared_with_its_live_rule(admin: ApiClient, viewer: ApiClient):
    live = create_rule()
    shadow = admin.post(f"{RULES}/{live.rule_id}/shadow", {"threshold_value": 95}).json
    shadow_rule = Rule.objects.get(rule_id=shadow["rule_id"])
    Rule.objects.filter(pk=shadow_rule.pk).update(created_at=NOON)
    boiler, pump, fan = create_device("boiler", "site a"), create_device("pump"), create_device("fan")
    alerts_by_group = {
        "both": [create_alert(live, boiler, 1)],
        "only_live": [create_alert(live, pump, 2)],
        "only_shadow": [create_alert(shadow_rule, fan, 3, shadow=True)],
    }
    create_alert(shadow_rule, boiler, 1, shadow=True)
    path = f"{RULES}/{shadow_rule.rule_id}/comparison?since=2020-01-01T00:00:00Z"
    comparison = admin.get(path).json
    assert (comparison["live"], comparison["shadow"], comparison["since"]) == (
        live.rule_id,
        shadow_rule.rule_id,
        "2026-01-01T12:00:00Z",
    )
    for name, expected in alerts_by_group.items():
        assert [alert["alert_id"] for alert in comparison[name]] == [alert.alert_id for alert in expected], name
    assert comparison["counts"] == {"both": 1, "only_live": 1, "only_shadow": 1}
    assert viewer.get(path).json["counts"] == {"both": 1, "only_live": 0, "only_shadow": 0}
    assert admin.get(f"{RULES}/{live.rule_id}/comparison").status == 409
    assert admin.get(f"{RULES}/rule_none/comparison").status == 404


# --- permissions --------------------------------------------------------------------------------------


@pytest.mark.slow
def test_readers_see_rules_of_their_devices_and_change_none(
    stranger: ApiClient, reader: ApiClient, operator: ApiClient
):
    rule = create_rule(device_ids=[create_device("boiler", "site a").device_id])
    for client in (reader, operator):
        assert client.get(f"{RULES}/{rule.rule_id}").json["device_ids"] == ["boiler"]
    assert stranger.get(f"{RULES}/{rule.rule_id}").status == 404
    for client in (stranger, reader, operator):
        assert client.post(RULES, RULE_FIELDS).status == 403
        for method in ("PATCH", "PUT", "DELETE"):
            assert client.call(method, f"{RULES}/{rule.rule_id}", RULE_FIELDS).status == 403
    assert reader.call("PUT", f"{RULES}/{rule.rule_id}/enable", {"enabled": False}).status == 403
    assert operator.call("PUT", f"{RULES}/{rule.rule_id}/enable", {"enabled": False}).status == 200


BEYOND: list[dict[str, Any]] = [
    {},
    {"device_ids": ["boiler", "pump"]},
    {"device_groups": ["site a", "site b"]},
    {"device_groups": ["site a"], "device_ids": ["pump"]},
    {"device_groups": ["site a"], "device_ids": ["not yet known"]},
]


@pytest.mark.slow
@pytest.mark.parametrize("fields", BEYOND)
def test_operator_does_not_switch_rules_that_reach_other_groups(operator: ApiClient, fields: dict[str, Any]):
    create_device("boiler", "site a"), create_device("pump", "site b")
    rule = create_rule(**fields)
    client = with_token(operator.port, "operator")
    for caller in (operator, client):
        response = caller.call("PUT", f"{RULES}/{rule.rule_id}/enable", {"enabled": False})
        assert response.status == 403 and "outside of your device groups" in response.json["detail"]
    page = operator.call("POST", f"/rules/{rule.rule_id}/switch/", b"enabled=no", Content_Type=FORM_TYPE)
    assert page.status == 403
    assert Rule.objects.get().enabled and Rule.objects.get().version == 1


@pytest.mark.slow
def test_shared_rule_shows_only_what_concerns_the_own_group(admin: ApiClient, viewer: ApiClient):
    boiler, pump = create_device("boiler", "site a"), create_device("pump", "site b")
    rule = create_rule(device_ids=["boiler", "pump"], device_groups=["site b", "site a"])
    create_alert(rule, boiler), create_alert(rule, pump)
    create_alert(rule, pump, metric_name="other")
    seen = viewer.get(f"{RULES}/{rule.rule_id}").json
    assert (seen["device_ids"], seen["device_groups"], seen["other_devices"]) == (["boiler"], ["site a"], True)
    assert (seen["total_triggers"], seen["unknown_devices"], seen["noise"]) == (1, [], None)
    assert viewer.get(f"{RULES}/{rule.rule_id}/versions/1").json["document"]["device_ids"] == ["boiler"]
    assert viewer.get(f"{RULES}/{rule.rule_id}/versions").json["versions"][0]["document"]["device_groups"] == ["site a"]
    whole = admin.get(f"{RULES}/{rule.rule_id}").json
    assert (whole["device_ids"], whole["other_devices"], whole["total_triggers"]) == (["boiler", "pump"], False, 3)
    own = viewer.get(f"{RULES}/{create_rule(device_groups=['site a']).rule_id}").json
    assert (own["other_devices"], own["total_triggers"]) == (False, 0)


@pytest.mark.parametrize("rule_id", ["rule_0000000000000000", "a%2Fb", "%F0%9F%94%A5"])
def test_unknown_rule_returns_404(admin: ApiClient, rule_id: str):
    assert admin.get(f"{RULES}/{rule_id}").status == 404
    assert admin.call("PATCH", f"{RULES}/{rule_id}", {}).status == 404
