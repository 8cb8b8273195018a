"""PRD E2: metric definitions over REST."""

from concurrent.futures import ThreadPoolExecutor

import pytest
from django.db import connection

from metrics.models import MetricDefinition
from metrics.storage import series_registry
from tests.conftest import ApiClient, point

BATTERY = {
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
def battery(admin: ApiClient) -> ApiClient:
    assert admin.post("metrics", BATTERY).status == 201
    return admin


def test_e2_us1_create_stores_every_field(admin: ApiClient):
    response = admin.post("metrics", BATTERY)
    assert response.status == 201
    assert {name: response.json[name] for name in BATTERY} == BATTERY
    assert (
        response.json["metric_id"].startswith("met_")
        and response.json["tags"] == []
        and response.json["metadata"] == {}
    )
    assert response.json["created_by"].endswith("admin of all") and response.json["created_at"]


def test_e2_us1_ac2_create_requires_only_name_and_data_type(admin: ApiClient):
    response = admin.post("metrics", {"name": "state", "data_type": "string"})
    assert response.status == 201
    assert (response.json["metric_type"], response.json["retention_days"]) == ("gauge", 90)


def test_e2_us1_ac5_concurrent_creates_of_one_name_succeed_once(admin: ApiClient):
    with ThreadPoolExecutor(8) as pool:
        responses = list(pool.map(lambda _: admin.post("metrics", BATTERY), range(8)))
    assert sorted(response.status for response in responses) == [201] + [400] * 7
    rejected = next(response for response in responses if response.status == 400)
    assert rejected.json["errors"] == [{"field": "name", "detail": "a metric of this name is already defined"}]
    assert MetricDefinition.objects.count() == 1


@pytest.mark.parametrize(
    ("change", "field", "accepted"),
    [
        ({"name": ""}, "name", "blank"),
        ({"name": "a\tb"}, "name", "control characters"),
        ({"name": "x" * 201}, "name", "200"),
        ({"name": "nul\0"}, "name", "control characters"),
        ({"name": None}, "name", "null"),
        ({"data_type": "number"}, "data_type", "numeric, string, boolean, json, geolocation, binary are accepted"),
        ({"metric_type": "guage"}, "metric_type", "gauge, counter, histogram, summary are accepted"),
        ({"retention_days": 0}, "retention_days", "greater than or equal to 1"),
        ({"retention_days": 3651}, "retention_days", "3650"),
        ({"retention_days": "long"}, "retention_days", "integer"),
        ({"rollup_5m_days": 100, "rollup_1h_days": 99}, "rollup_1h_days", "rollup_5m_days"),
        ({"min_value": 101}, "min_value", "not be greater than max_value"),
        ({"min_value": "low"}, "min_value", "number"),
        ({"data_type": "string"}, "min_value", "requires data_type numeric"),
        ({"tags": "a"}, "tags", "list"),
        ({"tags": [1, {}]}, "tags.1", "string"),
        ({"metadata": []}, "metadata", "dictionary"),
        ({"unit": "u" * 51}, "unit", "50"),
        ({"colour": "red"}, "colour", "not a known field"),
    ],
)
def test_invalid_definition_is_rejected_with_the_field_and_accepted_values(admin: ApiClient, change, field, accepted):
    response = admin.post("metrics", BATTERY | change)
    is_whole = any(
        text in accepted for text in ("not a known field", "together", "requires", "greater than max", "_days")
    )
    assert response.status == (422 if is_whole else 400)
    assert any(error["field"] == field and accepted in error["detail"] for error in response.json["errors"]), (
        response.json
    )
    assert not MetricDefinition.objects.exists()


@pytest.mark.parametrize("body", [b"[]", b"1", b'"text"', b"{", b"null", b""])
def test_body_other_than_object_is_rejected(admin: ApiClient, body: bytes):
    assert admin.post("metrics", body).status == 400


def test_e2_us2_list_has_filters_and_pages(admin: ApiClient):
    for number in range(5):
        kind = "string" if number % 2 else "numeric"
        admin.post("metrics", {"name": f"m{number}", "data_type": kind, "description": f"about {number}"})
    page = admin.get("metrics?data_type=numeric&limit=2&offset=1").json
    assert [definition["name"] for definition in page["metrics"]] == ["m2", "m4"]
    assert (page["count"], page["total"], page["limit"], page["offset"]) == (2, 3, 2, 1)
    assert page["filters"]["data_type"] == "numeric" and page["filters"]["metric_type"] is None
    assert [definition["name"] for definition in admin.get("metrics?search=about%203").json["metrics"]] == ["m3"]


@pytest.mark.parametrize(
    ("query", "field"),
    [("data_type=x", "data_type"), ("limit=0", "limit"), ("limit=1001", "limit"), ("offset=-1", "offset")],
)
def test_invalid_list_parameter_is_rejected(admin: ApiClient, query: str, field: str):
    response = admin.get(f"metrics?{query}")
    assert response.status == 400 and response.json["errors"][0]["field"] == field


def test_e2_us3_get_returns_definition_by_name(battery: ApiClient):
    assert battery.get("metrics/battery_level").json["unit"] == "percent"
    assert battery.get("/api/v1/metrics/battery_level").status == 200
    missing = battery.get("metrics/nothing")
    assert missing.status == 404 and missing.json["detail"] == "nothing is not defined"


def test_name_with_slashes_is_found(admin: ApiClient):
    admin.post("metrics", {"name": "disk/free space", "data_type": "numeric"})
    assert admin.get("metrics/disk/free%20space").json["name"] == "disk/free space"


def test_e2_us4_delete_keeps_the_points(battery: ApiClient):
    battery.post("devices/d/telemetry", point("battery_level", 50))
    response = battery.call("DELETE", "metrics/battery_level")
    assert response.status == 200 and response.json["success"] is True
    assert battery.get("devices/d/metrics/battery_level/latest").json["value"] == 50
    assert battery.call("DELETE", "metrics/battery_level").status == 404


def test_change_applies_to_the_next_point(battery: ApiClient):
    changed = battery.call("PATCH", "metrics/battery_level", {"max_value": 40})
    assert changed.status == 200 and changed.json["max_value"] == 40 and changed.json["min_value"] == 0
    series_registry.refresh_registry()
    response = battery.post("devices/d/telemetry", point("battery_level", 50))
    assert response.status == 422 and "above the maximum 40" in response.json["detail"]


def test_changed_name_is_rejected(battery: ApiClient):
    response = battery.call("PATCH", "metrics/battery_level", {"name": "other"})
    assert response.status == 400 and "cannot be changed" in response.json["detail"]
    assert battery.call("PATCH", "metrics/battery_level", {"name": "battery_level", "unit": "%"}).json["unit"] == "%"


@pytest.mark.slow
def test_change_with_outdated_etag_is_rejected_with_412(battery: ApiClient):
    tag = battery.get("metrics/battery_level").headers["ETag"]
    assert battery.get("metrics/battery_level", If_None_Match=tag).status == 304
    assert battery.call("PATCH", "metrics/battery_level", {"unit": "%"}, If_Match=tag).status == 200
    late = battery.call("PATCH", "metrics/battery_level", {"unit": "V"}, If_Match=tag)
    assert late.status == 412 and "read it again" in late.json["detail"]
    assert battery.call("DELETE", "metrics/battery_level", If_Match=tag).status == 412
    assert battery.get("metrics/battery_level").json["unit"] == "%"
    assert battery.call("DELETE", "metrics/battery_level", If_Match="*").status == 200


def test_reading_needs_read_scope_and_changes_need_admin(
    battery: ApiClient, reader: ApiClient, gateway: ApiClient, anonymous: ApiClient
):
    assert reader.get("metrics").status == 200 and reader.get("metrics/battery_level").status == 200
    for caller, status in ((reader, 403), (gateway, 403), (anonymous, 401)):
        assert caller.post("metrics", BATTERY | {"name": "x"}).status == status
        assert caller.call("PATCH", "metrics/battery_level", {"unit": "x"}).status == status
        assert caller.call("DELETE", "metrics/battery_level").status == status


def test_created_by_is_the_name_of_the_person(administrator: ApiClient):
    assert administrator.post("metrics", BATTERY).json["created_by"] == "administrator"


def test_unknown_data_type_in_the_database_leaves_ingestion_running(battery: ApiClient):
    MetricDefinition.objects.filter(name="battery_level").update(data_type="decimal")
    with connection.cursor() as cursor:
        cursor.execute("UPDATE metrics_revision SET number = number + 1")
    series_registry.refresh_registry()
    points = [point("battery_level", 55.0), point("other", 1.0), point("battery_level", "full")]
    receipt = battery.post("devices/d/telemetry/batch", {"data_points": points}).json
    assert receipt["ingested_count"] == 2
    assert [error["index"] for error in receipt["errors"]] == [2]
    definition = battery.get("metrics/battery_level")
    assert (definition.status, definition.json["data_type"]) == (200, "decimal")
