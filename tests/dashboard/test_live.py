"""The live stream over real sockets."""

import asyncio
import json
import time
from collections.abc import Callable
from typing import Any

import pytest
from channels.layers import get_channel_layer
from django.contrib.auth import get_user_model
from django.contrib.sessions.models import Session
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection, connect

from dashboard import consumers
from ingest.identity import keys, service_tokens, tokens
from ingest.identity.trusted_issuers import Service
from ingest.models import ApiKey
from metrics.devices import group_membership
from metrics.models import Device, DeviceGroup
from metrics.storage import series_registry
from tests.conftest import ApiClient, person, point

PATIENCE = 10
Open = Callable[..., ClientConnection]


@pytest.fixture
def reader_of_pages(mei: Any, gateway: ApiClient) -> ApiClient:
    return person(gateway.port, mei)


def live(caller: ApiClient, origin: str | None = None) -> ClientConnection:
    headers = {"Cookie": caller.headers["Cookie"]} if "Cookie" in caller.headers else {}
    return connect(
        f"ws://127.0.0.1:{caller.port}/ws/live",
        additional_headers=headers,
        origin=f"http://127.0.0.1:{caller.port}" if origin is None else origin,
        compression=None,
    )


def hear(socket: ClientConnection, kind: str) -> dict[str, Any]:
    """The next message of a kind. Heartbeats come for ever, so what counts is the time until it."""
    deadline = time.monotonic() + PATIENCE
    while True:
        message = json.loads(socket.recv(deadline - time.monotonic()))
        if message["type"] == kind:
            return message


def subscribe(socket: ClientConnection, **wanted: Any) -> dict[str, Any]:
    """Ask, and be told what is true now."""
    socket.send(json.dumps({"type": "subscribe", "max_frequency": 250, **wanted}))
    return hear(socket, "snapshot")


def test_nobody_listens_without_signing_in(anonymous: ApiClient):
    with live(anonymous) as socket:
        with pytest.raises(ConnectionClosed):
            socket.recv(PATIENCE)
        assert socket.close_code == consumers.NOT_SIGNED_IN


def test_a_page_of_another_site_may_not_listen_with_our_cookies(reader_of_pages: ApiClient):
    for origin in ("https://evil.example", "http://127.0.0.1:1", "null", "http://127.0.0.1.evil.example"):
        with pytest.raises(InvalidStatus) as refused:
            live(reader_of_pages, origin)
        assert refused.value.response.status_code == 403


def test_a_value_arrives_after_it_was_stored(reader_of_pages: ApiClient, gateway: ApiClient):
    with live(reader_of_pages) as socket:
        subscribe(socket, devices=["cold-room-07"])
        assert gateway.post("devices/cold-room-07/telemetry", point("temperature", 4.5, unit="°C")).status == 200
        [[device, metric, ms, value, unit]] = hear(socket, "points")["points"]
        assert (device, metric, value, unit) == ("cold-room-07", "temperature", 4.5, "°C")
        assert abs(time.time() * 1000 - ms) < 10_000


def test_the_stream_begins_with_what_is_true(reader_of_pages: ApiClient, gateway: ApiClient):
    assert gateway.post("devices/cold-room-07/telemetry", point("door_open", True)).status == 200
    with live(reader_of_pages) as socket:
        [told] = subscribe(socket, devices=["cold-room-07", "nobody"])["points"]
        assert told[:2] + told[3:4] == ["cold-room-07", "door_open", True]


def test_only_what_was_asked_for_is_told(reader_of_pages: ApiClient, gateway: ApiClient):
    with live(reader_of_pages) as socket:
        subscribe(socket, devices=["a"], metrics=["temperature"])
        for device, metric in (("b", "temperature"), ("a", "humidity"), ("a", "temperature")):
            assert gateway.post(f"devices/{device}/telemetry", point(metric, 1)).status == 200
        [[device, metric, *_]] = hear(socket, "points")["points"]
        assert (device, metric) == ("a", "temperature")


