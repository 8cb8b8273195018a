"""The kinds of collectors against real servers."""

import json
import socket
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from ingest.collection import lifecycle
from ingest.collection.kinds import ping
from ingest.collection.kinds.agent_health import DEFAULT_PATHS
from ingest.collection.lifecycle import Trial
from ingest.collection.models import Collector
from rest.outgoing import http_connection
from tests.conftest import ApiClient, point
from tests.ingest.collectors import servers
from tests.ingest.collectors.servers import Answer

pytestmark = pytest.mark.usefixtures("local_targets")


def collect(
    kind: str, configuration: dict[str, Any], secrets: dict[str, str] | None = None, **fields: Any
) -> tuple[dict[str, Any], Trial]:
    """Collect once without storing; return the value of each metric, and the trial."""
    collector = Collector(name="c", device_id="boiler", deadline=2)
    lifecycle.set_fields(collector, {"kind": kind, "configuration": configuration, "secrets": secrets or {}} | fields)
    lifecycle.check_collector(collector)
    trial = lifecycle.try_collector(collector)
    return {reading.metric: reading.value for reading in trial.readings}, trial


def answer(body: Any, status: int = 200, content_type: str = "application/json") -> Callable[..., Answer]:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    return lambda path, headers: (status, content_type, data)


def test_http_check_measures_status_and_latency() -> None:
    with servers.http_server(answer(b"<h1>Welcome</h1>", content_type="text/html")) as url:
        values, trial = collect("http", {"url": url, "body_contains": "Welcome"})
        assert trial.error == ""
        assert (values["http.up"], values["http.status"], values["http.body_bytes"]) == (1, 200, 16)
        assert 0 < values["http.latency_ms"] < 2000
        assert collect("http", {"url": url, "method": "HEAD"})[0]["http.up"] == 1
        values, trial = collect("http", {"url": url, "body_contains": "Good night"})
        assert (values["http.up"], trial.error) == (0, "the body does not contain 'Good night'")


@pytest.mark.parametrize(("status", "expected"), [(404, None), (503, None), (200, 204), (302, 200)])
def test_http_check_fails_for_another_status(status: int, expected: int | None) -> None:
    with servers.http_server(answer(b"", status)) as url:
        values, trial = collect("http", {"url": url, "expected_status": expected})
    assert values["http.up"] == 0 and values["http.status"] == status
    assert trial.error.startswith(f"HTTP {status} instead of")


