"""Tokens of an external issuer, whose keys come from a real HTTP server."""

import json
import socket
import threading
import time
from collections.abc import Iterator
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from jwt.algorithms import ECAlgorithm, RSAAlgorithm

from ingest.identity import issuer_tokens, jwks, trusted_issuers
from metrics.devices import group_membership
from metrics.models import Device, DeviceGroup
from metrics.storage import series_registry
from telemetry_site.env import Environment, InvalidSetting
from tests.conftest import ApiClient, point
from tests.ingest.credential_checks import assert_authorized, assert_unauthorized, with_token

NAME, AUDIENCE = "https://login.example", "telemetry"
RSA = rsa.generate_private_key(public_exponent=65537, key_size=2048)
EC, NEWER, STRANGER = (ec.generate_private_key(ec.SECP256R1()) for _ in range(3))


def jwk_of(kid: str, key: Any, **fields: Any) -> dict[str, Any]:
    """Return a public key as an issuer publishes it."""
    kind = RSAAlgorithm if isinstance(key, rsa.RSAPrivateKey) else ECAlgorithm
    return kind.to_jwk(key.public_key(), as_dict=True) | {"kid": kid, "use": "sig"} | fields


class IssuerServer:
    """A server that publishes keys, counts requests, and can be restarted at the same address."""

    def __init__(self) -> None:
        self.keys: list[dict[str, Any]] = [jwk_of("rsa", RSA), jwk_of("ec", EC)]
        self.fetch_count = 0
        self.port = 0
        self.body: bytes | None = None
        self.start()

    def start(self) -> None:
        issuer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                issuer.fetch_count += 1
                if self.path == "/moved":
                    self.send_response(302)
                    self.send_header("Location", "/keys")
                    self.end_headers()
                    return
                body = json.dumps({"keys": issuer.keys}).encode() if issuer.body is None else issuer.body
                self.send_response(200)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *args: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", self.port), Handler)
        self.port = self.server.server_port
        threading.Thread(target=self.server.serve_forever, args=(0.01,), daemon=True).start()

    def stop(self) -> None:
        self.server.shutdown()
        self.server.server_close()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/keys"


class Clock:
    """Clock for the age of cached keys."""

    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(issuer_tokens, "key_set_at", cache(lambda url: jwks.KeySet(url, clock=clock)))
    return clock


@pytest.fixture
def issuer(clock: Clock, settings: Any) -> Iterator[IssuerServer]:
    issuer = IssuerServer()
    settings.JWT_ISSUERS = (issuer_setting(issuer.url),)
    yield issuer
    issuer.stop()


def issuer_setting(url: str, **options: Any) -> trusted_issuers.Issuer:
    scopes = {"telemetry.admin": "admin", "telemetry.read": "read", "telemetry.send": "ingest"}
    return trusted_issuers.Issuer(NAME, AUDIENCE, url, ("RS256", "ES256"), scopes, **options)


def sign_token(
    claims: dict[str, Any] | None = None, key: Any = EC, algorithm: str = "ES256", kid: str | None = "ec"
) -> str:
    """Return a token of the issuer with changed claims; None removes a claim."""
    now = int(time.time())
    all_claims: dict[str, Any] = {"iss": NAME, "aud": AUDIENCE, "sub": "ana", "scope": "openid telemetry.admin"}
    all_claims |= {"iat": now, "exp": now + 300} | (claims or {})
    header = {} if kid is None else {"kid": kid}
    return jwt.encode({name: value for name, value in all_claims.items() if value is not None}, key, algorithm, header)


def test_token_of_a_configured_issuer_is_accepted(anonymous: ApiClient, issuer: IssuerServer) -> None:
    assert_authorized(with_token(anonymous, sign_token()))
    assert_authorized(with_token(anonymous, sign_token(key=RSA, algorithm="RS256", kid="rsa")))
    assert_authorized(with_token(anonymous, sign_token({"aud": ["other", AUDIENCE], "scope": ["telemetry.admin"]})))
    assert issuer.fetch_count == 1  # one request for the key set