NONSENSE = [
    "x",
    "[]",
    "{}",
    '{"type": "subscribe", "devices": "a"}',
    '{"type": "subscribe", "devices": [1]}',
    '{"type": "subscribe", "metrics": ["' + "x" * 201 + '"]}',
    '{"type": "subscribe", "max_frequency": 1}',
    '{"type": "subscribe", "max_frequency": true}',
    "[" * 5000,
]


def test_what_cannot_be_followed_is_answered_and_the_socket_stays(reader_of_pages: ApiClient, gateway: ApiClient):
    with live(reader_of_pages) as socket:
        for message in NONSENSE:
            socket.send(message)
            assert hear(socket, "error")["detail"]
        subscribe(socket, devices=["a"])
        assert gateway.post("devices/a/telemetry", point("temperature", 1)).status == 200
        assert hear(socket, "points")


def test_a_new_request_takes_the_place_of_the_old(reader_of_pages: ApiClient, gateway: ApiClient):
    with live(reader_of_pages) as socket:
        subscribe(socket, devices=["a"])
        subscribe(socket, devices=["b"])
        for device in ("a", "b"):
            assert gateway.post(f"devices/{device}/telemetry", point("temperature", 1)).status == 200
        assert {p[0] for p in hear(socket, "points")["points"]} == {"b"}


