"""CORS headers are sent only to configured origins, by the fast lane and by Django."""

import asyncio
import threading
from collections.abc import Iterator

import pytest
import uvicorn

from telemetry_site import asgi
from telemetry_site.env import Environment, InvalidSetting
from telemetry_site.middleware.cors import CORS
from tests.conftest import ApiClient, point

ALLOWED_ORIGIN, OTHER_ORIGIN = "https://dashboard.example.com", "https://evil.example.com"
ROUTES = [("POST", "devices/d/telemetry"), ("POST", "bulk"), ("GET", "devices/d/metrics/m/latest"), ("GET", "metrics")]


def serve_with_origins(*origins: str) -> Iterator[int]:
    """Serve the site with these allowed origins; yield the port."""
    server = uvicorn.Server(uvicorn.Config(CORS(asgi.http_application, origins), port=0, log_level="warning"))
    thread = threading.Thread(target=lambda: asyncio.run(server.serve()), daemon=True)
    thread.start()
    while not server.started and thread.is_alive():
        thread.join(0.02)
    yield server.servers[0].sockets[0].getsockname()[1]
    server.should_exit = True
    thread.join(15)


@pytest.fixture(scope="module")
def configured_port(web_port: int) -> Iterator[int]:
    yield from serve_with_origins(ALLOWED_ORIGIN, "http://localhost:3000")


@pytest.fixture(scope="module")
def wildcard_port(web_port: int) -> Iterator[int]:
    yield from serve_with_origins("*")


def send_request(caller: ApiClient, port: int, method: str, path: str, **headers: str):
    body = point() if method == "POST" else None
    return ApiClient(port, caller.headers).call(method, path, body, **headers)


@pytest.mark.parametrize(("method", "path"), ROUTES)
def test_configured_origin_may_read_every_response(
    admin: ApiClient, anonymous: ApiClient, configured_port: int, method, path
):
    for caller in (admin, anonymous):
        headers = send_request(caller, configured_port, method, path, Origin=ALLOWED_ORIGIN).headers
        assert (
            headers["Access-Control-Allow-Origin"] == ALLOWED_ORIGIN
            and headers["Access-Control-Allow-Credentials"] == "true"
        )
        assert (
            "Origin" in ", ".join(headers.get_all("Vary"))
            and "x-request-id" in headers["Access-Control-Expose-Headers"]
        )


@pytest.mark.parametrize(("method", "path"), ROUTES)
@pytest.mark.parametrize(
    "origin",
    [OTHER_ORIGIN, "null", ALLOWED_ORIGIN + ".evil.com", "http://dashboard.example.com", ALLOWED_ORIGIN.upper()],
)
def test_other_origin_gets_no_cors_headers(admin: ApiClient, configured_port: int, method: str, path: str, origin: str):
    headers = send_request(admin, configured_port, method, path, Origin=origin).headers
    assert not [name for name in headers if name.lower().startswith("access-control")]
    assert "Origin" in ", ".join(headers.get_all("Vary"))


@pytest.mark.parametrize(("method", "path"), ROUTES)
def test_preflight_response_lists_allowed_methods_and_headers(
    anonymous: ApiClient, configured_port: int, method: str, path: str
):
    request_headers = {"Access_Control_Request_Method": method, "Access_Control_Request_Headers": "x-api-key"}
    response = ApiClient(configured_port, {}).call("OPTIONS", path, Origin=ALLOWED_ORIGIN, **request_headers)
    assert response.status == 204 and response.raw == b""
    assert response.headers["Access-Control-Allow-Origin"] == ALLOWED_ORIGIN
    assert method in response.headers["Access-Control-Allow-Methods"]
    for name in ("x-api-key", "authorization", "content-type", "idempotency-key", "if-match"):
        assert name in response.headers["Access-Control-Allow-Headers"]
    rejected = ApiClient(configured_port, {}).call("OPTIONS", path, Origin=OTHER_ORIGIN, **request_headers)
    assert "Access-Control-Allow-Origin" not in rejected.headers
    assert "Access-Control-Allow-Methods" not in rejected.headers


def test_wildcard_allows_every_origin_without_credentials(admin: ApiClient, wildcard_port: int):
    for method, path in ROUTES:
        headers = send_request(admin, wildcard_port, method, path, Origin=OTHER_ORIGIN).headers
        assert headers["Access-Control-Allow-Origin"] == "*" and "Access-Control-Allow-Credentials" not in headers


def test_pages_get_no_cors_headers(admin: ApiClient, configured_port: int, wildcard_port: int):
    for port in (configured_port, wildcard_port):
        response = ApiClient(port, {}).get("/login/", Origin=ALLOWED_ORIGIN)
        assert response.status == 200 and "Access-Control-Allow-Origin" not in response.headers


def test_without_configured_origins_no_cors_headers_are_sent(admin: ApiClient, anonymous: ApiClient):
    for method, path in ROUTES:
        headers = send_request(admin, admin.port, method, path, Origin=ALLOWED_ORIGIN).headers
        assert not [name for name in headers if name.lower().startswith("access-control")]
    response = anonymous.call("OPTIONS", "metrics", Origin=ALLOWED_ORIGIN, Access_Control_Request_Method="POST")
    assert "Access-Control-Allow-Origin" not in response.headers


@pytest.mark.parametrize("value", ["example.com", "https://example.com/", "https://*", "*,https://a.b", "ftp://a.b"])
def test_invalid_origin_is_rejected_at_the_start(value: str):
    with pytest.raises(InvalidSetting, match="TELEMETRY_CORS_ORIGINS"):
        Environment({"TELEMETRY_CORS_ORIGINS": value}).origins("TELEMETRY_CORS_ORIGINS")
    valid = "https://a.example.com, http://localhost:3000,http://[::1]:80"
    assert len(Environment({"X": valid}).origins("X")) == 3 and Environment({"X": "*"}).origins("X") == ["*"]
