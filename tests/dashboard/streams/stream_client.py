"""Clients of live streams over real sockets, for tests."""

import json
import time
from http.client import HTTPConnection, HTTPResponse
from typing import Any
from urllib.parse import urlencode

import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect

from tests.conftest import ApiClient

TIMEOUT = 10  # seconds


def subscribe(caller: ApiClient, **filters: Any) -> str:
    """Create a subscription and return its ID."""
    response = caller.post("subscribe", {"max_frequency": 100, **filters})
    assert response.status == 201, response.raw
    return response.json["subscription_id"]


def open_stream(
    caller: ApiClient, subscription_id: str, origin: str | None = None, **parameters: str
) -> ClientConnection:
    """Open the WebSocket of a subscription with the credentials of a client."""
    return open_path(caller, f"/ws/telemetry/{subscription_id}", origin, **parameters)


def open_path(caller: ApiClient, path: str, origin: str | None = None, **parameters: str) -> ClientConnection:
    query = f"?{urlencode(parameters)}" if parameters else ""
    return connect(
        f"ws://127.0.0.1:{caller.port}{path}{query}",
        additional_headers=caller.headers,
        origin=origin,
        compression=None,
    )


def receive(socket: ClientConnection, kind: str, timeout: float = TIMEOUT) -> dict[str, Any]:
    """Return the next frame of a type; other frames are skipped."""
    deadline = time.monotonic() + timeout
    while True:
        message = json.loads(socket.recv(deadline - time.monotonic()))
        if message["type"] == kind:
            return message


def closed_with(socket: ClientConnection, timeout: float = TIMEOUT) -> dict[str, Any]:
    """Return the error frame with which the site closes the socket; its code is the close code."""
    deadline = time.monotonic() + timeout
    last: dict[str, Any] = {}
    with pytest.raises(ConnectionClosed):
        while True:
            last = json.loads(socket.recv(deadline - time.monotonic()))
    assert last.get("type") == "error", last
    assert last["code"] == socket.close_code
    assert last["detail"]
    assert isinstance(last["retry"], bool)
    return last


def values_of(frame: dict[str, Any]) -> list[tuple[str, str, Any]]:
    return [(value["device_id"], value["metric_name"], value["value"]) for value in frame["values"]]


class EventStream:
    """A stream of server-sent events; `fields` are those of the last event."""

    def __init__(self, caller: ApiClient, path: str, **headers: str) -> None:
        self.connection = HTTPConnection("127.0.0.1", caller.port, timeout=TIMEOUT)
        sent = caller.headers | {name.replace("_", "-"): value for name, value in headers.items()}
        self.connection.request("GET", path, headers=sent)
        self.response: HTTPResponse = self.connection.getresponse()
        self.fields: dict[str, str] = {}

    def __enter__(self) -> "EventStream":
        return self

    def __exit__(self, *_: object) -> None:
        self.connection.close()

    def next(self) -> dict[str, Any] | None:
        """Return the data of the next event; None at the end of the stream."""
        self.fields = {}
        while line := self.response.readline().decode():
            if line == "\n":
                if "data" in self.fields:
                    return json.loads(self.fields["data"])
                continue
            name, _, value = line.rstrip("\n").partition(": ")
            self.fields[name] = value
        return None
