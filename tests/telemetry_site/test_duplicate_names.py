"""A name that occurs twice in a JSON object is refused, by every decoder; equal names in different objects are not."""

import base64
import json
import zlib
from typing import Any

import pytest

from metrics.models import Device, MetricDefinition, Series
from rest.json_names import count_texts, texts_in
from tests.conftest import ApiClient, stamp

TIME = f'"timestamp": "{stamp()}"'
GOOD = f'{{{TIME}, "metric_name": "m", "value": 1}}'
TYPED = f'{{{TIME}, "metric_name": "t", "value": 2, "unit": "a", "tags": {{"a": "b"}}, "metadata": {{"c": [1, "d"]}}}}'
POINTS = (
    f'{{{TIME}, "metric_name": "m", "value": 1, "value": 2}}',
    f'{{{TIME}, {TIME}, "metric_name": "m", "value": 1}}',
    f'{{{TIME}, "metric_name": "m", "metric_name": "n", "value": 1}}',
    f'{{{TIME}, "metric_name": "m", "value": 1, "\\u0076alue": 2}}',
    f'{{{TIME}, "metric_name": "m", "value": "1", "value": 2}}',
    f'{{{TIME}, "metric_name": "m", "value": "\\"", "value": 2}}',
    f'{{{TIME}, "metric_name": "m", "value": 1, "unit": "a", "unit": "b"}}',
    f'{{{TIME}, "metric_name": "m", "value": 1, "unit": null, "unit": "b"}}',
    f'{{{TIME}, "metric_name": "m", "value": 1, "tags": {{"a": "b", "a": "c"}}}}',
    f'{{{TIME}, "metric_name": "m", "value": 1, "tags": {{"a": "b"}}, "tags": {{"a": "b"}}}}',
    f'{{{TIME}, "metric_name": "m", "value": 1, "metadata": {{"a": [{{"b": 1, "b": 2}}]}}}}',
    f'{{{TIME}, "metric_name": "m", "value": {{"a": 1, "a": 2}}}}',
    f'{{{TIME}, "metric_name": "m", "value": 1, "other": 1, "other": 2}}',
)
DUPLICATES = [
    *(("devices/d/telemetry", body) for body in POINTS),
    *(("devices/d/telemetry/batch", f'{{"data_points": [{GOOD}, {body}, {TYPED}]}}') for body in POINTS),
    *(("bulk", f'{{"d": [{GOOD}], "e": [{body}, {TYPED}]}}') for body in POINTS),
    ("devices/d/telemetry/batch", f'{{"data_points": [], "data_points": [{GOOD}]}}'),
    ("devices/d/telemetry/batch", f'{{"data_points": [{GOOD}], "data_points": [{GOOD}]}}'),
    ("devices/d/telemetry/batch", f'{{"data_points": [{GOOD}], "batch_id": "1", "batch_id": "2"}}'),
    ("devices/d/telemetry/batch", f'{{"data_points": [{GOOD}], "compression": null, "compression": null}}'),
    ("bulk", f'{{"d": [{GOOD}], "d": [{GOOD}]}}'),
    ("bulk", f'{{"d": [{TYPED}], "e": [{GOOD}], "d": [{GOOD}]}}'),
    ("bulk", f'{{"d": [], "d": [{GOOD}]}}'),
    ("snapshot", f'{{"node_id": "d", {TIME}, "cpu": 1, "cpu": 2}}'),
    ("snapshot", f'{{"node_id": "d", "node_id": "e", {TIME}, "cpu": 1}}'),
    ("snapshot", f'{{"node_id": "d", {TIME}, "metrics": {{"cpu": {{"a": 1, "a": 2}}}}}}'),
    ("/telemetry", f'{{{TIME}, "source": "d", "type": "m", "value": 1, "value": 2}}'),
    ("/telemetry", f'[{{{TIME}, "source": "d", "type": "m", "value": 1, "status": "a", "status": "b"}}]'),
    ("metrics", '{"name": "m", "data_type": "numeric", "name": "n"}'),
    ("metrics", '{"name": "m", "data_type": "numeric", "metadata": {"a": {"b": 1, "b": 2}}}'),
    ("devices", '{"device_id": "d", "device_id": "e"}'),
    ("devices", '{"device_id": "d", "tags": {"a": "b", "a": "c"}}'),
    ("query", '{"metrics": ["m"], "metrics": ["n"]}'),
    ("keys", '{"name": "k", "scope": "read", "scope": "admin"}'),
    ("auth/token", '{"grant_type": "password", "username": "a", "password": "b", "password": "c"}'),
]


