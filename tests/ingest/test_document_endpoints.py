"""The endpoints of other specifications: events, status, history and collect now."""

import json
import time
import tomllib
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pytest
from celery.contrib.testing.worker import start_worker
from django.conf import settings
from django.utils import timezone
from hypothesis import given
from hypothesis import strategies as st

from ingest.rejected.inbox import rejected_inbox
from ingest.tasks import collect_host
from ingest.wire.batch import RequestRejected
from ingest.wire.event import decode_events
from metrics import tasks
from metrics.devices.device_state import LATE, NEVER_SEEN, OFFLINE, ONLINE, StateLimits, count_states, ranks_of
from metrics.models import Activity, Device, DeviceGroup, MetricDefinition
from metrics.query import last_seen
from metrics.storage import series_registry
from metrics.storage.connection import read_connection
from rest.request_stats import LATENCIES
from telemetry_site.celery import app
from tests.alerts.factories import create_alert, create_rule
from tests.conftest import ApiClient, point

EVENT = {"source": "sensor_001", "type": "temperature", "value": 75.0, "status": "OK"}


@pytest.fixture(params=["fast lane", "views"])
def sender(request: pytest.FixtureRequest, site: None) -> ApiClient:
    return request.getfixturevalue("admin" if request.param == "fast lane" else "administrator")


def event(**fields: Any) -> dict[str, Any]:
    """Return the document's example, with `"timestamp": time.time()`."""
    return {"timestamp": time.time()} | EVENT | fields


# --- POST /telemetry --------------------------------------------------------------------------------


def test_event_is_stored_as_a_point_with_its_status_as_a_tag(sender: ApiClient):
    body = event(line="A")
    response = sender.post("/telemetry", body)
    assert (response.status, response.json["ingested_count"]) == (200, 1)
    latest = sender.get("devices/sensor_001/metrics/temperature/latest").json
    assert datetime.fromisoformat(latest["timestamp"]).timestamp() == pytest.approx(body["timestamp"], abs=1e-5)
    assert (latest["value"], latest["tags"], latest["metadata"]) == (75.0, {"status": "OK"}, {"line": "A"})


def test_list_of_events_of_several_sources_is_stored(sender: ApiClient):
    sent = [event(source=f"sensor_{n % 3}", timestamp=time.time() - n, value=n) for n in range(9)]
    assert sender.post("/telemetry", sent).json["ingested_count"] == 9
    for n in range(3):
        response = sender.get(f"devices/sensor_{n}/metrics/temperature/range?time_range=1h").json
        assert [point["value"] for point in response["data_points"]] == [n + 6, n + 3, n]


def test_invalid_events_of_a_list_are_reported_and_the_others_stored(sender: ApiClient):
    MetricDefinition.objects.create(name="temperature", data_type="numeric", max_value=100)
    series_registry.refresh_registry()
    body = [event(), 5, event(timestamp="now"), event(value=None), event(source=""), event(value=101.0)]
    response = sender.post("/telemetry", body).json
    assert (response["ingested_count"], response["failed_count"]) == (1, 5)
    assert [(error["index"], error["field"]) for error in response["errors"]] == [
        (1, "event"),
        (2, "timestamp"),
        (3, "value"),
        (4, "source"),
        (5, "value"),
    ]


BAD_EVENTS = {
    "no JSON": (b"{", 400, "not JSON"),
    "nothing": ([], 422, "0 events"),
    "more than 1,000": ([event()] * 1001, 422, "1001 events"),
    "no timestamp": (EVENT, 422, "timestamp"),
    "no source": ({"timestamp": 1, "type": "t", "value": 1}, 422, "source"),
    "no type": ({"timestamp": 1, "source": "s", "value": 1}, 422, "type"),
    "no value": ({"timestamp": 1, "source": "s", "type": "t"}, 422, "value"),
    "a time in milliseconds": (event(timestamp=1766051000500), 422, "seconds since 1970"),
    "a time that is true": (event(timestamp=True), 422, "timestamp"),
    "a time that is NaN": (json.dumps(event(timestamp=float("nan"))).encode(), 422, "timestamp"),
    "a naive time": (event(timestamp="2026-01-31T12:00:00"), 422, "timestamp"),
    "a time long ago": (event(timestamp=0), 422, "older than"),
    "NUL in the status": (event(status="a\0"), 422, "status"),
    "an infinite value": (b'{"timestamp": 1, "source": "s", "type": "t", "value": 1e999}', 422, "value"),
}


