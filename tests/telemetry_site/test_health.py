"""PRD E6-US3 and E6-US4: health of the service and its components."""

import re

import pytest
from django.conf import settings

from metrics import tasks
from metrics.statistics import request_history
from metrics.storage import connection as connections
from telemetry_site import health_checks
from tests.conftest import ApiClient, point, with_token
from tests.prd.conftest import within_once
from tests.telemetry_site.health_conditions import DETAILED, WITH_DATABASE, merge_all_commits, no_database

__all__ = ["no_database"]

COMPONENTS = ["data_ingestion", "time_series_db", "alert_engine", "real_time_stream"]


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
