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
from metrics.storage.write.group_commit import MAX_QUEUED_POINTS, writer
from rest import request_log, request_stats
from telemetry_site import health_checks, lifespan
from telemetry_site.health_checks import MAX_HEARTBEAT_AGE, MAX_MERGE_DELAY
from telemetry_site.middleware.request_id import RequestIdMiddleware
from telemetry_site.middleware.websocket_count import WebSocketCount
from tests.conftest import ApiClient, ApiResponse, point
from tests.prd.conftest import within_once
from tests.telemetry_site.site_process import free_port, wait_until

COMPONENTS = ["data_ingestion", "time_series_db", "alert_engine", "real_time_stream"]
DETAILED = "/health/detailed"


# --- E6-US3 -----------------------------------------------------------------------------------------


def test_e6_us3_ac1_health_has_status_service_port_and_version(anonymous: ApiClient) -> None:
    told = {"status": "healthy", "service": "telemetry_service", "port": settings.PORT, "version": settings.VERSION}
    assert anonymous.get("/health").json == told


@pytest.mark.slow
def test_e6_us3_ac2_health_answers_within_20_ms(anonymous: ApiClient) -> None:
    within_once(0.02, lambda: anonymous.get("/health"), rounds=20)


def test_e6_us3_ac3_health_is_200_with_and_503_without_the_database(anonymous: ApiClient, no_database: None) -> None:
    answer = anonymous.get("/health")
    assert (answer.status, answer.json["status"]) == (503, "unhealthy")
    connections.connection_parameters = WITH_DATABASE
    assert anonymous.get("/health").status == 200


def test_e6_us3_ac4_health_needs_no_authentication(anonymous: ApiClient) -> None:
    for path in ("/health", DETAILED):
        assert anonymous.get(path).status == 200
        assert anonymous.get(path, X_Api_Key="tk_nobodys").status == 200  # nor do they have to be right


# --- E6-US4 -----------------------------------------------------------------------------------------


def test_e6_us4_ac1_every_component_has_a_status_and_a_reason(anonymous: ApiClient) -> None:
    answer = anonymous.get(DETAILED)
    assert (answer.status, answer.json["status"]) == (200, "healthy")
    assert {one["status"] for one in answer.json["components"].values()} == {"healthy"}
    assert all(one["detail"] for one in answer.json["components"].values())


def test_e6_us4_ac2_detailed_health_has_four_components(anonymous: ApiClient) -> None:
    assert list(anonymous.get(DETAILED).json["components"]) == COMPONENTS


def test_e6_us4_ac3_performance_figures_are_measured(admin: ApiClient) -> None:
    for number in range(3):
        admin.post("devices/device_001/telemetry/batch", {"data_points": [point(f"m{at}") for at in range(10)]})
        if number == 0:
            merged()
    tasks.heartbeat()
    request_history.store_counters()
    told = admin.get(DETAILED).json["performance"]
    assert (told["commits"], told["commits_to_merge"], told["points_to_merge"]) == (3, 2, 20)
    assert 0 < told["oldest_commit_seconds"] < 30 and 0 <= told["worker_heard_seconds_ago"] < 30
    assert 0 < told["database_round_trip_ms"] < 1000
    assert 30 / 300 <= told["points_per_second"] <= 30 / 239
    assert told["p95_latency_ms"] > 0 and told["avg_latency_ms"] > 0 and told["error_rate"] == 0
    assert (told["redis"], told["points_waiting_here"]) == ("up", 0)


@pytest.mark.slow
def test_e6_us4_ac4_detailed_health_answers_within_50_ms(admin: ApiClient) -> None:
    for _ in range(20):
        admin.post("devices/device_001/telemetry", point())
    within_once(0.05, lambda: admin.get(DETAILED), rounds=20)


def test_detailed_health_shows_no_names_and_no_secrets(admin: ApiClient, anonymous: ApiClient) -> None:
    admin.post("devices/pump_of_the_palace/telemetry", point("royal_pressure"))
    told = anonymous.get(DETAILED).raw.decode()
    database = settings.DATABASES["default"]
    for name in ("pump", "royal", settings.SECRET_KEY, admin.headers["X-Api-Key"], str(database["HOST"]), "/tmp"):
        assert name not in told
    assert not re.search(r"\d+\.\d+\.\d+\.\d+", told) and "redis://" not in told and "unix://" not in told


