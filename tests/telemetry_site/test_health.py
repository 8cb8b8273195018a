"""PRD E6-US3 and E6-US4: health of the service and its components, and request statistics."""

import asyncio
import re
import socket
import threading
import time
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
from django.conf import settings
from django.test import override_settings

from metrics import alert_summary, tasks
from metrics.statistics import request_history
from metrics.storage import connection as connections
from metrics.storage.connection import close_pools, connect
from metrics.storage.errors import StorageUnavailable
from metrics.storage.merge import schedule
from metrics.storage.read.block_cache import clear_block_cache
from metrics.storage.write.group_commit import MAX_QUEUED_POINTS, writer
from rest import request_log, request_stats
from telemetry_site import health_checks, lifespan
from telemetry_site.health_checks import MAX_HEARTBEAT_AGE, MAX_MERGE_DELAY
from telemetry_site.middleware.request_id import RequestIdMiddleware
from telemetry_site.middleware.websocket_count import WebSocketCount
from tests.conftest import ApiClient, ApiResponse, point, with_token
from tests.prd.conftest import within_once
from tests.telemetry_site.site_process import free_port, wait_until

COMPONENTS = ["data_ingestion", "time_series_db", "alert_engine", "real_time_stream"]
DETAILED = "/health/detailed"


# --- E6-US3 -----------------------------------------------------------------------------------------


def test_e6_us3_ac1_health_has_status_service_port_and_version(anonymous: ApiClient) -> None:
    expected = {"status": "healthy", "service": "telemetry_service", "port": settings.PORT, "version": settings.VERSION}
    assert anonymous.get("/health").json == expected


@pytest.mark.slow
def test_e6_us3_ac2_health_answers_within_20_ms(anonymous: ApiClient) -> None:
    within_once(0.02, lambda: anonymous.get("/health"), rounds=20)


@pytest.mark.slow
def test_e6_us3_ac3_health_is_200_with_and_503_without_the_database(anonymous: ApiClient, no_database: None) -> None:
    response = anonymous.get("/health")
    assert (response.status, response.json["status"]) == (503, "unhealthy")
    connections.connection_parameters = WITH_DATABASE
    assert anonymous.get("/health").status == 200


def test_e6_us3_ac4_health_needs_no_authentication(anonymous: ApiClient) -> None:
    for path in ("/health", DETAILED):
        assert anonymous.get(path).status == 200
        assert anonymous.get(path, X_Api_Key="tk_nobodys").status == 200  # invalid credentials are ignored


# --- E6-US4 -----------------------------------------------------------------------------------------


def test_e6_us4_ac1_every_component_has_a_status_and_a_reason(admin: ApiClient) -> None:
    response = admin.get(DETAILED)
    assert (response.status, response.json["status"]) == (200, "healthy")
    assert {component["status"] for component in response.json["components"].values()} == {"healthy"}
    assert all(component["detail"] for component in response.json["components"].values())


def test_e6_us4_ac2_detailed_health_has_four_components(anonymous: ApiClient) -> None:
    assert list(anonymous.get(DETAILED).json["components"]) == COMPONENTS


def test_e6_us4_ac3_performance_figures_are_measured(admin: ApiClient) -> None:
    for number in range(3):
        admin.post("devices/device_001/telemetry/batch", {"data_points": [point(f"m{index}") for index in range(10)]})
        if number == 0:
            merge_all_commits()
    tasks.heartbeat()
    request_history.store_counters()
    performance = admin.get(DETAILED).json["performance"]
    assert (performance["commits"], performance["commits_to_merge"], performance["points_to_merge"]) == (3, 2, 20)
    assert 0 < performance["oldest_commit_seconds"] < 30 and 0 <= performance["worker_heard_seconds_ago"] < 30
    assert 0 < performance["database_round_trip_ms"] < 1000
    assert 30 / 300 <= performance["points_per_second"] <= 30 / 239
    assert performance["p95_latency_ms"] > 0 and performance["avg_latency_ms"] > 0 and performance["error_rate"] == 0
    assert (performance["redis"], performance["points_waiting_here"]) == ("up", 0)


