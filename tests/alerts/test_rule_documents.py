"""Rule documents of the alerting specification become rules with the same meaning."""

from typing import Any

import pytest

from alerts.models import Channel, Rule
from tests.conftest import ApiClient

RULES = "alerts/rules"
DOCUMENT: dict[str, Any] = {
    "rule_id": "high_temperature",
    "name": "High Temperature Alert",
    "condition": "threshold",
    "parameters": {"field": "temperature", "operator": ">", "value": 80.0},
    "severity": "critical",
    "enabled": True,
    "actions": ["log_alert", "send_notification"],
}


def test_threshold_document_is_stored_as_a_rule_with_its_actions(admin: ApiClient):
    response = admin.post(RULES, DOCUMENT)
    assert response.status == 201, response.raw
    expected = {
        "name": "High Temperature Alert", "kind": "threshold", "metric_name": "temperature", "condition": ">",
        "threshold_value": 80.0, "level": "critical", "enabled": True, "parameters": {},
        "notification_channels": ["log_alert", "send_notification"], "unconfigured_channels": [],
    }  # fmt: skip
    assert {name: response.json[name] for name in expected} == expected
    channels = {channel.name: (channel.kind, channel.action) for channel in Channel.objects.all()}
    assert channels == {name: ("action", name) for name in DOCUMENT["actions"]}
    assert admin.post(RULES, DOCUMENT).status == 201 and Channel.objects.count() == 2


def test_trend_document_has_window_and_threshold(admin: ApiClient):
    parameters = {"field": "pressure", "window": 10, "threshold": 0.5}
    document = {"name": "Pressure spike", "condition": "trend", "parameters": parameters, "severity": "warning"}
    response = admin.post(RULES, document | {"actions": ["log_alert", "page_mei"]})
    assert response.status == 201, response.raw
    expected = {
        "kind": "trend", "metric_name": "pressure", "condition": ">", "threshold_value": 0.5, "evaluation_window": 10,
        "level": "warning", "parameters": {}, "unconfigured_channels": ["page_mei"],
    }  # fmt: skip
    assert {name: response.json[name] for name in expected} == expected


def test_anomaly_document_needs_only_its_field(admin: ApiClient):
    response = admin.post(RULES, {"name": "Odd", "condition": "anomaly", "parameters": {"field": "temperature"}})
    assert response.status == 201, response.raw
    assert (response.json["kind"], response.json["metric_name"]) == ("anomaly", "temperature")


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"level": "info"}, "severity"),
        ({"notification_channels": ["x"]}, "actions"),
        ({"kind": "trend"}, "condition"),
        ({"metric_name": "pressure"}, "parameters.field"),
        ({"severity": "dire"}, "level"),
        ({"parameters": {"operator": ">", "value": 1}}, "metric_name"),
        ({"parameters": {"field": "m", "operator": "=>", "value": 1}}, "condition"),
        ({"parameters": {"field": "m", "operator": ">", "value": 1, "magic": 2}}, "parameters.magic"),
        ({"parameters": "temperature"}, "parameters"),
        ({"actions": "log_alert"}, "notification_channels"),
    ],
)
def test_invalid_document_is_rejected_with_its_field(admin: ApiClient, changes: dict[str, Any], field: str):
    response = admin.post(RULES, DOCUMENT | changes)
    assert response.status in (400, 422), response.raw
    assert field in [error["field"] for error in response.json["errors"]], response.json
    assert not Rule.objects.exists() and not Channel.objects.exists()


@pytest.mark.slow
def test_change_accepts_the_names_of_documents(admin: ApiClient):
    created = admin.post(RULES, DOCUMENT).json
    path = f"{RULES}/{created['rule_id']}"
    assert admin.call("PATCH", path, {"severity": "info"}).json["level"] == "info"
    changed = admin.call("PATCH", path, {"condition": "threshold", "parameters": {"value": 90}})
    assert (changed.json["threshold_value"], changed.json["condition"]) == (90, ">"), changed.raw