def invalid_tokens() -> dict[str, str]:
    now = int(time.time())
    public_key = RSA.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    header, payload, _ = sign_token(kid="rsa").split(".")
    hmac = jwt.api_jws.PyJWS()._algorithms["HS256"]
    hs_header = jwt.utils.base64url_encode(b'{"alg":"HS256","typ":"JWT","kid":"rsa"}').decode()
    signature = jwt.utils.base64url_encode(hmac.sign(f"{hs_header}.{payload}".encode(), public_key)).decode()
    return {
        "alg=none": sign_token(key=None, algorithm="none"),
        "HS256 with the public key as the secret": f"{hs_header}.{payload}.{signature}",
        "an algorithm that is not pinned": sign_token(key=RSA, algorithm="RS512", kid="rsa"),
        "the algorithm of another key": sign_token(kid="rsa"),
        "a key that the issuer does not list": sign_token(key=STRANGER),
        "wrong audience": sign_token({"aud": "billing"}),
        "no audience": sign_token({"aud": None}),
        "wrong issuer": sign_token({"iss": "https://evil.example"}),
        "no issuer": sign_token({"iss": None}),
        "no claims": f"{header}.e30.x",
        "expired": sign_token({"exp": now - 30}),
        "no exp": sign_token({"exp": None}),
        "nbf in the future": sign_token({"nbf": now + 60}),
        "iat in the future": sign_token({"iat": now + 60}),
        "no subject": sign_token({"sub": None}),
        "control character in the subject": sign_token({"sub": "a\x00b"}),
        "no configured scope": sign_token({"scope": "openid admin"}),
        "no scope": sign_token({"scope": None}),
        "scope that is neither text nor list": sign_token({"scope": {"telemetry.admin": True}}),
        "unknown kid": sign_token(key=STRANGER, kid="evil"),
        "no kid": sign_token(kid=None),
    }


def test_token_that_differs_from_the_configuration_is_rejected(anonymous: ApiClient, issuer: IssuerServer) -> None:
    assert_authorized(with_token(anonymous, sign_token()))
    for case, token in invalid_tokens().items():
        assert_unauthorized(with_token(anonymous, token), case)


def test_key_inside_a_token_is_ignored(anonymous: ApiClient, issuer: IssuerServer) -> None:
    now = int(time.time())
    claims = {"iss": NAME, "aud": AUDIENCE, "sub": "x", "scope": "telemetry.admin", "exp": now + 60}
    headers: list[dict[str, Any]] = [{"jwk": jwk_of("evil", STRANGER)}, {"jku": f"http://127.0.0.1:{issuer.port}/evil"}]
    for header in headers:
        for kid in ("evil", "ec"):
            assert_unauthorized(with_token(anonymous, jwt.encode(claims, STRANGER, "ES256", header | {"kid": kid})))
    assert issuer.fetch_count == 1


def test_highest_scope_of_a_token_counts(anonymous: ApiClient, issuer: IssuerServer) -> None:
    reading_client = with_token(anonymous, sign_token({"scope": "telemetry.send telemetry.read"}))
    assert reading_client.get("metrics").status == 200
    sending_client = with_token(anonymous, sign_token({"scope": "telemetry.send"}))
    assert sending_client.post("devices/d/telemetry", point()).status == 200
    assert sending_client.get("metrics").status == 403


