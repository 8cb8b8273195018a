"""PRD epic 3, criterion by criterion: time-series data query."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tests.conftest import API, ApiClient, point
from tests.prd.conftest import names, within, within_once

END = datetime.now(UTC).replace(microsecond=0)
LATEST = "devices/device_001/metrics/temperature/latest"
RANGE = "devices/device_001/metrics/temperature/range"


@pytest.fixture
def week(sender: ApiClient) -> ApiClient:
    """A week of two metrics of two devices, a point every ten minutes."""
    for device in ("device_001", "device_002"):
        for metric in ("temperature", "humidity"):
            points = [
                {"timestamp": (END - timedelta(minutes=10 * n)).isoformat(), "metric_name": metric, "value": n % 7}
                for n in range(1000)
            ]
            points[0] |= {"unit": "celsius", "tags": {"room": "1"}}
            assert sender.post(f"devices/{device}/telemetry/batch", {"data_points": points}).status == 200
    return sender


def query_body(**changes: Any) -> dict[str, Any]:
    start = END - timedelta(days=1)
    return {"metrics": ["temperature"], "start_time": start.isoformat(), "end_time": END.isoformat()} | changes


# --- E3-US1: query -----------------------------------------------------------------------------------


@pytest.mark.parametrize("prefix", [API, "/api/v1"])
def test_e3_us1_ac1_endpoint_accepts_a_query(week: ApiClient, prefix: str) -> None:
    assert week.post(f"{prefix}/query", query_body()).status == 200


@pytest.mark.parametrize("name", ["metrics", "start_time", "end_time"])
def test_e3_us1_ac2_metrics_start_and_end_are_required(week: ApiClient, name: str) -> None:
    body = query_body()
    del body[name]
    response = week.post("query", body)
    assert response.status == 400
    assert names(response.json["errors"], "field") == [name]


def test_e3_us1_ac3_devices_aggregation_interval_filters_and_limit_are_optional(week: ApiClient) -> None:
    body = query_body(
        devices=["device_001"], aggregation="max", interval=3600, filters={"min_value": 1, "max_value": 4}, limit=5
    )
    result = week.post("query", body).json
    assert result["count"] == 5
    assert all(1 <= row["value"] <= 4 for row in result["data_points"])


@pytest.mark.parametrize("aggregation", ["avg", "min", "max", "sum", "count"])
def test_e3_us1_ac4_aggregations_are_avg_min_max_sum_and_count(week: ApiClient, aggregation: str) -> None:
    result = week.post("query", query_body(devices=["device_001"], aggregation=aggregation, interval=86400 * 30)).json
    values = [n % 7 for n in range(1, 145)]  # from a day ago to before END
    expected = {"avg": sum(values) / 144, "min": min(values), "max": max(values), "sum": sum(values), "count": 144}
    assert [row["value"] for row in result["data_points"]] == [pytest.approx(expected[aggregation])]


def test_e3_us1_ac5_response_has_points_and_query(week: ApiClient) -> None:
    result = week.post("query", query_body(devices=["device_001"], aggregation="avg", interval=3600)).json
    assert (result["device_id"], result["metric_name"]) == ("device_001", "temperature")
    assert (result["aggregation"], result["interval"], result["count"]) == ("avg", 3600, len(result["data_points"]))
    assert {"timestamp", "metric_name", "value", "unit"} <= set(result["data_points"][0])
    assert datetime.fromisoformat(result["end_time"]) == END


@pytest.mark.slow
def test_e3_us1_ac6_query_of_a_week_takes_less_than_500_ms(week: ApiClient) -> None:
    body = query_body(devices=["device_001"], start_time=(END - timedelta(days=7)).isoformat())
    within(0.5, lambda: week.post("query", body))


def test_e3_us1_ac7_response_has_at_most_10000_points(week: ApiClient) -> None:
    assert week.post("query", query_body(limit=10_000)).status == 200
    response = week.post("query", query_body(limit=10_001))
    assert response.status == 400
    assert names(response.json["errors"], "field") == ["limit"]


# --- E3-US2: latest ----------------------------------------------------------------------------------


def test_e3_us2_ac1_endpoint_returns_200(week: ApiClient) -> None:
    latest = week.get(LATEST).json
    assert (latest["device_id"], latest["metric_name"], latest["unit"]) == ("device_001", "temperature", "celsius")


def test_e3_us2_ac2_the_most_recent_point_is_returned(week: ApiClient) -> None:
    week.post("devices/device_001/telemetry", point(value=99, seconds_ago=3600))
    latest = week.get(LATEST).json
    assert (latest["value"], latest["tags"]) == (0, {"room": "1"})
    assert datetime.fromisoformat(latest["timestamp"]) == END


def test_e3_us2_ac3_lookback_is_24_hours(sender: ApiClient) -> None:
    sender.post("devices/device_001/telemetry", point(seconds_ago=86_400 + 60))
    assert sender.get(LATEST).status == 404
    assert sender.get(f"{LATEST}?lookback=90000").status == 200
    sender.post("devices/device_001/telemetry", point(seconds_ago=86_400 - 60))
    assert sender.get(LATEST).status == 200


def test_e3_us2_ac4_series_without_data_returns_404(sender: ApiClient) -> None:
    response = sender.get(LATEST)
    assert response.status == 404
    assert "temperature" in response.json["detail"]


@pytest.mark.slow
def test_e3_us2_ac5_latest_value_takes_less_than_50_ms(week: ApiClient) -> None:
    within_once(0.05, lambda: week.get(LATEST))


# --- E3-US3: metrics of a device ---------------------------------------------------------------------


def test_e3_us3_ac1_the_metric_names_of_a_device_are_returned(week: ApiClient) -> None:
    assert week.get("devices/device_001/metrics").json == ["humidity", "temperature"]


def test_e3_us3_ac2_names_are_unique(sender: ApiClient) -> None:
    for value in (1, "text", True, {"a": 1}):
        sender.post("devices/d/telemetry", point("m", value))
    assert sender.get("devices/d/metrics").json == ["m"]


def test_e3_us3_ac3_list_without_data_is_empty(sender: ApiClient) -> None:
    response = sender.get("devices/nobody/metrics")
    assert (response.status, response.json) == (200, [])


@pytest.mark.slow
def test_e3_us3_ac4_list_takes_less_than_100_ms(week: ApiClient) -> None:
    within(0.1, lambda: week.get("devices/device_001/metrics"))


# --- E3-US4: named ranges ----------------------------------------------------------------------------


def test_e3_us4_ac1_endpoint_returns_200(week: ApiClient) -> None:
    assert week.get(RANGE).json["count"] > 0


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "days"), [("1h", 1 / 24), ("6h", 0.25), ("24h", 1), ("7d", 7), ("30d", 30), ("90d", 90)]
)
def test_e3_us4_ac2_time_range_accepts_named_ranges(week: ApiClient, name: str, days: float) -> None:
    result = week.get(f"{RANGE}?time_range={name}").json
    expected = min(1000, int(days * 144) + 1)
    assert abs(result["count"] - expected) <= 1
    assert week.get(f"{RANGE}?time_range=2h").status == 400


@pytest.mark.slow
def test_e3_us4_ac3_aggregation_and_interval_are_optional(week: ApiClient) -> None:
    result = week.get(f"{RANGE}?time_range=24h&aggregation=max&interval=7200").json
    assert (result["aggregation"], result["interval"]) == ("max", 7200)
    assert max(names(result["data_points"], "value")) == 6


@pytest.mark.slow
def test_e3_us4_ac4_response_equals_that_of_a_query(week: ApiClient) -> None:
    assert set(week.get(RANGE).json) == set(week.post("query", query_body(devices=["device_001"])).json)


@pytest.mark.slow
def test_e3_us4_ac5_range_of_a_day_takes_less_than_200_ms(week: ApiClient) -> None:
    within(0.2, lambda: week.get(f"{RANGE}?time_range=24h"))


# --- E3-US5: aggregated ------------------------------------------------------------------------------


def aggregated_path(**changes: Any) -> str:
    start, end = (moment.strftime("%Y-%m-%dT%H:%M:%SZ") for moment in (END - timedelta(days=1), END))
    parameters = {"metric_name": "temperature", "aggregation_type": "avg", "interval": 3600}
    parameters |= {"start_time": start, "end_time": end} | changes
    return "aggregated?" + "&".join(f"{name}={value}" for name, value in parameters.items() if value is not None)


@pytest.mark.slow
def test_e3_us5_ac1_endpoint_returns_200(week: ApiClient) -> None:
    assert week.get(aggregated_path()).json["count"] in (24, 25)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["metric_name", "aggregation_type", "interval", "start_time", "end_time"])
def test_e3_us5_ac2_metric_aggregation_interval_start_and_end_are_required(week: ApiClient, name: str) -> None:
    response = week.get(aggregated_path(**{name: None}))
    assert response.status == 400
    assert names(response.json["errors"], "field") == [name]


@pytest.mark.slow
def test_e3_us5_ac3_all_devices_are_aggregated_by_default(week: ApiClient) -> None:
    all_devices = week.get(aggregated_path(aggregation_type="count", interval=86400 * 30)).json
    one_device = week.get(aggregated_path(aggregation_type="count", interval=86400 * 30, device_id="device_001")).json
    assert (all_devices["device_id"], one_device["device_id"]) == (None, "device_001")
    assert sum(names(all_devices["data_points"], "value")) == 2 * sum(names(one_device["data_points"], "value"))


def test_e3_us5_ac4_response_has_the_documented_fields(week: ApiClient) -> None:
    result = week.get(aggregated_path()).json
    assert (result["metric_name"], result["aggregation_type"], result["interval"]) == ("temperature", "avg", 3600)
    assert {"timestamp", "value", "count"} <= set(result["data_points"][0])


@pytest.mark.slow
def test_e3_us5_ac5_aggregation_takes_less_than_300_ms(week: ApiClient) -> None:
    within(0.3, lambda: week.get(aggregated_path()))
