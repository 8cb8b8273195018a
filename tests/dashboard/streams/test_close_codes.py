"""Every close code of live streams, provoked over real sockets."""

import contextlib
import json
import logging
import socket as sockets
import time
from collections import Counter
from typing import Any

import pytest
from django.contrib.auth import get_user_model
from django.contrib.sessions.models import Session
from django.db import OperationalError, connection
from django.utils import timezone
from websockets.exceptions import ConnectionClosed

from dashboard.models import Subscription, Ticket
from dashboard.streams import close_codes, data_subscription, open_sessions, session, socket_writer, tickets
from dashboard.streams.access import CredentialAccess
from dashboard.streams.close_codes import CloseReason
from dashboard.streams.session import StreamSession
from ingest.identity import keys, service_tokens, tokens
from ingest.identity.trusted_issuers import Service
from ingest.models import ApiKey
from metrics.error_responses import DATABASE_UNAVAILABLE
from metrics.storage.errors import StorageUnavailable
from metrics.streams.encoding import SeriesValue
from metrics.streams.feeds import FeedKey
from rest.caller import Caller
from telemetry_site import websocket_protocol
from telemetry_site.log_format import JSONFormatter
from tests.conftest import ApiClient, point
from tests.dashboard.streams.stream_client import EventStream, closed_with, open_path, open_stream, receive, subscribe
from tests.telemetry_site.site_process import wait_until

UPGRADE = (
    "Upgrade: websocket",
    "Connection: Upgrade",
    "Sec-WebSocket-Version: 13",
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
)


@pytest.fixture(autouse=True)
def fast_close(monkeypatch: pytest.MonkeyPatch) -> None:
    """Cut a connection soon whose client does not answer a close; clients that broke the protocol do not."""
    monkeypatch.setattr(websocket_protocol, "CLOSE_TIMEOUT", 0.5)


