"""Host snapshots, flat and nested, in the fast lane and in Django's views."""

import json
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest.models import Rejected
from ingest.rejected.inbox import rejected_inbox
from ingest.wire.batch import RequestRejected
from ingest.wire.snapshot import decode_snapshot
from metrics.models import MetricDefinition
from metrics.storage import series_registry
from tests.conftest import ApiClient, stamp

FLAT = {
    "node_id": "192.168.100.27",
    "timestamp": "2025-12-17T10:00:00Z",
    "cpu_percent": 45.2,
    "memory_percent": 67.8,
    "memory_used_mb": 8704,
    "memory_total_mb": 16384,
    "disk_percent": 82.1,
    "disk_used_gb": 82.1,
    "disk_total_gb": 100.0,
    "network_rx_bytes": 2345678,
    "network_tx_bytes": 1234567,
    "network_rx_rate_mbps": 3.2,
    "network_tx_rate_mbps": 1.5,
    "uptime_seconds": 3600,
    "process_count": 234,
    "active_connections": 45,
    "load_avg_1m": 2.5,
    "load_avg_5m": 2.1,
    "load_avg_15m": 1.8,
}
NESTED = {
    "timestamp": "2025-12-17T10:00:00Z",
    "node_id": "192.168.100.27",
    "metrics": {
        "cpu": {"cpu_usage_percent": 45.2},
        "memory": {"memory_usage_percent": 67.8},
        "disk": {"disk_usage": {"/": {"percent": 82.1}}},
        "network": {"bytes_sent_mb_per_sec": 1.5},
        "processes": {"process_count": 234},
    },
}
ADDRESSES = ["/api/telemetry/snapshot", "/api/v1/telemetry/snapshot", "/api/v1/snapshot"]
ADDRESS = ADDRESSES[0]


@pytest.fixture(params=["fast lane", "views"])
def sender(request: pytest.FixtureRequest, site: None) -> ApiClient:
    return request.getfixturevalue("admin" if request.param == "fast lane" else "administrator")


def with_current_time(snapshot: dict[str, Any]) -> dict[str, Any]:
    return snapshot | {"timestamp": stamp()}


def decode_values(document: Any) -> dict[str, Any]:
    batch = decode_snapshot(json.dumps(document).encode())
    values = batch.values if isinstance(batch.values, list) else batch.values.tolist()
    return dict(zip(batch.metrics, values, strict=True))


def test_flat_snapshot_has_a_point_per_field():
    batch = decode_snapshot(json.dumps(FLAT).encode())
    assert batch.groups == [("192.168.100.27", 0, 17)]
    assert set(batch.times.tolist()) == {int(datetime(2025, 12, 17, 10, tzinfo=UTC).timestamp() * 1_000_000)}
    assert decode_values(FLAT) == {
        name: float(value) for name, value in FLAT.items() if name not in ("node_id", "timestamp")
    }


def test_nested_snapshot_joins_names_with_dots():
    assert decode_values(NESTED) == {
        "cpu.cpu_usage_percent": 45.2,
        "memory.memory_usage_percent": 67.8,
        "disk.disk_usage./.percent": 82.1,
        "network.bytes_sent_mb_per_sec": 1.5,
        "processes.process_count": 234.0,
    }


@pytest.mark.parametrize("address", ADDRESSES)
@pytest.mark.parametrize("snapshot", [FLAT, NESTED])
def test_snapshot_is_stored_with_the_response_of_a_batch(sender: ApiClient, address: str, snapshot: dict[str, Any]):
    response = sender.post(address, with_current_time(snapshot))
    count = len(decode_values(snapshot))
    assert (response.status, response.json) == (
        200,
        {"success": True, "ingested_count": count, "failed_count": 0, "total_count": count, "errors": []},
    )
    assert sender.get("devices/192.168.100.27/metrics").json == sorted(decode_values(snapshot))


