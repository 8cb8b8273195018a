"""Webhooks: SSRF guard, signature, timeouts and responses, over real sockets."""

import hashlib
import hmac
import ipaddress
import socket
import subprocess
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from alerts.models import Channel
from alerts.notifications import channel_lifecycle
from alerts.notifications.channels import webhook
from alerts.notifications.channels.transport import ChannelMessage, SendFailed
from rest.errors import InvalidFields
from rest.outgoing import http_connection, ssrf_guard
from telemetry_site.env import Environment
from tests.alerts.factories import create_webhook
from tests.alerts.receivers import WebhookReceiver, run_dripping_server, run_receiver

MESSAGE = ChannelMessage("dlv_1", "title", {"a": 1})


def send(url: str, secret: str = "") -> Any:
    return webhook.WebhookChannel().send(Channel(name="hook", kind="webhook", url=url, secret=secret), MESSAGE)


def get_check_error(url: str) -> str:
    (error,) = webhook.WebhookChannel().check(Channel(name="hook", kind="webhook", url=url))
    assert error[0] == "url"
    with pytest.raises(SendFailed) as raised:
        send(url)
    assert not raised.value.retry
    return error[1]


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1", "127.1", "2130706433", "0x7f000001", "0x7f.1", "017700000001", "localhost", "0.0.0.0", "0",
        "10.0.0.1", "172.16.5.4", "192.168.1.1", "169.254.1.1", "100.64.0.1", "100.127.255.254", "192.0.0.8",
        "192.88.99.1", "198.18.0.1", "192.0.2.7", "224.0.0.1", "239.1.1.1", "240.0.0.1", "255.255.255.255",
        "[::1]", "[::]", "[fe80::1]", "[fc00::1]", "[fd12::1]", "[fec0::1]", "[ff02::1]", "[::ffff:127.0.0.1]",
        "[::ffff:7f00:1]", "[::ffff:8.8.8.8]", "[::127.0.0.1]", "[64:ff9b::7f00:1]", "[64:ff9b:1::7f00:1]",
        "[2002:7f00:1::]", "[2001:0:7f00:1::]", "[2001:db8::1]", "[::ffff:0:127.0.0.1]",
    ],
)  # fmt: skip
def test_private_address_in_any_notation_is_rejected(host: str) -> None:
    assert "is not a public address: add its network to TELEMETRY_ALLOW_PRIVATE_WEBHOOKS" in get_check_error(
        f"http://{host}/"
    )


@pytest.mark.parametrize(
    "url",
    [
        "ftp://example.com/", "file:///etc/passwd", "gopher://example.com/", "http:///path", "http://", "example.com",
        "http://user:word@example.com/", "http://example.com:99999/", "http://example.com:0/", "http://exa mple.com/",
        "http://example.com/\r\nX: y", "http://example.com\\@127.0.0.1/", "http://exämple.com/", "http://[::1/",
        "https://" + "a" * 2000,
    ],
)  # fmt: skip
def test_invalid_webhook_url_is_rejected(url: str) -> None:
    assert "must be a URL such as https://example.com/path" in get_check_error(url)


@pytest.mark.slow
@given(st.ip_addresses())
def test_private_and_reserved_addresses_are_rejected(address: Any) -> None:
    try:
        ssrf_guard.check_addresses("host", [address], ssrf_guard.WEBHOOKS)
    except ssrf_guard.AddressForbidden:
        return
    assert not address.is_private
    assert not any((address.is_loopback, address.is_link_local, address.is_multicast, address.is_reserved))


@pytest.mark.parametrize("host", ["169.254.169.254", "[fd00:ec2::254]", "[::ffff:169.254.169.254]", "100.100.100.200"])
def test_metadata_service_is_rejected_although_its_network_is_allowed(host: str, settings: Any) -> None:
    settings.ALLOW_PRIVATE_WEBHOOKS = Environment({"X": "0.0.0.0/0, ::/0"}).networks("X")
    assert "is the metadata service of a cloud, which is never allowed" in get_check_error(f"http://{host}/")


@pytest.mark.parametrize("address", ["93.184.216.34", "8.8.8.8", "2606:2800:220:1:248:1893:25c8:1946"])
def test_public_address_is_accepted(address: str) -> None:
    ssrf_guard.check_addresses("host", [ipaddress.ip_address(address)], ssrf_guard.WEBHOOKS)


