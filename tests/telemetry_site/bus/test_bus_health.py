"""Health and doctor: backlog and errors of targets, and transactions that hold the outbox back."""

from collections.abc import Callable, Iterator
from datetime import datetime
from io import StringIO
from typing import Any

import psycopg
import pytest
from django.core.management import call_command

from metrics.storage.connection import connect, connection_parameters, dedicated_connection
from telemetry_site.bus import backlog, nats_server
from telemetry_site.bus.relay import TargetRelay
from tests.conftest import ApiClient
from tests.private_nats import PrivateNats
from tests.telemetry_site.bus.conftest import nats_target, write_events
from tests.telemetry_site.site_process import wait_until

pytestmark = pytest.mark.usefixtures("site")
DETAILED = "/health/detailed"


def doctor() -> tuple[int, str]:
    output, code = StringIO(), 0
    try:
        call_command("doctor", stdout=output)
    except SystemExit as end:
        code = int(str(end.code))
    return code, output.getvalue()


@pytest.fixture
def idle_transaction() -> Iterator[psycopg.Connection[Any]]:
    """A session that has written something and does nothing more."""
    with psycopg.connect(**connection_parameters()) as connection:
        connection.execute("SELECT pg_current_xact_id()")
        yield connection
        connection.rollback()


@pytest.mark.slow
def test_health_without_bus_has_no_component_for_it(reader: ApiClient) -> None:
    answer = reader.get(DETAILED).json
    assert "event_bus" not in answer["components"]
    assert answer["performance"]["bus"]["targets"] == []
    assert doctor() == (0, doctor()[1])
    assert "ok      event_bus: no target is configured" in doctor()[1]


@pytest.mark.slow
def test_idle_transaction_shows_in_health_and_doctor_until_it_ends(
    idle_transaction: psycopg.Connection[Any], reader: ApiClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert backlog.HELD_BACK_AFTER <= 30  # well within the minute in which it must be shown
    monkeypatch.setattr(backlog, "HELD_BACK_AFTER", 0.3)
    pid = idle_transaction.info.backend_pid

    def is_reported() -> bool:
        return "event_bus" in reader.get(DETAILED).json["components"]

    wait_until(is_reported, 5, "the transaction is reported")
    answer = reader.get(DETAILED).json
    assert answer["status"] == "degraded"
    text = f"outbox held back by transaction of pid {pid} (idle in transaction) since 20"
    assert answer["components"]["event_bus"]["detail"].startswith(text)
    assert answer["performance"]["bus"]["outbox_held_back_seconds"] > 0.3
    assert answer["performance"]["bus"]["outbox_held_back_by"].startswith(text)
    code, report = doctor()
    assert code == 1
    assert f"failed  event_bus: {text}" in report

    idle_transaction.rollback()
    assert not is_reported()


def test_transaction_that_only_reads_holds_nothing_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backlog, "HELD_BACK_AFTER", 0.0)
    with psycopg.connect(**connection_parameters()) as reading, connect() as connection:
        reading.execute("SELECT 1")
        assert backlog.find_held_back(connection) is None


def test_prepared_transaction_is_named_by_its_identifier() -> None:
    text = str(backlog.HeldBack(None, "prepared as order 7", datetime(2026, 1, 2, 3, 4, 5)))
    assert text == "outbox held back by transaction prepared as order 7 since 2026-01-02 03:04:05 UTC"


@pytest.mark.slow
def test_target_that_is_away_shows_its_backlog_and_error_and_then_recovers(
    nats: PrivateNats, run_relay: Callable[..., TargetRelay], reader: ApiClient, settings: Any
) -> None:
    settings.NATS_URL, settings.NATS_MONITORING_URL = nats.url, nats.monitoring_url
    assert reader.get(DETAILED).json["components"]["event_bus"]["detail"] == "nats: no relay has run yet"
    run_relay(nats_target(nats))
    write_events(1)
    wait_until(lambda: _component(reader)["status"] == "healthy", 20, "the target is healthy")
    assert "warning event_bus: nats: sync_interval of the server is unknown" in doctor()[1]  # 2.9 does not tell
    nats.stop()
    write_events(7)
    wait_until(lambda: "failing for" in _component(reader)["detail"], 20, "the failure is reported")

    [target] = reader.get(DETAILED).json["performance"]["bus"]["targets"]
    assert (target["name"], target["events_waiting"]) == ("nats", 7)
    assert target["oldest_event_seconds"] > 0
    assert target["failing_since"] is not None
    code, report = doctor()
    assert code == 1
    assert "failed  event_bus: nats: failing for" in report
    assert "the NATS server cannot be reached" in report

    nats.start()
    wait_until(lambda: _component(reader)["status"] == "healthy", 30, "the target is healthy again")
    wait_until(lambda: _waiting() == 0, 10, "nothing waits")


def _component(reader: ApiClient) -> Any:
    return reader.get(DETAILED).json["components"]["event_bus"]


def _waiting() -> int:
    with dedicated_connection() as connection:
        return backlog.read_backlog(connection, "nats").events


@pytest.mark.slow
@pytest.mark.parametrize(
    ("answer", "interval"),
    [
        pytest.param(b'{"config": {"sync_interval": 120000000000}}', "120 s", id="default"),
        pytest.param(b'{"config": {"sync_interval": 120000000000, "sync_always": true}}', "always", id="always"),
        pytest.param(b'{"config": {}}', "unknown", id="version 2.9"),
        pytest.param(b'{"config": {"sync_interval": "often"}}', "unknown", id="text"),
        pytest.param(b"[1]", "unknown", id="no object"),
        pytest.param(b"<html>", "unknown", id="another server"),
    ],
)
def test_sync_interval_is_read_from_the_monitoring_port(answer: bytes, interval: str) -> None:
    with _monitoring_port(answer) as url:
        assert nats_server.read_sync_interval(url) == interval


def test_sync_interval_is_unknown_without_monitoring_port() -> None:
    assert nats_server.read_sync_interval("") == "unknown"
    assert nats_server.read_sync_interval("http://127.0.0.1:1") == "unknown"


class _monitoring_port:
    """An HTTP server that answers /jsz as newer NATS servers do; the one of the tests is older."""

    def __init__(self, answer: bytes) -> None:
        from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.send_response(200 if self.path == "/jsz" else 404)
                self.end_headers()
                self.wfile.write(answer)

            def log_message(self, *arguments: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)

    def __enter__(self) -> str:
        import threading

        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        return f"http://127.0.0.1:{self.server.server_port}"

    def __exit__(self, *error: object) -> None:
        self.server.shutdown()
        self.server.server_close()
