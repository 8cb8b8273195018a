"""A `batch_id`: a retry is answered from memory, other points with the same id are rejected and kept."""

import gzip
import json
from typing import Any

import pytest

from ingest import tasks
from ingest.rejected.inbox import rejected_inbox
from metrics.models import IngestedBatch
from metrics.storage.connection import connect
from tests.conftest import ApiClient, point

BATCH = "devices/d/telemetry/batch"
CONTENT = [
    point("m", 1),
    point("state", "on", -1),
    point("ready", True, -2) | {"unit": "x", "tags": {"a": 1, "b": [2]}},
    point("m", None, -3),
]


def changed(position: int, **fields: Any) -> list[dict[str, Any]]:
    return [row | fields if number == position else row for number, row in enumerate(CONTENT)]


@pytest.fixture
def stored(admin: ApiClient) -> dict[str, Any]:
    response = admin.post(BATCH, {"data_points": CONTENT, "batch_id": "7"})
    assert response.status == 200 and response.json["ingested_count"] == 3
    return dict(response.json)


RETRIES = {
    "same body": lambda points: {"data_points": points, "batch_id": "7"},
    "other order of names": lambda points: {
        "batch_id": "7",
        "data_points": [dict(reversed(row.items())) for row in points],
    },
    "other order of tags": lambda points: {
        "data_points": changed(2, tags={"b": [2], "a": 1}),
        "batch_id": "7",
    },
    "other notation of numbers": lambda points: {"data_points": changed(0, value=1.0), "batch_id": "7"},
    "other notation of times": lambda points: {
        "data_points": changed(0, timestamp=points[0]["timestamp"].replace("Z", "+00:00")),
        "batch_id": "7",
    },
}


@pytest.mark.parametrize("body", RETRIES.values(), ids=RETRIES)
def test_retry_gets_the_first_response(admin: ApiClient, stored: dict[str, Any], body: Any):
    response = admin.post(BATCH, body(CONTENT))
    assert (response.status, response.json) == (200, stored)


def test_compressed_retry_gets_the_first_response(admin: ApiClient, stored: dict[str, Any]):
    body = gzip.compress(json.dumps({"data_points": CONTENT, "batch_id": "7"}).encode())
    assert admin.post(BATCH, body, Content_Encoding="gzip").json == stored


OTHER_POINTS = {
    "value": changed(0, value=2),
    "kind of value": changed(0, value="1"),
    "time": changed(1, timestamp="2026-01-31T12:00:00Z"),
    "metric": changed(0, metric_name="other"),
    "unit": changed(2, unit="y"),
    "tags": changed(2, tags={"a": 2}),
    "one point fewer": CONTENT[:-1],
    "one point more": [*CONTENT, point("m", 5, -9)],
    "order": CONTENT[::-1],
    "numbers only": [point("m", 3)],
}


@pytest.mark.parametrize("points", OTHER_POINTS.values(), ids=OTHER_POINTS)
def test_other_points_with_the_same_id_are_rejected_with_409(admin: ApiClient, stored: dict[str, Any], points: Any):
    response = admin.post(BATCH, {"data_points": points, "batch_id": "7"})
    assert response.status == 409
    assert "d used 7 for other points at 20" in response.json["detail"]
    assert response.json["errors"][0]["field"] == "batch_id"


def test_points_of_a_reused_id_can_be_replayed(admin: ApiClient, stored: dict[str, Any]):
    week = [point("m", float(number), 60 * number) for number in range(1, 100)]
    assert admin.post(BATCH, {"data_points": week, "batch_id": "7"}).status == 409
    rejected_inbox().flush()
    rows = admin.get("rejected?reason=batch_id_reused").json["rejected"]
    assert [(row["device_id"], row["metric_name"], row["count"]) for row in rows] == [("d", "m", 99)]
    assert admin.post(f"rejected/{rows[0]['id']}/replay", {}).json["replayed"] == 99
    points = admin.get("devices/d/metrics/m/range?time_range=24h").json["data_points"]
    # The stored point has the time at which the tests were loaded.
    assert sorted(row["value"] for row in points) == [1.0, *(float(number) for number in range(1, 100))]


def test_other_points_are_stored_under_a_new_id(admin: ApiClient, stored: dict[str, Any]):
    points = [point("m", 2)]
    assert admin.post(BATCH, {"data_points": points, "batch_id": "7"}).status == 409
    assert admin.post(BATCH, {"data_points": points, "batch_id": "8"}).status == 200
    assert admin.get("devices/d/metrics/m/latest").json["value"] == 2.0


def test_batch_id_belongs_to_one_device(admin: ApiClient, stored: dict[str, Any]):
    assert admin.post("devices/e/telemetry/batch", {"data_points": [point("m", 2)], "batch_id": "7"}).status == 200


def test_batch_stored_without_a_digest_is_stored_again(admin: ApiClient, stored: dict[str, Any]):
    with connect() as connection:
        connection.execute("UPDATE metrics_ingestedbatch SET digest = NULL")
    assert admin.post(BATCH, {"data_points": [point("m", 2)], "batch_id": "7"}).status == 200
    assert admin.get("devices/d/metrics/m/latest").json["value"] == 2.0


@pytest.mark.parametrize("device", ["%00", "%20", "x" * 201])
def test_invalid_device_with_a_batch_id_is_rejected(admin: ApiClient, device: str):
    for value in (1.5, None):
        response = admin.post(
            f"devices/{device}/telemetry/batch", {"data_points": [point("m", value)], "batch_id": "7"}
        )
        assert 400 <= response.status < 500
    assert not IngestedBatch.objects.exists()


@pytest.mark.slow
def test_second_run_of_a_collection_stores_nothing(admin: ApiClient):
    assert tasks.collect_host("snapshot-1", "a") > 0
    assert tasks.collect_host("snapshot-1", "a") == 0
    rejected_inbox().flush()
    assert admin.get("rejected").json["rejected"] == []