def test_name_with_one_private_address_is_rejected(monkeypatch: pytest.MonkeyPatch) -> None:
    addresses = [(2, 1, 6, "", ("93.184.216.34", 80)), (2, 1, 6, "", ("127.0.0.1", 80))]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *args: addresses)
    with pytest.raises(SendFailed, match="not a public address"):
        send("http://example.com/")


def test_dns_rebinding_does_not_change_the_checked_address(
    receiver: WebhookReceiver, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second DNS response has another address, but a request resolves the name only once."""
    settings.ALLOW_PRIVATE_WEBHOOKS = Environment({"X": "127.0.0.1/32"}).networks("X")
    getaddrinfo, resolved_hosts = socket.getaddrinfo, []

    def rebind(host: Any, port: Any, *args: Any) -> Any:
        if host != "rebind.example":
            return getaddrinfo(host, port, *args)
        resolved_hosts.append(host)
        return [(2, 1, 6, "", ("127.0.0.1" if len(resolved_hosts) == 1 else "127.0.0.2", port))]

    monkeypatch.setattr(socket, "getaddrinfo", rebind)
    assert send(f"http://rebind.example:{receiver.port}/x").status == 200
    assert resolved_hosts == ["rebind.example"]
    assert receiver.requests[0].headers["Host"] == f"rebind.example:{receiver.port}"
    with pytest.raises(SendFailed, match=r"rebind.example \(127.0.0.2\) is not a public address"):
        send(f"http://rebind.example:{receiver.port}/x")


def test_redirect_is_not_followed_and_fails(receiver: WebhookReceiver) -> None:
    with run_receiver() as redirect_target:
        receiver.reply = lambda request: (302, {"Location": redirect_target.url}, b"redirected")
        with pytest.raises(SendFailed, match="HTTP 302: redirects are not followed") as raised:
            send(receiver.url)
        assert not raised.value.retry
        assert not redirect_target.requests


def test_signature_covers_time_and_body(receiver: WebhookReceiver) -> None:
    send(receiver.url, "sesame")
    (request,) = receiver.requests
    timestamp_part, signature_part = request.headers["X-Telemetry-Signature"].split(",")
    timestamp = timestamp_part.removeprefix("t=")
    assert abs(time.time() - int(timestamp)) < 10
    expected = hmac.new(b"sesame", timestamp.encode() + b"." + request.body, hashlib.sha256).hexdigest()
    assert signature_part == f"v1={expected}"
    send(receiver.url)
    assert "X-Telemetry-Signature" not in receiver.requests[1].headers


def test_long_response_is_truncated(receiver: WebhookReceiver) -> None:
    receiver.reply = lambda request: (200, {}, b"\x00" + b"x" * 10_000_000)
    receipt = send(receiver.url)
    assert receipt.response == "�" + "x" * 999


def test_refused_connection_and_unknown_host_are_retried(receiver: WebhookReceiver) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    with pytest.raises(SendFailed, match="refused") as raised:
        send(f"http://127.0.0.1:{port}/")
    assert raised.value.retry
    with pytest.raises(SendFailed, match="cannot be resolved") as raised:
        send("http://nobody.invalid/")
    assert raised.value.retry


DRIPS = {
    "status line": b"",
    "headers": b"HTTP/1.1 500 broken\r\nX-Long: ",
    "body of a length": b"HTTP/1.1 500 broken\r\nContent-Length: 100000\r\n\r\n",
    "body up to the end of the connection": b"HTTP/1.1 500 broken\r\nConnection: close\r\n\r\n",
    "body of HTTP/1.0": b"HTTP/1.0 500 broken\r\n\r\n",
    "chunked body": b"HTTP/1.1 500 broken\r\nTransfer-Encoding: chunked\r\n\r\n",
}


@pytest.mark.slow
@pytest.mark.parametrize("head", DRIPS.values(), ids=DRIPS)
@pytest.mark.parametrize("scheme", ["http", "https"])
def test_dripping_response_ends_at_the_deadline(
    receiver: WebhookReceiver, scheme: str, head: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(webhook, "SEND_TIMEOUT", 0.5)
    with run_dripping_server(head) as port:
        started = time.monotonic()
        with pytest.raises(SendFailed) as raised:
            send(f"{scheme}://127.0.0.1:{port}/")
        assert raised.value.retry
        assert 0.4 < time.monotonic() - started < 2 or scheme == "https"  # TLS gives up earlier on a wrong record
        assert time.monotonic() - started < 2


@pytest.mark.slow
def test_dripping_tls_handshake_ends_at_the_deadline(
    receiver: WebhookReceiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(webhook, "SEND_TIMEOUT", 0.5)
    with run_dripping_server(b"\x16\x03\x03\x40\x00") as port:  # a handshake record of 16 KiB
        started = time.monotonic()
        with pytest.raises(SendFailed, match=r"no response within 0\.5 s"):
            send(f"https://127.0.0.1:{port}/")
        assert 0.4 < time.monotonic() - started < 2


@pytest.mark.slow
def test_accepted_webhook_is_not_repeated_because_its_body_drips(
    receiver: WebhookReceiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(webhook, "SEND_TIMEOUT", 0.5)
    with run_dripping_server(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n") as port:
        assert send(f"http://127.0.0.1:{port}/").status == 200


def test_certificate_must_be_trusted_and_match_the_host(
    receiver: WebhookReceiver, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With TLS the address is pinned too, and the certificate must match the host name."""
    import ssl
    from http.server import BaseHTTPRequestHandler, HTTPServer

    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
         "-days", "2", "-keyout", key, "-out", certificate, "-subj", "/CN=hook.example",
         "-addext", "subjectAltName=DNS:hook.example"],
        check=True, capture_output=True,
    )  # fmt: skip
    requested_hosts: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            requested_hosts.append(self.headers["Host"])
            self.send_response(204)
            self.end_headers()

        def log_message(self, *args: Any) -> None:
            pass

    getaddrinfo = socket.getaddrinfo
    monkeypatch.setattr(
        socket,
        "getaddrinfo",
        lambda host, *args: getaddrinfo("127.0.0.1" if host.endswith(".example") else host, *args),
    )
    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate, key)
        server.socket = context.wrap_socket(server.socket, server_side=True)
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        port = server.server_address[1]
        with pytest.raises(SendFailed, match="certificate"):
            send(f"https://hook.example:{port}/")
        trusting_context = ssl.create_default_context(cafile=str(certificate))
        monkeypatch.setattr(http_connection, "tls_context", lambda verify: trusting_context)
        assert send(f"https://hook.example:{port}/").status == 204
        with pytest.raises(SendFailed, match="certificate"):
            send(f"https://other.example:{port}/")
        server.shutdown()
    assert requested_hosts == [f"hook.example:{port}"]


