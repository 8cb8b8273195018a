"""Ingestion (PRD epic 1), and reading of latest points, metrics and ranges (epic 3)."""

import base64
import json
from datetime import UTC, datetime, timedelta

import pytest
from django.test import override_settings

from ingest.models import ApiKey
from metrics.models import Device, Journal, MetricDefinition
from metrics.storage import series_registry
from metrics.storage.connection import read_connection
from rest.caller import Scope
from tests.conftest import ApiClient, point, stamp


def latest(caller: ApiClient, device_id: str, metric: str):
    return caller.get(f"devices/{device_id}/metrics/{metric}/latest").json


@pytest.mark.parametrize("prefix", ["/api/v1/telemetry", "/api/v1"])
def test_e1_us1_single_point_is_stored_and_confirmed(admin: ApiClient, prefix: str):
    body = point(unit="celsius", tags={"location": "room_1"}, metadata={"firmware": "1.2"})
    response = admin.post(f"{prefix}/devices/device_001/telemetry", body)
    assert (response.status, response.json) == (
        200,
        {
            "success": True,
            "message": "Data point ingested successfully",
            "device_id": "device_001",
            "metric_name": "temperature",
        },
    )
    stored = latest(admin, "device_001", "temperature")
    assert datetime.fromisoformat(stored.pop("timestamp")) == datetime.fromisoformat(body["timestamp"])
    assert stored == {
        "device_id": "device_001",
        "metric_name": "temperature",
        "value": 25.5,
        "unit": "celsius",
        "tags": {"location": "room_1"},
        "metadata": {"firmware": "1.2"},
    }


@pytest.mark.parametrize("value", [25.5, -3, 0, True, False, "open", "", {"a": [1, {"b": None}]}, [1, "x"], 1e300])
def test_e1_us1_ac3_value_is_returned_as_sent(admin: ApiClient, value):
    assert admin.post("devices/d/telemetry", point(value=value)).status == 200
    returned = latest(admin, "d", "temperature")["value"]
    assert returned == value and isinstance(returned, bool) is isinstance(value, bool)


def test_undefined_metric_may_change_its_data_type(admin: ApiClient):
    for ago, value in ((3, 1.5), (2, "broken"), (1, True)):
        admin.post("devices/d/telemetry", point("m", value, ago))
    assert latest(admin, "d", "m")["value"] is True
    response = admin.get("devices/d/metrics/m/range?time_range=1h").json
    assert [point_row["value"] for point_row in response["data_points"]] == [1.5, "broken", True]


def test_defined_geolocation_and_binary_values_are_accepted(admin: ApiClient):
    MetricDefinition.objects.create(name="place", data_type="geolocation")
    MetricDefinition.objects.create(name="image", data_type="binary")
    series_registry.refresh_registry()
    picture = base64.b64encode(b"\x89PNG\0").decode()
    valid_points = [point("place", {"lat": 54.3, "lon": 10.1}), point("image", picture)]
    assert admin.post("devices/d/telemetry/batch", {"data_points": valid_points}).json["failed_count"] == 0
    assert latest(admin, "d", "place")["value"] == {"latitude": 54.3, "longitude": 10.1}
    assert latest(admin, "d", "image")["value"] == picture
    invalid_points = [
        point("place", {"lat": 91, "lon": 0}),
        point("place", 5),
        point("image", "***"),
        point("image", 1),
    ]
    response = admin.post("devices/d/telemetry/batch", {"data_points": invalid_points})
    assert response.status == 422 and [error["field"] for error in response.json["errors"]] == ["value"] * 4


def test_e1_us2_batch_response_has_counts(admin: ApiClient):
    points = [point("temperature", 25.5), point("humidity", 60)]
    response = admin.post("devices/d/telemetry/batch", {"data_points": points, "compression": None, "batch_id": "b1"})
    assert response.json == {
        "success": True,
        "ingested_count": 2,
        "failed_count": 0,
        "total_count": 2,
        "errors": [],
    }
    assert admin.get("devices/d/metrics").json == ["humidity", "temperature"]


def test_e1_us2_ac4_repeated_batch_id_is_stored_once_with_the_same_response(admin: ApiClient):
    body = {"data_points": [point("m", 1.0), point("m", None)], "batch_id": "b"}
    first = admin.post("devices/d/telemetry/batch", body)
    admin.post("devices/d/telemetry/batch", {"data_points": [body["data_points"][0] | {"value": 2.0}]})
    second = admin.post("devices/d/telemetry/batch", body)
    assert second.json == first.json and first.json["failed_count"] == 1
    assert latest(admin, "d", "m")["value"] == 2.0  # the retry was not stored again
    admin.post("devices/other/telemetry/batch", {"data_points": [point("m", 3.0)], "batch_id": "b"})
    assert latest(admin, "other", "m")["value"] == 3.0