def test_roles_and_groups_are_read_from_the_configured_claims(
    anonymous: ApiClient, admin: ApiClient, issuer: IssuerServer, settings: Any
) -> None:
    settings.JWT_ISSUERS = (issuer_setting(issuer.url, scope_claim="roles", groups_claim="sites"),)
    assert admin.post("bulk", {"press": [point(value=1.0)], "oven": [point(value=2.0)]}).status == 200
    group = DeviceGroup.objects.create(name="site a")
    group_membership.add_devices(group, [Device.objects.get(device_id="press").pk])
    series_registry.refresh_registry()

    def client_with_claims(**claims: Any) -> ApiClient:
        return with_token(anonymous, sign_token({"scope": None} | claims))

    def visible_devices(caller: ApiClient) -> list[str]:
        return [row["device_id"] for row in caller.post("latest", {"metrics": ["temperature"]}).json["series"]]

    assert visible_devices(client_with_claims(roles=["telemetry.read"], sites=["site a", "nowhere"])) == ["press"]
    assert visible_devices(client_with_claims(roles=["telemetry.read"], sites=["nowhere"])) == []
    assert visible_devices(client_with_claims(roles=["telemetry.read"])) == []
    assert (
        visible_devices(client_with_claims(roles=["telemetry.read"], sites="site a")) == []
    )  # a string is not a list of groups
    sending_client = client_with_claims(roles=["telemetry.send"], sites=["site a"])
    assert sending_client.post("devices/press/telemetry", point()).status == 200
    assert sending_client.post("devices/oven/telemetry", point()).status == 403
    admin_client = client_with_claims(roles=["telemetry.admin"], sites=["site a"])
    assert admin_client.get("keys").status == 403  # a caller restricted to groups has no admin permissions


@pytest.mark.slow
def test_cached_keys_stay_valid_while_the_issuer_is_unreachable(
    anonymous: ApiClient, issuer: IssuerServer, clock: Clock
) -> None:
    assert_authorized(with_token(anonymous, sign_token()))
    issuer.stop()
    clock.now += jwks.MAX_KEY_AGE + 1
    assert_authorized(with_token(anonymous, sign_token({"jti": "new"})))  # a cached key
    for case, token in invalid_tokens().items():
        assert_unauthorized(with_token(anonymous, token), case)
    issuer.start()


def test_token_is_rejected_until_its_issuer_is_reached(
    anonymous: ApiClient, issuer: IssuerServer, clock: Clock
) -> None:
    issuer.stop()
    token = sign_token()
    assert_unauthorized(with_token(anonymous, token))
    issuer.start()
    assert_unauthorized(with_token(anonymous, token))  # the last fetch was a moment ago
    clock.now += jwks.MIN_FETCH_INTERVAL
    assert_authorized(with_token(anonymous, token))


def test_unknown_key_id_triggers_a_fetch_with_limited_frequency(
    anonymous: ApiClient, issuer: IssuerServer, clock: Clock
) -> None:
    assert_authorized(with_token(anonymous, sign_token()))
    issuer.keys = [jwk_of("newer", NEWER)]
    for kid in ("a", "b", "c"):
        assert_unauthorized(with_token(anonymous, sign_token(key=STRANGER, kid=kid)))
    assert issuer.fetch_count == 1
    clock.now += jwks.MIN_FETCH_INTERVAL
    assert_authorized(with_token(anonymous, sign_token(key=NEWER, kid="newer")))
    assert issuer.fetch_count == 2
    assert_unauthorized(with_token(anonymous, sign_token({"jti": "2"})))  # its key was withdrawn


def test_outdated_keys_are_renewed_in_the_background(issuer: IssuerServer, clock: Clock) -> None:
    keys = issuer_tokens.key_set_at(issuer.url)
    assert keys.key("ec") is not None
    issuer.keys = [jwk_of("newer", NEWER)]
    clock.now += jwks.MAX_KEY_AGE + 1
    assert keys.key("ec") is not None
    keys._done.wait(5)
    assert (issuer.fetch_count, keys.key("ec")) == (2, None)
    assert keys.key("newer") is not None