def test_private_webhook_url_is_rejected_on_create_and_change(site: None, settings: Any) -> None:
    with pytest.raises(InvalidFields) as raised:
        create_webhook("http://169.254.169.254/latest/meta-data")
    assert [field for field, _ in raised.value.fields] == ["url"]
    channel = create_webhook("http://93.184.216.34/")
    with pytest.raises(InvalidFields):
        channel_lifecycle.change_channel(channel, {"url": "http://127.0.0.1/"})
    settings.ALLOW_PRIVATE_WEBHOOKS = Environment({"X": "127.0.0.0/8, fd00::/8"}).networks("X")
    assert channel_lifecycle.change_channel(channel, {"url": "http://127.0.0.1/"}).url == "http://127.0.0.1/"
    channel.refresh_from_db()
    assert channel.url == "http://127.0.0.1/"


@pytest.mark.parametrize(
    ("fields", "invalid_fields"),
    [
        ({"kind": "pigeon"}, ["kind"]),
        ({"kind": "webhook"}, ["url"]),
        ({"kind": "email", "addresses": ["nobody"]}, ["addresses"]),
        ({"kind": "email", "url": "https://example.com/"}, ["url", "addresses"]),
        ({"kind": "action", "action": "launch"}, ["action"]),
        ({"kind": "apprise", "url": "json://example.com/"}, ["url"]),
        ({"kind": "action", "action": "log_alert", "name": " ", "gather_seconds": -1}, ["name", "gather_seconds"]),
        ({"kind": "action", "action": "log_alert", "name": "taken"}, ["name"]),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, list) else None,
)
def test_invalid_channel_is_rejected_with_errors_by_field(
    site: None, fields: dict[str, Any], invalid_fields: list[str]
) -> None:
    channel_lifecycle.create_channel({"name": "taken", "kind": "action", "action": "log_alert"}, "user:admin")
    with pytest.raises(InvalidFields) as raised:
        channel_lifecycle.create_channel({"name": "hook"} | fields, "user:admin")
    assert [field for field, _ in raised.value.fields] == invalid_fields
