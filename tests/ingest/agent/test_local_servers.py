"""The local HTTP input and the WebSocket stream."""

import asyncio
import http.client
import json
import socket
import struct
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import pytest
import websockets

from ingest.agent.local_input import LocalInput
from ingest.agent.queue import TelemetryQueue
from ingest.agent.websocket import MAX_CLIENTS, WebSocketServer, accept_key, frame
from tests.ingest.agent.conftest import START, OpenQueue


@pytest.fixture
def local_queue(open_queue: OpenQueue) -> TelemetryQueue:
    return open_queue()


@pytest.fixture
def local_input(local_queue: TelemetryQueue) -> Iterator[LocalInput]:
    server = LocalInput(0, local_queue, "box", lambda: START)
    yield server
    server.close()


def post(server: LocalInput, body: bytes, **headers: str) -> tuple[int, dict[str, Any]]:
    with closing(http.client.HTTPConnection("127.0.0.1", server.port, timeout=5)) as connection:
        names = {name.replace("_", "-"): value for name, value in headers.items()}
        connection.request("POST", "/", body, {"Content-Type": "application/json", **names})
        response = connection.getresponse()
        return response.status, json.loads(response.read())


TIME = "2027-01-15T08:00:00Z"
NOW = "2027-01-15T08:00:00.000Z"


@pytest.mark.parametrize(
    ("document", "snapshots"),
    [
        ({"metric_name": "a", "value": 1}, [{"timestamp": NOW, "a": 1}]),
        ({"a": 1.5, "b": "on", "timestamp": TIME}, [{"timestamp": TIME, "a": 1.5, "b": "on"}]),
        (
            {
                "data_points": [
                    {"metric_name": "a", "value": 1, "timestamp": TIME},
                    {"metric_name": "b", "value": 2, "timestamp": TIME},
                    {"metric_name": "a", "value": 3},
                ]
            },
            [{"timestamp": TIME, "a": 1, "b": 2}, {"timestamp": NOW, "a": 3}],
        ),
    ],
)
def test_points_are_queued_before_the_answer(
    local_input: LocalInput, local_queue: TelemetryQueue, document: dict[str, Any], snapshots: list[dict[str, Any]]
) -> None:
    assert post(local_input, json.dumps(document).encode()) == (202, {"success": True})
    assert [item.payload for item in local_queue.dequeue(10)] == [{"node_id": "box", **fields} for fields in snapshots]


@pytest.mark.parametrize(
    ("body", "detail"),
    [
        (b"{", "not JSON"),
        (b"[]", "JSON object"),
        (b"{}", "JSON object"),
        (b'{"timestamp": "2027-01-01T00:00:00Z"}', "no values"),
        (b'{"data_points": 1}', "data_points"),
        (b'{"data_points": []}', "1 to 1000 points"),
        (b'{"data_points": [1]}', "data_points[0]"),
        (b'{"metric_name": "node_id", "value": 1}', "metric_name"),
        (b'{"metric_name": "a", "value": null}', "value"),
        (b'{"a": NaN}', "value"),
        (b'{"a": 1, "timestamp": "yesterday"}', "timestamp"),
        (b'{"a": 1, "timestamp": "2027-01-01T00:00:00"}', "timestamp"),
    ],
)
def test_invalid_body_is_refused_with_the_field(
    local_input: LocalInput, local_queue: TelemetryQueue, body: bytes, detail: str
) -> None:
    status, answer = post(local_input, body)
    assert status == 400
    assert detail in answer["detail"]
    assert local_queue.get_queue_size() == 0


def test_web_pages_and_long_bodies_are_refused(local_input: LocalInput, local_queue: TelemetryQueue) -> None:
    assert post(local_input, b'{"a": 1}', Origin="https://example.org")[0] == 415
    assert post(local_input, b'{"a": 1}', Content_Type="text/plain")[0] == 415
    assert post(local_input, b"", Content_Length="99999999")[0] == 413
    assert local_queue.get_queue_size() == 0


