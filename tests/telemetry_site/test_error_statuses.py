"""One rule decides between 400 and 422: the same mistake has the same status in every operation."""

from typing import Any

import pytest

from tests.conftest import ApiClient

RULE = {"name": "Hot", "metric_name": "m", "condition": ">", "threshold_value": 1}
TIMES = {"start_time": "2026-01-01T00:00:00Z", "end_time": "2026-01-02T00:00:00Z"}
QUERY = {"metrics": ["m"], "aggregation": "avg", **TIMES}
METRIC = {"name": "m", "data_type": "numeric"}
BODIES: dict[str, dict[str, Any]] = {
    "metrics": METRIC,
    "devices": {"device_id": "d"},
    "groups": {"name": "g"},
    "keys": {"name": "k", "scope": "read"},
    "alerts/rules": RULE,
    "alerts/channels": {"name": "c", "kind": "webhook", "url": "https://example.com/hook"},
    "alerts/silences": {"device_ids": ["d"], "ends_at": "2100-01-01T00:00:00Z", "reason": "r"},
    "query": QUERY,
    "latest": {"devices": ["d"]},
    "alerts/backtest": {"rule": RULE, **TIMES},
    "export/jobs": {"device_ids": ["d"], "metric_names": ["m"], **TIMES},
}
RANGE = "devices/d/metrics/m/range"


@pytest.mark.parametrize("path", BODIES)
def test_bodies_have_400_for_a_value_by_itself_and_422_for_unknown_fields(admin: ApiClient, path: str):
    body = BODIES[path]
    for unreadable in (b"{", b"\xff", b"[1]", b'"text"', b"7"):
        assert admin.post(path, unreadable).status == 400, unreadable
    first = next(iter(body))
    wrong_type = admin.post(path, body | {first: {"a": [1]}})
    assert wrong_type.status == 400 or (path, first) == ("alerts/backtest", "rule"), wrong_type.raw
    unknown = admin.post(path, body | {"unknown_name": 1})
    assert unknown.status == 422 and "unknown_name" in unknown.json["detail"], unknown.raw
    assert admin.post(f"{path}?unknown_name=1", body).status == 422


@pytest.mark.parametrize(
    ("status", "path", "body"),
    [
        (400, "query", {"metrics": ["m"]}),  # required
        (400, "metrics", {"name": "m"}),
        (400, "alerts/rules", {"name": "Hot", "metric_name": "m"}),
        (400, "metrics", METRIC | {"data_type": "magic"}),  # none of the listed words
        (400, "alerts/rules", RULE | {"condition": "=>"}),
        (400, "query", QUERY | {"aggregation": "magic"}),
        (400, "query", QUERY | {"timezone": "Mars/Olympus"}),
        (400, "query", QUERY | {"group_by": "colour"}),
        (400, "query", QUERY | {"fill": "magic"}),
        (400, "query", QUERY | {"cursor": "magic"}),
        (400, "query", QUERY | {"limit": 10_001}),  # out of its range
        (400, "metrics", METRIC | {"retention_days": 0}),
        (400, "alerts/rules", RULE | {"evaluation_window": 0}),
        (422, "query", QUERY | {"end_time": "2025-01-01T00:00:00Z"}),  # not together
        (422, "query", QUERY | {"aggregation": None, "fill": "previous"}),
        (422, "query", QUERY | {"filters": {"min_value": 2, "max_value": 1}}),
        (422, "metrics", METRIC | {"min_value": 2, "max_value": 1}),
        (422, "alerts/rules", RULE | {"clear_threshold": 2}),
        (422, "alerts/backtest", {"rule": RULE, **TIMES, "end_time": "2025-01-01T00:00:00Z"}),
        (422, "devices", {"device_id": "d", "latitude": 5}),
        (422, "query", QUERY | {"interval": 1, "end_time": "2026-02-01T00:00:00Z"}),  # over a limit
    ],
)
def test_status_follows_the_rule(admin: ApiClient, status: int, path: str, body: dict[str, Any]):
    response = admin.post(path, body)
    assert response.status == status and response.json["errors"], response.raw


@pytest.mark.parametrize(
    ("status", "path"),
    [
        (400, "metrics?limit=0"),
        (400, "metrics?data_type=magic"),
        (400, "alerts/rules?level=magic"),
        (400, "alerts?start_time=soon"),
        (400, "metrics?cursor=magic"),
        (400, f"{RANGE}?time_range=2h"),
        (400, f"{RANGE}?cursor=magic"),
        (400, f"{RANGE}?aggregation=magic"),
        (400, "devices/d/metrics/m/latest?lookback=0"),
        (400, "aggregated?metric_name=m"),
        (422, "metrics?unknown_name=1"),
        (422, "alerts?unknown_name=1"),
        (422, f"{RANGE}?unknown_name=1"),
        (422, "devices/d/metrics/m/latest?unknown_name=1"),
        (422, f"{RANGE}?interval=60"),
        (422, f"{RANGE}?start_time=2026-01-02T00:00:00Z&end_time=2026-01-01T00:00:00Z"),
    ],
)
def test_status_of_query_strings_follows_the_rule(admin: ApiClient, administrator: ApiClient, status: int, path: str):
    for caller in (admin, administrator):
        response = caller.get(path)
        assert response.status == status, response.raw
        field = path.partition("?")[2].split("&")[0]
        assert field.partition("=")[0] in response.json["detail"] or "interval=60" in path or "aggregated" in path, (
            response.raw
        )
