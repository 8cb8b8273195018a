"""Request IDs, the request log and the Server-Timing header."""

import asyncio
import logging
import re
from typing import Any

import pytest
from django.contrib.auth import get_user_model

from metrics.models import MetricDefinition
from telemetry_site.middleware.request_id import RequestIdMiddleware
from tests.conftest import ApiClient, person, point
from tests.telemetry_site.site_process import wait_until

LOGGER = "rest.request_log"


@pytest.fixture(params=["fast lane", "Django"])
def sender(request: pytest.FixtureRequest, admin: ApiClient, administrator: ApiClient) -> ApiClient:
    """A client of the fast lane and one of the views."""
    return admin if request.param == "fast lane" else administrator


def logged_requests(caplog: pytest.LogCaptureFixture, count: int) -> list[dict[str, Any]]:
    """Wait for `count` logged requests and return them; a request is logged after its response."""

    def logged_requests() -> list[dict[str, Any]]:
        return [record.__dict__["fields"] for record in caplog.records if record.name == LOGGER]

    wait_until(lambda: len(logged_requests()) >= count, 5, f"{count} lines")
    return logged_requests()


def test_valid_request_id_is_kept(sender: ApiClient, caplog: pytest.LogCaptureFixture):
    with caplog.at_level(logging.DEBUG, LOGGER):
        response = sender.post("devices/d/telemetry", point(), X_Request_Id="from-the-gateway.17")
        logged = logged_requests(caplog, 1)
    assert response.status == 200 and response.headers["X-Request-Id"] == "from-the-gateway.17"
    assert [line["request_id"] for line in logged] == ["from-the-gateway.17"]


@pytest.mark.parametrize("request_id", ["", "two words", "x" * 129, "tab\there", "ümlaut"])
def test_invalid_request_id_is_replaced(sender: ApiClient, request_id: str):
    responses = [sender.post("devices/d/telemetry", point(), X_Request_Id=request_id) for _ in range(2)]
    ids = [response.headers["X-Request-Id"] for response in responses]
    assert all(re.fullmatch(r"[0-9a-f]{12}-[0-9a-f]+", new_id) for new_id in ids) and ids[0] != ids[1]


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("POST", "devices/d/telemetry", 422),
        ("GET", "devices/d/metrics/m/latest", 404),
        ("GET", "metrics/nothing", 404),
        ("GET", "metrics?limit=0", 400),
        ("PUT", "metrics", 405),
        ("GET", "no/such/address", 404),
    ],
)
def test_error_body_has_the_request_id(sender: ApiClient, method: str, path: str, status: int):
    response = sender.call(method, path, {} if method == "POST" else None)
    assert response.status == status and response.headers["Content-Type"] == "application/problem+json"
    assert response.json["request_id"] == response.headers["X-Request-Id"] and response.json["status"] == status


def test_request_is_logged_once_with_id_caller_route_status_and_duration(
    admin: ApiClient, administrator: ApiClient, anonymous: ApiClient, caplog: pytest.LogCaptureFixture
):
    with caplog.at_level(logging.INFO, LOGGER):
        admin.get("devices/site%2F1/metrics/m/latest")
        administrator.get("devices/site%2F1/metrics?x=1")
        admin.post("metrics", {"name": "m", "data_type": "numeric"})
        anonymous.get("metrics")
        anonymous.get("/login/")
        logged = logged_requests(caplog, 5)
    summaries = [(line["method"], line["route"], line["status"], (line["caller"] or "")[:5]) for line in logged]
    latest = "api/v1/telemetry/devices/<name:device_id>/metrics/<name:metric_name>/latest"
    assert summaries == [
        ("GET", latest, 404, "key:1"),
        ("GET", "api/v1/telemetry/devices/<name:device_id>/metrics", 422, "user:"),
        ("POST", "api/v1/telemetry/metrics", 201, "key:1"),
        ("GET", "api/v1/telemetry/metrics", 401, ""),
        ("GET", "login/", 200, ""),
    ]
    assert logged[1]["path"] == "/api/v1/telemetry/devices/site/1/metrics?x=1" and logged[1]["caller"].endswith(
        "trator"
    )
    assert all(line["duration_ms"] > 0 and line["bytes"] > 0 for line in logged)
    key = admin.headers["X-Api-Key"]
    assert not any(key in str(line) for line in logged)


