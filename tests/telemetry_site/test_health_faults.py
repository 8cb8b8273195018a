"""Health of the service while the database, Redis, the worker or another component fails."""

import socket
import threading
import time
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
from django.test import override_settings

from metrics import alert_summary, tasks
from metrics.storage import connection as connections
from metrics.storage.connection import close_pools, connect
from metrics.storage.read.block_cache import clear_block_cache
from metrics.storage.write.group_commit import MAX_QUEUED_POINTS, writer
from telemetry_site import health_checks
from telemetry_site.health_checks import MAX_HEARTBEAT_AGE, MAX_MERGE_DELAY
from tests.conftest import ApiClient, ApiResponse, point
from tests.telemetry_site.health_conditions import DETAILED, WITH_DATABASE, merge_all_commits, no_database
from tests.telemetry_site.site_process import free_port, wait_until

__all__ = ["no_database"]


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
