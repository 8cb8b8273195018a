"""The live stream over real sockets."""

import asyncio
import json
import time
from typing import Any

import pytest
from channels.layers import get_channel_layer
from django.contrib.auth import get_user_model
from django.contrib.sessions.models import Session
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection, connect

from dashboard import consumers
from dashboard.live_subscription import is_same_site
from ingest.identity import keys, service_tokens, tokens
from ingest.identity.trusted_issuers import Service
from ingest.models import ApiKey
from metrics.devices import group_membership
from metrics.models import Device, DeviceGroup
from metrics.storage import series_registry
from tests.conftest import ApiClient, person, point, with_token

TIMEOUT = 10


@pytest.fixture
def admin_session(admin_user: Any, gateway: ApiClient) -> ApiClient:
    return person(gateway.port, admin_user)


def open_socket(caller: ApiClient, origin: str | None = None) -> ClientConnection:
    headers = {"Cookie": caller.headers["Cookie"]} if "Cookie" in caller.headers else {}
    return connect(
        f"ws://127.0.0.1:{caller.port}/ws/values",
        additional_headers=headers,
        origin=f"http://127.0.0.1:{caller.port}" if origin is None else origin,
        compression=None,
    )


def receive(socket: ClientConnection, kind: str) -> dict[str, Any]:
    """Return the next message of a type; the timeout applies to the whole wait, since heartbeats go on."""
    deadline = time.monotonic() + TIMEOUT
    while True:
        message = json.loads(socket.recv(deadline - time.monotonic()))
        if message["type"] == kind:
            return message


def subscribe(socket: ClientConnection, **filters: Any) -> dict[str, Any]:
    """Subscribe and return the snapshot."""
    socket.send(json.dumps({"type": "subscribe", "max_frequency": 250, **filters}))
    return receive(socket, "snapshot")


def test_anonymous_socket_is_closed(anonymous: ApiClient):
    with open_socket(anonymous) as socket:
        with pytest.raises(ConnectionClosed):
            socket.recv(TIMEOUT)
        assert socket.close_code == consumers.NOT_SIGNED_IN


def test_socket_of_another_origin_is_rejected(admin_session: ApiClient):
    other_scheme = f"https://127.0.0.1:{admin_session.port}"
    for origin in ("https://evil.example", "http://127.0.0.1:1", "null", "http://127.0.0.1.evil.example", other_scheme):
        with pytest.raises(InvalidStatus) as raised:
            open_socket(admin_session, origin)
        assert raised.value.response.status_code == 403


@pytest.mark.parametrize(
    ("scheme", "forwarded", "behind_proxy", "origin", "expected"),
    [
        ("ws", "", False, "http://site.example", True),
        ("ws", "", False, "https://site.example", False),
        ("wss", "", False, "https://site.example", True),
        ("wss", "", False, "http://site.example", False),
        ("ws", "https", True, "https://site.example", True),
        ("ws", "https", True, "http://site.example", False),
        ("ws", "https", False, "https://site.example", False),  # only a proxy's word counts
        ("ws", "https", True, "https://site.example:8443", False),
        ("ws", "", False, "https://TRUSTED.example", True),
        ("ws", "", False, "http://trusted.example", False),
        ("ws", "", False, "http://site.example/path", False),
        ("ws", "", False, "null", False),
    ],
)
def test_origin_has_the_scheme_and_the_host_of_the_request(
    scheme: str, forwarded: str, behind_proxy: bool, origin: str, expected: bool
):
    headers = [(b"host", b"Site.example"), (b"origin", origin.encode())]
    headers += [(b"x-forwarded-proto", forwarded.encode())] if forwarded else []
    scope = {"headers": headers, "scheme": scheme}
    assert is_same_site(scope, ["https://trusted.example"], behind_proxy) is expected


