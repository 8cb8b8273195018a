"""Limits of the HTTP protocol on real sockets: head size, headers, time, connections, and responses to large bodies."""

import asyncio
import contextlib
import http.client
import json
import socket
import subprocess
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from typing import Any

import pytest
import uvicorn

from telemetry_site import http_protocol
from telemetry_site.http_protocol import MAX_HEAD_SIZE, MAX_HEADERS, HttpProtocol
from telemetry_site.middleware.size_and_timeout import MAX_BODY_SIZE
from tests.conftest import API, ApiClient, point

BODY = b"POST /api/v1/telemetry/metrics HTTP/1.1\r\nHost: localhost\r\n"
LINE = b"GET /livez HTTP/1.1\r\nHost: localhost\r\n"


@contextlib.contextmanager
def connect(port: int) -> Iterator[socket.socket]:
    with socket.create_connection(("127.0.0.1", port), timeout=20) as client:
        yield client


def read_all(client: socket.socket) -> bytes:
    """Read until the server closes."""
    parts = []
    while part := client.recv(65536):
        parts.append(part)
    return b"".join(parts)


def exchange(port: int, *parts: bytes) -> bytes:
    """Send the parts one after the other, and return all that the server sends until it closes."""
    with connect(port) as client:
        for part in parts:
            client.sendall(part)
        return read_all(client)


def status_of(response: bytes) -> int:
    return int(response.split(b" ", 2)[1])


def problem_of(response: bytes) -> dict[str, Any]:
    head, _, body = response.partition(b"\r\n\r\n")
    assert b"connection: close" in head and b"content-type: application/problem+json" in head
    problem: dict[str, Any] = json.loads(body)
    return problem