@pytest.mark.parametrize(("path", "body"), DUPLICATES, ids=map(str, range(len(DUPLICATES))))  # they contain the time
@pytest.mark.parametrize("lane", ["fast lane", "Django"])
def test_duplicate_name_is_rejected(admin: ApiClient, administrator: ApiClient, lane: str, path: str, body: str):
    client = admin if lane == "fast lane" else administrator
    if path in ("devices/d/telemetry/batch", "bulk"):  # the same with known series, which take the shortest way
        assert client.post("bulk", {name: [json.loads(GOOD)] for name in "de"}).status == 200
    before = Series.objects.count(), Device.objects.count()
    response = client.call("POST", path, body.encode())
    assert response.status == 400 and "occurs twice" in response.json["detail"], (response.status, response.raw)
    assert (Series.objects.count(), Device.objects.count()) == before and not MetricDefinition.objects.exists()


def test_duplicate_name_in_compressed_points_is_rejected(admin: ApiClient):
    compressor = zlib.compressobj(wbits=31)
    text = compressor.compress(f"[{POINTS[0]}]".encode()) + compressor.flush()
    body = {"data_points": base64.b64encode(text).decode(), "compression": "gzip"}
    response = admin.post("devices/d/telemetry/batch", body)
    assert response.status == 400 and "'value' occurs twice" in response.json["detail"]


ACCEPTED: list[tuple[str, str, int]] = [
    ("devices/d/telemetry", GOOD, 1),
    ("devices/d/telemetry", f'{{{TIME}, "metric_name": "a \\"b\\"", "value": 1, "unknown": {{"value": "x"}}}}', 1),
    ("devices/d/telemetry/batch", f'{{"data_points": [{GOOD}, {GOOD}, {TYPED}]}}', 3),
    ("devices/d/telemetry/batch", f'{{"data_points": [{GOOD}], "batch_id": null, "compression": null}}', 1),
    ("devices/d/telemetry/batch", f'{{"batch_id": "7", "data_points": [{TYPED}, {GOOD}], "compression": null}}', 2),
    ("bulk", f'{{"d": [{GOOD}], "e": [{GOOD}, {TYPED}], "\\"": [{GOOD}]}}', 4),
    ("snapshot", f'{{"node_id": "d", {TIME}, "metrics": {{"a": {{"value": 1}}, "b": {{"value": 2}}}}}}', 2),
]


@pytest.mark.parametrize(("path", "body", "count"), ACCEPTED, ids=map(str, range(len(ACCEPTED))))
def test_equal_names_in_different_objects_are_accepted(admin: ApiClient, path: str, body: str, count: int):
    for _ in range(2):
        response = admin.call("POST", path, body.encode())
        assert response.status == 200 and response.json.get("ingested_count", 1) == count, response.raw


def test_duplicate_name_in_a_subscription_is_rejected(admin: ApiClient):
    from websockets.sync.client import connect

    with connect(f"ws://127.0.0.1:{admin.port}/ws/live", additional_headers=admin.headers) as websocket:
        websocket.send('{"type": "subscribe", "channels": ["alerts"], "channels": ["jobs"]}')
        message: Any = json.loads(websocket.recv(timeout=5))
    assert message["code"] is None and "'channels' occurs twice" in message["detail"]


@pytest.mark.parametrize(
    "value", [{}, [], "", "a", 1, None, {"a": {"b": ['"', "\\", '\\"', 1]}}, [{"a": "b"}, {"a": "b"}]]
)
def test_counted_texts_of_a_body_equal_those_of_its_value(value: Any):
    for indent in (None, 2):
        assert count_texts(json.dumps(value, indent=indent).encode()) == texts_in(value)
