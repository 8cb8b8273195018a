"""The number of SQL statements of every endpoint is committed and does not grow with rows."""

import json
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import quote

import psycopg
import pytest
from django.test import Client

from alerts import alert_actions
from alerts.models import Alert, Channel, Incident, Route, Rule, Silence
from alerts.rules import lifecycle
from ingest.models import ApiKey, Collector, CollectorState
from ingest.rejected.point_packets import RejectedPoint
from ingest.rejected.write_rows import InboxRow, write_rows
from metrics.devices import group_membership
from metrics.models import Device, DeviceGroup, MetricDefinition
from metrics.storage import series_registry
from metrics.storage.connection import connect
from metrics.storage.write import audit_anchor
from telemetry_site import lifespan
from tests.conftest import API, ApiClient, point

COMMITTED_COUNTS = Path(__file__).with_name("statements.json")
FEW, MANY = 3, 60
NOW = datetime.now(UTC).replace(microsecond=0)
TIMES = {"start_time": (NOW - timedelta(hours=1)).isoformat(), "end_time": (NOW + timedelta(hours=1)).isoformat()}
SPAN = "&".join(f"{name}={quote(time)}" for name, time in TIMES.items())

# Requests: a path with parameters, and a body. Lists are requested in full pages.
GETS = (
    "metrics?limit=1000",
    "metrics/metric_000",
    "devices/device_000/metrics",
    "devices/device_000/metrics/temperature/latest",
    "devices/device_000/metrics/temperature/anomalies",
    "devices/device_000/metrics/temperature/range",
    f"aggregated?metric_name=temperature&aggregation_type=avg&interval=3600&{SPAN}",
    f"export/csv?device_ids=device_000&metric_names=temperature&{SPAN}",
    "export/jobs?limit=200",
    "devices?limit=1000",
    "devices?group=site%20a",
    "devices/device_000",
    "groups",
    "groups/site%20a",
    "groups/site%20a/devices",
    "deletions",
    "devices/device_000/stats",
    "stats",
    "service/stats",
    "audit?limit=1000",
    "keys?limit=1000",
    "keys/1",
    "rejected?limit=1000",
    "alerts?limit=1000",
    "alerts/alt_000",
    "alerts/alt_000/notices",
    "alerts/alt_000/trace",
    "alerts/deliveries",
    "alerts/metrics",
    "alerts/silences",
    "alerts/silences/sil_000",
    "alerts/channels",
    "alerts/channels/chn_000",
    "alerts/routes",
    "alerts/routes/rte_000",
    "alerts/patterns",
    "/alerts",
    "/patterns",
    "alerts/rules?limit=1000",
    "alerts/rules/rule_000",
    "alerts/rules/rule_shadow/comparison",
    "alerts/rules/rule_000/trace?device_id=device_000",
    "alerts/rules/rule_000/versions",
    "alerts/rules/rule_000/versions/1",
    "collectors?limit=1000",
    "collectors/col_000",
    "collectors/col_000/collections",
    "devices/device_000/annotations",
    "/telemetry/collect/snap_000",
    "/telemetry/status",
    "/telemetry/public",
    "/telemetry/history?metric_name=temperature",
    "/dashboard",
    "/health",
    "/",
    "/devices/",
    "/devices/device_000/",
    "/exports/",
    "/rejected/",
    "/alerts/",
    "/alerts/alt_000/",
    "/alerts/updates/?shown=alt_000",
    "/alerts/sparklines/?shown=alt_000,alt_001,alt_002",
    "/overview/alerts/",
    "/rules/",
    "/rules/rule_000/",
    "/silences/",
    "/channels/",
    "/channels/chn_000/",
    "/patterns/",
    "/collectors/",
    "/collectors/col_000/",
)
RULE: dict[str, Any] = {"metric_name": "temperature", "condition": ">", "threshold_value": 80}
POSTS: tuple[tuple[str, dict[str, Any]], ...] = (
    ("query", {"metrics": ["temperature"], "devices": ["device_000"], **TIMES}),
    ("query?explain=true", {"metrics": ["temperature"], "aggregation": "avg", "group_by": "all", **TIMES}),
    ("latest", {"metrics": ["temperature"]}),
    ("devices/device_000/telemetry", point()),
    ("devices/device_000/telemetry/batch", {"data_points": [point(), point("humidity")]}),
    ("bulk", {"device_000": [point()]}),
    ("metrics", {"name": "another", "data_type": "numeric"}),
    ("alerts/rules", RULE | {"name": "another"}),
    ("alerts/rules/rule_000/shadow", {"threshold_value": 90}),
    ("alerts/alt_000/comments", {"note": "hm"}),
    ("alerts/backtest", {"rule": RULE | {"name": "another", "device_ids": ["device_000"]}}),
    ("alerts/silences/preview", {"device_groups": ["site a"]}),
    ("alerts/silences", {"device_ids": ["device_000"], "ends_at": TIMES["end_time"], "reason": "repair"}),
    ("alerts/channels", {"name": "another", "kind": "action", "action": "log_alert"}),
    ("alerts/routes", {"name": "another", "channels": ["c0", "c1"]}),
    ("devices/device_000/maintenance", {"minutes": 5}),
    ("alerts/bulk", {"verb": "comment", "note": "hm", "filter": {"level": "warning"}}),
)
NOT_REPEATABLE = {"metrics", "alerts/channels", "alerts/routes"}  # names are unique