@pytest.mark.parametrize("name", BAD_EVENTS)
def test_invalid_event_is_rejected_with_the_field(sender: ApiClient, name: str):
    body, status, detail = BAD_EVENTS[name]
    response = sender.post("/telemetry", body)
    assert (response.status, detail in response.json["detail"]) == (status, True), response.json
    assert response.headers["Content-Type"] == "application/problem+json"


def test_events_need_write_permission(device: ApiClient, reader: ApiClient, anonymous: ApiClient, viewer: ApiClient):
    assert device.post("/telemetry", event()).status == 403
    assert device.post("/telemetry", event(source="device_001")).status == 200
    assert [caller.post("/telemetry", event()).status for caller in (reader, viewer, anonymous)] == [403, 403, 401]


scalars = st.none() | st.booleans() | st.floats() | st.integers(-(2**60), 2**60) | st.text(max_size=5)
events = st.dictionaries(st.sampled_from(["timestamp", "source", "type", "value", "status", "x"]), scalars)


@pytest.mark.slow
@given(events | st.lists(events | scalars, max_size=4))
def test_any_list_of_events_is_validated_event_by_event(document: Any):
    try:
        batch = decode_events(json.dumps(document).encode())
    except RequestRejected as error:
        assert error.status in (400, 422)
    else:
        assert batch.total == (len(document) if isinstance(document, list) else 1)


# --- GET /telemetry/status, /telemetry/public, /dashboard -------------------------------------------


@pytest.fixture
def fleet(admin: ApiClient, viewer: ApiClient) -> None:
    """One device of each state; the viewer sees the reporting and the late one."""
    ages = {"reporting": 5, "late": 50, "silent": 500}
    for device_id, ago in ages.items():
        admin.post(f"devices/{device_id}/telemetry", point("temperature", 20, ago, unit="°C"))
        Device.objects.filter(device_id=device_id).update(expected_interval=10)
    Device.objects.create(device_id="never")
    group = DeviceGroup.objects.get(name="site a")
    group.devices.add(*Device.objects.filter(device_id__in=["reporting", "late"]))
    minute = timezone.now().replace(second=0, microsecond=0) - timedelta(minutes=2)
    Activity.objects.create(minute=minute, kind="ingest", points=6_000, latencies=[0] * (len(LATENCIES) + 1))


STATES = {"total": 4, "reporting": 1, "late": 1, "silent": 1, "never_heard": 1}


def test_public_status_has_counts_without_names(anonymous: ApiClient, fleet: None):
    response = anonymous.get("/telemetry/public")
    assert response.status == 200 and response.headers["Cache-Control"] == "public, max-age=5"
    assert set(response.json) == {"status", "timestamp", "devices", "points_per_second", "uptime_seconds"}
    assert (response.json["status"], response.json["devices"]) == ("critical", STATES)
    assert 6_000 / 300 <= response.json["points_per_second"] <= 6_010 / 240
    for name in ("reporting-", "temperature", "device_id", 'never"', "key:"):
        assert name not in response.raw.decode()


def test_public_status_can_be_switched_off(anonymous: ApiClient, settings: Any):
    settings.PUBLIC_STATUS = False
    assert anonymous.get("/telemetry/public").status == 404


