"""Streams when the web server stops, and when thousands of clients connect and disappear."""

import asyncio
import contextlib
import gc
import os
import socket as sockets
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import uvicorn
from django.db import connection

from dashboard.streams import open_sessions
from telemetry_site.embedded import site_processes
from tests.conftest import ApiClient, server_config
from tests.dashboard.streams.stream_client import EventStream, closed_with, open_stream, receive, subscribe

CYCLES = int(os.environ.get("STREAM_CYCLES", "300"))


class StoppableServer:
    """A web server in a thread."""

    def __init__(self) -> None:
        config = server_config(lifespan="off", timeout_graceful_shutdown=site_processes.SHUTDOWN_TIMEOUT)
        self.server = uvicorn.Server(config)
        self.thread = threading.Thread(target=lambda: asyncio.run(self.server.serve()), daemon=True)
        self.thread.start()
        wait_until(lambda: self.server.started)

    @property
    def port(self) -> int:
        return self.server.servers[0].sockets[0].getsockname()[1]

    def stop(self) -> None:
        self.server.should_exit = True


def wait_until(condition: Callable[[], object], timeout: float = 10) -> None:
    deadline, waiting = time.monotonic() + timeout, threading.Event()
    while not condition():
        assert time.monotonic() < deadline, "the condition is not met"
        waiting.wait(0.02)


@pytest.fixture
def server(site: None) -> Iterator[StoppableServer]:
    server = StoppableServer()
    yield server
    server.stop()
    server.thread.join(15)


@pytest.mark.slow
def test_server_that_stops_closes_streams_with_1012(reader: ApiClient, server: StoppableServer):
    identity = subscribe(reader)
    client = ApiClient(server.port, reader.headers)
    with (
        open_stream(client, identity) as socket,
        EventStream(client, f"/sse/telemetry/{identity}") as stream,
        contextlib.closing(sockets.create_connection(("127.0.0.1", server.port))) as silent,
    ):
        receive(socket, "snapshot")
        assert (stream.next() or {})["type"] == "snapshot"
        silent.sendall(_upgrade(identity, reader))  # never reads, also not the close
        wait_until(lambda: len(open_sessions.open_sessions()) == 3)
        began = time.monotonic()
        server.stop()
        for error in (closed_with(socket), stream.next() or {}):
            assert (error["code"], error["retry"]) == (1012, True)
            assert error["retry_after_ms"] > 0
        assert stream.next() is None
        server.thread.join(5)
        assert not server.thread.is_alive()
        assert time.monotonic() - began < 5


def _upgrade(identity: str, caller: ApiClient) -> bytes:
    lines = [
        f"GET /ws/telemetry/{identity} HTTP/1.1", "Host: x", "Upgrade: websocket", "Connection: Upgrade",
        "Sec-WebSocket-Version: 13", "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
        f"X-Api-Key: {caller.headers['X-Api-Key']}", "", "",
    ]  # fmt: skip
    return "\r\n".join(lines).encode()


def _connect_and_abort(caller: ApiClient, identity: str, number: int) -> None:
    """Open a stream, and cut the connection at a point that depends on the number."""
    with contextlib.closing(sockets.create_connection(("127.0.0.1", caller.port))) as connected:
        connected.setsockopt(sockets.SOL_SOCKET, sockets.SO_LINGER, b"\1\0\0\0\0\0\0\0")  # close with a reset
        request = _upgrade(identity, caller)
        if number % 4 == 1:
            request = request.replace(b"/ws/", b"/sse/").replace(b"Upgrade: websocket\r\nConnection: Upgrade\r\n", b"")
        connected.sendall(request if number % 4 else request[: number % len(request)])
        if number % 4 > 1:
            connected.recv(1 if number % 4 == 2 else 4096)


@pytest.mark.slow
def test_descriptors_rows_and_memory_return_after_aborted_connections(reader: ApiClient):
    identity = subscribe(reader)

    def descriptors() -> int:
        return len(list(Path("/proc/self/fd").iterdir()))

    def resident() -> int:
        return int(Path("/proc/self/statm").read_text().split()[1]) * 4096

    for number in range(100):  # threads, pools and caches exist from here on
        _connect_and_abort(reader, identity, number)
    wait_until(lambda: not len(open_sessions.open_sessions()))
    gc.collect()
    before, memory = descriptors(), resident()
    for number in range(CYCLES):
        _connect_and_abort(reader, identity, number)
    wait_until(lambda: not len(open_sessions.open_sessions()))
    wait_until(lambda: descriptors() <= before + 2)
    gc.collect()
    grown = resident() - memory
    assert grown < 8_000_000 + 500 * CYCLES, f"{grown:,} bytes"
    with connection.cursor() as cursor:
        cursor.execute("SELECT (SELECT count(*) FROM dashboard_subscription), (SELECT count(*) FROM dashboard_ticket)")
        assert cursor.fetchone() == (1, 0)
