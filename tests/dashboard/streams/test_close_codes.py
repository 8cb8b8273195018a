"""Close codes of live streams for failures, slow clients, limits and invalid messages, over real sockets."""

import contextlib
import socket as sockets
import time
from collections import Counter

import pytest
from django.db import OperationalError
from websockets.exceptions import ConnectionClosed

from dashboard.streams import close_codes, data_subscription, open_sessions, session, socket_writer
from dashboard.streams.access import CredentialAccess
from dashboard.streams.close_codes import CloseReason
from dashboard.streams.session import StreamSession
from metrics.error_responses import DATABASE_UNAVAILABLE
from metrics.storage.errors import StorageUnavailable
from metrics.streams.encoding import SeriesValue
from metrics.streams.feeds import FeedKey
from rest.caller import Caller
from tests.conftest import ApiClient, point
from tests.dashboard.streams.stream_client import EventStream, closed_with, open_stream, receive, subscribe
from tests.telemetry_site.site_process import wait_until

pytestmark = pytest.mark.usefixtures("fast_close")

UPGRADE = (
    "Upgrade: websocket",
    "Connection: Upgrade",
    "Sec-WebSocket-Version: 13",
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
)


# --- 1011 -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("error", "detail"),
    [
        (StorageUnavailable("the database cannot be reached"), "the database cannot be reached"),
        (OperationalError("host=10.0.0.1 password=secret"), DATABASE_UNAVAILABLE),
        (RuntimeError("password=secret"), close_codes.FAILED.detail),
    ],
    ids=["storage", "database", "bug"],
)
def test_stream_whose_snapshot_cannot_be_read_is_closed_with_1011(
    reader: ApiClient, monkeypatch: pytest.MonkeyPatch, error: Exception, detail: str
):
    def fail(key: FeedKey) -> list[SeriesValue]:
        raise error

    monkeypatch.setattr(data_subscription, "read_snapshot", fail)
    expected = {"type": "error", "code": 1011, "detail": detail, "retry": True, "retry_after_ms": 5000}
    identity = subscribe(reader)
    with open_stream(reader, identity) as socket:
        assert closed_with(socket) == expected
    with EventStream(reader, f"/sse/telemetry/{identity}") as stream:
        assert stream.next() == expected
        assert (stream.fields["event"], stream.fields["retry"]) == ("error", "5000")
        assert stream.next() is None


@pytest.mark.slow
def test_streams_are_closed_with_1011_when_their_rights_cannot_be_read_for_long(
    reader: ApiClient, admin: ApiClient, fast_checks: None, monkeypatch: pytest.MonkeyPatch
):
    counts: Counter[str] = Counter()

    def fail(access: CredentialAccess, caller: Caller) -> Caller | None:
        counts["checks"] += 1
        raise OperationalError

    def count_failure(sessions: open_sessions.OpenSessions) -> None:
        counts["rounds"] += 1
        check_failed(sessions)

    check_failed = open_sessions.OpenSessions._check_failed
    monkeypatch.setattr(open_sessions.OpenSessions, "_check_failed", count_failure)
    monkeypatch.setattr(open_sessions, "MAX_UNCHECKED", 0.2)
    with open_stream(reader, subscribe(reader)) as socket, open_stream(admin, subscribe(admin)) as other:
        receive(socket, "snapshot")
        receive(other, "snapshot")
        monkeypatch.setattr(CredentialAccess, "renew", fail)
        for stream in (socket, other):
            error = closed_with(stream)
            assert (error["code"], error["detail"], error["retry"]) == (1011, DATABASE_UNAVAILABLE, True)
    # Each check may wait for a database that does not answer: one per round, not one per caller.
    assert counts["checks"] == counts["rounds"]


# --- 4008 -------------------------------------------------------------------------------------------


def open_silent(caller: ApiClient, identity: str, prefix: str = "/ws/telemetry/") -> sockets.socket:
    """Open a stream with a small receive buffer, and read nothing but the response's first bytes."""
    silent = sockets.socket()
    silent.setsockopt(sockets.SOL_SOCKET, sockets.SO_RCVBUF, 4096)
    silent.settimeout(30)
    silent.connect(("127.0.0.1", caller.port))
    request = [
        f"GET {prefix}{identity} HTTP/1.1", "Host: x", *(UPGRADE if prefix.startswith("/ws/") else ()),
        f"X-Api-Key: {caller.headers['X-Api-Key']}", "", "",
    ]  # fmt: skip
    silent.sendall("\r\n".join(request).encode())
    assert silent.recv(9) == b"HTTP/1.1 "
    return silent