def test_status_shows_all_devices_to_an_unrestricted_caller(reader: ApiClient, admin: ApiClient, fleet: None):
    MetricDefinition.objects.create(name="temperature", data_type="numeric", max_value=100)
    series_registry.refresh_registry()
    admin.post("devices/late/telemetry", point("temperature", 101))
    rejected_inbox().flush()
    status = reader.get("/telemetry/status").json
    assert status["devices"] == STATES and status["status"] == "critical"
    assert (status["service"], status["metrics_defined"], status["series"]) == ("telemetry_service", 1, 3)
    assert status["rejected"] == {"rows": 1, "points": 1}
    assert status["commits"] == 3 and status["buffer_utilization"] == 0.0


def test_users_see_the_status_of_their_own_devices(
    viewer: ApiClient, stranger: ApiClient, admin: ApiClient, fleet: None
):
    status = viewer.get("/telemetry/status").json
    assert status["devices"] == {"total": 2, "reporting": 1, "late": 1, "silent": 0, "never_heard": 0}
    assert (status["status"], status["series"]) == ("warning", 2)
    empty_status = stranger.get("/telemetry/status").json
    assert set(empty_status["devices"].values()) == {0} and empty_status["series"] == 0


def test_dashboard_lists_the_worst_devices_first(reader: ApiClient, viewer: ApiClient, fleet: None):
    dashboard = reader.get("/dashboard").json
    assert [row["device_id"] for row in dashboard["recent"]] == ["silent", "late", "reporting", "never"]
    assert [row["status"] for row in dashboard["recent"]] == ["silent", "late", "reporting", "never_heard"]
    (value,) = dashboard["recent"][2]["values"]
    assert (value["metric_name"], value["value"], value["unit"]) == ("temperature", 20.0, "°C")
    assert dashboard["summary"] == "1 of 4 devices is offline"
    assert [row["device_id"] for row in viewer.get("/dashboard").json["recent"]] == ["late", "reporting"]


def test_dashboard_counts_a_new_device_at_once(reader: ApiClient, admin: ApiClient, fleet: None):
    assert reader.get("/telemetry/status").json["devices"] == STATES  # fills the cache of last-seen times
    admin.post("devices/new/telemetry", point("temperature", 20))
    dashboard = reader.get("/dashboard").json
    assert (dashboard["devices"]["total"], dashboard["devices"]["reporting"]) == (5, 2)
    assert len(dashboard["recent"]) == 5


def test_device_states_stay_the_same_after_a_merge(reader: ApiClient, admin: ApiClient, fleet: None):
    tasks.merge_young_blocks()
    last_seen.clear_cache()
    assert reader.get("/telemetry/status").json["devices"] == STATES
    admin.post("devices/silent/telemetry", point("humidity", 1))
    last_seen.clear_cache()
    assert reader.get("/telemetry/status").json["devices"] == STATES | {"silent": 0, "reporting": 2}


def test_requests_do_not_wait_while_states_are_refreshed(reader: ApiClient, admin: ApiClient, fleet: None):
    reader.get("/telemetry/status")
    admin.post("devices/silent/telemetry", point("humidity", 1))
    cached = last_seen._cache
    assert cached is not None
    last_seen._cache = cached._replace(began=0.0)  # expired
    assert reader.get("/telemetry/status").json["devices"] == STATES
    deadline = time.monotonic() + 10
    while last_seen._cache.began == 0.0 and time.monotonic() < deadline:
        time.sleep(0.01)
    assert reader.get("/telemetry/status").json["devices"] == STATES | {"silent": 0, "reporting": 2}


@pytest.mark.slow
@given(st.lists(st.tuples(st.one_of(st.none(), st.floats(-100, 2000)), st.integers(0, 100)), max_size=20))
def test_state_counts_match_the_state_of_each_device(devices: list[tuple[float | None, int]]):
    now = datetime(2026, 1, 1, tzinfo=UTC)
    last_seen_times = [None if ago is None else now - timedelta(seconds=ago) for ago, _ in devices]
    micros = [0 if at is None else round(at.timestamp() * 1e6) for at in last_seen_times]
    intervals = [interval for _, interval in devices]
    columns = last_seen.LastSeenColumns(
        np.arange(len(devices)), np.array(micros, np.int64), np.array(intervals, np.int64), now
    )
    states = [StateLimits.of(interval).state(at, now) for at, interval in zip(last_seen_times, intervals, strict=True)]
    assert count_states(ranks_of(columns)) == {
        state: states.count(state) for state in (OFFLINE, LATE, ONLINE, NEVER_SEEN)
    }


