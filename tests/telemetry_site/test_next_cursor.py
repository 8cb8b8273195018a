"""The next_cursor of every paginated operation is used with the same parameters and leads through all rows once."""

from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import urlencode

import pytest

from alerts.models import Pattern
from ingest.models import Collector
from ingest.rejected.inbox import rejected_inbox
from telemetry_site.bus.models import ParkedMessage
from tests.alerts.factories import create_alert, create_device, create_rule, create_webhook
from tests.alerts.test_deliveries_api import create_delivery
from tests.conftest import ApiClient, point
from tests.telemetry_site.test_unknown_names import operations, query_names

NOW = datetime.now(UTC)
TIMES = {"start_time": (NOW - timedelta(hours=1)).isoformat(), "end_time": (NOW + timedelta(hours=1)).isoformat()}
COLLECTOR = {"kind": "tcp", "device_id": "d0", "configuration": {"host": "192.88.98.1", "port": 1}}
RANGE = "/api/v1/telemetry/devices/{device_id}/metrics/{metric_name}/range"
AGGREGATED = {"metric_name": "m0", "aggregation_type": "count", "interval": 60, **TIMES}
LISTS: dict[str, dict[str, Any]] = {  # parameters by path, under /api/v1/telemetry/
    "aggregated": AGGREGATED,
    "alerts": {"level": "critical"},
    "alerts/{alert_id}/notices": {},
    "alerts/channels": {"kind": "webhook"},
    "alerts/deliveries": {"status": "waiting"},
    "alerts/patterns": {"kind": "flapping"},
    "alerts/routes": {"search": "r"},
    "alerts/rules": {"level": "critical"},
    "alerts/rules/{rule_id}/versions": {},
    "alerts/silences": {"active": "true"},
    "alerts/silences/preview": {},
    "bus/parked": {"direction": "inbound"},
    "collectors": {"kind": "tcp"},
    "collectors/{collector_id}/collections": {"failed": "false"},
    "devices/{device_id}/annotations": {},
    "audit": {"since": (NOW - timedelta(hours=1)).isoformat()},
    "deletions": {},
    "devices": {"search": "d"},
    "devices/{device_id}/metrics/{metric_name}/range": {"time_range": "1h"},
    "export/jobs": {"own": "true"},
    "groups": {"search": "g"},
    "groups/{name}/devices": {},
    "keys": {"scope": "read"},
    "metrics": {"data_type": "numeric"},
    "rejected": {"reason": "out_of_bounds"},
    "status-pages": {"search": "p"},
    "status-pages/{page_id}/components": {},
    "status-pages/{page_id}/incidents": {"status": "investigating"},
    "status-pages/{page_id}/maintenances": {"status": "scheduled"},
    "subscribe": {},
    "/telemetry/history": {"metric_name": "m0", "hours": 1, "interval": 60},
    "query": {"metrics": ["m0", "m1"], **TIMES},
}