def test_signing_out_ends_the_stream(reader_of_pages: ApiClient, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(consumers, "HEARTBEAT_S", 0.05)
    with live(reader_of_pages) as socket:
        hear(socket, "heartbeat")
        Session.objects.all().delete()
        with pytest.raises(ConnectionClosed):
            while True:
                socket.recv(PATIENCE)
        assert socket.close_code == consumers.NOT_SIGNED_IN


def test_an_idle_socket_lives_on(reader_of_pages: ApiClient, gateway: ApiClient, monkeypatch: pytest.MonkeyPatch):
    """Under redis-py 8 the usual Channels layer ends consumers that were idle for 5 s."""
    monkeypatch.setattr(consumers, "HEARTBEAT_S", 5.5)
    with live(reader_of_pages) as socket:
        hear(socket, "heartbeat")
        subscribe(socket, devices=["a"])
        hear(socket, "heartbeat")  # nothing at all passed in between
        assert gateway.post("devices/a/telemetry", point("temperature", 1)).status == 200
        assert hear(socket, "points")


def test_the_channel_layer_outlives_five_idle_seconds():
    async def wait_and_receive() -> dict[str, Any]:
        layer = get_channel_layer()
        assert layer is not None
        name = await layer.new_channel()
        waiting = asyncio.ensure_future(layer.receive(name))
        done, _ = await asyncio.wait([waiting], timeout=5.5)
        assert not done, "the layer gave up waiting"
        await layer.send(name, {"type": "word"})
        return await asyncio.wait_for(waiting, PATIENCE)

    assert asyncio.run(wait_and_receive()) == {"type": "word"}


def live_with(port: int, **headers: str) -> ClientConnection:
    """A program's socket: no browser, no cookie, no Origin."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return connect(f"ws://127.0.0.1:{port}/ws/live", additional_headers=named, compression=None)


def close_code(socket: ClientConnection) -> int | None:
    """With what the site closes the socket, whatever it says before."""
    deadline = time.monotonic() + PATIENCE
    with pytest.raises(ConnectionClosed):
        while True:
            socket.recv(deadline - time.monotonic())
    return socket.close_code


@pytest.mark.parametrize("header", ["X_Api_Key", "Authorization"])
def test_a_program_listens_with_a_key_in_a_header(gateway: ApiClient, reader: ApiClient, header: str):
    key = reader.headers["X-Api-Key"]
    with live_with(reader.port, **{header: key if header == "X_Api_Key" else f"Bearer {key}"}) as socket:
        subscribe(socket)
        assert gateway.post("devices/cold-room-07/telemetry", point("temperature", 4.5)).status == 200
        assert hear(socket, "points")["points"][0][:2] == ["cold-room-07", "temperature"]


def test_a_program_listens_with_a_token_until_that_ends(
    site: None, web_port: int, settings: Any, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(consumers, "HEARTBEAT_S", 0.1)
    settings.ACCESS_TOKEN_SECONDS = 2
    person = get_user_model().objects.create_superuser("root")
    token = tokens.issue_for_user(person).access_token
    with live_with(web_port, Authorization=f"Bearer {token}") as socket:
        subscribe(socket)
        begun = time.monotonic()
        assert close_code(socket) == consumers.NOT_SIGNED_IN
        assert 0.5 < time.monotonic() - begun < 4


def test_a_socket_closes_when_its_key_or_token_is_revoked(reader: ApiClient, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(consumers, "HEARTBEAT_S", 0.1)
    given = tokens.issue_for_key(ApiKey.objects.get())
    with (
        live_with(reader.port, X_Api_Key=reader.headers["X-Api-Key"]) as by_key,
        live_with(reader.port, Authorization=f"Bearer {given.access_token}") as by_token,
    ):
        for socket in (by_key, by_token):
            subscribe(socket)
        tokens.revoke(given.refresh_token)
        assert close_code(by_token) == consumers.NOT_SIGNED_IN
        hear(by_key, "heartbeat")
        keys.revoke(ApiKey.objects.get())
        assert close_code(by_key) == consumers.NOT_SIGNED_IN


def test_a_service_token_opens_one_socket_which_stays_open_while_it_lives(
    site: None, web_port: int, settings: Any, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(consumers, "HEARTBEAT_S", 0.05)
    settings.SERVICES = {"wall": Service("s" * 32, "read")}
    token = service_tokens.make("wall", 3)
    with live_with(web_port, Authorization=f"Bearer {token}") as socket:
        subscribe(socket)
        for _ in range(5):
            hear(socket, "heartbeat")
        with live_with(web_port, Authorization=f"Bearer {token}") as again:
            assert close_code(again) == consumers.NOT_SIGNED_IN
        assert close_code(socket) == consumers.NOT_SIGNED_IN


def test_a_wrong_key_a_key_that_only_sends_and_a_token_in_the_address_do_not_listen(
    reader: ApiClient, gateway: ApiClient, anonymous: ApiClient
):
    with live_with(reader.port, X_Api_Key="tk_wrong") as socket:
        assert close_code(socket) == consumers.NOT_SIGNED_IN
    with live_with(reader.port, X_Api_Key=gateway.headers["X-Api-Key"]) as socket:
        assert close_code(socket) == consumers.MAY_NOT_READ
    key = reader.headers["X-Api-Key"]
    for name in ("token", "api_key", "access_token", "X-Api-Key"):
        with connect(f"ws://127.0.0.1:{reader.port}/ws/live?{name}={key}", compression=None) as socket:
            assert close_code(socket) == consumers.NOT_SIGNED_IN
    with live_with(reader.port, X_Internal_Call="true") as socket:
        assert close_code(socket) == consumers.NOT_SIGNED_IN


def test_keys_hear_of_the_devices_that_they_are_bound_to_alone(gateway: ApiClient, device: ApiClient):
    assert gateway.post("bulk", {"device_001": [point()], "press": [point()], "oven": [point()]}).status == 200
    group = DeviceGroup.objects.create(name="site a")
    group_membership.add_devices(group, [Device.objects.get(device_id="press").pk])
    series_registry.refresh_registry()
    of_group = ApiKey.issue("wall", "read", group=group)[1]
    for key, heard in ((device.headers["X-Api-Key"], "device_001"), (of_group, "press")):
        with live_with(gateway.port, X_Api_Key=key) as socket:
            assert {one[0] for one in subscribe(socket)["points"]} == {heard}
            assert {one[0] for one in subscribe(socket, devices=["oven", heard])["points"]} == {heard}
            body = {name: [point(value=7.0)] for name in ("oven", "press", "device_001")}
            assert gateway.post("bulk", body).status == 200
            assert {one[0] for one in hear(socket, "points")["points"]} == {heard}