@pytest.mark.slow
def test_dashboard_has_the_fields_of_the_alerting_document(reader: ApiClient, viewer: ApiClient, fleet: None):
    rule = create_rule()
    for device in ("late", "silent"):
        create_alert(rule, Device.objects.get(device_id=device))
    dashboard = reader.get("/dashboard").json
    metrics = reader.get("alerts/metrics").json
    assert {name: dashboard[name] for name in metrics if name != "system_detail"} == {
        name: value for name, value in metrics.items() if name != "system_detail"
    }
    assert dashboard["buffer_utilization"] == 0 and dashboard["status"] in ("healthy", "warning", "critical")
    assert dashboard["active_alerts"] == 2 and viewer.get("/dashboard").json["active_alerts"] == 1
    assert {alert["device_id"] for alert in dashboard["alerts"]} == {"late", "silent"}
    assert [alert["device_id"] for alert in viewer.get("/dashboard").json["alerts"]] == ["late"]
    for alert in [*dashboard["alerts"], *reader.get("/alerts").json, *reader.get("alerts").json["alerts"]]:
        assert alert["severity"] == alert["level"] == "warning"


def test_version_of_the_project_is_the_version_everywhere(admin: ApiClient):
    project = tomllib.loads((settings.BASE_DIR / "pyproject.toml").read_text())["project"]
    versions = {
        admin.get(path).json["version"]
        for path in ("/health", "/health/detailed", "/telemetry/status", "service/stats")
    }
    assert versions == {project["version"]} == {"1.0.0"}


@pytest.mark.parametrize("path", ["/telemetry/status", "/telemetry/history?metric_name=m", "/dashboard"])
def test_all_but_the_public_status_need_authentication(anonymous: ApiClient, gateway: ApiClient, path: str):
    assert anonymous.get(path).status == 401
    assert gateway.get(path).status == 403


# --- GET /telemetry/history -------------------------------------------------------------------------


@pytest.mark.slow
def test_history_returns_a_metric_of_the_last_hours(
    reader: ApiClient, viewer: ApiClient, stranger: ApiClient, fleet: None
):
    path = "/telemetry/history?metric_name=temperature&hours=2&interval=3600"
    history = reader.get(path).json
    assert {row["device_id"] for row in history["series"]} == {"reporting", "late", "silent"}
    assert {row["value"] for row in history["data_points"]} == {20.0} and history["aggregation"] == "avg"
    counts = reader.get(f"{path}&device_id=late&aggregation=count").json
    assert [row["value"] for row in counts["data_points"] if row["value"]] == [1]
    assert {row["device_id"] for row in viewer.get(path).json["series"]} == {"reporting", "late"}
    assert viewer.get(f"{path}&device_id=silent").json["count"] == 0
    assert stranger.get(path).json["count"] == 0


def test_history_covers_the_requested_hours(admin: ApiClient):
    for hours in (1, 30):
        admin.post("devices/d/telemetry", point("m", hours, hours * 3600 - 60))
    for hours, count in ((1, 1), (24, 1), (30, 2)):
        path = f"/telemetry/history?metric_name=m&device_id=d&interval=60&hours={hours}"
        assert admin.get(path).json["count"] == count


