"""Close codes 4001 and 4003 of live streams: credentials, tickets and rights, over real sockets."""

import logging
from typing import Any

import pytest
from django.contrib.auth import get_user_model
from django.contrib.sessions.models import Session
from django.db import connection
from django.utils import timezone

from dashboard.models import Ticket
from dashboard.streams import open_sessions, tickets
from ingest.identity import keys, service_tokens, tokens
from ingest.identity.trusted_issuers import Service
from ingest.models import ApiKey
from telemetry_site.log_format import JSONFormatter
from tests.conftest import ApiClient
from tests.dashboard.streams.stream_client import EventStream, closed_with, open_stream, receive, subscribe

pytestmark = pytest.mark.usefixtures("fast_close")


def ticket_of(caller: ApiClient) -> str:
    response = caller.post("tickets", {})
    assert response.status == 201
    assert response.json["expires_in"] == 30
    assert response.headers["Cache-Control"] == "no-store"
    return response.json["ticket"]


def without_credentials(caller: ApiClient) -> ApiClient:
    return ApiClient(caller.port, {})


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