def test_texts_booleans_and_unknown_fields_become_metrics(sender: ApiClient):
    body = {"node_id": "n", "timestamp": stamp(), "kernel": "6.1", "virtual": True, "gpu": {"load": 3}, "disks": [1]}
    assert sender.post(ADDRESS, body).json["ingested_count"] == 4
    series = sender.post("latest", {"devices": ["n"]}).json["series"]
    assert {row["metric_name"]: row["value"] for row in series} == {
        "kernel": "6.1",
        "virtual": True,
        "gpu.load": 3.0,
        "disks": [1],
    }


def test_invalid_value_is_reported_and_the_others_are_stored(sender: ApiClient):
    MetricDefinition.objects.create(name="cpu_percent", data_type="numeric", max_value=100)
    series_registry.refresh_registry()
    body = {"node_id": "n", "timestamp": stamp(), "cpu_percent": 101, "temperature": None, "x" * 201: 1, "load": 1}
    response = sender.post(ADDRESS, body).json
    assert (response["ingested_count"], response["failed_count"]) == (1, 3)
    assert [(error["index"], error["field"]) for error in response["errors"]] == [
        (1, "temperature"),
        (2, "metric_name"),
        (0, "value"),
    ]
    rejected_inbox().flush()
    assert {(row.device_id, row.reason) for row in Rejected.objects.all()} == {
        ("n", "unreadable"),
        ("n", "out_of_bounds"),
    }


AT = {"timestamp": "2026-01-31T12:00:00Z"}
BAD = {
    "no object": (b"[]", 400, "JSON object"),
    "no JSON": (b"{", 400, "not JSON"),
    "no UTF-8": (b"\xff", 400, "UTF-8"),
    "no node_id": ({"cpu": 1} | AT, 400, "node_id"),
    "a node_id that is a number": ({"node_id": 5, "cpu": 1} | AT, 400, "node_id"),
    "an empty node_id": ({"node_id": "", "cpu": 1} | AT, 400, "node_id"),
    "NUL in the node_id": ({"node_id": "a\0", "cpu": 1} | AT, 400, "node_id"),
    "no timestamp": ({"node_id": "n", "cpu": 1}, 400, "timestamp"),
    "a timestamp that is a number": ({"node_id": "n", "cpu": 1, "timestamp": 5}, 400, "timestamp"),
    "a naive timestamp": ({"node_id": "n", "cpu": 1, "timestamp": "2026-01-31T12:00:00"}, 400, "timestamp"),
    "nothing measured": ({"node_id": "n"} | AT, 400, "metrics"),
    "an empty metrics object": ({"node_id": "n", "metrics": {}} | AT, 400, "metrics"),
    "not one good value": ({"node_id": "n", "cpu": None} | AT, 422, "cpu"),
    "more than 1,000 values": ({"node_id": "n", **{f"m{n}": n for n in range(1001)}} | AT, 422, "metrics"),
    "a name twice": (b'{"node_id": "n", "cpu": 1, "cpu": 2, "timestamp": "2026-01-31T12:00:00Z"}', 400, "twice"),
}


@pytest.mark.parametrize("name", BAD)
def test_invalid_snapshot_is_rejected_with_the_field(sender: ApiClient, name: str):
    body, status, detail = BAD[name]
    response = sender.post(ADDRESS, body)
    assert (response.status, detail in response.json["detail"]) == (status, True), response.json
    assert response.headers["Content-Type"] == "application/problem+json"


def test_device_key_may_send_only_its_own_snapshot(device: ApiClient, reader: ApiClient, anonymous: ApiClient):
    assert device.post(ADDRESS, with_current_time(FLAT)).status == 403
    assert device.post(ADDRESS, with_current_time(FLAT) | {"node_id": "device_001"}).status == 200
    assert reader.post(ADDRESS, with_current_time(FLAT)).status == 403
    assert anonymous.post(ADDRESS, with_current_time(FLAT)).status == 401


json_values = st.recursive(
    st.none() | st.booleans() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=20,
)


@pytest.mark.slow
@given(json_values | st.dictionaries(st.sampled_from(["node_id", "timestamp", "metrics", "cpu"]), json_values))
def test_any_document_is_decoded_or_rejected(document: Any):
    try:
        batch = decode_snapshot(json.dumps(document).encode())
    except RequestRejected as error:
        assert error.status in (400, 422)
    else:
        assert batch.total > 0