def test_accepted_points_are_not_logged_and_rejected_ones_are(admin: ApiClient, caplog: pytest.LogCaptureFixture):
    with caplog.at_level(logging.INFO, LOGGER):
        assert admin.post("devices/d/telemetry", point()).status == 200
        assert admin.post("devices/d/telemetry", point(value=None)).status == 422
        admin.headers["X-Api-Key"] = "tk_nobody"
        assert admin.post("devices/d/telemetry", point()).status == 401
        logged = logged_requests(caplog, 2)
    assert [(line["status"], bool(line["caller"])) for line in logged] == [(422, True), (401, False)]


def test_slow_request_is_always_logged(
    admin: ApiClient, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("rest.request_log.SLOW_REQUEST", 0.0)
    with caplog.at_level(logging.INFO, LOGGER):
        admin.post("devices/d/telemetry", point())
        logged = logged_requests(caplog, 1)
    assert [line["status"] for line in logged] == [200]


def test_log_records_of_a_request_have_its_id(administrator: ApiClient, monkeypatch: pytest.MonkeyPatch):
    from telemetry_site.log_format import record_fields

    logged: list[dict[str, Any]] = []

    class Handler(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            logged.append(record_fields(record))

    def raise_error(*args: Any, **kwargs: Any) -> None:
        raise RuntimeError("of the test")

    monkeypatch.setattr("metrics.query.latest.list_device_metrics", raise_error)
    handler = Handler()
    logging.getLogger().addHandler(handler)
    try:
        response = administrator.get("devices/d/metrics", X_Request_Id="abc")
        wait_until(lambda: any(fields["logger"] == LOGGER for fields in logged), 5, "its line")
    finally:
        logging.getLogger().removeHandler(handler)
    assert response.status == 500 and response.json["request_id"] == "abc"
    assert b"RuntimeError" not in response.raw and b"of the test" not in response.raw
    assert [(fields["logger"], fields["request_id"]) for fields in logged] == [
        ("telemetry_site.api_errors", "abc"),
        (LOGGER, "abc"),
    ]


async def test_error_outside_django_returns_500_and_its_traceback_is_logged(caplog: pytest.LogCaptureFixture):
    async def failing_app(scope: Any, receive: Any, send: Any) -> None:
        raise RuntimeError("in front of Django")

    sent: list[dict[str, Any]] = []

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    scope = {"type": "http", "method": "GET", "path": "/", "query_string": b"", "headers": []}
    await asyncio.create_task(RequestIdMiddleware(failing_app)(scope, None, send))  # type: ignore[arg-type]
    assert sent[0]["status"] == 500 and b"in front of Django" not in sent[1]["body"]
    assert "in front of Django" in caplog.text


def test_server_timing_header_is_only_sent_to_admins(administrator: ApiClient, viewer: ApiClient, reader: ApiClient):
    for name in ("a", "b"):
        MetricDefinition.objects.create(name=name, data_type="numeric")
    header = administrator.get("metrics").headers["Server-Timing"]
    match = re.fullmatch(r'db;dur=([\d.]+);desc="(\d+) statements", total;dur=([\d.]+)', header)
    assert match is not None, header
    assert int(match[2]) >= 4  # session, user, rows and total count
    assert 0 < float(match[1]) < float(match[3])
    for caller in (viewer, reader):
        assert "Server-Timing" not in caller.get("metrics").headers


def test_statements_of_the_storage_are_counted_too(web_port: int, administrator: ApiClient, admin: ApiClient):
    admin.post("devices/d/telemetry", point("m", 1.0))

    def count_statements(path: str) -> int:
        match = re.search(r'desc="(\d+) statements"', administrator.get(path).headers["Server-Timing"])
        assert match is not None
        return int(match[1])

    assert count_statements("devices/d/metrics/m/range") > count_statements("metrics/none") + 1


def test_admin_pages_send_the_server_timing_header(site: None, web_port: int):
    client = person(web_port, get_user_model().objects.create_superuser("root"))
    assert "total;dur=" in client.get("/admin/").headers["Server-Timing"]