def test_fully_rejected_batch_can_be_sent_again_with_its_id(admin: ApiClient):
    assert admin.post("devices/d/telemetry/batch", {"data_points": [point("m", None)], "batch_id": "b"}).status == 422
    assert admin.post("devices/d/telemetry/batch", {"data_points": [point("m", 1.0)], "batch_id": "b"}).status == 200


def test_e1_us3_bulk_response_has_a_result_per_device(admin: ApiClient):
    response = admin.post("bulk", {"d1": [point("temp", 25)], "d2": [point("temp", 26), point("temp", "x" * 70_000)]})
    assert response.status == 200
    results = response.json["results"]
    assert results["d1"]["ingested_count"] == 1 and results["d2"]["failed_count"] == 1
    assert response.json["errors"][0]["device_id"] == "d2" and response.json["errors"][0]["index"] == 1
    assert (latest(admin, "d1", "temp")["value"], latest(admin, "d2", "temp")["value"]) == (25.0, 26.0)


def test_e1_us4_later_value_of_the_same_time_replaces_the_earlier(admin: ApiClient):
    at = stamp(10)
    rows = [{"timestamp": at, "metric_name": "m", "value": value} for value in (1.0, 2.0, 3.0)]
    assert admin.post("devices/d/telemetry/batch", {"data_points": rows}).json["ingested_count"] == 3
    assert [row["value"] for row in admin.get("devices/d/metrics/m/range").json["data_points"]] == [3.0]
    admin.post("devices/d/telemetry", {"timestamp": at, "metric_name": "m", "value": 4.0})
    assert [row["value"] for row in admin.get("devices/d/metrics/m/range").json["data_points"]] == [4.0]


def test_points_out_of_bounds_are_reported(admin: ApiClient):
    MetricDefinition.objects.create(name="battery", data_type="numeric", min_value=0, max_value=100)
    series_registry.refresh_registry()
    points = [point("battery", value, ago) for ago, value in enumerate((50, -1, 101, 100))]
    response = admin.post("devices/d/telemetry/batch", {"data_points": points})
    assert response.json["ingested_count"] == 2
    assert [(error["index"], error["detail"]) for error in response.json["errors"]] == [
        (1, "-1 is below the minimum 0 of battery"),
        (2, "101 is above the maximum 100 of battery"),
    ]


@pytest.mark.parametrize(
    ("data_type", "valid", "invalid"),
    [("numeric", 1, "x"), ("numeric", 1.5, True), ("boolean", True, 1), ("string", "x", 1), ("json", [1], None)],
)
def test_value_of_the_wrong_data_type_is_reported(admin: ApiClient, data_type, valid, invalid):
    MetricDefinition.objects.create(name="m", data_type=data_type)
    series_registry.refresh_registry()
    response = admin.post("devices/d/telemetry/batch", {"data_points": [point("m", valid), point("m", invalid)]})
    assert (response.json["ingested_count"], response.json["errors"][0]["index"]) == (1, 1)


def test_retention_of_a_definition_decides_which_points_are_too_old(admin: ApiClient):
    MetricDefinition.objects.create(name="short", data_type="numeric", retention_days=2)
    MetricDefinition.objects.create(name="long", data_type="numeric", retention_days=3650)
    series_registry.refresh_registry()
    age = 100 * 86400
    points = [point("short", 1, 3 * 86400), point("short", 1, 86400), point("long", 1, age), point("other", 1, age)]
    response = admin.post("devices/d/telemetry/batch", {"data_points": points})
    assert [error["index"] for error in response.json["errors"]] == [0, 3]
    assert "older than the retention of short: at most 2 days are accepted" in response.json["errors"][0]["detail"]


@override_settings(CREATE_ON_FIRST_SIGHT=False)
def test_unknown_devices_and_metrics_are_rejected_without_automatic_creation(admin: ApiClient):
    MetricDefinition.objects.create(name="known", data_type="numeric")
    Device.objects.create(device_id="mine")
    series_registry.refresh_registry()
    body = {"mine": [point("known", 1), point("unknown", 1)], "stranger": [point("known", 1)]}
    response = admin.post("bulk", body)
    assert response.status == 200 and response.json["ingested_count"] == 1
    assert not Device.objects.filter(device_id="stranger").exists()
    assert {error["device_id"] for error in response.json["errors"]} == {"mine", "stranger"}