@pytest.fixture
def names(admin: ApiClient) -> dict[str, str]:
    """At least three rows of every list; return the path parameters."""
    for number in range(3):
        create(admin, "metrics", {"name": f"m{number}", "data_type": "numeric", "max_value": 100})
        points = [
            point(f"m{metric}", float(minute), seconds_ago=90.0 * minute) for metric in range(2) for minute in range(4)
        ]
        assert admin.post(f"devices/d{number}/telemetry/batch", {"data_points": points}).status == 200
        create(admin, "groups", {"name": f"g{number}"})
        create(admin, "keys", {"name": f"k{number}", "scope": "read"})
        create(admin, "export/jobs", {"device_ids": ["d0"], "metric_names": ["m0"], **TIMES})
        create(admin, "alerts/silences", {"device_ids": [f"d{number}"], "minutes": 60, "reason": "r"}, minutes=True)
        create_webhook("https://example.com/hook", f"c{number}")
        create(admin, "alerts/routes", {"name": f"r{number}", "channels": ["c0"]})
        create(admin, "devices", {"device_id": f"gone{number}"})
        assert admin.call("DELETE", f"devices/gone{number}").status in (200, 202)
        create(admin, "subscribe", {"metric_names": [f"m{number}"]})
        create(admin, "collectors", COLLECTOR | {"name": f"l{number}"})
        ParkedMessage.objects.create(
            direction="inbound", peer="SERVICES", message_id=f"{number}", payload=b"{}", size=2, reason="r"
        )
        Pattern.objects.create(
            kind="flapping", subject={"n": number}, support=3, confidence=0.5, description="x", devices=[]
        )
    page_id = ""
    for number in range(3):
        page_id = admin.post("status-pages", {"title": "Page", "slug": f"p{number}"}).json["page_id"]
    for number in range(3):
        create(admin, f"status-pages/{page_id}/components", {"name": f"Component {number}"})
        create(admin, f"status-pages/{page_id}/incidents", {"title": f"Incident {number}"})
        times = {"starts_at": TIMES["end_time"], "ends_at": (NOW + timedelta(hours=2)).isoformat()}
        create(admin, f"status-pages/{page_id}/maintenances", {"title": f"Maintenance {number}", **times})
    assert admin.post("groups/g0/devices", {"device_ids": ["d0", "d1", "d2"]}).status == 200
    rules = [create_rule(name=f"Hot {number}", level="critical") for number in range(3)]
    alerts = [create_alert(rule, create_device("d0"), minutes=number) for number, rule in enumerate(rules)]
    for device in ("d0", "d1", "d2"):
        assert admin.post(f"devices/{device}/telemetry", point("m0", 1000.0)).status == 422
    rejected_inbox().flush()
    for channel in ("c0", "c1", "c2"):
        create_delivery(alerts, channel)
    path = f"alerts/rules/{rules[0].rule_id}"
    for number in range(2):
        assert admin.call("PATCH", path, {"description": f"v{number}"}).status == 200
    collector = Collector.objects.get(name="l0")
    for number in range(3):
        collector.collections.create(
            snapshot_id=f"s{number}", device_id="d0", started_at=NOW, late_ms=1, duration_ms=1, points=1, rejected=0
        )
        collector.annotations.create(device_id="d0", at=NOW, deployment_id=f"d{number}", version="1", state="x")
    ids = {"alert_id": alerts[0].alert_id, "rule_id": rules[0].rule_id, "collector_id": collector.collector_id}
    ids["page_id"] = page_id
    return ids | {"name": "g0", "device_id": "d0", "metric_name": "m0"}


def create(caller: ApiClient, path: str, body: dict[str, Any], minutes: bool = False) -> None:
    if minutes:
        body = {name: value for name, value in body.items() if name != "minutes"}
        body["ends_at"] = (NOW + timedelta(hours=1)).isoformat()
    response = caller.post(path, body)
    assert response.status in (200, 201, 202), (path, response.raw)


@pytest.mark.slow
def test_every_paginated_operation_is_in_the_table():
    paginated = {path for _, path, operation in operations() if "cursor" in query_names(operation)}
    expected = {path if path.startswith("/") else f"/api/v1/telemetry/{path}" for path in LISTS}
    assert paginated == expected - {"/api/v1/telemetry/query"}


@pytest.mark.slow
@pytest.mark.parametrize("path", LISTS)
def test_pages_of_one_row_are_the_whole_list(admin: ApiClient, names: dict[str, str], path: str):
    for parameters in [LISTS[path]] if path in ("query", "aggregated", "/telemetry/history") else [{}, LISTS[path]]:
        whole = read(admin, path.format(**names), parameters, limit=None)
        assert whole["next_cursor"] is None
        rows, cursor, requests = [], None, 0
        while requests == 0 or cursor is not None:
            page = read(admin, path.format(**names), parameters, limit=1, cursor=cursor)
            assert len(rows_of(page)) == 1, (path, page)
            rows += rows_of(page)
            cursor, requests = page["next_cursor"], requests + 1
        assert [stable(row) for row in rows] == [stable(row) for row in rows_of(whole)] and len(rows) >= 3, path


def read(caller: ApiClient, path: str, parameters: dict[str, Any], limit: int | None, cursor: str | None = None) -> Any:
    page = {name: value for name, value in (("limit", limit), ("cursor", cursor)) if value is not None}
    if path == "query":
        response = caller.post(path, parameters | page)
    elif path.endswith("preview"):
        response = caller.post(f"{path}?{urlencode(page)}", {"device_ids": ["d0"]})
    else:
        response = caller.get(f"{path}?{urlencode(parameters | page)}")
    assert response.status == 200, (path, response.raw)
    return response.json


def rows_of(page: Any) -> list[Any]:
    lists = [value for name, value in page.items() if isinstance(value, list) and name not in ("incomplete", "series")]
    [rows] = lists
    return rows


def stable(row: dict[str, Any]) -> Any:
    """Return the fields that do not change between requests; points of one device do not repeat its id."""
    is_point = "metric_name" in row and "value" in row and "alert_id" not in row
    return {name: value for name, value in row.items() if name not in ("last_used", "device_id" if is_point else "")}
