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

HERE, THERE = "https://dashboard.example.com", "https://evil.example.com"
ROUTES = [("POST", "devices/d/telemetry"), ("POST", "bulk"), ("GET", "devices/d/metrics/m/latest"), ("GET", "metrics")]


def serve(*origins: str) -> Iterator[int]:
    """The site as it is with these origins, on a port of its own."""
    server = uvicorn.Server(uvicorn.Config(CORS(asgi.http_application, origins), port=0, log_level="warning"))
    thread = threading.Thread(target=lambda: asyncio.run(server.serve()), daemon=True)
    thread.start()
    while not server.started and thread.is_alive():
        thread.join(0.02)
    yield server.servers[0].sockets[0].getsockname()[1]
    server.should_exit = True
    thread.join(15)


@pytest.fixture(scope="module")
def named(web_port: int) -> Iterator[int]:
    yield from serve(HERE, "http://localhost:3000")


@pytest.fixture(scope="module")
def everybody(web_port: int) -> Iterator[int]:
    yield from serve("*")


def asked(caller: ApiClient, port: int, method: str, path: str, **headers: str):
    body = point() if method == "POST" else None
    return ApiClient(port, caller.headers).call(method, path, body, **headers)


@pytest.mark.parametrize(("method", "path"), ROUTES)
def test_configured_origin_may_read_every_response(admin: ApiClient, anonymous: ApiClient, named: int, method, path):
    for caller in (admin, anonymous):
        told = asked(caller, named, method, path, Origin=HERE).headers
        assert told["Access-Control-Allow-Origin"] == HERE and told["Access-Control-Allow-Credentials"] == "true"
        assert "Origin" in ", ".join(told.get_all("Vary")) and "x-request-id" in told["Access-Control-Expose-Headers"]


@pytest.mark.parametrize(("method", "path"), ROUTES)
@pytest.mark.parametrize("origin", [THERE, "null", HERE + ".evil.com", "http://dashboard.example.com", HERE.upper()])
def test_other_origin_gets_no_cors_headers(admin: ApiClient, named: int, method: str, path: str, origin: str):
    told = asked(admin, named, method, path, Origin=origin).headers
    assert not [name for name in told if name.lower().startswith("access-control")]
    assert "Origin" in ", ".join(told.get_all("Vary"))


@pytest.mark.parametrize(("method", "path"), ROUTES)
def test_preflight_response_lists_allowed_methods_and_headers(anonymous: ApiClient, named: int, method: str, path: str):
    ask = {"Access_Control_Request_Method": method, "Access_Control_Request_Headers": "x-api-key"}
    answer = ApiClient(named, {}).call("OPTIONS", path, Origin=HERE, **ask)
    assert answer.status == 204 and answer.raw == b""
    assert answer.headers["Access-Control-Allow-Origin"] == HERE
    assert method in answer.headers["Access-Control-Allow-Methods"]
    for name in ("x-api-key", "authorization", "content-type", "idempotency-key", "if-match"):
        assert name in answer.headers["Access-Control-Allow-Headers"]
    refused = ApiClient(named, {}).call("OPTIONS", path, Origin=THERE, **ask)
    assert "Access-Control-Allow-Origin" not in refused.headers
    assert "Access-Control-Allow-Methods" not in refused.headers


def test_everybody_means_everybody_without_cookies(admin: ApiClient, everybody: int):
    for method, path in ROUTES:
        told = asked(admin, everybody, method, path, Origin=THERE).headers
        assert told["Access-Control-Allow-Origin"] == "*" and "Access-Control-Allow-Credentials" not in told


def test_pages_are_for_this_site_alone(admin: ApiClient, named: int, everybody: int):
    for port in (named, everybody):
        answer = ApiClient(port, {}).get("/login/", Origin=HERE)
        assert answer.status == 200 and "Access-Control-Allow-Origin" not in answer.headers


def test_where_none_is_named_no_answer_says_anything_of_origins(admin: ApiClient, anonymous: ApiClient):
    for method, path in ROUTES:
        told = asked(admin, admin.port, method, path, Origin=HERE).headers
        assert not [name for name in told if name.lower().startswith("access-control")]
    answer = anonymous.call("OPTIONS", "metrics", Origin=HERE, Access_Control_Request_Method="POST")
    assert "Access-Control-Allow-Origin" not in answer.headers


@pytest.mark.parametrize("given", ["example.com", "https://example.com/", "https://*", "*,https://a.b", "ftp://a.b"])
def test_an_origin_that_is_none_is_named_at_the_start(given: str):
    with pytest.raises(InvalidSetting, match="TELEMETRY_CORS_ORIGINS"):
        Environment({"TELEMETRY_CORS_ORIGINS": given}).origins("TELEMETRY_CORS_ORIGINS")
    good = "https://a.example.com, http://localhost:3000,http://[::1]:80"
    assert len(Environment({"X": good}).origins("X")) == 3 and Environment({"X": "*"}).origins("X") == ["*"]