def test_device_key_writes_and_reads_only_its_device(device: ApiClient, admin: ApiClient):
    assert device.post("devices/device_001/telemetry", point()).status == 200
    assert device.get("devices/device_001/metrics/temperature/latest").status == 200
    assert device.post("devices/device_002/telemetry", point()).status == 403
    assert device.post("devices/device_002/telemetry/batch", {"data_points": [point()]}).status == 403
    assert device.get("devices/device_002/metrics/temperature/latest").status == 403
    assert device.get("devices/device_002/metrics").status == 403
    assert device.get("devices/device_002/metrics/m/range").status == 403
    assert device.post("latest", {}).status == 403
    response = device.post("bulk", {"device_001": [point()], "device_002": [point()]})
    assert response.status == 200 and response.json["results"]["device_002"]["failed_count"] == 1
    assert device.post("bulk", {"device_002": [point()]}).status == 403
    assert not Device.objects.filter(device_id="device_002").exists()


def test_ingest_scope_cannot_read_and_read_scope_cannot_write(gateway: ApiClient, reader: ApiClient):
    assert gateway.post("devices/any/telemetry", point()).status == 200
    assert gateway.get("devices/any/metrics/temperature/latest").status == 403
    assert reader.get("devices/any/metrics/temperature/latest").status == 200
    assert reader.post("devices/any/telemetry", point()).status == 403
    assert reader.post("bulk", {"any": [point()]}).status == 403


def test_request_without_a_key_is_rejected_with_401(anonymous: ApiClient):
    for header in ({}, {"X-Api-Key": "tk_wrong"}, {"Authorization": "Bearer tk_wrong"}, {"X-Internal-Call": "true"}):
        for method, path in (
            ("POST", "devices/d/telemetry"),
            ("POST", "devices/d/telemetry/batch"),
            ("POST", "bulk"),
            ("POST", "latest"),
            ("GET", "devices/d/metrics/m/latest"),
            ("GET", "devices/d/metrics/m/range"),
            ("GET", "devices/d/metrics"),
        ):
            response = anonymous.call(method, path, None if method == "GET" else {}, **header)
            assert response.status in (401, 403), (path, header)
            assert response.status == 401 or not header


def test_revoked_or_expired_key_is_rejected(gateway: ApiClient):
    assert gateway.post("devices/d/telemetry", point()).status == 200
    key = ApiKey.objects.get(scope=Scope.INGEST)
    key.revoked_at = datetime.now(UTC)
    key.save()
    series_registry.refresh_registry()
    assert gateway.post("devices/d/telemetry", point()).status == 401
    key.revoked_at, key.expires_at = None, datetime.now(UTC) - timedelta(seconds=1)
    key.save()
    series_registry.refresh_registry()
    assert gateway.post("devices/d/telemetry", point()).status == 401


def test_key_is_accepted_as_bearer_token(gateway: ApiClient, anonymous: ApiClient):
    headers = {"Authorization": f"Bearer {gateway.headers['X-Api-Key']}"}
    assert anonymous.call("POST", "devices/d/telemetry", point(), **headers).status == 200


def test_keys_are_stored_as_hashes_only(gateway: ApiClient):
    key = gateway.headers["X-Api-Key"]
    with read_connection() as connection:
        [row] = connection.execute("SELECT row_to_json(k)::text FROM ingest_apikey k").fetchall()
    assert key not in row[0] and key[8:] not in row[0]


def test_each_request_has_an_entry_in_the_journal(admin: ApiClient):
    admin.post("devices/d/telemetry/batch", {"data_points": [point("m", 1.0), point("m", None)], "batch_id": "b7"})
    [entry] = [item for item in json.loads(Journal.objects.get().entries) if item["sender"] != "audit"]
    assert entry["points"] == 1 and entry["rejected"] == 1 and entry["batch_id"] == "b7" and entry["device_id"] == "d"
    assert entry["sender"].startswith("key:")


def test_e3_us2_latest_uses_the_measured_time_within_the_lookback(admin: ApiClient):
    admin.post("devices/d/telemetry", point("m", 2.0, seconds_ago=60))
    admin.post("devices/d/telemetry", point("m", 1.0, seconds_ago=3600))
    assert latest(admin, "d", "m")["value"] == 2.0
    admin.post("devices/d/telemetry", point("old", 1.0, seconds_ago=2 * 86400))
    assert admin.get("devices/d/metrics/old/latest").status == 404
    assert admin.get("devices/d/metrics/old/latest?lookback=604800").json["value"] == 1.0
    assert admin.get("devices/d/metrics/never/latest").status == 404


