"""PRD epic 1, criterion by criterion: telemetry data ingestion."""

import gzip
import json
from typing import Any

import lz4.frame
import pytest

from tests.conftest import ApiClient, ApiResponse, point, stamp
from tests.prd.conftest import within

SINGLE, BATCH = "devices/device_001/telemetry", "devices/device_001/telemetry/batch"


def latest(caller: ApiClient, metric: str = "temperature", device: str = "device_001") -> Any:
    return caller.get(f"devices/{device}/metrics/{metric}/latest").json["value"]


def fields(response: ApiResponse) -> set[str]:
    return {error["field"] for error in response.json["errors"]}


# --- E1-US1: a single data point ---------------------------------------------------------------------


def test_e1_us1_ac1_endpoint_accepts_a_single_point(sender: ApiClient) -> None:
    assert sender.post(f"/api/v1/telemetry/{SINGLE}", point(value=25.5)).status == 200
    assert sender.post(f"/api/v1/{SINGLE}", point(value=26.5)).status == 200
    assert latest(sender) == 26.5


@pytest.mark.parametrize("name", ["timestamp", "metric_name", "value"])
def test_e1_us1_ac2_point_requires_timestamp_metric_name_and_value(sender: ApiClient, name: str) -> None:
    body = point()
    del body[name]
    response = sender.post(SINGLE, body)
    assert response.status in (400, 422)
    assert fields(response) == {name}


@pytest.mark.parametrize("value", [25.5, "open", True, {"open": [1, 2]}])
def test_e1_us1_ac3_value_may_be_number_string_boolean_or_json(sender: ApiClient, value: Any) -> None:
    assert sender.post(SINGLE, point(value=value)).status == 200
    assert latest(sender) == value


def test_e1_us1_ac4_optional_unit_tags_and_metadata_are_stored(sender: ApiClient) -> None:
    optional_fields = {"unit": "celsius", "tags": {"location": "room_1"}, "metadata": {"firmware": "1.2"}}
    assert sender.post(SINGLE, point("bare")).status == 200
    assert sender.post(SINGLE, point("full", **optional_fields)).status == 200
    latest_point = sender.get("devices/device_001/metrics/full/latest").json
    assert {name: latest_point[name] for name in optional_fields} == optional_fields


def test_e1_us1_ac5_success_returns_200(sender: ApiClient) -> None:
    response = sender.post(SINGLE, point())
    assert response.status == 200
    assert response.json == {
        "success": True,
        "message": "Data point ingested successfully",
        "device_id": "device_001",
        "metric_name": "temperature",
    }


@pytest.mark.slow
def test_e1_us1_ac6_single_point_takes_less_than_100_ms(sender: ApiClient) -> None:
    within(0.1, lambda: sender.post(SINGLE, point()))


# --- E1-US2: batches ---------------------------------------------------------------------------------


def batch(count: int = 2, **fields: Any) -> dict[str, Any]:
    return {"data_points": [point(f"m{number}", number) for number in range(count)], **fields}


def test_e1_us2_ac1_endpoint_accepts_a_batch(sender: ApiClient) -> None:
    assert sender.post(BATCH, batch()).status == 200
    assert sender.get("devices/device_001/metrics").json == ["m0", "m1"]


def test_e1_us2_ac2_batch_over_1000_points_is_rejected(sender: ApiClient) -> None:
    assert sender.post(BATCH, batch(1000)).json["ingested_count"] == 1000
    response = sender.post(BATCH, batch(1001))
    assert response.status in (400, 413, 422)
    assert "1000" in response.json["detail"].replace(",", "")


def test_e1_us2_ac3_valid_points_of_a_batch_are_stored_and_counted(sender: ApiClient) -> None:
    response = sender.post(BATCH, {"data_points": [point("good", 1), point("bad", None), point("fine", 2)]})
    assert response.status == 200
    counts = ("success", "ingested_count", "failed_count", "total_count")
    assert [response.json[name] for name in counts] == [True, 2, 1, 3]
    assert sender.get("devices/device_001/metrics").json == ["fine", "good"]