@pytest.mark.slow
def test_e6_us4_ac4_detailed_health_answers_within_50_ms(admin: ApiClient) -> None:
    for _ in range(20):
        admin.post("devices/device_001/telemetry", point())
    within_once(0.05, lambda: admin.get(DETAILED), rounds=20)


def test_detailed_health_shows_anonymous_callers_only_statuses_and_rates(
    anonymous: ApiClient, device: ApiClient, reader: ApiClient, viewer: ApiClient
) -> None:
    for caller in (anonymous, device, ApiClient(anonymous.port, {"X-Api-Key": "tk_nobodys"})):
        body = caller.get(DETAILED).json
        assert list(body) == ["status", "service", "port", "version", "components", "performance"]
        assert body["components"] == {name: {"status": "healthy"} for name in COMPONENTS}
        assert list(body["performance"]) == ["points_per_second", "avg_latency_ms", "error_rate"]
    for caller in (reader, viewer, with_token(viewer.port, "viewer")):
        body = caller.get(DETAILED).json
        assert all(component["detail"] for component in body["components"].values())
        assert body["performance"]["redis"] == "up"


def test_detailed_health_of_readers_is_complete_while_checks_are_slow(
    reader: ApiClient, viewer: ApiClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(health_checks, "CHECK_TIMEOUT", 0.0)
    for caller in (viewer, with_token(viewer.port, "viewer"), reader):
        body = caller.get(DETAILED).json
        assert body["components"]["time_series_db"]["detail"] == "the database does not answer"
        assert body["performance"]["commits"] is None


def test_detailed_health_shows_no_names_and_no_secrets(admin: ApiClient, reader: ApiClient) -> None:
    admin.post("devices/pump_of_the_palace/telemetry", point("royal_pressure"))
    text = reader.get(DETAILED).raw.decode()
    database = settings.DATABASES["default"]
    for name in ("pump", "royal", settings.SECRET_KEY, admin.headers["X-Api-Key"], str(database["HOST"]), "/tmp"):
        assert name not in text
    assert not re.search(r"\d+\.\d+\.\d+\.\d+", text) and "redis://" not in text and "unix://" not in text


# --- when something is not well -----------------------------------------------------------------------


def merge_all_commits() -> None:
    with connect() as connection:
        schedule.merge_commits(connection, force=True)


WITH_DATABASE = connections.connection_parameters


@pytest.fixture
def no_database(site: None) -> Iterator[None]:
    """Connect to a port where no server listens."""
    close_pools()
    port = free_port()
    connections.connection_parameters = lambda: {"host": "127.0.0.1", "port": port, "dbname": "nowhere"}
    yield
    connections.connection_parameters = WITH_DATABASE
    close_pools()


@pytest.fixture
def silent_database(site: None) -> Iterator[None]:
    """Connect to a server that never responds."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        close_pools()
        port = server.getsockname()[1]
        connections.connection_parameters = lambda: {"host": "127.0.0.1", "port": port, "dbname": "silent"}
        yield
        connections.connection_parameters = WITH_DATABASE
    close_pools()


def close_connections(name: str) -> None:
    """Close all database connections with this application name."""
    with connect() as connection:
        [(closed_count,)] = connection.execute(
            "SELECT count(pg_terminate_backend(pid, 5000)) FROM pg_stat_activity"
            " WHERE datname = current_database() AND application_name = %s",
            (name,),
        ).fetchall()
    assert closed_count


def unhealthy_components(response: ApiResponse) -> dict[str, str]:
    return {
        name: component["status"]
        for name, component in response.json["components"].items()
        if component["status"] != "healthy"
    }


@pytest.mark.slow
@pytest.mark.parametrize("fixture_name", ["no_database", "silent_database"])
def test_health_without_database_is_503_within_seconds_and_names_it(
    fixture_name: str, reader: ApiClient, request: pytest.FixtureRequest
) -> None:
    assert reader.get(DETAILED).status == 200  # the key is cached now
    request.getfixturevalue(fixture_name)
    started_at = time.monotonic()
    response = reader.get(DETAILED)
    assert time.monotonic() - started_at < 2.5
    assert (response.status, response.json["status"]) == (503, "unhealthy")
    assert unhealthy_components(response) == dict.fromkeys(
        ["data_ingestion", "time_series_db", "alert_engine"], "unhealthy"
    )
    assert "database" in response.json["components"]["time_series_db"]["detail"]
    performance = response.json["performance"]
    assert performance["database_round_trip_ms"] is None and performance["redis"] == "up"


@pytest.mark.slow
def test_hanging_checks_use_a_bounded_number_of_threads(silent_database: None, anonymous: ApiClient) -> None:
    started_at = time.monotonic()
    threads = [threading.Thread(target=lambda: anonymous.get(DETAILED)) for _ in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert time.monotonic() - started_at < 6
    assert sum(thread.name.startswith("health") for thread in threading.enumerate()) <= 6


@pytest.mark.slow
def test_health_is_200_after_a_restart_of_the_database(anonymous: ApiClient) -> None:
    for _ in range(3):
        assert anonymous.get("/health").status == 200
        close_connections("telemetry monitoring")  # as a restart closes every connection
    assert anonymous.get("/health").status == 200


def test_failed_test_of_a_monitoring_connection_returns_it_to_the_pool(
    site: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*arguments: Any, **options: Any) -> None:
        raise psycopg.ProgrammingError("prepared statement does not exist")

    with connections.monitoring_connection():  # opens a connection while that is possible
        pass
    for _ in range(2 * connections._MONITORING_POOL.max_connections):
        with monkeypatch.context() as patch, pytest.raises(psycopg.ProgrammingError):
            patch.setattr(psycopg.Connection, "execute", fail)
            with connections.monitoring_connection():
                pass
    with connections.monitoring_connection() as connection:
        assert connection.execute("SELECT 1").fetchone() == (1,)


def test_health_does_not_wait_for_running_queries(anonymous: ApiClient) -> None:
    """All connections for queries are in use."""
    taken_connections = [connections.read_connection() for _ in range(connections._READ_POOL.max_connections)]
    for taken_connection in taken_connections:
        taken_connection.__enter__()
    try:
        started_at = time.monotonic()
        assert anonymous.get("/health").status == anonymous.get(DETAILED).status == 200
        assert time.monotonic() - started_at < 1
    finally:
        for taken_connection in taken_connections:
            taken_connection.__exit__(None, None, None)


def test_damaged_blocks_make_storage_degraded_with_their_number(admin: ApiClient) -> None:
    admin.post("devices/device_001/telemetry/batch", {"data_points": [point(f"m{index}") for index in range(10)]})
    merge_all_commits()
    with connect() as connection:
        connection.execute("UPDATE metrics_block SET payload = set_byte(payload, 20, get_byte(payload, 20) # 255)")
    clear_block_cache()
    assert admin.get("devices/device_001/metrics/m1/range?time_range=1h").json["incomplete"]
    response = admin.get(DETAILED)
    assert (response.status, response.json["status"], unhealthy_components(response)) == (
        200,
        "degraded",
        {"time_series_db": "degraded"},
    )
    assert response.json["performance"]["damaged_blocks"] == 1
    detail = response.json["components"]["time_series_db"]["detail"]
    assert detail == "1 damaged block (10 points) is set aside: restore it from a backup"


@pytest.fixture
def no_redis(site: None) -> Iterator[None]:
    health_checks._redis = None
    with override_settings(REDIS_URL=f"redis://127.0.0.1:{free_port()}/0"):
        yield
    health_checks._redis = None


def test_without_redis_the_stream_is_degraded_and_points_are_stored(admin: ApiClient, no_redis: None) -> None:
    response = admin.get(DETAILED)
    assert (response.status, response.json["status"], unhealthy_components(response)) == (
        200,
        "degraded",
        {"real_time_stream": "degraded"},
    )
    assert response.json["performance"]["redis"] == "down"
    assert admin.post("devices/device_001/telemetry", point()).status == 200


def test_missing_worker_heartbeat_degrades_storage(admin: ApiClient) -> None:
    tasks.heartbeat()
    assert unhealthy_components(admin.get(DETAILED)) == {}
    with connect() as connection:
        connection.execute("UPDATE metrics_heartbeat SET at = at - make_interval(secs => %s)", (MAX_HEARTBEAT_AGE + 1,))
    response = admin.get(DETAILED)
    assert (response.status, unhealthy_components(response)) == (200, {"time_series_db": "degraded"})
    assert "no worker" in response.json["components"]["time_series_db"]["detail"]


def test_unmerged_commits_degrade_storage(admin: ApiClient) -> None:
    admin.post("devices/device_001/telemetry", point())
    with connect() as connection:
        connection.execute("UPDATE metrics_young SET at = at - make_interval(secs => %s)", (MAX_MERGE_DELAY + 1,))
    response = admin.get(DETAILED)
    assert unhealthy_components(response) == {"time_series_db": "degraded"}
    assert response.json["performance"]["oldest_commit_seconds"] > MAX_MERGE_DELAY


def test_long_write_queue_degrades_ingestion(admin: ApiClient, monkeypatch: pytest.MonkeyPatch) -> None:
    admin.post("devices/device_001/telemetry", point())
    with monkeypatch.context() as patch:
        patch.setattr(writer(), "_queued_points", MAX_QUEUED_POINTS * 3 // 4)
        assert unhealthy_components(admin.get(DETAILED)) == {"data_ingestion": "degraded"}
        assert admin.get(DETAILED).json["performance"]["points_waiting_here"] == MAX_QUEUED_POINTS * 3 // 4
    assert unhealthy_components(admin.get(DETAILED)) == {}


def test_lost_database_connection_degrades_ingestion_until_it_reconnects(
    admin: ApiClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    admin.post("devices/device_001/telemetry", point())
    real_connect, reconnectable = connect, threading.Event()

    def refuse_connection(**options: Any) -> Any:
        if not reconnectable.is_set():
            raise psycopg.OperationalError("nobody answers")
        return real_connect(**options)

    monkeypatch.setattr("metrics.storage.write.group_commit.connect", refuse_connection)
    writer_connection = writer()._connection
    assert writer_connection is not None
    with connect() as connection:
        connection.execute("SELECT pg_terminate_backend(%s)", (writer_connection.info.backend_pid,))
    sending = threading.Thread(target=lambda: admin.post("devices/device_001/telemetry", point()))
    sending.start()
    wait_until(lambda: writer().is_disconnected, 5, "the writer has noticed")
    assert unhealthy_components(admin.get(DETAILED)) == {"data_ingestion": "degraded"}
    reconnectable.set()
    sending.join(10)
    assert not writer().is_disconnected and unhealthy_components(admin.get(DETAILED)) == {}


class StuckAlertSummary:
    """An alert summary whose health check reports a delay, or does not return in time."""

    def __init__(self, result: tuple[str, str] | None) -> None:
        self.result, self.release = result, threading.Event()

    def count_last_day(self, caller: Any, device_id: str | None) -> int:
        return 0

    def health(self) -> tuple[str, str]:
        if self.result is None:
            self.release.wait(20)
        return self.result or ("healthy", "at last")


@pytest.mark.slow
@pytest.mark.parametrize(("result", "status"), [(("degraded", "late"), "degraded"), (None, "unhealthy")])
def test_alert_engine_health_is_reported_or_times_out(
    anonymous: ApiClient, result: tuple[str, str] | None, status: str
) -> None:
    previous, stuck = alert_summary.registered_summary(), StuckAlertSummary(result)
    alert_summary.register_alert_summary(stuck)
    try:
        response = anonymous.get(DETAILED)
    finally:
        alert_summary.register_alert_summary(previous)
        stuck.release.set()
    assert (response.status, response.json["status"], unhealthy_components(response)) == (
        200,
        "degraded",
        {"alert_engine": status},
    )


# --- what the site counts of itself -------------------------------------------------------------------


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