def test_stored_point_is_sent(admin_session: ApiClient, gateway: ApiClient):
    with open_socket(admin_session) as socket:
        subscribe(socket, devices=["cold-room-07"])
        assert gateway.post("devices/cold-room-07/telemetry", point("temperature", 4.5, unit="°C")).status == 200
        [[device, metric, ms, value, unit]] = receive(socket, "points")["points"]
        assert (device, metric, value, unit) == ("cold-room-07", "temperature", 4.5, "°C")
        assert abs(time.time() * 1000 - ms) < 10_000


def test_stream_starts_with_a_snapshot(admin_session: ApiClient, gateway: ApiClient):
    assert gateway.post("devices/cold-room-07/telemetry", point("door_open", True)).status == 200
    with open_socket(admin_session) as socket:
        [snapshot_point] = subscribe(socket, devices=["cold-room-07", "nobody"])["points"]
        assert snapshot_point[:2] + snapshot_point[3:4] == ["cold-room-07", "door_open", True]


def test_only_subscribed_series_are_sent(admin_session: ApiClient, gateway: ApiClient):
    with open_socket(admin_session) as socket:
        subscribe(socket, devices=["a"], metrics=["temperature"])
        for device, metric in (("b", "temperature"), ("a", "humidity"), ("a", "temperature")):
            assert gateway.post(f"devices/{device}/telemetry", point(metric, 1)).status == 200
        [[device, metric, *_]] = receive(socket, "points")["points"]
        assert (device, metric) == ("a", "temperature")


