"""Fixtures of all tests: an empty site, a web server, and API clients with different permissions."""

import asyncio
import functools
import http.client
import json
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import redis
import uvicorn
from django.conf import settings
from django.contrib.auth import BACKEND_SESSION_KEY, HASH_SESSION_KEY, SESSION_KEY, get_user_model
from django.contrib.auth.models import Group
from django.contrib.sessions.backends.db import SessionStore
from django.db import connection
from django.test.utils import setup_databases, teardown_databases

from alerts.apps import create_initial_rows
from ingest.identity import tokens
from ingest.models import ApiKey
from ingest.rejected.inbox import stop_inbox
from metrics.models import Device, DeviceGroup
from metrics.storage import series_registry
from metrics.storage.connection import close_pools
from metrics.storage.write.group_commit import stop_writer
from rest import rate_limit
from rest.caller import OPERATORS, Scope
from telemetry_site import process_caches
from telemetry_site.embedded import site_processes
from telemetry_site.http_protocol import HttpProtocol
from telemetry_site.websocket_protocol import WebSocketProtocol
from tests.empty_tables import create_function, empty_tables

API = "/api/v1/telemetry"
TERMINATE_OTHER_CONNECTIONS = """
SELECT pg_terminate_backend(pid) FROM pg_stat_activity
WHERE datname = current_database() AND backend_type = 'client backend' AND pid <> pg_backend_pid()
"""
REDIS_URL = settings.REDIS_URL  # unaffected by settings that a test overrides


@pytest.fixture(scope="session")
def django_db_setup(django_test_environment: None, django_db_blocker: Any) -> Iterator[None]:
    """Create the test database for every test; pytest-django creates it only for tests with its marks."""
    with django_db_blocker.unblock():
        databases = setup_databases(verbosity=0, interactive=False)
        create_function()
        yield
        close_pools()
        with connection.cursor() as cursor:  # connections of running threads prevent dropping the database
            cursor.execute(TERMINATE_OTHER_CONNECTIONS)
        teardown_databases(databases, verbosity=0)


@pytest.fixture
def site(django_db_setup: None, django_db_blocker: Any) -> Iterator[None]:
    """An empty installation. Not inside a transaction, since storage works on connections of its own."""
    with django_db_blocker.unblock():
        process_caches.reset()
        empty_tables()
        create_initial_rows("default")
        process_caches.reset()  # the web server's thread can have read the old rows meanwhile
        delete_rate_limits()
        series_registry.refresh_registry()
        yield
        stop_inbox()
        stop_writer()
        expect_returned_connections()


def expect_returned_connections() -> None:
    """Fail if a thread ended without closing its connection: the pool would lack it in all later tests."""
    deadline = time.monotonic() + RETURN_TIMEOUT
    while (used := _used_connections()) > 1:  # that of this thread
        assert time.monotonic() < deadline, f"{used - 1} connections were not given back"
        time.sleep(0.01)


def _used_connections() -> int:
    pool = connection.pool  # type: ignore[attr-defined]  # of Django's PostgreSQL backend
    if pool is None:
        return 0
    statistics = pool.get_stats()
    return int(statistics.get("pool_size", 0) - statistics.get("pool_available", 0))


RETURN_TIMEOUT = 5.0  # seconds


@functools.cache
def _redis() -> redis.Redis:
    return redis.Redis.from_url(REDIS_URL)


def delete_rate_limits() -> None:
    """Delete the rate limit buckets in Redis."""
    for name in _redis().scan_iter(f"{rate_limit.PREFIX}*", count=1000):
        _redis().delete(name)


@dataclass
class ApiResponse:
    status: int
    headers: http.client.HTTPMessage
    raw: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.raw)


@dataclass
class ApiClient:
    """A client that calls the API over a real connection with its credentials."""

    port: int
    headers: dict[str, str]

    def call(self, method: str, path: str, body: Any = None, **headers: str) -> ApiResponse:
        """Send a request; `body` is sent unchanged if it is bytes, else as JSON."""
        data = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
        request_headers = (
            {"Content-Type": "application/json"} | self.headers | {k.replace("_", "-"): v for k, v in headers.items()}
        )
        http_connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        try:
            http_connection.request(method, path if path.startswith("/") else f"{API}/{path}", data, request_headers)
            with http_connection.getresponse() as response:  # keeps the socket open if the body is incomplete
                return ApiResponse(response.status, response.headers, response.read())
        finally:
            http_connection.close()

    def get(self, path: str, **headers: str) -> ApiResponse:
        return self.call("GET", path, **headers)

    def post(self, path: str, body: Any, **headers: str) -> ApiResponse:
        return self.call("POST", path, body, **headers)


