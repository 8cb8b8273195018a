"""PRD epic 2, criterion by criterion: metric definition management."""

from typing import Any

import pytest

from tests.conftest import API, ApiClient, point
from tests.prd.conftest import names, within, within_once

BATTERY: dict[str, Any] = {
    "name": "battery_level",
    "description": "Device battery percentage",
    "data_type": "numeric",
    "metric_type": "gauge",
    "unit": "percent",
    "min_value": 0,
    "max_value": 100,
    "retention_days": 90,
    "aggregation_interval": 60,
}


@pytest.fixture
def three_definitions(sender: ApiClient) -> ApiClient:
    """Three definitions of different kinds."""
    for changes in ({}, {"name": "door", "data_type": "boolean"}, {"name": "requests", "metric_type": "counter"}):
        body = BATTERY | changes
        if body["data_type"] != "numeric":
            body = {name: value for name, value in body.items() if name not in ("min_value", "max_value")}
        assert sender.post("metrics", body).status == 201
    return sender


# --- E2-US1: create ----------------------------------------------------------------------------------


@pytest.mark.parametrize("prefix", [API, "/api/v1"])
def test_e2_us1_ac1_the_endpoint_accepts_a_definition(sender: ApiClient, prefix: str) -> None:
    assert sender.post(f"{prefix}/metrics", BATTERY).status == 201


@pytest.mark.parametrize("name", ["name", "data_type"])
def test_e2_us1_ac2_name_and_data_type_are_required(sender: ApiClient, name: str) -> None:
    response = sender.post("metrics", {key: value for key, value in BATTERY.items() if key != name})
    assert response.status == 400
    assert names(response.json["errors"], "field") == [name]


def test_e2_us1_ac3_description_type_unit_and_bounds_are_optional(sender: ApiClient) -> None:
    minimal = sender.post("metrics", {"name": "bare", "data_type": "numeric"}).json
    assert (minimal["description"], minimal["metric_type"], minimal["unit"]) == ("", "gauge", "")
    assert (minimal["min_value"], minimal["max_value"]) == (None, None)
    full = sender.post("metrics", BATTERY).json
    assert {name: full[name] for name in BATTERY} == BATTERY


def test_e2_us1_ac4_retention_interval_tags_and_metadata_are_optional(sender: ApiClient) -> None:
    minimal = sender.post("metrics", {"name": "bare", "data_type": "numeric"}).json
    assert (minimal["retention_days"], minimal["tags"], minimal["metadata"]) == (90, [], {})
    optional_fields = {
        "retention_days": 30,
        "aggregation_interval": 300,
        "tags": ["power"],
        "metadata": {"owner": "ops"},
    }
    full = sender.post("metrics", BATTERY | optional_fields).json
    assert {name: full[name] for name in optional_fields} == optional_fields


def test_e2_us1_ac5_a_name_is_unique(three_definitions: ApiClient) -> None:
    response = three_definitions.post("metrics", BATTERY)
    assert response.status in (400, 409)
    assert "battery_level" in response.json["detail"] or "name" in response.json["detail"]


def test_e2_us1_ac7_create_returns_the_definition_with_its_metric_id(sender: ApiClient) -> None:
    definition = sender.post("metrics", BATTERY).json
    assert definition["metric_id"].startswith("met_")
    assert definition["created_at"] and definition["updated_at"] and definition["created_by"]


# --- E2-US2: list ------------------------------------------------------------------------------------


def test_e2_us2_ac1_list_contains_every_definition(three_definitions: ApiClient) -> None:
    assert names(three_definitions.get("metrics").json["metrics"], "name") == ["battery_level", "door", "requests"]


def test_e2_us2_ac2_the_list_is_filtered_by_data_type_and_metric_type(three_definitions: ApiClient) -> None:
    assert names(three_definitions.get("metrics?data_type=boolean").json["metrics"], "name") == ["door"]
    assert names(three_definitions.get("metrics?metric_type=counter").json["metrics"], "name") == ["requests"]


def test_e2_us2_ac3_list_has_pages(three_definitions: ApiClient) -> None:
    assert names(three_definitions.get("metrics?limit=2").json["metrics"], "name") == ["battery_level", "door"]
    assert names(three_definitions.get("metrics?limit=2&offset=2").json["metrics"], "name") == ["requests"]


def test_e2_us2_ac4_list_returns_count_and_filters(three_definitions: ApiClient) -> None:
    page = three_definitions.get("metrics?data_type=numeric&limit=1").json
    assert (page["count"], page["total"], page["limit"], page["offset"]) == (1, 2, 1, 0)
    assert page["filters"]["data_type"] == "numeric"


@pytest.mark.slow
def test_e2_us2_ac5_list_takes_less_than_100_ms(three_definitions: ApiClient) -> None:
    within(0.1, lambda: three_definitions.get("metrics"))


# --- E2-US3: get -------------------------------------------------------------------------------------


def test_e2_us3_ac1_a_definition_is_found_by_its_name(three_definitions: ApiClient) -> None:
    definition = three_definitions.get("metrics/battery_level").json
    assert {name: definition[name] for name in BATTERY} == BATTERY


def test_e2_us3_ac2_unknown_name_returns_404(three_definitions: ApiClient) -> None:
    response = three_definitions.get("metrics/no_such_metric")
    assert response.status == 404
    assert "no_such_metric" in response.json["detail"]


@pytest.mark.slow
def test_e2_us3_ac3_get_takes_less_than_50_ms(three_definitions: ApiClient) -> None:
    within_once(0.05, lambda: three_definitions.get("metrics/battery_level"))


# --- E2-US4: delete ----------------------------------------------------------------------------------


def test_e2_us4_ac1_deleting_removes_the_definition(three_definitions: ApiClient) -> None:
    assert three_definitions.call("DELETE", "metrics/battery_level").status == 200
    assert three_definitions.get("metrics/battery_level").status == 404


@pytest.mark.slow
def test_e2_us4_ac2_deleting_a_definition_keeps_its_data(three_definitions: ApiClient) -> None:
    assert three_definitions.post("devices/d/telemetry", point("battery_level", 50)).status == 200
    three_definitions.call("DELETE", "metrics/battery_level")
    assert three_definitions.get("devices/d/metrics/battery_level/latest").json["value"] == 50


def test_e2_us4_ac3_unknown_name_returns_404(three_definitions: ApiClient) -> None:
    assert three_definitions.call("DELETE", "metrics/no_such_metric").status == 404


def test_e2_us4_ac4_delete_returns_success(three_definitions: ApiClient) -> None:
    assert three_definitions.call("DELETE", "metrics/battery_level").json["success"] is True