INVALID_MESSAGES = [
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


def test_invalid_message_gets_an_error_and_the_socket_stays_open(admin_session: ApiClient, gateway: ApiClient):
    with open_socket(admin_session) as socket:
        for message in INVALID_MESSAGES:
            socket.send(message)
            assert receive(socket, "error")["detail"]
        subscribe(socket, devices=["a"])
        assert gateway.post("devices/a/telemetry", point("temperature", 1)).status == 200
        assert receive(socket, "points")


def test_new_subscription_replaces_the_old_one(admin_session: ApiClient, gateway: ApiClient):
    with open_socket(admin_session) as socket:
        subscribe(socket, devices=["a"])
        subscribe(socket, devices=["b"])
        for device in ("a", "b"):
            assert gateway.post(f"devices/{device}/telemetry", point("temperature", 1)).status == 200
        assert {row[0] for row in receive(socket, "points")["points"]} == {"b"}


@pytest.mark.slow
def test_deleted_session_closes_the_socket(admin_session: ApiClient, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(consumers, "HEARTBEAT_S", 0.05)
    with open_socket(admin_session) as socket:
        receive(socket, "heartbeat")
        Session.objects.all().delete()
        with pytest.raises(ConnectionClosed):
            while True:
                socket.recv(TIMEOUT)
        assert socket.close_code == consumers.NOT_SIGNED_IN


@pytest.mark.slow
def test_idle_socket_stays_open(admin_session: ApiClient, gateway: ApiClient, monkeypatch: pytest.MonkeyPatch):
    """The default Channels layer closes consumers that are idle for 5 s under redis-py 8."""
    monkeypatch.setattr(consumers, "HEARTBEAT_S", 5.5)
    with open_socket(admin_session) as socket:
        receive(socket, "heartbeat")
        subscribe(socket, devices=["a"])
        receive(socket, "heartbeat")  # no other message in between
        assert gateway.post("devices/a/telemetry", point("temperature", 1)).status == 200
        assert receive(socket, "points")


@pytest.mark.slow
def test_channel_layer_waits_longer_than_five_seconds():
    async def wait_and_receive() -> dict[str, Any]:
        layer = get_channel_layer()
        assert layer is not None
        name = await layer.new_channel()
        waiting = asyncio.ensure_future(layer.receive(name))
        done, _ = await asyncio.wait([waiting], timeout=5.5)
        assert not done, "the layer stopped waiting"
        await layer.send(name, {"type": "test.message"})
        return await asyncio.wait_for(waiting, TIMEOUT)

    assert asyncio.run(wait_and_receive()) == {"type": "test.message"}


def open_socket_with(port: int, **headers: str) -> ClientConnection:
    """Open a socket as a program does: without cookie and Origin."""
    header_fields = {name.replace("_", "-"): value for name, value in headers.items()}
    return connect(f"ws://127.0.0.1:{port}/ws/values", additional_headers=header_fields, compression=None)


def close_code(socket: ClientConnection) -> int | None:
    """Return the code with which the site closes the socket, after any other messages."""
    deadline = time.monotonic() + TIMEOUT
    with pytest.raises(ConnectionClosed):
        while True:
            socket.recv(deadline - time.monotonic())
    return socket.close_code


@pytest.mark.parametrize("header", ["X_Api_Key", "Authorization"])
def test_api_key_in_a_header_is_accepted(gateway: ApiClient, reader: ApiClient, header: str):
    key = reader.headers["X-Api-Key"]
    with open_socket_with(reader.port, **{header: key if header == "X_Api_Key" else f"Bearer {key}"}) as socket:
        subscribe(socket)
        assert gateway.post("devices/cold-room-07/telemetry", point("temperature", 4.5)).status == 200
        assert receive(socket, "points")["points"][0][:2] == ["cold-room-07", "temperature"]


@pytest.mark.slow
def test_socket_closes_when_its_token_expires(
    site: None, web_port: int, settings: Any, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(consumers, "HEARTBEAT_S", 0.1)
    settings.ACCESS_TOKEN_SECONDS = 2
    user = get_user_model().objects.create_superuser("root")
    token = tokens.issue_for_user(user).access_token
    with open_socket_with(web_port, Authorization=f"Bearer {token}") as socket:
        subscribe(socket)
        started = time.monotonic()
        assert close_code(socket) == consumers.NOT_SIGNED_IN
        assert 0.5 < time.monotonic() - started < 4


@pytest.mark.slow
def test_socket_closes_when_its_key_or_token_is_revoked(reader: ApiClient, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(consumers, "HEARTBEAT_S", 0.1)
    key_tokens = tokens.issue_for_key(ApiKey.objects.get())
    with (
        open_socket_with(reader.port, X_Api_Key=reader.headers["X-Api-Key"]) as by_key,
        open_socket_with(reader.port, Authorization=f"Bearer {key_tokens.access_token}") as by_token,
    ):
        for socket in (by_key, by_token):
            subscribe(socket)
        tokens.revoke(key_tokens.refresh_token)
        assert close_code(by_token) == consumers.NOT_SIGNED_IN
        receive(by_key, "heartbeat")
        keys.revoke(ApiKey.objects.get())
        assert close_code(by_key) == consumers.NOT_SIGNED_IN


@pytest.mark.slow
def test_service_token_opens_one_socket_until_it_expires(
    site: None, web_port: int, settings: Any, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(consumers, "HEARTBEAT_S", 0.05)
    settings.SERVICES = {"wall": Service("s" * 32, "read")}
    token = service_tokens.make("wall", 3)
    with open_socket_with(web_port, Authorization=f"Bearer {token}") as socket:
        subscribe(socket)
        for _ in range(5):
            receive(socket, "heartbeat")
        with open_socket_with(web_port, Authorization=f"Bearer {token}") as second_socket:
            assert close_code(second_socket) == consumers.NOT_SIGNED_IN
        assert close_code(socket) == consumers.NOT_SIGNED_IN


def test_wrong_key_ingest_key_and_token_in_url_are_rejected(
    reader: ApiClient, gateway: ApiClient, anonymous: ApiClient
):
    with open_socket_with(reader.port, X_Api_Key="tk_wrong") as socket:
        assert close_code(socket) == consumers.NOT_SIGNED_IN
    with open_socket_with(reader.port, X_Api_Key=gateway.headers["X-Api-Key"]) as socket:
        assert close_code(socket) == consumers.MAY_NOT_READ
    key = reader.headers["X-Api-Key"]
    for name in ("token", "api_key", "access_token", "X-Api-Key"):
        with connect(f"ws://127.0.0.1:{reader.port}/ws/values?{name}={key}", compression=None) as socket:
            assert close_code(socket) == consumers.NOT_SIGNED_IN
    with open_socket_with(reader.port, X_Internal_Call="true") as socket:
        assert close_code(socket) == consumers.NOT_SIGNED_IN


def test_bound_keys_receive_only_their_devices(gateway: ApiClient, device: ApiClient):
    assert gateway.post("bulk", {"device_001": [point()], "press": [point()], "oven": [point()]}).status == 200
    group = DeviceGroup.objects.create(name="site a")
    group_membership.add_devices(group, [Device.objects.get(device_id="press").pk])
    series_registry.refresh_registry()
    group_key = ApiKey.issue("wall", "read", group=group)[1]
    for key, expected_device in ((device.headers["X-Api-Key"], "device_001"), (group_key, "press")):
        with open_socket_with(gateway.port, X_Api_Key=key) as socket:
            assert {row[0] for row in subscribe(socket)["points"]} == {expected_device}
            assert {row[0] for row in subscribe(socket, devices=["oven", expected_device])["points"]} == {
                expected_device
            }
            body = {name: [point(value=7.0)] for name in ("oven", "press", "device_001")}
            assert gateway.post("bulk", body).status == 200
            assert {row[0] for row in receive(socket, "points")["points"]} == {expected_device}


def devices_sent(socket: ClientConnection, gateway: ApiClient, devices: list[str]) -> set[str]:
    """Send a point of each device; return the devices of the values that the socket receives until the last one."""
    sent_devices: set[str] = set()
    assert gateway.post("bulk", {name: [point(value=1.0)] for name in devices}).status == 200
    while devices[-1] not in sent_devices:
        sent_devices |= {row[0] for row in receive(socket, "points")["points"]}
    return sent_devices


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["session", "key", "token"])
def test_device_that_leaves_the_group_leaves_the_stream(
    gateway: ApiClient, viewer: ApiClient, monkeypatch: pytest.MonkeyPatch, kind: str
):
    monkeypatch.setattr(consumers, "HEARTBEAT_S", 0.1)
    assert gateway.post("bulk", {name: [point()] for name in ("oven", "press")}).status == 200
    oven, press = Device.objects.order_by("device_id")
    group = DeviceGroup.objects.get(name="site a")
    group_membership.add_devices(group, [oven.pk, press.pk])
    headers = {
        "session": {"Cookie": viewer.headers["Cookie"]},
        "key": {"X-Api-Key": ApiKey.issue("wall", "read", group=group)[1]},
        "token": with_token(viewer.port, "viewer").headers,
    }[kind]
    with connect(f"ws://127.0.0.1:{viewer.port}/ws/values", additional_headers=headers, compression=None) as socket:
        subscribe(socket)
        assert devices_sent(socket, gateway, ["oven", "press"]) == {"oven", "press"}
        group_membership.remove_devices(group, [oven.pk])
        time.sleep(1.5)
        assert devices_sent(socket, gateway, ["oven", "press"]) == {"press"}
        group_membership.add_devices(group, [oven.pk])
        time.sleep(1.5)
        assert devices_sent(socket, gateway, ["press", "oven"]) == {"oven", "press"}


@pytest.mark.slow
def test_user_who_leaves_the_group_receives_no_more_values(
    gateway: ApiClient, viewer: ApiClient, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(consumers, "HEARTBEAT_S", 0.1)
    assert gateway.post("bulk", {name: [point()] for name in ("oven", "press")}).status == 200
    oven, press = Device.objects.order_by("device_id")
    group = DeviceGroup.objects.get(name="site a")
    group_membership.add_devices(group, [oven.pk])
    others = DeviceGroup.objects.create(name="site b")
    group_membership.add_devices(others, [press.pk])
    user = get_user_model().objects.get(username="viewer")
    others.members.add(user)
    with open_socket(viewer) as socket:
        subscribe(socket)
        assert devices_sent(socket, gateway, ["oven", "press"]) == {"oven", "press"}
        group.members.remove(user)
        time.sleep(1.5)
        assert devices_sent(socket, gateway, ["oven", "press"]) == {"press"}