@contextmanager
def record_statements(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """Record the SQL statements of this thread, of Django and of the storage."""
    statements: list[str] = []
    with monkeypatch.context() as patch:
        for name in ("execute", "executemany"):
            original: Callable[..., Any] = getattr(psycopg.Cursor, name)

            def recording_execute(
                self: Any, query: Any, *args: Any, original: Callable[..., Any] = original, **kwargs: Any
            ) -> Any:
                statements.append(str(query))
                return original(self, query, *args, **kwargs)

            patch.setattr(psycopg.Cursor, name, recording_execute)
        yield statements


def create_rows(admin: ApiClient, rows: int) -> None:
    """Create rows of everything that is listed."""
    body = {f"device_{number:03}": [point()] for number in range(rows)}
    assert admin.post("bulk", body).status == 200
    MetricDefinition.objects.bulk_create(
        MetricDefinition(name=f"metric_{number:03}", data_type="numeric") for number in range(rows)
    )
    ApiKey.objects.bulk_create(
        ApiKey(name=f"key {number}", digest=bytes([number]), device=device)
        for number, device in enumerate(Device.objects.all())
    )
    now, points = time.time(), [RejectedPoint(0, 1.0, b"")]
    with connect() as connection:
        write_rows(
            connection,
            [InboxRow("s", f"device_{n:03}", "m", "too_old", now, now, 1, "too old", points) for n in range(rows)],
        )
    group, _ = DeviceGroup.objects.get_or_create(name="site a")
    group_membership.add_devices(group, Device.objects.values_list("pk", flat=True))
    _create_alert_rows(rows)
    _create_collectors(rows)


def _create_collectors(rows: int) -> None:
    """Create collectors, and collections and annotations of the first one."""
    collectors = Collector.objects.bulk_create(
        Collector(collector_id=f"col_{n:03}", name=f"col {n}", kind="tcp", device_id=f"device_{n:03}",
                  configuration={"host": "h", "port": 1}) for n in range(rows)
    )  # fmt: skip
    CollectorState.objects.bulk_create(CollectorState(collector=collector, due_at=NOW) for collector in collectors)
    for n in range(rows):
        collectors[0].collections.create(
            snapshot_id=f"snap_{n:03}", device_id="device_000", started_at=NOW, late_ms=1, duration_ms=1, points=1,
            rejected=0,
        )  # fmt: skip
        collectors[0].annotations.create(device_id="device_000", at=NOW, deployment_id=f"{n}", version="1", state="x")


def _create_alert_rows(rows: int) -> None:
    """Create rules with one alert each, all in one incident."""
    for number, device in enumerate(Device.objects.order_by("pk")[:rows]):
        rule = lifecycle.create(RULE | {"name": f"rule {number}", "notification_channels": [f"c{number}"]}, "user:mei")
        Rule.objects.filter(pk=rule.pk).update(rule_id=f"rule_{number:03}")
        common = {"metric_name": "temperature", "level": "warning", "message": "hot", "rule_name": rule.name}
        identity = {"rule": rule, "device": device, "device_name": device.device_id, "alert_id": f"alt_{number:03}"}
        alert_actions.open_alerts([Alert(**common, **identity, triggered_at=NOW, last_breach_at=NOW)])
        if number == 0:
            shadow = lifecycle.create(RULE | {"name": "trial"}, "user:mei", shadow_of=rule)
            Rule.objects.filter(pk=shadow.pk).update(rule_id="rule_shadow")
        Channel.objects.create(name=f"c{number}", kind="action", action="log_alert", channel_id=f"chn_{number:03}")
        Route.objects.create(name=f"r{number}", channels=[f"c{number}", "none"], route_id=f"rte_{number:03}")
        ends_at, device_ids = NOW + timedelta(hours=1), [device.device_id]
        Silence.objects.create(ends_at=ends_at, device_ids=device_ids, reason="repair", silence_id=f"sil_{number:03}")
    Alert.objects.update(incident=Incident.objects.create(cause="test", title="hot"))


def count_statements(admin: ApiClient, monkeypatch: pytest.MonkeyPatch) -> dict[str, int]:
    series_registry.refresh_registry()
    monkeypatch.setattr(series_registry, "REVISION_PERIOD", 3600.0)  # not part of a request
    monkeypatch.setattr(lifespan, "write_request_stats", lambda: None)  # not part of a request
    monkeypatch.setattr(audit_anchor, "READ_INTERVAL", 3600.0)  # not part of a request
    client, counts = Client(headers=admin.headers), {}
    from django.contrib.auth import get_user_model

    pages = Client()
    pages.force_login(get_user_model().objects.filter(is_superuser=True).first())
    for method, path, body in [("GET", path, None) for path in GETS] + [("POST", *post) for post in POSTS]:
        address = path if path.startswith("/") else f"{API}/{path}"
        caller = client if address.startswith("/api/") else pages

        def send_request(
            caller: Client = caller, method: str = method, address: str = address, body: Any = body
        ) -> None:
            response = caller.generic(method, address, json.dumps(body) if body else "", "application/json")
            assert response.status_code < 300, (address, response.content)
            response.close()  # of a stream, only the statements before the first byte count

        if path not in NOT_REPEATABLE:
            send_request()  # statements that run once per process do not count
        statement_counts = []
        for _ in range(1 if path in NOT_REPEATABLE else 3):  # the pool may check a connection meanwhile
            with record_statements(monkeypatch) as statements:
                send_request()
            statement_counts.append(len(statements))
        counts[f"{method} {address.removesuffix(SPAN)}"] = min(statement_counts)
    return counts


@pytest.mark.slow
def test_statements_per_request_equal_the_committed_numbers(
    admin: ApiClient, administrator: ApiClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    create_rows(admin, FEW)
    counts = count_statements(admin, monkeypatch)
    if os.environ.get("WRITE_STATEMENTS"):
        COMMITTED_COUNTS.write_text(json.dumps(counts, indent=2, sort_keys=True) + "\n")
    assert counts == json.loads(COMMITTED_COUNTS.read_text()), "run with WRITE_STATEMENTS=1 to update statements.json"


@pytest.mark.slow
def test_statements_per_request_do_not_grow_with_rows(
    admin: ApiClient, administrator: ApiClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    create_rows(admin, MANY)
    committed = json.loads(COMMITTED_COUNTS.read_text())
    assert {
        path: count for path, count in count_statements(admin, monkeypatch).items() if count > committed[path]
    } == {}
