"""Counts of requests, WebSockets and points that the site keeps of itself."""

import asyncio
from typing import Any

import pytest
from django.conf import settings

from metrics import tasks
from metrics.statistics import request_history
from metrics.storage import connection as connections
from metrics.storage.connection import connect
from metrics.storage.errors import StorageUnavailable
from rest import request_log, request_stats
from telemetry_site import lifespan
from telemetry_site.middleware.request_id import RequestIdMiddleware
from telemetry_site.middleware.websocket_count import WebSocketCount
from tests.conftest import ApiClient, point
from tests.telemetry_site.health_conditions import WITH_DATABASE, no_database
from tests.telemetry_site.site_process import wait_until

__all__ = ["no_database"]


async def send_request(app: Any, path: str, method: str = "GET") -> None:
    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b""}

    async def send(message: dict[str, Any]) -> None:
        return None

    scope = {"type": "http", "path": path, "method": method, "headers": [], "query_string": b""}
    await RequestIdMiddleware(app)(scope, receive, send)


def responding_app(status: int) -> Any:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": status, "headers": []})
        await send({"type": "http.response.body", "body": b"", "more_body": True})
        await asyncio.sleep(1.0)  # only the time to the first byte counts
        await send({"type": "http.response.body", "body": b""})

    return app


async def failing_app(scope: Any, receive: Any, send: Any) -> None:
    raise RuntimeError


@pytest.mark.slow
async def test_requests_are_counted_by_kind_with_failures_and_time_to_first_byte(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    request_counters = request_stats.RequestCounters()  # separate from the site's own counters, which are written
    monkeypatch.setattr(request_log, "request_counters", request_counters)
    await asyncio.gather(
        *(
            send_request(responding_app(200), path, "POST")
            for path in ("/api/v1/bulk", "/api/v1/devices/a/b/telemetry/batch/")
        ),
        send_request(responding_app(503), "/api/v1/devices/a/telemetry", "POST"),
        send_request(responding_app(404), "/api/v1/devices/a/telemetry", "GET"),
        send_request(responding_app(200), "/"),
        *(send_request(responding_app(200), path) for path in request_log.UNCOUNTED),
    )
    await send_request(failing_app, "/")
    counts = request_counters.take()
    ingest, other = counts[request_stats.INGEST], counts[request_stats.OTHER]
    assert (ingest.requests, ingest.failures, other.requests, other.failures) == (3, 1, 3, 1)
    assert sum(ingest.latencies) == 3 and sum(other.latencies) == 3
    assert ingest.seconds + other.seconds < 1.0


async def test_open_websockets_are_counted() -> None:
    release = asyncio.Event()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await release.wait()

    open_sockets = [asyncio.create_task(WebSocketCount(app)({}, asyncio.sleep, asyncio.sleep)) for _ in range(3)]
    open_before = WebSocketCount.open
    await asyncio.sleep(0)
    assert WebSocketCount.open == open_before + 3
    release.set()
    await asyncio.gather(*open_sockets)
    assert WebSocketCount.open == open_before


def statistics_rows() -> list[tuple[Any, ...]]:
    with connect() as connection:
        return connection.execute(
            "SELECT kind, requests, failures, points, rejected, latencies FROM metrics_activity ORDER BY kind"
        ).fetchall()


def test_request_statistics_of_several_processes_share_one_row_per_minute(site: None) -> None:
    request_stats.request_counters.reset()
    for _ in range(3):
        request_stats.request_counters.answered(request_stats.INGEST, 200, 0.002)
        request_stats.request_counters.answered(request_stats.INGEST, 500, 0.2)
        request_stats.request_counters.stored(7)
        request_stats.request_counters.rejected(1)
        request_history.store_counters()
    stored = statistics_rows()
    if len(stored) == 1:  # otherwise a new minute started in between
        assert (
            stored[0][:5] == ("ingest", 6, 3, 21, 3) and sum(stored[0][5]) == 6 and sorted(stored[0][5])[-2:] == [3, 3]
        )
    assert sum(row[1] for row in stored) == 6
    with connect() as connection:
        connection.execute("UPDATE metrics_activity SET minute = minute - interval '4 minutes'")
        assert request_history.read_recent(connection).kinds[request_stats.INGEST].requests == 6
        connection.execute("UPDATE metrics_activity SET minute = minute - interval '1 minute'")
        assert request_history.read_recent(connection).kinds[request_stats.INGEST].requests in (
            0,
            6,
        )  # 6 if a minute has just ended
        connection.execute("UPDATE metrics_activity SET minute = minute - interval '1 minute'")
        assert request_history.read_recent(connection).kinds[request_stats.INGEST].requests == 0


def test_without_requests_no_statistics_row_is_written(site: None) -> None:
    request_stats.request_counters.reset()
    request_history.store_counters()
    assert statistics_rows() == []


@pytest.mark.slow
def test_request_statistics_are_written_once_the_database_is_back(
    no_database: None, caplog: pytest.LogCaptureFixture
) -> None:
    request_stats.request_counters.reset()
    request_stats.request_counters.stored(5)
    with pytest.raises(StorageUnavailable):
        request_history.store_counters()
    lifespan.write_request_stats()
    assert "cannot be written" in caplog.text
    connections.connection_parameters = WITH_DATABASE
    request_stats.request_counters.stored(2)

    def written() -> bool:  # the web process may be writing the first counts and puts them back
        request_history.store_counters()
        return sum(row[3] for row in statistics_rows()) == 7

    wait_until(written, 10, "everything is written")


@pytest.mark.slow
def test_web_process_writes_request_statistics(admin: ApiClient) -> None:
    admin.post("devices/device_001/telemetry", point())
    wait_until(lambda: sum(row[3] for row in statistics_rows()) == 1, 10, "the point is in the row of the minute")


def test_request_statistics_are_deleted_after_two_days(site: None) -> None:
    with connect() as connection:
        for hours in (47, 49):
            connection.execute(
                "INSERT INTO metrics_activity (minute, kind, requests, failures, seconds, points, rejected, latencies)"
                " VALUES (now() - make_interval(hours => %s), 'ingest', %s, 0, 0, 0, 0, '{}')",
                (hours, hours),
            )
    tasks.drop_expired()
    assert [row[1] for row in statistics_rows()] == [47]


@pytest.mark.slow
def test_service_capabilities_match_the_enforced_limits(reader: ApiClient, admin: ApiClient) -> None:
    for prefix in ("/api/v1", "/api/v1/telemetry"):
        capabilities = reader.get(f"{prefix}/service/stats").json
        assert capabilities["version"] == settings.VERSION
    too_many = [point() for _ in range(capabilities["limits"]["points_of_a_batch"] + 1)]
    assert admin.post("devices/d/telemetry/batch", {"data_points": too_many}).status == 422
    assert admin.post("devices/d/telemetry/batch", {"data_points": too_many[1:]}).status == 200
    for aggregation in capabilities["aggregations"]:
        path = f"devices/d/metrics/temperature/range?time_range=1h&aggregation={aggregation}&interval=60"
        assert admin.get(path).status == 200, aggregation