@pytest.mark.slow
def test_client_that_never_reads_is_closed_with_4008(
    reader: ApiClient, gateway: ApiClient, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(socket_writer, "SEND_TIMEOUT", 0.5)
    body = [point(f"metric {number}", "x" * 1000) for number in range(500)]
    identity = subscribe(reader)
    with contextlib.closing(open_silent(reader, identity)) as silent, open_stream(reader, subscribe(reader)) as reading:
        receive(reading, "snapshot")
        deadline = time.monotonic() + 20
        while len(open_sessions.open_sessions()) > 1:
            assert time.monotonic() < deadline, "the silent client is still open"
            assert gateway.post("devices/press/telemetry/batch", {"data_points": body}).status == 200
            receive(reading, "points")
        received = b"".join(iter(lambda: silent.recv(65536), b""))
        assert b'"code":4008' in received[-500:]
        assert reading.state.name == "OPEN"


@pytest.mark.slow
def test_client_of_server_sent_events_that_never_reads_is_closed_with_4008(
    reader: ApiClient, gateway: ApiClient, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(socket_writer, "SEND_TIMEOUT", 0.5)
    ended: list[CloseReason | None] = []
    end = StreamSession.end

    def record_end(stream: StreamSession, reason: CloseReason | None) -> None:
        ended.append(reason)
        end(stream, reason)

    monkeypatch.setattr(StreamSession, "end", record_end)
    body = [point(f"metric {number}", "x" * 1000) for number in range(500)]
    with contextlib.closing(open_silent(reader, subscribe(reader), "/sse/telemetry/")) as silent:
        wait_until(lambda: len(open_sessions.open_sessions()) == 1, 10, "the stream is open")

        def send_until_closed() -> bool:
            assert gateway.post("devices/press/telemetry/batch", {"data_points": body}).status == 200
            return len(open_sessions.open_sessions()) == 0

        wait_until(send_until_closed, 20, "the site closes the stream")
        received = b"".join(iter(lambda: silent.recv(65536), b""))
    assert ended[0] == close_codes.TOO_SLOW
    assert b'"code":4008' in received[-500:]
    assert received.endswith(b"0\r\n\r\n")


# --- 4009, 4013 and 4029 ----------------------------------------------------------------------------


def test_more_streams_than_allowed_are_closed_with_4009(
    reader: ApiClient, admin: ApiClient, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(open_sessions, "MAX_STREAMS", 2)
    identity = subscribe(reader)
    with contextlib.ExitStack() as stack:
        for _ in range(2):
            receive(stack.enter_context(open_stream(reader, identity)), "snapshot")
        with open_stream(reader, identity) as third:
            assert closed_with(third)["code"] == 4009
        receive(stack.enter_context(open_stream(admin, subscribe(admin))), "snapshot")  # another caller
    assert close_codes.TOO_MANY_STREAMS.retry is False


@pytest.mark.slow
@pytest.mark.parametrize(
    "message", ["x", "[]", "1", b"{}", "[" * 5000, '"' + "x" * 70_000 + '"', b"x" * 70_000, '{"a": NaN}'],
    ids=["text", "list", "number", "binary", "deep", "oversized", "oversized binary", "NaN"],
)  # fmt: skip
def test_message_that_is_no_small_json_object_is_closed_with_4013(reader: ApiClient, message: str | bytes):
    with open_stream(reader, subscribe(reader)) as socket:
        receive(socket, "snapshot")
        with contextlib.suppress(ConnectionClosed):
            socket.send(message)
        error = closed_with(socket)
        assert (error["code"], error["retry"]) == (4013, False)


@pytest.mark.slow
@pytest.mark.parametrize("frame", [b"\xf1\x80\x00\x00\x00\x00", b"\x81\x01x", b"\x81\x81\x00\x00\x00\x00\xff"])
def test_frame_that_breaks_the_protocol_is_closed_with_4013(reader: ApiClient, frame: bytes):
    with open_stream(reader, subscribe(reader)) as socket:
        receive(socket, "snapshot")
        socket.socket.sendall(frame)
        assert closed_with(socket)["code"] == 4013


def test_other_messages_are_answered_and_the_tenth_closes_with_4013(reader: ApiClient):
    with open_stream(reader, subscribe(reader)) as socket:
        receive(socket, "snapshot")
        socket.send('{"type": "pong"}')
        socket.send('{"type": "subscribe"}')
        error = receive(socket, "error")
        assert error["code"] is None
        assert "type" in error["detail"]
        for _ in range(session.MAX_INVALID_MESSAGES - 1):
            socket.send("{}")
        assert closed_with(socket)["code"] == 4013


def test_flood_is_closed_with_4029(reader: ApiClient):
    with open_stream(reader, subscribe(reader)) as socket:
        receive(socket, "snapshot")
        with contextlib.suppress(ConnectionClosed):
            for _ in range(51):
                socket.send('{"type": "pong"}')
        error = closed_with(socket)
        assert error["code"] == 4029
        assert error["retry"] is True
        assert error["retry_after_ms"] > 0