def server_config(**options: Any) -> uvicorn.Config:
    """Return the configuration of a web server in a thread, with the protocols and limits of the site's processes."""
    from telemetry_site.asgi import application

    return uvicorn.Config(
        application,
        port=0,
        http=HttpProtocol,
        ws=WebSocketProtocol,
        log_level="warning",
        ws_max_size=site_processes.MAX_WEBSOCKET_MESSAGE,
        ws_per_message_deflate=False,
        **options,
    )


@pytest.fixture(scope="session")
def web_port(django_db_setup: None) -> Iterator[int]:
    """Start a web server in a thread, which shares the test database; return its port."""
    config = server_config(
        lifespan="on",
        ws_ping_interval=site_processes.WEBSOCKET_PING_INTERVAL,
        ws_ping_timeout=site_processes.WEBSOCKET_PING_TIMEOUT,
    )
    server = uvicorn.Server(config)
    thread = threading.Thread(target=lambda: asyncio.run(server.serve()), daemon=True)
    thread.start()
    started = threading.Event()
    while not server.started and thread.is_alive():
        started.wait(0.02)
    yield server.servers[0].sockets[0].getsockname()[1]
    server.should_exit = True
    thread.join(15)


def _caller(port: int, scope: str, device_id: str | None = None) -> ApiClient:
    device = Device.objects.get_or_create(device_id=device_id)[0] if device_id else None
    _, key = ApiKey.issue(f"{scope} of {device_id or 'all'}", scope, device)
    return ApiClient(port, {"X-Api-Key": key})


@pytest.fixture
def admin(site: None, web_port: int) -> ApiClient:
    return _caller(web_port, Scope.ADMIN)


@pytest.fixture
def gateway(site: None, web_port: int) -> ApiClient:
    """A client with an ingest key for every device."""
    return _caller(web_port, Scope.INGEST)


@pytest.fixture
def reader(site: None, web_port: int) -> ApiClient:
    return _caller(web_port, Scope.READ)


@pytest.fixture
def device(site: None, web_port: int) -> ApiClient:
    """A client with an ingest key bound to the device `device_001`."""
    return _caller(web_port, Scope.INGEST, "device_001")


@pytest.fixture
def anonymous(site: None, web_port: int) -> ApiClient:
    return ApiClient(web_port, {})


@pytest.fixture
def administrator(site: None, web_port: int) -> ApiClient:
    """A logged-in superuser, whose requests Django answers and not the fast lane."""
    return person(web_port, get_user_model().objects.create_superuser("administrator"))


@pytest.fixture
def operator(site: None, web_port: int) -> ApiClient:
    """A logged-in operator of the device group `site a`."""
    user = _member("operator")
    user.groups.add(Group.objects.get_or_create(name=OPERATORS)[0])
    return person(web_port, user)


@pytest.fixture
def viewer(site: None, web_port: int) -> ApiClient:
    """A logged-in viewer of the device group `site a`."""
    return person(web_port, _member("viewer"))


@pytest.fixture
def stranger(site: None, web_port: int) -> ApiClient:
    """A logged-in user without a device group, who sees nothing."""
    return person(web_port, get_user_model().objects.create_user("stranger"))


def _member(name: str) -> Any:
    user = get_user_model().objects.create_user(name)
    DeviceGroup.objects.get_or_create(name="site a")[0].members.add(user)
    return user


def person(port: int, user: Any) -> ApiClient:
    """Return a client with the session and the CSRF token of a user."""
    session = SessionStore()  # without the log-in of Django's test client, which takes 15 ms
    session[SESSION_KEY] = str(user.pk)
    session[BACKEND_SESSION_KEY] = settings.AUTHENTICATION_BACKENDS[0]
    session[HASH_SESSION_KEY] = user.get_session_auth_hash()
    session.create()
    token = "a" * 32
    cookies = f"{settings.SESSION_COOKIE_NAME}={session.session_key}; {settings.CSRF_COOKIE_NAME}={token}"
    return ApiClient(port, {"Cookie": cookies, "X-CSRFToken": token})


def with_token(port: int, username: str) -> ApiClient:
    """Return a client with an access token of a user, whose requests the fast lane answers where it can."""
    user = get_user_model().objects.get(username=username)
    return ApiClient(port, {"Authorization": f"Bearer {tokens.issue_for_user(user).access_token}"})


def stamp(seconds_ago: float = 0.0) -> str:
    """Return a timestamp as RFC 3339."""
    return (datetime.now(UTC) - timedelta(seconds=seconds_ago)).isoformat().replace("+00:00", "Z")


def point(metric: str = "temperature", value: Any = 25.5, seconds_ago: float = 0.0, **more: Any) -> dict[str, Any]:
    return {"timestamp": stamp(seconds_ago), "metric_name": metric, "value": value, **more}