@pytest.fixture
def stream() -> Iterator[WebSocketServer]:
    server = WebSocketServer(0, lambda: "first")
    yield server
    server.close()


async def test_client_receives_each_snapshot_and_pongs(stream: WebSocketServer) -> None:
    async with websockets.connect(f"ws://127.0.0.1:{stream.port}") as client:
        assert await client.recv() == "first"
        for size in (5, 125, 126, 70_000):
            await asyncio.to_thread(stream.broadcast, "x" * size)
            assert await client.recv() == "x" * size
        await asyncio.wait_for(await client.ping(b"data"), 5)
        await client.send("ignored")


async def test_stopping_closes_clients_with_1001(stream: WebSocketServer) -> None:
    async with websockets.connect(f"ws://127.0.0.1:{stream.port}") as client:
        await client.recv()
        await asyncio.to_thread(stream.close)
        with pytest.raises(websockets.ConnectionClosed):
            await client.recv()
        assert client.close_code == 1001


async def test_page_of_another_site_is_refused(stream: WebSocketServer) -> None:
    with pytest.raises(websockets.InvalidStatus, match="403"):
        await websockets.connect(f"ws://127.0.0.1:{stream.port}", origin="https://example.org")  # type: ignore[arg-type]
    async with websockets.connect(f"ws://127.0.0.1:{stream.port}", origin="http://localhost:3000"):  # type: ignore[arg-type]
        pass


def test_accept_key_is_that_of_the_rfc() -> None:
    assert accept_key("dGhlIHNhbXBsZSBub25jZQ==") == "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="


def connect(stream: WebSocketServer) -> socket.socket:
    """Return a connection after its handshake and greeting."""
    client = socket.create_connection(("127.0.0.1", stream.port), timeout=5)
    client.sendall(
        b"GET / HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: keep-alive, Upgrade\r\n"
        b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
    )
    received = b""
    while frame(1, b"first") not in received:
        received += client.recv(1000)
    assert received.startswith(b"HTTP/1.1 101 ")
    return client


@pytest.mark.parametrize(
    ("request_head", "status"),
    [
        (b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", b"426"),
        (b"POST / HTTP/1.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n", b"426"),
        (b"\xff\x00 rubbish\r\n\r\n", b"426"),
    ],
)
def test_other_requests_get_a_status(stream: WebSocketServer, request_head: bytes, status: bytes) -> None:
    with socket.create_connection(("127.0.0.1", stream.port), timeout=5) as client:
        client.sendall(request_head)
        assert client.recv(1000).split()[1] == status


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"\x81\x01x", 1002),  # not masked
        (b"\xc1\x81\0\0\0\0x", 1002),  # a reserved bit
        (b"\x89\xfe\x01\x00\0\0\0\0", 1002),  # a long ping
        (b"\x82\xff" + struct.pack(">Q", 2**40) + b"\0\0\0\0", 1009),
        (b"\x88\x82\0\0\0\0\x03\xe8", 1000),  # close is answered
    ],
)
def test_frame_that_breaks_the_protocol_closes_with_its_code(stream: WebSocketServer, data: bytes, code: int) -> None:
    with connect(stream) as client:
        client.sendall(data)
        answer = client.recv(1000)
        assert answer[0] == 0x88
        assert struct.unpack(">H", answer[2:4]) == (code,)
        assert client.recv(1000) == b""


def test_client_that_does_not_read_is_disconnected_without_delay(stream: WebSocketServer) -> None:
    with connect(stream), connect(stream) as reader:
        for _ in range(200):
            stream.broadcast("x" * 50_000)
            received = 0
            while received < 50_004:
                received += len(reader.recv(65536))


def test_number_of_clients_is_limited(stream: WebSocketServer) -> None:
    clients = [connect(stream) for _ in range(MAX_CLIENTS)]
    with socket.create_connection(("127.0.0.1", stream.port), timeout=5) as client:
        assert client.recv(100) == b""
    for connection in clients:
        connection.close()
