"""The path for small batches responds and stores exactly like the pipeline, or leaves the batch to it."""

import json
from typing import Any

import pytest

from ingest import fast_lane
from metrics.models import Journal, MetricDefinition
from metrics.storage import series_registry
from tests.conftest import ApiClient, point, stamp

AT = stamp(30)
WHOLE = {"timestamp": AT, "metric_name": "bounded", "value": 7}
BODIES: dict[str, tuple[str, Any]] = {
    "one": ("devices/d/telemetry", WHOLE),
    "a batch": ("devices/d/telemetry/batch", {"data_points": [WHOLE, WHOLE | {"value": 8, "metric_name": "free"}]}),
    "the same time twice": ("devices/d/telemetry/batch", {"data_points": [WHOLE, WHOLE | {"value": 9.5}]}),
    "many devices": ("bulk", {"d": [WHOLE], "e": [WHOLE | {"value": 3}, WHOLE | {"value": 4, "metric_name": "free"}]}),
    "out of bounds": ("devices/d/telemetry/batch", {"data_points": [WHOLE, WHOLE | {"value": 1001}]}),
    "a rounded integer": ("devices/d/telemetry/batch", {"data_points": [WHOLE, WHOLE | {"value": 2**53 + 1}]}),
    "far ahead": ("bulk", {"d": [WHOLE, point("free", 1.0, -3600)]}),
    "too old": ("bulk", {"d": [WHOLE, point("free", 1.0, 91 * 86400)]}),
    "a new metric": ("devices/d/telemetry/batch", {"data_points": [WHOLE, WHOLE | {"metric_name": "new"}]}),
    "a unit": ("devices/d/telemetry/batch", {"data_points": [WHOLE | {"unit": "V"}]}),
    "a text": ("devices/d/telemetry/batch", {"data_points": [WHOLE, WHOLE | {"metric_name": "free", "value": "x"}]}),
    "no points": ("bulk", {"d": []}),
    "nothing": ("bulk", {}),
}
BY_THE_SHORTEST_WAY = {"one", "a batch", "the same time twice", "many devices"}


def read_stored(admin: ApiClient) -> list[Any]:
    paths = [f"devices/{device}/metrics/{metric}/range" for device in "de" for metric in ("bounded", "free", "new")]
    found = [admin.get(path).json.get("data_points") for path in paths]
    return [[(one["timestamp"], one["value"], one["unit"]) for one in points or ()] for points in found]


@pytest.fixture
def warm_site(admin: ApiClient) -> ApiClient:
    """A site that has seen the series before, as nearly always."""
    MetricDefinition.objects.create(name="bounded", data_type="numeric", min_value=0, max_value=1000)
    series_registry.refresh_registry()
    seen = [point("bounded", 1, 60), point("free", 1, 60)]
    assert admin.post("bulk", {"d": seen, "e": seen}).status == 200
    return admin


@pytest.mark.parametrize("name", BODIES)
def test_small_batch_path_responds_and_stores_like_the_pipeline(warm_site: ApiClient, monkeypatch, name: str):
    path, body = BODIES[name]
    took = []
    original = fast_lane.store_small_batch

    async def watched(*arguments: Any) -> Any:
        receipt = await original(*arguments)
        took.append(receipt is not None)
        return receipt

    monkeypatch.setattr(fast_lane, "store_small_batch", watched)
    short = warm_site.post(path, body)
    after_short, entry = read_stored(warm_site), Journal.objects.order_by("-seq").first()

    async def giving_up(*arguments: Any) -> None:
        return None

    monkeypatch.setattr(fast_lane, "store_small_batch", giving_up)
    common = warm_site.post(path, body)
    assert took == [name in BY_THE_SHORTEST_WAY]
    unlike = {"request_id": None}  # no two requests have one
    assert (short.status, short.json | unlike) == (common.status, common.json | unlike)
    assert read_stored(warm_site) == after_short
    if short.status == 200:
        newest = Journal.objects.order_by("-seq").first()
        for field in ("sender", "points", "device_id"):
            assert json.loads(newest.entries)[0].get(field) == json.loads(entry.entries)[0].get(field)


def test_duplicate_device_in_a_small_batch_is_rejected(warm_site: ApiClient):
    one, two = json.dumps([WHOLE]), json.dumps([WHOLE | {"metric_name": "free"}])
    answer = warm_site.post("bulk", f'{{"d": {one}, "d": {two}}}'.encode())
    assert answer.status == 400 and "twice" in answer.json["detail"]


def test_small_batch_of_a_device_key_reports_other_devices(warm_site: ApiClient, device: ApiClient):
    warm_site.post("bulk", {"device_001": [WHOLE]})
    answer = device.post("bulk", {"device_001": [WHOLE], "d": [WHOLE]})
    assert answer.json["ingested_count"] == 1
    assert answer.json["errors"] == [
        {"device_id": "d", "index": 0, "field": "device_id", "detail": "this key may not write to this device"}
    ]
