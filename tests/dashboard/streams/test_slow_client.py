"""A client that does not read is closed soon, and reads why once it reads again."""

import base64
import json
import os
import socket
import struct
from collections.abc import Iterator
from contextlib import contextmanager

import psutil
import pytest

from dashboard.streams import socket_writer
from dashboard.streams.close_codes import TOO_SLOW
from telemetry_site import websocket_protocol
from telemetry_site.middleware.websocket_count import WebSocketCount
from tests.conftest import ApiClient, point
from tests.dashboard.streams.stream_client import subscribe
from tests.telemetry_site.site_process import wait_until

SERIES = 1_000
CLOSE = 8  # opcode


@contextmanager
def open_silent_socket(caller: ApiClient, path: str) -> Iterator[socket.socket]:
    """Open a WebSocket with a small receive buffer, and read only the answer to its handshake."""
    key = base64.b64encode(os.urandom(16)).decode()
    headers = {"Host": "127.0.0.1", "Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Version": "13"}
    headers |= {"Sec-WebSocket-Key": key, **caller.headers}
    lines = [f"GET {path} HTTP/1.1", *(f"{name}: {value}" for name, value in headers.items()), "", ""]
    with socket.socket() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.settimeout(20)
        connection.connect(("127.0.0.1", caller.port))
        connection.sendall("\r\n".join(lines).encode())
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            head += connection.recv(1)
        assert head.startswith(b"HTTP/1.1 101"), head
        yield connection


def read_frames(connection: socket.socket) -> list[tuple[int, bytes]]:
    """Read until the server ends the connection; return the (opcode, payload) of each frame."""
    data = bytearray()
    while part := connection.recv(65536):
        data += part
    frames = []
    while data:
        size, start = data[1] & 0x7F, 2
        if size >= 126:
            kind, start = ("!H", 4) if size == 126 else ("!Q", 10)
            [size] = struct.unpack_from(kind, data, 2)
        frames.append((data[0] & 0x0F, bytes(data[start : start + size])))
        del data[: start + size]
    return frames


def _server_has_connection(client_port: int) -> bool:
    """Return whether the server, which runs in this process, still holds its end of a connection."""
    connections = psutil.Process().net_connections("tcp4")
    return any(each.raddr and each.raddr.port == client_port for each in connections)


@pytest.mark.slow
def test_client_that_reads_again_after_it_was_closed_reads_the_reason(
    reader: ApiClient, gateway: ApiClient, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(socket_writer, "SEND_TIMEOUT", 0.5)
    monkeypatch.setattr(websocket_protocol, "CLOSE_TIMEOUT", 0.5)
    with open_silent_socket(reader, f"/ws/telemetry/{subscribe(reader)}") as connection:
        wait_until(lambda: WebSocketCount.open == 1, 10, "the stream is open")

        def send_until_closed() -> bool:
            points = [point(f"m{number}", 1.5) for number in range(SERIES)]
            assert gateway.post("devices/d/telemetry/batch", {"data_points": points}).status == 200
            return WebSocketCount.open == 0

        wait_until(send_until_closed, 60, "the site closes the stream")
        port = connection.getsockname()[1]
        wait_until(lambda: not _server_has_connection(port), 10, "the connection is cut")
        frames = read_frames(connection)
    assert json.loads(frames[-2][1]) == json.loads(TOO_SLOW.frame)
    assert frames[-1] == (CLOSE, struct.pack("!H", TOO_SLOW.code) + TOO_SLOW.close_text.encode())