@pytest.fixture
def fast_checks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Check open streams more often."""
    monkeypatch.setattr(open_sessions, "TICK", 0.02)


def ticket_of(caller: ApiClient) -> str:
    response = caller.post("tickets", {})
    assert response.status == 201
    assert response.json["expires_in"] == 30
    assert response.headers["Cache-Control"] == "no-store"
    return response.json["ticket"]


def without_credentials(caller: ApiClient) -> ApiClient:
    return ApiClient(caller.port, {})


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


# --- 4001 -------------------------------------------------------------------------------------------


def test_anonymous_stream_is_closed_with_4001(anonymous: ApiClient):
    with open_stream(anonymous, "sub_x") as socket:
        assert closed_with(socket)["code"] == 4001


def test_wrong_key_and_credentials_in_the_url_are_closed_with_4001(reader: ApiClient, anonymous: ApiClient):
    with open_stream(ApiClient(reader.port, {"X-Api-Key": "tk_wrong"}), "sub_x") as socket:
        assert closed_with(socket)["code"] == 4001
    identity, key = subscribe(reader), reader.headers["X-Api-Key"]
    for name in ("token", "api_key", "access_token", "X-Api-Key", "ticket"):
        with open_stream(anonymous, identity, **{name: key}) as socket:
            assert closed_with(socket)["code"] == 4001


@pytest.mark.parametrize("kind", ["key", "session", "token"])
def test_ticket_opens_one_stream(reader: ApiClient, viewer: ApiClient, kind: str):
    token = tokens.issue_for_user(get_user_model().objects.get(username="viewer")).access_token
    caller = {"key": reader, "session": viewer, "token": ApiClient(reader.port, {"Authorization": f"Bearer {token}"})}[
        kind
    ]
    identity, ticket, client = subscribe(caller), ticket_of(caller), without_credentials(caller)
    with open_stream(client, identity, ticket=ticket, origin="https://elsewhere.example") as socket:
        receive(socket, "snapshot")
        with open_stream(client, identity, ticket=ticket) as replayed:
            assert closed_with(replayed) | {"detail": ""} == {
                "type": "error", "code": 4001, "detail": "", "retry": False, "retry_after_ms": None,
            }  # fmt: skip


def test_expired_ticket_is_closed_with_4001(reader: ApiClient):
    ticket = ticket_of(reader)
    Ticket.objects.update(expires_at=timezone.now())
    with open_stream(without_credentials(reader), subscribe(reader), ticket=ticket) as socket:
        assert closed_with(socket)["code"] == 4001


def test_stolen_ticket_has_the_rights_of_its_owner_only(reader: ApiClient, admin: ApiClient):
    """The ticket decides, not the other credentials of the request."""
    with open_stream(admin, subscribe(admin), ticket=ticket_of(reader)) as socket:
        assert closed_with(socket)["code"] == 4004


def test_ticket_of_an_ended_session_or_revoked_key_is_closed_with_4001(reader: ApiClient, viewer: ApiClient):
    issued = [(viewer, ticket_of(viewer)), (reader, ticket_of(reader))]
    Session.objects.all().delete()
    keys.revoke(ApiKey.objects.get())
    for caller, ticket in issued:
        with open_stream(without_credentials(caller), "sub_x", ticket=ticket) as socket:
            assert closed_with(socket)["code"] == 4001


def test_only_the_hash_of_a_ticket_is_stored_and_unused_tickets_are_deleted(reader: ApiClient):
    ticket = ticket_of(reader)
    with connection.cursor() as cursor:
        cursor.execute("SELECT dashboard_ticket::text FROM dashboard_ticket")
        [(row,)] = cursor.fetchall()
    assert ticket not in row
    assert reader.headers["X-Api-Key"] not in row
    assert tickets.delete_expired() == 0
    Ticket.objects.update(expires_at=timezone.now())
    assert tickets.delete_expired() == 1


@pytest.mark.slow
def test_expired_token_closes_the_stream_with_4001(site: None, web_port: int, settings: Any, fast_checks: None):
    settings.ACCESS_TOKEN_SECONDS = 2
    user = get_user_model().objects.create_superuser("root")
    caller = ApiClient(web_port, {"Authorization": f"Bearer {tokens.issue_for_user(user).access_token}"})
    with open_stream(caller, subscribe(caller)) as socket:
        receive(socket, "snapshot")
        assert closed_with(socket)["code"] == 4001


@pytest.mark.slow
def test_service_token_opens_one_stream_until_it_expires(site: None, web_port: int, settings: Any, fast_checks: None):
    settings.SERVICES = {"wall": Service("s" * 32, "read")}

    def service() -> ApiClient:
        return ApiClient(web_port, {"Authorization": f"Bearer {service_tokens.make('wall', 3)}"})

    identity, caller = subscribe(service()), service()
    with open_stream(caller, identity) as socket:
        receive(socket, "snapshot")
        with open_stream(caller, identity) as second:
            assert closed_with(second)["code"] == 4001
        assert closed_with(socket)["code"] == 4001


# --- 4003 -------------------------------------------------------------------------------------------


def test_session_of_another_origin_is_closed_with_4003(viewer: ApiClient):
    identity, port = subscribe(viewer), viewer.port
    own = f"http://127.0.0.1:{port}"
    for origin in (
        "https://evil.example",
        f"https://127.0.0.1:{port}",
        "http://127.0.0.1:1",
        "null",
        f"{own}.evil.example",
    ):
        with open_stream(viewer, identity, origin) as socket:
            assert closed_with(socket)["code"] == 4003
    with open_stream(viewer, identity, own) as socket:
        receive(socket, "snapshot")


def test_cookie_that_is_no_session_key_is_closed_with_4001(anonymous: ApiClient, settings: Any):
    for value in (r'"\000"', "x" * 3000, "é", ""):
        caller = ApiClient(anonymous.port, {"Cookie": f"{settings.SESSION_COOKIE_NAME}={value}"})
        with open_stream(caller, "sub_x") as socket:
            assert closed_with(socket)["code"] == 4001


def test_ingest_key_is_closed_with_4003(gateway: ApiClient):
    with open_stream(gateway, "sub_x") as socket:
        assert closed_with(socket)["code"] == 4003


@pytest.mark.slow
@pytest.mark.parametrize("change", ["disabled", "deleted", "signed out", "password"])
def test_user_who_lost_access_is_closed_with_4003(viewer: ApiClient, fast_checks: None, change: str):
    user = get_user_model().objects.get(username="viewer")
    with open_stream(viewer, subscribe(viewer)) as socket:
        receive(socket, "snapshot")
        match change:
            case "disabled":
                user.is_active = False
                user.save()
            case "deleted":
                user.delete()
            case "signed out":
                Session.objects.all().delete()
            case "password":
                user.set_password("another long password")
                user.save()
        assert closed_with(socket)["code"] == 4003


@pytest.mark.parametrize("opened_by", ["key", "ticket"])
def test_revoked_key_is_closed_with_4003(reader: ApiClient, fast_checks: None, opened_by: str):
    identity = subscribe(reader)
    ticket = {"ticket": ticket_of(reader)} if opened_by == "ticket" else {}
    with open_stream(without_credentials(reader) if ticket else reader, identity, **ticket) as socket:
        receive(socket, "snapshot")
        keys.revoke(ApiKey.objects.get())
        error = closed_with(socket)
        assert (error["code"], error["retry"]) == (4003, False)


def test_rights_are_checked_within_60_seconds():
    assert open_sessions.RIGHTS_PERIOD * open_sessions.TICK <= 30


# --- 4004 -------------------------------------------------------------------------------------------


def test_unknown_address_subscription_and_expired_subscription_are_closed_with_4004(reader: ApiClient):
    for path in ("/ws/unknown", "/ws/telemetry/", "/ws/telemetry/sub_unknown", "/ws/telemetry/%00"):
        with open_path(reader, path) as socket:
            assert closed_with(socket)["code"] == 4004
    identity = subscribe(reader)
    Subscription.objects.update(expires_at=timezone.now())
    with open_stream(reader, identity) as socket:
        assert closed_with(socket)["code"] == 4004


@pytest.mark.slow
def test_cancelled_subscription_closes_its_streams_with_4004(reader: ApiClient):
    identity, other = subscribe(reader), subscribe(reader)
    with open_stream(reader, identity) as socket, open_stream(reader, other) as other_socket:
        receive(socket, "snapshot")
        receive(other_socket, "snapshot")
        response = reader.call("DELETE", f"subscribe/{identity}")
        assert (response.status, response.json["success"]) == (200, True)
        error = closed_with(socket)
        assert (error["code"], error["retry"]) == (4004, False)
        assert reader.call("DELETE", f"subscribe/{identity}").status == 404
        assert other_socket.state.name == "OPEN"


def test_subscription_cancelled_in_another_process_closes_its_streams(reader: ApiClient, fast_checks: None):
    identity = subscribe(reader)
    with open_stream(reader, identity) as socket:
        receive(socket, "snapshot")
        Subscription.objects.filter(pk=identity).delete()  # without a word to this process
        assert closed_with(socket)["code"] == 4004


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


# --- subscriptions ----------------------------------------------------------------------------------


def test_subscription_has_the_documented_fields(reader: ApiClient):
    response = reader.post(
        "subscribe", {"device_ids": ["device_001"], "metric_names": ["temperature"], "tags": {}, "max_frequency": 1000}
    )
    assert response.status == 201
    body = response.json
    identity = body["subscription_id"]
    assert identity.startswith("sub_")
    assert body["websocket_url"] == f"/ws/telemetry/{identity}"
    assert body["sse_url"] == f"/sse/telemetry/{identity}"
    assert set(body) == {"subscription_id", "message", "websocket_url", "sse_url", "expires_at"}


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"max_frequency": 99}, "max_frequency"),
        ({"max_frequency": 10_001}, "max_frequency"),
        ({"max_frequency": "fast"}, "max_frequency"),
        ({"device_ids": "a"}, "device_ids"),
        ({"device_ids": []}, "device_ids"),
        ({"device_ids": [1, {}]}, "device_ids"),
        ({"metric_names": ["x" * 201]}, "metric_names"),
        ({"groups": ["a\nb"]}, "groups"),
        ({"tags": []}, "tags"),
        ({"tags": {"a": [1]}}, "tags"),
        ({"devices": ["a"]}, "devices"),
    ],
)
def test_invalid_subscription_is_rejected_by_field(reader: ApiClient, body: dict[str, Any], field: str):
    response = reader.post("subscribe", body)
    assert response.status in (400, 422)
    assert any(error["field"].startswith(field) for error in response.json["errors"])


def test_caller_lists_and_cancels_only_its_own_subscriptions(reader: ApiClient, admin: ApiClient):
    identity = subscribe(reader, device_ids=["press"])
    [row] = reader.get("subscribe").json["subscriptions"]
    assert (row["subscription_id"], row["device_ids"], row["max_frequency"]) == (identity, ["press"], 100)
    assert admin.get("subscribe").json["subscriptions"] == []
    assert admin.call("DELETE", f"subscribe/{identity}").status == 404


def test_repeated_request_with_an_idempotency_key_creates_one_subscription(reader: ApiClient):
    answers = {reader.post("subscribe", {}, Idempotency_Key="once").json["subscription_id"] for _ in range(2)}
    assert len(answers) == 1
    assert Subscription.objects.count() == 1


def test_creation_and_cancellation_are_events_of_the_user(viewer: ApiClient):
    identity = subscribe(viewer, device_ids=["press"])
    viewer.call("DELETE", f"subscribe/{identity}")
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT type, subject, owner_id, data FROM metrics_event WHERE type LIKE 'subscription.%' ORDER BY id"
        )
        rows = cursor.fetchall()
    user = get_user_model().objects.get(username="viewer").pk
    assert [row[:3] for row in rows] == [
        (f"subscription.{what}", f"subscription/{identity}", user) for what in ("created", "cancelled")
    ]
    assert json.loads(rows[0][3])["device_ids"] == ["press"]


# --- logs -------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_logs_contain_neither_tickets_nor_keys(
    reader: ApiClient, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(logging.getLogger("uvicorn.error"), "level", logging.DEBUG)
    caplog.set_level(logging.INFO)
    identity, key = subscribe(reader), reader.headers["X-Api-Key"]
    used = [ticket_of(reader) for _ in range(4)]
    client = without_credentials(reader)
    with open_stream(client, identity, ticket=used[0]) as socket:
        receive(socket, "snapshot")
    with open_stream(client, "sub_unknown", ticket=used[1]) as socket:
        assert closed_with(socket)["code"] == 4004
    with EventStream(client, f"/sse/telemetry/{identity}?ticket={used[2]}") as stream:
        assert (stream.next() or {})["type"] == "snapshot"
    client.get(f"/ws/telemetry/{identity}?resume_from=x&ticket={used[3]}")  # not a WebSocket
    logged = "\n".join(JSONFormatter().format(record) for record in caplog.records)
    assert identity in logged
    for secret in (*used, key):
        assert secret not in logged