def test_e1_us2_ac4_repeated_batch_id_is_stored_once(sender: ApiClient) -> None:
    body = batch(batch_id="batch_001")
    first = sender.post(BATCH, body)
    sender.post(BATCH, {"data_points": [body["data_points"][0] | {"value": 5}]})
    second = sender.post(BATCH, body)
    assert (second.status, second.json) == (200, first.json)
    assert latest(sender, "m0") == 5
    assert sender.post(BATCH, batch(3, batch_id="batch_001")).status == 409


@pytest.mark.parametrize(("coding", "compress"), [("gzip", gzip.compress), ("lz4", lz4.frame.compress)])
def test_e1_us2_ac5_compressed_batch_is_accepted(sender: ApiClient, coding: str, compress: Any) -> None:
    body = compress(json.dumps(batch()).encode())
    assert sender.post(BATCH, body, Content_Encoding=coding).json["ingested_count"] == 2


def test_e1_us2_ac6_every_rejected_point_is_listed_with_its_error(sender: ApiClient) -> None:
    response = sender.post(BATCH, {"data_points": [point("good", 1), point("", 1), point("late", 1, 1e9)]})
    assert [error["index"] for error in response.json["errors"]] == [1, 2]
    assert [error["field"] for error in response.json["errors"]] == ["metric_name", "timestamp"]
    assert all(error["detail"] for error in response.json["errors"])


@pytest.mark.slow
def test_e1_us2_ac7_batch_of_1000_points_takes_less_than_500_ms(sender: ApiClient) -> None:
    within(0.5, lambda: sender.post(BATCH, batch(1000)))


# --- E1-US3: bulk ------------------------------------------------------------------------------------


def bulk(devices: int, points_per_device: int) -> dict[str, Any]:
    return {f"device_{n:03}": [point(f"m{m}", m) for m in range(points_per_device)] for n in range(1, devices + 1)}


def test_e1_us3_ac1_bulk_accepts_points_by_device_id(sender: ApiClient) -> None:
    assert sender.post("bulk", bulk(2, 3)).status == 200
    assert latest(sender, "m2", "device_002") == 2


def test_e1_us3_ac2_bulk_returns_a_result_per_device(sender: ApiClient) -> None:
    results = sender.post("bulk", bulk(2, 3)).json["results"]
    assert {name: result["ingested_count"] for name, result in results.items()} == {"device_001": 3, "device_002": 3}


def test_e1_us3_ac3_bulk_succeeds_partially(sender: ApiClient) -> None:
    response = sender.post("bulk", bulk(1, 1) | {"device_009": [point("m", None)]})
    assert response.status == 200
    results = response.json["results"]
    assert (results["device_001"]["success"], results["device_009"]["success"]) == (True, False)
    assert latest(sender, "m0") == 0


@pytest.mark.slow
def test_e1_us3_ac4_bulk_of_1000_points_takes_less_than_one_second(sender: ApiClient) -> None:
    within(1.0, lambda: sender.post("bulk", bulk(10, 100)))


# --- E1-US4: idempotent upsert -----------------------------------------------------------------------


def send_twice(sender: ApiClient) -> tuple[ApiResponse, ApiResponse]:
    at = stamp(5)
    return tuple(  # type: ignore[return-value]
        sender.post(SINGLE, {"timestamp": at, "metric_name": "m", "value": value}) for value in (1.0, 2.0)
    )


def stored_values(sender: ApiClient) -> list[float]:
    return [row["value"] for row in sender.get("devices/device_001/metrics/m/range").json["data_points"]]


def test_e1_us4_ac1_point_with_same_time_device_and_metric_is_a_duplicate(sender: ApiClient) -> None:
    send_twice(sender)
    assert len(stored_values(sender)) == 1


def test_e1_us4_ac2_the_later_value_overwrites_the_earlier(sender: ApiClient) -> None:
    send_twice(sender)
    assert stored_values(sender) == [2.0]


def test_e1_us4_ac3_duplicate_is_accepted(sender: ApiClient) -> None:
    assert [response.status for response in send_twice(sender)] == [200, 200]


def test_e1_us4_ac4_repeating_all_requests_changes_nothing(sender: ApiClient) -> None:
    body = {"data_points": [point("m", value, 10 - value) for value in (1.0, 2.0, 3.0)]}
    for _ in range(3):
        assert sender.post(BATCH, body).status == 200
    assert stored_values(sender) == [1.0, 2.0, 3.0]