def test_history_takes_times_interval_devices_and_metrics(admin: ApiClient):
    start = datetime.now(UTC).replace(minute=0, second=0, microsecond=0) - timedelta(hours=10)
    for device, metric in (("a", "m"), ("a", "n"), ("b", "m"), ("c", "m")):
        ages = [(datetime.now(UTC) - start).total_seconds() - 1800 * number for number in range(8)]
        points = [point(metric, float(number), age) for number, age in enumerate(ages)]
        assert admin.post(f"devices/{device}/telemetry/batch", {"data_points": points}).status == 200
    times = f"start_time={start:%Y-%m-%dT%H:%M:%SZ}&end_time={start + timedelta(hours=3):%Y-%m-%dT%H:%M:%SZ}"
    expected = [0.5, 2.5, 4.5]
    for names in ("metrics=m,n&devices=a,b", "metrics=m&metrics=n&devices=a&devices=b"):
        history = admin.get(f"/telemetry/history?{names}&{times}&interval=3600").json
        found = {
            (row["device_id"], row["metric_name"]): [p["value"] for p in row["data_points"]]
            for row in history["series"]
        }
        assert found == {("a", "m"): expected, ("a", "n"): expected, ("b", "m"): expected}
        assert (history["interval"], datetime.fromisoformat(history["start_time"])) == (3600, start)
    whole = admin.get(f"/telemetry/history?metric_name=m&devices=c&{times}&interval=range&aggregation=sum").json
    assert [row["value"] for row in whole["data_points"]] == [sum(range(6))]


def test_history_of_a_device_key_is_limited_to_its_device(device: ApiClient):
    path = "/telemetry/history?metric_name=m"
    assert device.get(f"{path}&devices=device_001").status == device.get(f"{path}&device_id=device_001").status == 200
    for devices in ("", "&devices=device_001,device_002", "&devices=device_001&devices=device_002"):
        assert device.get(path + devices).status == 403


@pytest.mark.slow
def test_history_without_a_metric_returns_point_counts_by_hour(
    reader: ApiClient, viewer: ApiClient, stranger: ApiClient, fleet: None
):
    history = reader.get("/telemetry/history").json
    assert len(history["data_by_hour"]) == 24 and history["total"] == 3
    assert viewer.get("/telemetry/history").json["total"] == 2
    assert stranger.get("/telemetry/history").json["total"] == 0
    assert len(reader.get("/telemetry/history?hours=2").json["data_by_hour"]) == 2


@pytest.mark.parametrize(
    ("query", "status", "field"),
    [
        ("device_id=d", 422, "metric_name"),
        ("devices=d", 422, "metric_name"),
        ("start_time=2026-01-01T00:00:00Z", 422, "metric_name"),
        ("hours=25", 422, "hours"),
        ("metric_name=m&metrics=n", 422, "metrics"),
        ("metric_name=m&device_id=a&devices=b", 422, "devices"),
        ("metric_name=m&start_time=2026-01-02T00:00:00Z&end_time=2026-01-01T00:00:00Z", 422, "start_time"),
        ("metric_name=m&start_time=soon", 400, "start_time"),
        ("metric_name=m&since=1h", 422, "since"),
        ("metric_name=m&hours=0", 400, "hours"),
        ("metric_name=m&hours=x", 400, "hours"),
        ("metric_name=m&hours=99999999", 400, "hours"),
        ("metric_name=m&interval=-1", 400, "interval"),
        ("metric_name=m&aggregation=magic", 400, "aggregation"),
        ("metric_name=%00", 400, "metric_name"),
    ],
)
def test_invalid_history_parameter_is_reported(reader: ApiClient, query: str, status: int, field: str):
    response = reader.get(f"/telemetry/history?{query}")
    assert response.status == status and field in response.json["detail"], response.json


# --- POST /telemetry/collect ------------------------------------------------------------------------


@pytest.fixture
def worker(site: None, settings: Any) -> Iterator[None]:
    settings.HOST_COLLECTOR = True
    settings.COLLECTORS_IN_WORKER = settings.ALERTS_IN_WORKER = (
        False  # the worker runs in this process, and its loops would outlive the test
    )
    with start_worker(app, pool="solo", perform_ping_check=False, shutdown_timeout=30):
        yield