def test_http_secrets_are_sent_as_authorization() -> None:
    seen = []

    def record(path: str, headers: dict[str, str]) -> Answer:
        seen.append(headers.get("Authorization"))
        return 200, "text/plain", b""

    with servers.http_server(record) as url:
        collect("http", {"url": url}, {"bearer_token": "t0ken"})
        collect("http", {"url": url, "username": "ann"}, {"password": "pass"})
    assert seen == ["Bearer t0ken", "Basic YW5uOnBhc3M="]


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["http", "prometheus", "agent_health", "deployments"])
@pytest.mark.parametrize(
    "talk",
    [
        servers.hang,
        servers.drip(b""),
        servers.drip(b"HTTP/1.1 200 OK\r\nX: "),
        servers.drip(b"HTTP/1.1 200 OK\r\n\r\n"),
        servers.drip(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n"),
    ],
    ids=["hang", "drip status", "drip header", "drip body", "drip long body"],
)
def test_fetch_ends_at_the_deadline(kind: str, talk: Any) -> None:
    with servers.raw_server(talk) as port:
        _, trial = collect(kind, {"url": f"http://127.0.0.1:{port}/"}, deadline=1)
    assert trial.error == "no complete answer within 1 s"
    assert 900 < trial.duration_ms < 1600


def test_cut_answer_is_a_failure() -> None:
    with servers.raw_server(servers.cut(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nabc")) as port:
        _, trial = collect("http", {"url": f"http://127.0.0.1:{port}/"})
    assert trial.error == "the answer was cut off after 3 bytes"


def test_ping_measures_round_trips_of_this_machine() -> None:
    values, trial = collect("ping", {"host": "127.0.0.1"})
    if trial.error == ping.NOT_PERMITTED:
        pytest.skip("no unprivileged ICMP sockets here")
    assert trial.error == "" and values["ping.loss_percent"] == 0
    assert 0 < values["ping.rtt_ms"] <= values["ping.rtt_max_ms"] < 500


def test_ping_without_permission_names_the_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    real = socket.socket

    def refuse(family: int = -1, kind: int = -1, *more: Any, **named: Any) -> socket.socket:
        if kind == socket.SOCK_DGRAM and more and more[0] == socket.IPPROTO_ICMP:
            raise PermissionError
        return real(family, kind, *more, **named)

    monkeypatch.setattr(ping.socket, "socket", refuse)
    _, trial = collect("ping", {"host": "127.0.0.1"})
    assert "net.ipv4.ping_group_range" in trial.error


@pytest.mark.parametrize(
    ("days", "issuer", "error"),
    [
        (30, "", "the certificate is not trusted: self-signed certificate"),
        (30, "Unknown authority", "the certificate is not trusted: unable to get local issuer certificate"),
        (-3, "", "the certificate expired 3.0 days ago"),
    ],
)
def test_tls_check_reads_certificates_that_are_not_trusted(tmp_path: Path, days: int, issuer: str, error: str) -> None:
    with servers.tls_server(*servers.create_certificate(tmp_path, days, issuer=issuer)) as port:
        values, trial = collect("tls", {"host": "127.0.0.1", "port": port, "server_name": "localhost"})
        assert days - 0.01 < values["tls.days_left"] <= days + 0.01
        assert values["tls.chain_valid"] == 0 and trial.error == error
        configuration = {"host": "127.0.0.1", "port": port, "check_chain": False}
        assert (collect("tls", configuration)[1].error == "") == (days > 0)


def test_tls_check_of_a_trusted_certificate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    certificate, key = servers.create_certificate(tmp_path, 90)
    original = http_connection.tls_context

    def trusting(verify: bool) -> Any:
        context = original.__wrapped__(verify)
        if verify:
            context.load_verify_locations(certificate)
        return context

    monkeypatch.setattr("ingest.collection.kinds.tls.tls_context", trusting)
    with servers.tls_server(certificate, key) as port:
        values, trial = collect("tls", {"host": "127.0.0.1", "port": port, "server_name": "localhost"})
        assert trial.error == "" and values["tls.chain_valid"] == 1 and values["tls.version"] == "TLSv1.3"
        _, trial = collect("tls", {"host": "127.0.0.1", "port": port, "server_name": "other.example"})
        assert "Hostname mismatch" in trial.error


@pytest.mark.slow
@pytest.mark.parametrize(
    "talk", [servers.cut(b"not TLS at all\r\n"), servers.cut(b""), servers.hang, servers.drip(b"\x16\x03\x03\x40\x00")]
)
def test_tls_check_of_another_server_is_a_clear_failure(talk: Any) -> None:
    with servers.raw_server(talk) as port:
        _, trial = collect("tls", {"host": "127.0.0.1", "port": port}, deadline=1)
    assert trial.error.startswith("no TLS handshake") and trial.duration_ms < 1600


def test_agent_health_reads_the_default_metrics() -> None:
    document = dict.fromkeys(DEFAULT_PATHS, 5) | {"version": "1.4.2", "cognitive_state": "WORK"}
    with servers.http_server(answer(document)) as url:
        values, trial = collect("agent_health", {"url": url})
    assert trial.error == "" and {name: values[name] for name in DEFAULT_PATHS} == document
    assert values["agent_health.up"] == 1


def test_agent_health_with_html_is_a_clear_failure() -> None:
    with servers.http_server(answer(b"<html>sign in</html>", content_type="text/html")) as url:
        _, trial = collect("agent_health", {"url": url})
    assert trial.error.startswith("the answer is not JSON (text/html)")


def test_deployments_are_polled() -> None:
    items = [
        {"id": 1, "version": "1.3", "status": "completed", "updated_at": "2026-01-01T00:00:00Z"},
        {"id": 2, "version": "1.4", "status": "failed", "updated_at": "2026-01-02T00:00:00Z"},
    ]
    with servers.http_server(answer({"deployments": items})) as url:
        values, trial = collect("deployments", {"url": url, "path": "$.deployments"})
        assert trial.error == "" and len(trial.deployments) == 2
        assert (values["deployment.version"], values["deployment.failed"]) == ("1.4", 1)
        assert collect("deployments", {"url": url, "path": "$.other"})[1].error == "$.other matches nothing"
        assert "has no version" in collect("deployments", {"url": url})[1].error


def test_versions_of_devices_are_counted(admin: ApiClient) -> None:
    for device, version in (("a", "1.9"), ("b", "1.10"), ("c", "1.9"), ("d", "1.10-rc1")):
        assert admin.post(f"devices/{device}/telemetry", point("agent.version", version)).status == 200
    values, trial = collect("versions", {})
    assert trial.error == "" and values["versions.devices"] == 4 and values["versions.target"] == "1.10"
    assert values["versions.rollout_percent"] == 25 and values["versions.adoption_percent"] == 50
    assert values["versions.count.1.9"] == 2
    assert collect("versions", {"target_version": "1.9"})[0]["versions.rollout_percent"] == 50
    assert "no device has reported other" in collect("versions", {"metric": "other"})[1].error


def test_prometheus_scrape_keeps_labels_and_drops_what_is_not_wanted() -> None:
    text = b"""# TYPE http_requests_total counter
http_requests_total{method="post",code="200"} 1027
http_requests_total{method="get",code="400"} 3 1767225600000
# TYPE temperature_celsius gauge
temperature_celsius NaN
up 1
"""
    with servers.http_server(answer(text, content_type="text/plain; version=0.0.4")) as url:
        values, trial = collect("prometheus", {"url": url, "metrics": ["http_*", "temp*"], "ignore_labels": ["code"]})
        assert trial.error == "" and 'http_requests_total{method="post"}' in values and "up" not in values
        values, trial = collect("prometheus", {"url": url, "device_label": "method", "metrics": ["http*"]})
    assert {reading.device_id for reading in trial.readings} >= {"post", "get"}
    assert trial.readings[1].time == 1767225600000000 and trial.readings[0].tags == {"code": "200"}


@pytest.mark.parametrize("text", [b"{not metrics}", b"\xff\xfe", b'a{b="c} 1\n', b"<html></html>"])
def test_prometheus_scrape_of_another_format_is_a_clear_failure(text: bytes) -> None:
    with servers.http_server(answer(text, content_type="text/plain")) as url:
        _, trial = collect("prometheus", {"url": url})
    assert trial.error.startswith("the metrics are not")


def test_openmetrics_text_is_scraped() -> None:
    text = b'# TYPE a gauge\na{x="1"} 2 1767225600.5\n# EOF\n'
    content_type = "application/openmetrics-text; version=1.0.0; charset=utf-8"
    with servers.http_server(answer(text, content_type=content_type)) as url:
        values, trial = collect("prometheus", {"url": url})
    assert values['a{x="1"}'] == 2 and trial.readings[0].time == 1767225600500000


@pytest.mark.slow
def test_host_kind_reads_the_sensors_of_this_machine() -> None:
    values, trial = collect("host", {})
    assert trial.error == "" and 0 <= values["memory_percent"] <= 100


def test_readings_over_the_limit_are_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ingest.collection.run.MAX_READINGS", 3)
    with servers.http_server(answer(b"a 1\nb 2\nc 3\nd 4\n", content_type="text/plain")) as url:
        values, trial = collect("prometheus", {"url": url})
    assert trial.error == "more than 3 values: collect fewer of them" and "c" in values and "d" not in values


def test_secret_is_masked_in_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as server:
        port = server.getsockname()[1]
    monkeypatch.setattr("ingest.collection.fetch._describe", lambda error: "sent Bearer very-secret-token")
    _, trial = collect("http", {"url": f"http://127.0.0.1:{port}/"}, {"bearer_token": "very-secret-token"})
    assert trial.error == "sent Bearer ***"