def test_cached_token_of_a_withdrawn_key_is_rejected(
    anonymous: ApiClient, issuer: IssuerServer, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(issuer_tokens, "MAX_KEY_AGE", -1.0)  # cached tokens expire at once
    client = with_token(anonymous, sign_token())
    assert_authorized(client)
    issuer.keys = [jwk_of("newer", NEWER)]
    clock.now += jwks.MAX_KEY_AGE + 1
    client.get("metrics")
    issuer_tokens.key_set_at(issuer.url)._done.wait(5)
    assert_unauthorized(client)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<html>",
        b"[]",
        b"{}",
        b'{"keys": 7}',
        b'{"keys": []}',
        b'{"keys": [7]}',
        b'{"keys": [{"kid": "ec", "kty": "oct", "k": "c2VjcmV0"}]}',
        b'{"keys": [{"kid": "ec", "kty": "EC"}]}',
        b'{"keys": "' + b"x" * jwks.MAX_KEY_SET_SIZE + b'"}',
        b"[" * 100_000,
    ],
)
def test_invalid_response_of_an_issuer_keeps_the_cached_keys(issuer: IssuerServer, clock: Clock, body: bytes) -> None:
    keys = issuer_tokens.key_set_at(issuer.url)
    cached_key = keys.key("ec")
    assert cached_key is not None
    issuer.body = body
    clock.now += jwks.MIN_FETCH_INTERVAL
    assert keys.key("unknown") is None
    assert issuer.fetch_count == 2
    assert keys.key("ec") is cached_key


def test_redirects_of_a_key_set_are_not_followed(issuer: IssuerServer, clock: Clock) -> None:
    assert issuer_tokens.key_set_at(issuer.url.replace("/keys", "/moved")).key("ec") is None
    assert issuer.fetch_count == 1


@pytest.mark.slow
def test_unresponsive_issuer_delays_no_other_request(
    anonymous: ApiClient, admin: ApiClient, clock: Clock, settings: Any
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        settings.JWT_ISSUERS = (issuer_setting(f"http://127.0.0.1:{silent.getsockname()[1]}/keys"),)
        client = with_token(anonymous, sign_token())
        statuses: list[int] = []

        def send_request() -> None:
            statuses.append(client.post("devices/d/telemetry", point()).status)

        threads = [threading.Thread(target=send_request) for _ in range(8)]
        started_at = time.monotonic()
        for thread in threads:
            thread.start()
        longest = 0.0
        while any(thread.is_alive() for thread in threads):
            series_registry.refresh_registry()
            sent_at = time.monotonic()
            assert admin.post("devices/d/telemetry", point()).status == 200
            longest = max(longest, time.monotonic() - sent_at)
            time.sleep(0.05)
        assert statuses == [401] * 8
        assert jwks.FETCH_TIMEOUT - 0.1 < time.monotonic() - started_at < 2 * jwks.FETCH_TIMEOUT
        assert longest < jwks.FETCH_TIMEOUT / 2


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"jwks_url": "http://login.example/keys"}, "jwks_url must be an https:// URL"),
        ({"jwks_url": "file:///etc/passwd"}, "jwks_url must be an https:// URL"),
        ({"jwks_url": "https://"}, "jwks_url must be an https:// URL"),
        ({"algorithms": ["HS256"]}, "Invalid enum value 'HS256'"),
        ({"algorithms": ["none"]}, "Invalid enum value 'none'"),
        ({"algorithms": []}, "must not be empty"),
        ({"audience": ""}, "must not be empty"),
        ({"scopes": {"a": "root"}}, "Invalid enum value 'root'"),
        ({"issuer": "telemetry-site"}, "differ from telemetry-site"),
        ({"jwks": "x"}, "unknown field `jwks`"),
    ],
)
def test_invalid_setting_is_reported_with_the_accepted_values(change: dict[str, Any], message: str) -> None:
    valid = {"issuer": NAME, "audience": AUDIENCE, "jwks_url": "https://login.example/keys", "algorithms": ["ES256"]}
    valid |= {"scopes": {"a": "read"}}
    assert trusted_issuers.parse_issuers(json.dumps([valid]))[0].algorithms == ("ES256",)
    assert trusted_issuers.parse_issuers(json.dumps([valid | {"jwks_url": "http://localhost:8080/keys"}]))
    environment = Environment({"TELEMETRY_JWT_ISSUERS": json.dumps([valid | change])})
    with pytest.raises(InvalidSetting) as raised:
        environment.parsed("TELEMETRY_JWT_ISSUERS", trusted_issuers.parse_issuers, "[]")
    assert message in str(raised.value)
    with pytest.raises(ValueError, match="issuer names must be unique"):
        trusted_issuers.parse_issuers(json.dumps([valid, valid]))
