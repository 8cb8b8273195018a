"""Every list and query rejects unknown parameters and fields with 422, and names the accepted ones."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from django.conf import settings

from tests.conftest import ApiClient, point

SCHEMA = yaml.safe_load((Path(settings.BASE_DIR) / "docs" / "openapi.yaml").read_text())
INGESTION = {"ingest_point", "ingest_batch", "ingest_bulk", "ingest_snapshot", "ingest_events"}


def operations() -> Iterator[tuple[str, str, dict[str, Any]]]:
    for path, methods in SCHEMA["paths"].items():
        for method, operation in methods.items():
            yield method.upper(), path, operation


def accepts_any_query(operation: dict[str, Any]) -> bool:
    """Whether an operation is public, or a device sends points with it, perhaps with parameters of its own."""
    return {} in operation.get("security", [{}]) or operation["operationId"] in INGESTION


def parameters_of(operation: dict[str, Any]) -> list[dict[str, Any]]:
    shared = SCHEMA["components"].get("parameters", {})
    return [
        shared[entry["$ref"].rpartition("/")[2]] if "$ref" in entry else entry
        for entry in operation.get("parameters", ())
    ]


def query_names(operation: dict[str, Any]) -> list[str]:
    return [entry["name"] for entry in parameters_of(operation) if entry["in"] == "query"]


def path_with_examples(path: str, operation: dict[str, Any]) -> str:
    for entry in parameters_of(operation):
        if entry["in"] == "path":
            value = str(entry["examples"]["Example"]["value"]) if "examples" in entry else "x"
            path = path.replace("{" + entry["name"] + "}", value.replace(" ", "%20"))
    return path


@pytest.mark.slow
@pytest.mark.parametrize("lane", ["key", "session"])
def test_every_operation_rejects_unknown_query_parameters(admin: ApiClient, administrator: ApiClient, lane: str):
    caller = admin if lane == "key" else administrator
    checked = 0
    for method, path, operation in operations():
        if accepts_any_query(operation):
            continue
        response = caller.call(
            method, f"{path_with_examples(path, operation)}?unknown_name=1", {} if method != "GET" else None
        )
        assert response.status == 422, (method, path, response.status, response.raw)
        [error] = response.json["errors"]
        assert error["field"] == "unknown_name", (method, path, error)
        for name in query_names(operation):
            assert name in error["detail"], (method, path, name, error)
        checked += 1
    assert checked > 80


@pytest.mark.slow
def test_every_json_body_rejects_unknown_fields(admin: ApiClient):
    admin.post("devices/device_001/telemetry", point("temperature", 1.0))
    checked = 0
    for method, path, operation in operations():
        content = operation.get("requestBody", {}).get("content", {}).get("application/json", {})
        example = content.get("examples", {}).get("Example", {}).get("value")
        if not isinstance(example, dict) or accepts_any_query(operation):
            continue
        response = admin.call(method, path_with_examples(path, operation), example | {"unknown_name": 1})
        if response.status == 404 and "{" in path:
            continue  # there is no such object
        assert response.status == 422, (method, path, response.status, response.raw)
        assert "unknown_name" in [error["field"] for error in response.json["errors"]], (method, path, response.raw)
        checked += 1
    assert checked >= 12


@pytest.mark.parametrize("enabled", ["yes", "true", "no", 1, 0, None, [], "on"])
def test_booleans_of_bodies_are_json_booleans(admin: ApiClient, enabled: Any):
    rule = {"name": "Hot", "metric_name": "temperature", "condition": ">", "threshold_value": 1}
    created = admin.post("alerts/rules", rule)
    assert created.status == 201
    path = f"alerts/rules/{created.json['rule_id']}"
    responses = [
        admin.call("PUT", f"{path}/enable", {"enabled": enabled}),
        admin.post("alerts/rules", rule | {"enabled": enabled}),
        admin.call("PATCH", path, {"auto_resolve": enabled}, If_Match=created.headers["ETag"]),
        admin.post("query", {"metrics": ["m"], "start_time": "2026-01-01T00:00:00Z", "end_time": "2026-01-02T00:00:00Z",
                             "explain": enabled}),
    ]  # fmt: skip
    for response in responses:
        assert response.status in (400, 422), response.raw
    assert admin.get(path).json["enabled"] is True


@pytest.mark.parametrize(("text", "status"), [("true", 200), ("false", 200), ("yes", 400), ("maybe", 400), ("t", 400)])
def test_booleans_of_query_strings_are_the_words_true_and_false(admin: ApiClient, text: str, status: int):
    assert admin.get(f"alerts/rules?enabled={text}").status == status
    assert admin.get(f"devices?last_seen={text}").status == status
    assert admin.get(f"devices/d/metrics/m/range?columns={text}").status == status


@pytest.mark.slow
def test_empty_list_of_devices_means_all_devices(admin: ApiClient):
    for device in ("a", "b"):
        assert admin.post(f"devices/{device}/telemetry", point("temperature", 1.0, seconds_ago=5)).status == 200
    times = {"start_time": "2026-01-01T00:00:00Z", "end_time": "2027-01-01T00:00:00Z"}
    for devices in (None, []):
        query = {"metrics": ["temperature"], "devices": devices, **times}
        assert admin.post("query", query).json["count"] == 2
        assert admin.post("query", query | {"filters": {"groups": devices}}).json["count"] == 2
        assert (
            len(admin.post("latest", {"devices": devices, "metrics": devices, "groups": devices}).json["series"]) == 2
        )