def test_latest_of_many_series_takes_one_request(admin: ApiClient):
    admin.post("bulk", {d: [point(m, 1.0) for m in ("a", "b")] for d in ("d1", "d2", "d3")})
    series = admin.post("latest", {"metrics": ["a"], "devices": ["d1", "d3", "d9"]}).json["series"]
    assert [(row["device_id"], row["metric_name"]) for row in series] == [("d1", "a"), ("d3", "a")]
    assert len(admin.post("latest", {}).json["series"]) == 6
    assert admin.post("latest", {"metrics": 5}).status == 400


def test_e3_us3_device_without_data_has_no_metrics(admin: ApiClient):
    response = admin.get("devices/nobody/metrics")
    assert (response.status, response.json) == (200, [])


@pytest.mark.parametrize("time_range", ["1h", "6h", "24h", "7d", "30d", "90d"])
def test_e3_us4_range_returns_the_points_within_it(admin: ApiClient, time_range: str):
    ages = [60, 2 * 3600, 12 * 3600, 3 * 86400, 20 * 86400, 80 * 86400]
    admin.post("devices/d/telemetry/batch", {"data_points": [point("m", float(age), age) for age in ages]})
    response = admin.get(f"devices/d/metrics/m/range?time_range={time_range}").json
    expected = ages[: ["1h", "6h", "24h", "7d", "30d", "90d"].index(time_range) + 1]
    assert [row["value"] for row in response["data_points"]] == sorted(map(float, expected), reverse=True)
    assert response["count"] == len(expected) and response["device_id"] == "d" and response["metric_name"] == "m"


def test_downsampled_range_keeps_the_extremes(admin: ApiClient):
    rows = [point("m", 1000.0 if n == 777 else float(n % 7), n) for n in range(1000)]
    admin.post("devices/d/telemetry/batch", {"data_points": rows})
    response = admin.get("devices/d/metrics/m/range?time_range=1h&max_points=50&columns=true").json
    assert len(response["times"]) == len(response["values"]) <= 54
    assert max(response["values"]) == 1000.0 and response["times"] == sorted(response["times"])


def test_invalid_range_is_rejected(admin: ApiClient):
    for query in ("time_range=2h", "start_time=x", "max_points=0", f"start_time={stamp(-100)}&end_time={stamp()}"):
        response = admin.get(f"devices/d/metrics/m/range?{query.replace('+', '%2B')}")
        assert response.status == (422 if "end_time" in query else 400) and response.json["errors"], query


def test_device_ids_and_metrics_may_contain_slashes_and_spaces(admin: ApiClient):
    assert admin.post("devices/site%2Fgw%201/telemetry", point("disk/free space", 1.0)).status == 200
    latest_point = admin.get("devices/site%2Fgw%201/metrics/disk%2Ffree%20space/latest").json
    assert (latest_point["device_id"], latest_point["metric_name"]) == ("site/gw 1", "disk/free space")


def test_staff_user_may_send_points_but_not_from_another_site(administrator: ApiClient):
    assert administrator.post("devices/d/telemetry", point()).status == 200
    del administrator.headers["X-CSRFToken"]
    assert administrator.post("devices/d/telemetry", point()).status == 403


def test_response_of_a_thousand_points_is_complete(admin: ApiClient):
    rows = [point(f"m{n % 10}", float(n), n // 10) for n in range(1000)]
    assert admin.post("devices/d/telemetry/batch", {"data_points": rows}).json["ingested_count"] == 1000
    response = admin.get("devices/d/metrics/m3/range?time_range=1h").json
    assert json.dumps([row["value"] for row in response["data_points"]]) == json.dumps(
        [float(n) for n in range(993, -1, -10)]
    )


def test_timestamp_over_five_minutes_in_the_future_is_rejected(admin: ApiClient):
    response = admin.post("devices/d/telemetry/batch", {"data_points": [point("m", 1, -290), point("m", 1, -310)]})
    assert [error["index"] for error in response.json["errors"]] == [1]


def test_bulk_names_the_device_with_an_empty_id(admin: ApiClient):
    for bad in (point("m", 1.0), point("m", None)):
        for devices in ({"good": [point("m", 1.0)], "": [bad]}, {"": [bad], "good": [point("m", 1.0)]}):
            response = admin.post("bulk", devices)
            assert response.status == 200, response.raw
            results = response.json["results"]
            assert (results["good"]["ingested_count"], results["good"]["failed_count"]) == (1, 0), results
            assert (results[""]["ingested_count"], results[""]["failed_count"]) == (0, 1), results
            assert results["good"]["errors"] == [] and len(results[""]["errors"]) == 1