def journal_entries(batch_id: str) -> list[dict[str, Any]]:
    with read_connection() as connection:
        rows = connection.execute("SELECT entries FROM metrics_journal").fetchall()
    return [entry for (text,) in rows for entry in json.loads(text) if entry.get("batch_id") == batch_id]


@pytest.mark.slow
def test_collect_now_stores_a_snapshot_under_its_id(admin: ApiClient, worker: None):
    response = admin.post("/telemetry/collect", {})
    assert response.status == 202 and response.json["success"]
    snapshot_id = response.json["snapshot_id"]
    deadline = time.monotonic() + 30
    while not (entries := journal_entries(snapshot_id)) and time.monotonic() < deadline:
        time.sleep(0.1)
    (entry,) = entries
    assert entry["sender"].startswith("collect (requested by key:") and entry["points"] >= 5
    assert "cpu_percent" in admin.get(f"devices/{entry['device_id']}/metrics").json
    collection = admin.get(f"/telemetry/collect/{snapshot_id}").json
    names = ("snapshot_id", "device_id", "points", "rejected")
    assert [collection[name] for name in names] == [snapshot_id, entry["device_id"], entry["points"], 0]
    latest = admin.post("latest", {"devices": [entry["device_id"]], "metrics": ["cpu_percent"]}).json["series"]
    collected_at = datetime.fromisoformat(collection["collected_at"])
    assert abs(datetime.fromisoformat(latest[0]["timestamp"]) - collected_at) < timedelta(seconds=10)


def test_unknown_snapshot_is_not_found(admin: ApiClient):
    for snapshot_id in ("snap_0123456789abcdef0123", "x" * 300):
        assert admin.get(f"/telemetry/collect/{snapshot_id}").status == 404


@pytest.mark.slow
def test_repeated_collect_task_stores_its_snapshot_once(admin: ApiClient, viewer: ApiClient):
    for _ in range(2):
        collect_host("snap_1", "user:mei")
    assert len(journal_entries("snap_1")) == 1
    assert admin.get("/telemetry/collect/snap_1").status == 200
    assert viewer.get("/telemetry/collect/snap_1").status == 404  # the device is in none of the viewer's groups


def test_collect_now_needs_operate_permission(
    operator: ApiClient, viewer: ApiClient, reader: ApiClient, gateway: ApiClient, settings: Any
):
    settings.HOST_COLLECTOR = False
    assert [caller.post("/telemetry/collect", {}).status for caller in (viewer, reader, gateway)] == [403] * 3
    response = operator.post("/telemetry/collect", {})
    assert response.status == 409 and "TELEMETRY_HOST_COLLECTOR" in response.json["detail"]


@pytest.mark.slow
def test_collect_now_without_redis_returns_503(admin: ApiClient, settings: Any, monkeypatch: pytest.MonkeyPatch):
    settings.HOST_COLLECTOR = True
    settings.COLLECTORS_IN_WORKER = settings.ALERTS_IN_WORKER = (
        False  # the worker runs in this process, and its loops would outlive the test
    )
    for name in ("broker_url", "broker_write_url"):
        monkeypatch.setattr(app.conf, name, "redis://127.0.0.1:1/0")
    monkeypatch.setattr(app, "_pool", None)  # the pool has connections to the real broker
    monkeypatch.setattr(app.amqp, "_producer_pool", None)
    response = admin.post("/telemetry/collect", {})
    assert response.status == 503 and response.headers["Retry-After"] == "2"


@pytest.mark.parametrize("method", ["TRACE", "DELETE", "PUT"])
def test_unsupported_method_is_answered_with_405_before_its_parameters_are_read(reader: ApiClient, method: str):
    assert reader.call(method, "/telemetry/history?metric_name=m&cursor=x").status == 405
    assert reader.call(method, "devices/d/metrics/m/range?start_time=x").status == 405