@pytest.mark.parametrize(
    ("request_bytes", "status"),
    [
        (b"GET /" + b"a" * MAX_HEAD_SIZE + b" HTTP/1.1\r\nHost: x\r\n\r\n", 414),
        (b"GET /?" + b"a" * 10 * MAX_HEAD_SIZE, 414),
        (LINE + b"X: " + b"a" * MAX_HEAD_SIZE + b"\r\n\r\n", 431),
        (LINE + b"X: " + b"a" * 10 * MAX_HEAD_SIZE, 431),
        (LINE + b"X" * 2 * MAX_HEAD_SIZE, 431),
        (LINE + b"".join(b"X-%d: 1\r\n" % n for n in range(MAX_HEADERS)) + b"\r\n", 431),
        (LINE + b"".join(b"X-%d: %s\r\n" % (n, b"a" * 1000) for n in range(90)) + b"\r\n", 431),
        (b"\r\n" * MAX_HEAD_SIZE, 431),
        (b"nothing of HTTP\r\n\r\n", 400),
        (BODY + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n", 400),
        (BODY + b"Transfer-Encoding: chunked\r\n\r\n1;" + b"a" * 10 * MAX_HEAD_SIZE, 431),
        (BODY + b"Transfer-Encoding: chunked\r\n\r\n0\r\nX: " + b"a" * 10 * MAX_HEAD_SIZE, 431),
        (LINE + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\n", 400),
        (b"GET /\xff HTTP/1.1\r\nHost: localhost\r\n\r\n", 400),
    ],
)
@pytest.mark.parametrize("size", [10**9, 1000])
def test_head_over_a_limit_is_refused(admin: ApiClient, request_bytes: bytes, status: int, size: int):
    parts = [request_bytes[start : start + size] for start in range(0, len(request_bytes), size)]
    with connect(admin.port) as client:
        for part in parts:
            with contextlib.suppress(BrokenPipeError):
                client.sendall(part)
        response = read_all(client)
    assert status_of(response) == status and problem_of(response)["status"] == status


def test_head_at_the_limits_is_accepted(admin: ApiClient):
    filler = b"".join(b"X-%d: 1\r\n" % n for n in range(MAX_HEADERS - 2))
    assert status_of(exchange(admin.port, LINE + filler + b"Connection: close\r\n\r\n")) == 200
    head = LINE + b"Connection: close\r\nX: "
    assert status_of(exchange(admin.port, head + b"a" * (MAX_HEAD_SIZE - len(head) - 100) + b"\r\n\r\n")) == 200
    url = b"GET /livez?" + b"a" * (MAX_HEAD_SIZE - 100) + b" HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
    assert status_of(exchange(admin.port, url)) == 200


def test_many_requests_on_one_connection_do_not_add_up(admin: ApiClient):
    connection = http.client.HTTPConnection("127.0.0.1", admin.port, timeout=20)
    body = json.dumps({"data_points": [point(seconds_ago=n) for n in range(1000)]}).encode()
    headers = admin.headers | {"Content-Type": "application/json", "X-Filler": "a" * 30_000}
    for _ in range(5):
        connection.request("POST", f"{API}/devices/d/telemetry/batch", body, headers)
        response = connection.getresponse()
        assert response.status == 200 and json.loads(response.read())["ingested_count"] == 1000
    connection.close()


def test_invalid_request_after_a_valid_one_does_not_damage_its_response(admin: ApiClient):
    valid = f"GET {API}/devices HTTP/1.1\r\nHost: localhost\r\nX-Api-Key: {admin.headers['X-Api-Key']}\r\n\r\n".encode()
    for invalid in (b"nothing of HTTP\r\n\r\n", LINE + b"X: " + b"a" * 2 * MAX_HEAD_SIZE + b"\r\n\r\n"):
        response = exchange(admin.port, valid + invalid)
        head, _, body = response.partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200") and json.loads(body)["devices"] == []


REQUEST = (
    b"POST /api/v1/telemetry/devices/d/telemetry HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
)


@pytest.mark.slow
@pytest.mark.parametrize(
    "parts",
    [
        [b"GET /a"],
        [b"GET /livez HTTP/1.1\r\nHost: lo"],
        [REQUEST + b"Content-Length: 100\r\n\r\n", b'{"half'],
        [REQUEST + b"Transfer-Encoding: chunked\r\n\r\n", b"ff\r\n{"],
        [LINE + b"\r\n", b"GET /li"],
        [REQUEST + b"Content-Length: 100\r\n", b"X-Api-Key: %s\r\n\r\n", b"{"],
    ],
)
@pytest.mark.parametrize("drips", [False, True])
def test_request_that_is_not_complete_in_time_is_answered_408(
    admin: ApiClient, settings: Any, parts: list[bytes], drips: bool
):
    settings.REQUEST_TIMEOUT = 1
    key = admin.headers["X-Api-Key"].encode()
    with connect(admin.port) as client:
        started = time.monotonic()
        for part in parts:
            client.sendall(part.replace(b"%s", key))
        response = b""
        client.settimeout(0.2)
        while time.monotonic() - started < 5:
            try:
                received = client.recv(65536)
            except TimeoutError:
                if drips:
                    client.sendall(b"a")
                continue
            except ConnectionResetError:
                break
            response += received
            if not received:
                break
        elapsed = time.monotonic() - started
    assert b"HTTP/1.1 408" in response and b"not complete within 1 s" in response
    assert 0.9 < elapsed < 4 and response.count(b"HTTP/1.1 200") == (parts[0] == LINE + b"\r\n")


@pytest.mark.slow
def test_blank_lines_do_not_keep_a_connection_open(admin: ApiClient, settings: Any):
    settings.REQUEST_TIMEOUT = 1
    with connect(admin.port) as client:
        client.sendall(LINE + b"\r\n")
        assert client.recv(65536).startswith(b"HTTP/1.1 200")
        client.sendall(b"\r\n")
        assert status_of(read_all(client)) == 408


@contextlib.contextmanager
def serve(application: Any) -> Iterator[int]:
    """Serve an ASGI application with the protocol; yields the port."""
    config = uvicorn.Config(
        application, port=0, http=HttpProtocol, lifespan="off", timeout_keep_alive=2, log_config=None, access_log=False
    )  # without its own logging, which would be that of all servers of the process
    server = uvicorn.Server(config)
    thread = threading.Thread(target=lambda: asyncio.run(server.serve()), daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.02)
    try:
        yield server.servers[0].sockets[0].getsockname()[1]
    finally:
        server.should_exit = server.force_exit = True
        thread.join(15)


@pytest.mark.slow
def test_idle_connection_is_closed_after_the_keep_alive_timeout(settings: Any):
    async def application(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"0")]})
        await send({"type": "http.response.body"})

    settings.REQUEST_TIMEOUT = 1
    with serve(application) as port, connect(port) as client:
        for _ in range(2):
            client.sendall(LINE + b"\r\n")
            assert client.recv(65536).startswith(b"HTTP/1.1 200")
            time.sleep(1.5)
        started = time.monotonic()
        assert read_all(client) == b"" and time.monotonic() - started < 5