# --- when something is not well -----------------------------------------------------------------------


def merged() -> None:
    with connect() as connection:
        schedule.merge_commits(connection, force=True)


WITH_DATABASE = connections.connection_parameters


@pytest.fixture
def no_database(site: None) -> Iterator[None]:
    """The address that the site knows is one where nobody listens."""
    close_pools()
    port = free_port()
    connections.connection_parameters = lambda: {"host": "127.0.0.1", "port": port, "dbname": "nowhere"}
    yield
    connections.connection_parameters = WITH_DATABASE
    close_pools()


@pytest.fixture
def silent_database(site: None) -> Iterator[None]:
    """… or one where somebody listens and never says a word."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        close_pools()
        port = server.getsockname()[1]
        connections.connection_parameters = lambda: {"host": "127.0.0.1", "port": port, "dbname": "silent"}
        yield
        connections.connection_parameters = WITH_DATABASE
    close_pools()


def closed(name: str) -> None:
    """The server closes the connections of this name, and waits until they are."""
    with connect() as connection:
        [(many,)] = connection.execute(
            "SELECT count(pg_terminate_backend(pid, 5000)) FROM pg_stat_activity"
            " WHERE datname = current_database() AND application_name = %s",
            (name,),
        ).fetchall()
    assert many


def unwell(answer: ApiResponse) -> dict[str, str]:
    return {name: one["status"] for name, one in answer.json["components"].items() if one["status"] != "healthy"}


@pytest.mark.parametrize("how", ["no_database", "silent_database"])
def test_without_the_database_health_is_503_within_seconds_and_names_it(
    how: str, anonymous: ApiClient, request: pytest.FixtureRequest
) -> None:
    request.getfixturevalue(how)
    began = time.monotonic()
    answer = anonymous.get(DETAILED)
    assert time.monotonic() - began < 2.5
    assert (answer.status, answer.json["status"]) == (503, "unhealthy")
    assert unwell(answer) == dict.fromkeys(["data_ingestion", "time_series_db", "alert_engine"], "unhealthy")
    assert "database" in answer.json["components"]["time_series_db"]["detail"]
    told = answer.json["performance"]
    assert told["database_round_trip_ms"] is None and told["redis"] == "up"


@pytest.mark.slow
def test_hanging_checks_use_a_bounded_number_of_threads(silent_database: None, anonymous: ApiClient) -> None:
    began = time.monotonic()
    asked = [threading.Thread(target=lambda: anonymous.get(DETAILED)) for _ in range(12)]
    for one in asked:
        one.start()
    for one in asked:
        one.join()
    assert time.monotonic() - began < 6
    assert sum(one.name.startswith("health") for one in threading.enumerate()) <= 6


def test_health_is_200_after_a_restart_of_the_database(anonymous: ApiClient) -> None:
    for _ in range(3):
        assert anonymous.get("/health").status == 200
        closed("telemetry monitoring")  # as a restart closes every connection
    assert anonymous.get("/health").status == 200


def test_health_does_not_wait_for_running_queries(anonymous: ApiClient) -> None:
    """The connections that questions are read on are all taken."""
    taken = [connections.read_connection() for _ in range(connections._READ_POOL.max_connections)]
    for one in taken:
        one.__enter__()
    try:
        began = time.monotonic()
        assert anonymous.get("/health").status == anonymous.get(DETAILED).status == 200
        assert time.monotonic() - began < 1
    finally:
        for one in taken:
            one.__exit__(None, None, None)


@pytest.fixture
def no_redis(site: None) -> Iterator[None]:
    health_checks._redis = None
    with override_settings(REDIS_URL=f"redis://127.0.0.1:{free_port()}/0"):
        yield
    health_checks._redis = None


def test_without_redis_the_stream_is_degraded_and_points_are_stored(admin: ApiClient, no_redis: None) -> None:
    answer = admin.get(DETAILED)
    assert (answer.status, answer.json["status"], unwell(answer)) == (200, "degraded", {"real_time_stream": "degraded"})
    assert answer.json["performance"]["redis"] == "down"
    assert admin.post("devices/device_001/telemetry", point()).status == 200


def test_missing_worker_heartbeat_degrades_storage(admin: ApiClient) -> None:
    tasks.heartbeat()
    assert unwell(admin.get(DETAILED)) == {}
    with connect() as connection:
        connection.execute("UPDATE metrics_heartbeat SET at = at - make_interval(secs => %s)", (MAX_HEARTBEAT_AGE + 1,))
    answer = admin.get(DETAILED)
    assert (answer.status, unwell(answer)) == (200, {"time_series_db": "degraded"})
    assert "no worker" in answer.json["components"]["time_series_db"]["detail"]


def test_unmerged_commits_degrade_storage(admin: ApiClient) -> None:
    admin.post("devices/device_001/telemetry", point())
    with connect() as connection:
        connection.execute("UPDATE metrics_young SET at = at - make_interval(secs => %s)", (MAX_MERGE_DELAY + 1,))
    answer = admin.get(DETAILED)
    assert unwell(answer) == {"time_series_db": "degraded"}
    assert answer.json["performance"]["oldest_commit_seconds"] > MAX_MERGE_DELAY


def test_long_write_queue_degrades_ingestion(admin: ApiClient, monkeypatch: pytest.MonkeyPatch) -> None:
    admin.post("devices/device_001/telemetry", point())
    with monkeypatch.context() as patched:
        patched.setattr(writer(), "_queued_points", MAX_QUEUED_POINTS * 3 // 4)
        assert unwell(admin.get(DETAILED)) == {"data_ingestion": "degraded"}
        assert admin.get(DETAILED).json["performance"]["points_waiting_here"] == MAX_QUEUED_POINTS * 3 // 4
    assert unwell(admin.get(DETAILED)) == {}


def test_lost_database_connection_degrades_ingestion_until_it_reconnects(
    admin: ApiClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    admin.post("devices/device_001/telemetry", point())
    found, let = connect, threading.Event()

    def away(**more: Any) -> Any:
        if not let.is_set():
            raise psycopg.OperationalError("nobody answers")
        return found(**more)

    monkeypatch.setattr("metrics.storage.write.group_commit.connect", away)
    own = writer()._connection
    assert own is not None
    with connect() as connection:
        connection.execute("SELECT pg_terminate_backend(%s)", (own.info.backend_pid,))
    sending = threading.Thread(target=lambda: admin.post("devices/device_001/telemetry", point()))
    sending.start()
    wait_until(lambda: writer().is_disconnected, 5, "the writer has noticed")
    assert unwell(admin.get(DETAILED)) == {"data_ingestion": "degraded"}
    let.set()
    sending.join(10)
    assert not writer().is_disconnected and unwell(admin.get(DETAILED)) == {}


class StuckAlertSummary:
    """An alert summary whose health check reports a delay, or does not return in time."""

    def __init__(self, answer: tuple[str, str] | None) -> None:
        self.answer, self.let = answer, threading.Event()

    def count_last_day(self, caller: Any, device_id: str | None) -> int:
        return 0

    def health(self) -> tuple[str, str]:
        if self.answer is None:
            self.let.wait(20)
        return self.answer or ("healthy", "at last")


@pytest.mark.slow
@pytest.mark.parametrize(("answer", "status"), [(("degraded", "late"), "degraded"), (None, "unhealthy")])
def test_alert_engine_health_is_reported_or_times_out(
    anonymous: ApiClient, answer: tuple[str, str] | None, status: str
) -> None:
    before, stuck = alert_summary.registered_summary(), StuckAlertSummary(answer)
    alert_summary.register_alert_summary(stuck)
    try:
        told = anonymous.get(DETAILED)
    finally:
        alert_summary.register_alert_summary(before)
        stuck.let.set()
    assert (told.status, told.json["status"], unwell(told)) == (200, "degraded", {"alert_engine": status})


# --- what the site counts of itself -------------------------------------------------------------------


async def asked(app: Any, path: str, method: str = "GET") -> None:
    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b""}

    async def send(message: dict[str, Any]) -> None:
        return None

    scope = {"type": "http", "path": path, "method": method, "headers": [], "query_string": b""}
    await RequestIdMiddleware(app)(scope, receive, send)


def answering(status: int) -> Any:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": status, "headers": []})
        await send({"type": "http.response.body", "body": b"", "more_body": True})
        await asyncio.sleep(1.0)  # a long answer is no slow one
        await send({"type": "http.response.body", "body": b""})

    return app


async def failing(scope: Any, receive: Any, send: Any) -> None:
    raise RuntimeError


async def test_requests_are_counted_by_kind_with_failures_and_until_their_answer_begins(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    request_counters = request_stats.Tally()  # of its own: what the site has counted, it writes
    monkeypatch.setattr(request_log, "request_counters", request_counters)
    await asyncio.gather(
        *(asked(answering(200), path, "POST") for path in ("/api/v1/bulk", "/api/v1/devices/a/b/telemetry/batch/")),
        asked(answering(503), "/api/v1/devices/a/telemetry", "POST"),
        asked(answering(404), "/api/v1/devices/a/telemetry", "GET"),
        asked(answering(200), "/"),
        *(asked(answering(200), path) for path in request_log.UNCOUNTED),
    )
    await asked(failing, "/")
    taken = request_counters.take()
    ingest, other = taken[request_stats.INGEST], taken[request_stats.OTHER]
    assert (ingest.requests, ingest.failures, other.requests, other.failures) == (3, 1, 3, 1)
    assert sum(ingest.latencies) == 3 and sum(other.latencies) == 3
    assert ingest.seconds + other.seconds < 1.0


async def test_open_websockets_are_counted() -> None:
    let = asyncio.Event()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await let.wait()

    open_ones = [asyncio.create_task(WebSocketCount(app)({}, asyncio.sleep, asyncio.sleep)) for _ in range(3)]
    before = WebSocketCount.open
    await asyncio.sleep(0)
    assert WebSocketCount.open == before + 3
    let.set()
    await asyncio.gather(*open_ones)
    assert WebSocketCount.open == before


def rows() -> list[tuple[Any, ...]]:
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
    found = rows()
    if len(found) == 1:  # else a minute began in between
        assert found[0][:5] == ("ingest", 6, 3, 21, 3) and sum(found[0][5]) == 6 and sorted(found[0][5])[-2:] == [3, 3]
    assert sum(row[1] for row in found) == 6
    with connect() as connection:
        connection.execute("UPDATE metrics_activity SET minute = minute - interval '4 minutes'")
        assert request_history.read_recent(connection).kinds[request_stats.INGEST].requests == 6
        connection.execute("UPDATE metrics_activity SET minute = minute - interval '1 minute'")
        assert request_history.read_recent(connection).kinds[request_stats.INGEST].requests in (
            0,
            6,
        )  # 6 where a minute ended just now
        connection.execute("UPDATE metrics_activity SET minute = minute - interval '1 minute'")
        assert request_history.read_recent(connection).kinds[request_stats.INGEST].requests == 0


def test_without_requests_no_statistics_row_is_written(site: None) -> None:
    request_stats.request_counters.reset()
    request_history.store_counters()
    assert rows() == []


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

    def written() -> bool:  # the web process may have the first ones in hand right now, and gives them back
        request_history.store_counters()
        return sum(row[3] for row in rows()) == 7

    wait_until(written, 10, "everything is written")


def test_web_process_writes_request_statistics(admin: ApiClient) -> None:
    admin.post("devices/device_001/telemetry", point())
    wait_until(lambda: sum(row[3] for row in rows()) == 1, 10, "the point is in the row of the minute")


def test_request_statistics_are_deleted_after_two_days(site: None) -> None:
    with connect() as connection:
        for hours in (47, 49):
            connection.execute(
                "INSERT INTO metrics_activity (minute, kind, requests, failures, seconds, points, rejected, latencies)"
                " VALUES (now() - make_interval(hours => %s), 'ingest', %s, 0, 0, 0, 0, '{}')",
                (hours, hours),
            )
    tasks.drop_expired()
    assert [row[1] for row in rows()] == [47]


def test_service_capabilities_match_the_enforced_limits(reader: ApiClient, admin: ApiClient) -> None:
    for prefix in ("/api/v1", "/api/v1/telemetry"):
        told = reader.get(f"{prefix}/service/stats").json
        assert told["version"] == settings.VERSION
    too_many = [point() for _ in range(told["limits"]["points_of_a_batch"] + 1)]
    assert admin.post("devices/d/telemetry/batch", {"data_points": too_many}).status == 422
    assert admin.post("devices/d/telemetry/batch", {"data_points": too_many[1:]}).status == 200
    for aggregation in told["aggregations"]:
        path = f"devices/d/metrics/temperature/range?time_range=1h&aggregation={aggregation}&interval=60"
        assert admin.get(path).status == 200, aggregation
