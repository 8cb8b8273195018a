"""The path for small batches responds and stores exactly like the pipeline, or leaves the batch to it."""

import json
from typing import Any

import pytest

from ingest import fast_lane
from metrics.models import Journal, MetricDefinition
from metrics.storage import series_registry
from tests.conftest import ApiClient, point, stamp

AT = stamp(30)
FULL_POINT = {"timestamp": AT, "metric_name": "bounded", "value": 7}
BODIES: dict[str, tuple[str, Any]] = {
    "one": ("devices/d/telemetry", FULL_POINT),
    "a batch": (
        "devices/d/telemetry/batch",
        {"data_points": [FULL_POINT, FULL_POINT | {"value": 8, "metric_name": "free"}]},
    ),
    "the same time twice": ("devices/d/telemetry/batch", {"data_points": [FULL_POINT, FULL_POINT | {"value": 9.5}]}),
    "many devices": (
        "bulk",
        {"d": [FULL_POINT], "e": [FULL_POINT | {"value": 3}, FULL_POINT | {"value": 4, "metric_name": "free"}]},
    ),
    "out of bounds": ("devices/d/telemetry/batch", {"data_points": [FULL_POINT, FULL_POINT | {"value": 1001}]}),
    "a rounded integer": (
        "devices/d/telemetry/batch",
        {"data_points": [FULL_POINT, FULL_POINT | {"value": 2**53 + 1}]},
    ),
    "far ahead": ("bulk", {"d": [FULL_POINT, point("free", 1.0, -3600)]}),
    "too old": ("bulk", {"d": [FULL_POINT, point("free", 1.0, 91 * 86400)]}),
    "a new metric": ("devices/d/telemetry/batch", {"data_points": [FULL_POINT, FULL_POINT | {"metric_name": "new"}]}),
    "a unit": ("devices/d/telemetry/batch", {"data_points": [FULL_POINT | {"unit": "V"}]}),
    "a text": (
        "devices/d/telemetry/batch",
        {"data_points": [FULL_POINT, FULL_POINT | {"metric_name": "free", "value": "x"}]},
    ),
    "no points": ("bulk", {"d": []}),
    "nothing": ("bulk", {}),
}
SMALL_BATCH_BODIES = {"one", "a batch", "the same time twice", "many devices"}


def read_stored(admin: ApiClient) -> list[Any]:
    paths = [f"devices/{device}/metrics/{metric}/range" for device in "de" for metric in ("bounded", "free", "new")]
    responses = [admin.get(path).json.get("data_points") for path in paths]
    return [[(row["timestamp"], row["value"], row["unit"]) for row in points or ()] for points in responses]


@pytest.fixture
def warm_site(admin: ApiClient) -> ApiClient:
    """A site where the series already exist."""
    MetricDefinition.objects.create(name="bounded", data_type="numeric", min_value=0, max_value=1000)
    series_registry.refresh_registry()
    points = [point("bounded", 1, 60), point("free", 1, 60)]
    assert admin.post("bulk", {"d": points, "e": points}).status == 200
    return admin


@pytest.mark.parametrize("name", BODIES)
def test_small_batch_path_responds_and_stores_like_the_pipeline(warm_site: ApiClient, monkeypatch, name: str):
    path, body = BODIES[name]
    stored_directly = []
    original = fast_lane.store_small_batch

    async def recording_store(*arguments: Any) -> Any:
        receipt = await original(*arguments)
        stored_directly.append(receipt is not None)
        return receipt

    monkeypatch.setattr(fast_lane, "store_small_batch", recording_store)
    direct = warm_site.post(path, body)
    stored_by_small_batch, entry = read_stored(warm_site), Journal.objects.order_by("-seq").first()

    async def declining_store(*arguments: Any) -> None:
        return None

    monkeypatch.setattr(fast_lane, "store_small_batch", declining_store)
    by_pipeline = warm_site.post(path, body)
    assert stored_directly == [name in SMALL_BATCH_BODIES]
    differing_fields = {"request_id": None}  # is different in every response
    assert (direct.status, direct.json | differing_fields) == (by_pipeline.status, by_pipeline.json | differing_fields)
    assert read_stored(warm_site) == stored_by_small_batch
    if direct.status == 200:
        newest = Journal.objects.order_by("-seq").first()
        for field in ("sender", "points", "device_id"):
            assert json.loads(newest.entries)[0].get(field) == json.loads(entry.entries)[0].get(field)


def test_duplicate_device_in_a_small_batch_is_rejected(warm_site: ApiClient):
    first_points, second_points = json.dumps([FULL_POINT]), json.dumps([FULL_POINT | {"metric_name": "free"}])
    response = warm_site.post("bulk", f'{{"d": {first_points}, "d": {second_points}}}'.encode())
    assert response.status == 400 and "twice" in response.json["detail"]


def test_small_batch_of_a_device_key_reports_other_devices(warm_site: ApiClient, device: ApiClient):
    warm_site.post("bulk", {"device_001": [FULL_POINT]})
    response = device.post("bulk", {"device_001": [FULL_POINT], "d": [FULL_POINT]})
    assert response.json["ingested_count"] == 1
    assert response.json["errors"] == [
        {"device_id": "d", "index": 0, "field": "device_id", "detail": "this key may not write to this device"}
    ]