CHUNK = b"x" * 2**20


@pytest.mark.slow
@pytest.mark.parametrize("chunks", [1, 32])
def test_connection_of_a_client_that_reads_no_response_is_cut(settings: Any, chunks: int):
    ended = threading.Event()

    async def application(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        for _ in range(chunks):
            await send({"type": "http.response.body", "body": CHUNK * (32 // chunks), "more_body": True})
        await send({"type": "http.response.body"})
        while (await receive())["type"] != "http.disconnect":
            continue
        ended.set()

    settings.REQUEST_TIMEOUT = 1
    with serve(application) as port, connect(port) as client:
        client.sendall(LINE + b"\r\n")
        assert client.recv(12) == b"HTTP/1.1 200"
        assert ended.wait(10)
        time.sleep(3)
        assert len(read_all(client)) < 32 * len(CHUNK)


@pytest.mark.slow
def test_client_that_reads_slowly_gets_the_whole_response(settings: Any):
    async def application(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": [(b"connection", b"close")]})
        await send({"type": "http.response.body", "body": CHUNK * 16})

    settings.REQUEST_TIMEOUT = 1
    with serve(application) as port, connect(port) as client:
        client.sendall(LINE + b"\r\n")
        size = 0
        while part := client.recv(2**20):
            size += len(part)
            time.sleep(0.1)
    assert size > len(CHUNK) * 16


@pytest.mark.slow
def test_connection_without_a_request_is_closed(admin: ApiClient, settings: Any):
    settings.REQUEST_TIMEOUT = 1
    started = time.monotonic()
    assert exchange(admin.port) == b"" and 0.9 < time.monotonic() - started < 3


@pytest.mark.slow
def test_slow_but_complete_request_is_answered(admin: ApiClient, settings: Any):
    settings.REQUEST_TIMEOUT = 2
    body = json.dumps(point()).encode()
    key = f"X-Api-Key: {admin.headers['X-Api-Key']}\r\nContent-Length: {len(body)}\r\n\r\n".encode()
    with connect(admin.port) as client:
        for _ in range(2):  # each request has its own time
            client.sendall(REQUEST + key)
            for start in range(0, len(body), 20):
                client.sendall(body[start : start + 20])
                time.sleep(0.1)
            assert client.recv(65536).startswith(b"HTTP/1.1 200")
            time.sleep(1.5)


@pytest.mark.slow
def test_open_stream_is_no_incomplete_request(admin: ApiClient, settings: Any):
    settings.REQUEST_TIMEOUT = 1
    from websockets.sync.client import connect as connect_websocket

    url = f"ws://127.0.0.1:{admin.port}/ws/live"
    with connect_websocket(url, additional_headers=admin.headers) as websocket:
        time.sleep(2.5)
        websocket.send('{"type": "subscribe", "channels": ["alerts"]}')
        assert json.loads(websocket.recv(timeout=5))["type"] == "subscribed"


def test_connections_of_one_address_are_limited(admin: ApiClient, settings: Any):
    with contextlib.ExitStack() as opened:
        clients = [opened.enter_context(connect(admin.port)) for _ in range(10)]
        for client in clients:
            client.sendall(LINE + b"\r\n")
            assert client.recv(65536).startswith(b"HTTP/1.1 200")
        settings.CONNECTIONS_PER_ADDRESS = 10
        response = exchange(admin.port, LINE + b"\r\n")
        assert status_of(response) == 429 and "more than 10 connections" in problem_of(response)["detail"]
        assert b"retry-after: 5" in response
        clients[0].sendall(LINE + b"\r\n")  # open connections keep working
        assert clients[0].recv(65536).startswith(b"HTTP/1.1 200")
        settings.BEHIND_PROXY = True
        assert status_of(exchange(admin.port, LINE + b"Connection: close\r\n\r\n")) == 200
        settings.BEHIND_PROXY = False
        settings.CONNECTIONS_PER_ADDRESS = 0
        assert status_of(exchange(admin.port, LINE + b"Connection: close\r\n\r\n")) == 200
        settings.CONNECTIONS_PER_ADDRESS = 10
    deadline = time.monotonic() + 5
    while status_of(exchange(admin.port, LINE + b"Connection: close\r\n\r\n")) != 200:
        assert time.monotonic() < deadline
        time.sleep(0.05)


PATHS = (f"{API}/devices/d/telemetry", f"{API}/metrics", "/login/", "/nothing")
SIZES = (MAX_BODY_SIZE + 1, MAX_BODY_SIZE + 10_000_000)


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("is_chunked", [False, True])
@pytest.mark.parametrize("closes", [False, True])
def test_http_client_sees_413(admin: ApiClient, path: str, size: int, is_chunked: bool, closes: bool):
    connection = http.client.HTTPConnection("127.0.0.1", admin.port, timeout=20)
    headers = admin.headers | {"Content-Type": "application/json"} | ({"Connection": "close"} if closes else {})
    chunks = (b" " * min(2**20, size - start) for start in range(0, size, 2**20))
    body: Any = chunks if is_chunked else b" " * size
    connection.request("POST", path, body, headers, encode_chunked=is_chunked)
    response = connection.getresponse()
    assert response.status == 413 and str(MAX_BODY_SIZE) in json.loads(response.read())["detail"]
    connection.close()


@pytest.mark.parametrize("path", PATHS)
def test_urllib_sees_413(admin: ApiClient, path: str):
    url = f"http://127.0.0.1:{admin.port}{path}"
    request = urllib.request.Request(url, b" " * SIZES[1], admin.headers | {"Content-Type": "application/json"})
    with pytest.raises(urllib.error.HTTPError) as raised:
        urllib.request.urlopen(request, timeout=20)
    assert raised.value.code == 413 and str(MAX_BODY_SIZE) in json.loads(raised.value.read())["detail"]


@pytest.mark.slow
@pytest.mark.parametrize("expect", ["Expect: 100-continue", "Expect:"])
@pytest.mark.parametrize("version", ["--http1.0", "--http1.1"])
def test_curl_sees_413(admin: ApiClient, tmp_path: Any, expect: str, version: str):
    file = tmp_path / "body"
    file.write_bytes(b" " * SIZES[1])
    for path in PATHS:
        command = ["curl", "-sS", version, "-H", expect, "-H", f"X-Api-Key: {admin.headers['X-Api-Key']}"]
        command += ["-H", "Content-Type: application/json", "--data-binary", f"@{file}", "-w", "%{http_code}"]
        completed = subprocess.run(
            [*command, f"http://127.0.0.1:{admin.port}{path}"], capture_output=True, text=True, timeout=30, check=False
        )
        assert completed.stdout.endswith("413"), (path, completed)


def test_endless_body_is_cut_off(admin: ApiClient, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(http_protocol, "MAX_DISCARDED", 8 * 2**20)
    head = f"POST {API}/metrics HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nX-Api-Key: x\r\n\r\n".encode()
    chunk = b"100000\r\n" + b" " * 2**20 + b"\r\n"
    with connect(admin.port) as client:
        client.sendall(head)
        with pytest.raises((BrokenPipeError, ConnectionResetError)):
            for _ in range(200):
                client.sendall(chunk)
