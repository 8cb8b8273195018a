"""The site's own tokens: sign-in with a password or a key, refresh and revocation."""

import time
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import jwt
import pytest
from django.contrib.auth import get_user_model
from django.contrib.auth.models import Group
from django.utils import timezone

from ingest.identity import tokens
from ingest.identity.models import TokenFamily
from ingest.models import ApiKey
from ingest.tasks import forget_expired_tokens
from metrics.devices import group_membership
from metrics.models import AuditEntry, Device, DeviceGroup, Revision
from metrics.storage import series_registry
from rest.caller import OPERATORS
from tests.conftest import API, ApiClient, ApiResponse, point
from tests.ingest.credential_checks import (
    ENDPOINTS,
    assert_authorized,
    assert_unauthorized,
    with_token,
    without_request_id,
)

PASSWORD = "correct horse battery staple"


@pytest.fixture(autouse=True)
def fast_password_hasher(settings: Any) -> None:
    """Use a fast hasher: the default needs half a second per password."""
    settings.PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]


@pytest.fixture
def root(site: None) -> Any:
    return get_user_model().objects.create_superuser("root", password=PASSWORD)


@pytest.fixture
def ana(site: None) -> Any:
    """A viewer of `site a`."""
    user = get_user_model().objects.create_user("ana", password=PASSWORD)
    DeviceGroup.objects.get_or_create(name="site a")[0].members.add(user)
    return user


def sign_in(caller: ApiClient, username: str = "root", password: str = PASSWORD) -> ApiResponse:
    return caller.post("/api/v1/auth/token", {"grant_type": "password", "username": username, "password": password})


def renew(caller: ApiClient, refresh_token: str) -> ApiResponse:
    return caller.post("/api/v1/auth/refresh", {"refresh_token": refresh_token})


def sign_token(claims: dict[str, Any], **options: Any) -> str:
    """Return a token like the site's own with changed claims; None removes a claim."""
    family = TokenFamily.objects.get()
    now = int(time.time())
    all_claims = {"iss": "telemetry-site", "aud": "telemetry-api", "sub": "user:root", "scope": "admin"}
    all_claims |= {"family": family.pk, "jti": "1", "iat": now, "exp": now + 60} | claims
    arguments = {"key": tokens._signing_key(), "algorithm": "HS256"} | options
    return jwt.encode({name: value for name, value in all_claims.items() if value is not None}, **arguments)


@pytest.mark.parametrize("prefix", ["/api/v1", API])
def test_password_sign_in_returns_tokens_that_are_accepted(anonymous: ApiClient, root: Any, prefix: str) -> None:
    body = {"grant_type": "password", "username": "root", "password": PASSWORD}
    response = anonymous.post(f"{prefix}/auth/token", body)
    assert response.status == 200
    assert response.headers["Cache-Control"] == "no-store"
    body_of_tokens = response.json
    assert set(body_of_tokens) == {"access_token", "token_type", "expires_in", "refresh_token", "refresh_expires_in"}
    assert (body_of_tokens["token_type"], body_of_tokens["expires_in"]) == ("bearer", 900)
    assert 14 * 86400 - 5 <= body_of_tokens["refresh_expires_in"] <= 14 * 86400
    assert_authorized(with_token(anonymous, body_of_tokens["access_token"]))
    assert_authorized(ApiClient(anonymous.port, {"X-Api-Key": body_of_tokens["access_token"]}))


def test_tokens_of_a_key_have_the_rights_of_the_key(admin: ApiClient, device: ApiClient) -> None:
    body = {"grant_type": "api_key", "api_key": device.headers["X-Api-Key"]}
    response = ApiClient(admin.port, {}).post("/api/v1/auth/token", body)
    assert response.status == 200
    client = with_token(admin, response.json["access_token"])
    assert client.post("devices/device_001/telemetry", point()).status == 200
    assert client.post("devices/device_002/telemetry", point()).status == 403
    assert client.get("keys").status == 403


def test_failed_sign_ins_get_the_same_response(anonymous: ApiClient, root: Any, ana: Any) -> None:
    get_user_model().objects.filter(pk=ana.pk).update(is_active=False)
    responses = [
        sign_in(anonymous, *credentials) for credentials in (("root", "wrong"), ("nobody", PASSWORD), ("ana", PASSWORD))
    ]
    assert {response.status for response in responses} == {401}
    assert without_request_id(responses[0]) == without_request_id(responses[1]) == without_request_id(responses[2])
    assert {response.headers["WWW-Authenticate"] for response in responses} == {'Bearer realm="telemetry"'}
    assert not TokenFamily.objects.exists()


def test_too_many_failed_sign_ins_are_rejected_with_retry_after(anonymous: ApiClient, root: Any) -> None:
    responses = [sign_in(anonymous, password="wrong") for _ in range(11)]
    assert [response.status for response in responses] == [401] * 10 + [429]
    assert int(responses[-1].headers["Retry-After"]) > 0
    assert "too many failed sign-ins" in responses[-1].json["detail"]
    assert sign_in(anonymous).status == 429  # also with the right password


@pytest.mark.parametrize("flaw", ["expired", "revoked", "unknown"])
def test_invalid_key_is_not_exchanged(admin: ApiClient, flaw: str) -> None:
    key, text = ApiKey.issue("k", "read")
    past = timezone.now() - timedelta(seconds=1)
    ApiKey.objects.filter(pk=key.pk).update(
        **{"expired": {"expires_at": past}, "revoked": {"revoked_at": past}}.get(flaw, {})
    )
    body = {"grant_type": "api_key", "api_key": text if flaw != "unknown" else text + "x"}
    response = ApiClient(admin.port, {}).post("/api/v1/auth/token", body)
    assert (response.status, response.headers["WWW-Authenticate"]) == (401, 'Bearer realm="telemetry"')


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "grant_type"),
        ({"grant_type": "implicit"}, "grant_type"),
        ({"grant_type": "password", "username": "root"}, "password"),
        ({"grant_type": "password", "username": "a\x00b", "password": "x"}, "username"),
        ({"grant_type": "password", "username": "root", "password": "x" * 1025}, "password"),
        ({"grant_type": "api_key"}, "api_key"),
        ({"grant_type": "api_key", "api_key": "x", "scope": "admin"}, "scope"),
        ([1], "non_field_errors"),
    ],
)
def test_invalid_token_request_reports_the_field(anonymous: ApiClient, body: Any, field: str) -> None:
    response = anonymous.post("/api/v1/auth/token", body)
    assert (response.status, response.json["errors"][0]["field"]) == (422 if field == "scope" else 400, field)


def invalid_tokens(valid: dict[str, Any]) -> dict[str, str]:
    """Return invalid tokens by their flaw."""
    now = int(time.time())
    header, payload, signature = valid["access_token"].split(".")
    other_parts = jwt.encode({"a": 1}, tokens._signing_key(), "HS256").split(".")
    return {
        "alg=none": sign_token({}, key=None, algorithm="none"),
        "alg=none with the signature of a valid token": f"{sign_token({}, key=None, algorithm='none')}{signature}",
        "another algorithm": sign_token({}, algorithm="HS512"),
        "another key": sign_token({}, key=b"x" * 32),
        "wrong audience": sign_token({"aud": "telemetry-service"}),
        "no audience": sign_token({"aud": None}),
        "wrong issuer": sign_token({"iss": "https://evil.example"}),
        "no issuer": sign_token({"iss": None}),
        "expired": sign_token({"exp": now - 1}),
        "nbf in the future": sign_token({"nbf": now + 60}),
        "iat in the future": sign_token({"iat": now + 60}),
        "no exp": sign_token({"exp": None}),
        "exp that is not a number": sign_token({"exp": "soon"}),
        "infinite exp": sign_token({"exp": 1e400}),
        "greater scope": sign_token({"scope": "root"}),
        "unknown family": sign_token({"family": 999}),
        "no scope": sign_token({"scope": None}),
        "no family": sign_token({"family": None}),
        "family of another kind": sign_token({"family": "x"}),
        "family out of range": sign_token({"family": 10**30}),
        "changed payload": ".".join((header, other_parts[1], signature)),
        "changed head": ".".join((other_parts[0] + "e30", payload, signature)),
        "no signature": f"{header}.{payload}.",
        "a refresh token": valid["refresh_token"],
        "too long": sign_token({"more": "x" * 9000}),
        "deep": "eyJ" + ".".join(("W1tb" * 1500, "W1tb" * 400, "x")),
        "not base64": "ey!.ey!.ey!",
        "nothing": "ey..",
    }


@pytest.mark.slow
def test_forged_token_is_rejected_at_all_endpoints(anonymous: ApiClient, root: Any) -> None:
    valid = sign_in(anonymous).json
    assert_authorized(with_token(anonymous, sign_token({})))  # each token below is rejected for its single flaw
    for case, token in invalid_tokens(valid).items():
        assert_unauthorized(with_token(anonymous, token), case)
        assert_unauthorized(ApiClient(anonymous.port, {"X-Api-Key": token}), case)


@pytest.mark.slow
def test_access_token_expires(anonymous: ApiClient, root: Any, settings: Any) -> None:
    settings.ACCESS_TOKEN_SECONDS = 2
    started_at = time.time()
    client = with_token(anonymous, sign_in(anonymous).json["access_token"])
    assert_authorized(client)
    time.sleep(
        max(0.0, started_at + 2.1 - time.time())
    )  # the cache must not outlive the token: only real time shows it
    assert_unauthorized(client)


def test_refresh_token_can_be_used_once(anonymous: ApiClient, root: Any) -> None:
    first = sign_in(anonymous).json
    second = renew(anonymous, first["refresh_token"])
    assert second.status == 200
    assert second.json["refresh_token"] != first["refresh_token"]
    assert second.json["access_token"] != first["access_token"]
    assert second.json["refresh_expires_in"] <= first["refresh_expires_in"]
    assert renew(anonymous, second.json["refresh_token"]).status == 200
    assert_authorized(with_token(anonymous, first["access_token"]))  # an access token is valid until it expires


@pytest.mark.slow
def test_reused_refresh_token_revokes_the_family(anonymous: ApiClient, root: Any) -> None:
    first = sign_in(anonymous).json
    second = renew(anonymous, first["refresh_token"]).json
    other = sign_in(anonymous).json
    for granted in (first, second):
        assert_authorized(with_token(anonymous, granted["access_token"]))
    reused = renew(anonymous, first["refresh_token"])
    assert (reused.status, reused.headers["WWW-Authenticate"]) == (401, 'Bearer realm="telemetry"')
    series_registry.refresh_registry()
    assert renew(anonymous, second["refresh_token"]).status == 401
    for granted in (first, second):
        assert_unauthorized(with_token(anonymous, granted["access_token"]))
    assert_authorized(with_token(anonymous, other["access_token"]))


def test_at_most_one_of_simultaneous_refreshes_succeeds(anonymous: ApiClient, root: Any) -> None:
    token = sign_in(anonymous).json["refresh_token"]
    with ThreadPoolExecutor(6) as pool:
        statuses = list(pool.map(lambda _: renew(anonymous, token).status, range(6)))
    assert sorted(set(statuses)) == [200, 401]
    assert statuses.count(200) == 1
    assert TokenFamily.objects.get().revoked_at is not None


@pytest.mark.parametrize("token", ["tr_x.y", "x", ".", "tr_", "\u00e9.\u00e9", "tr_" + "a" * 200])
def test_unknown_refresh_token_is_rejected_and_revokes_nothing(anonymous: ApiClient, root: Any, token: str) -> None:
    valid = sign_in(anonymous).json
    assert renew(anonymous, token).status == 401
    assert anonymous.post("/api/v1/auth/revoke", {"refresh_token": token}).status == 200
    assert_authorized(with_token(anonymous, valid["access_token"]))


def test_first_part_of_a_refresh_token_is_not_enough(anonymous: ApiClient, root: Any) -> None:
    token = sign_in(anonymous).json["refresh_token"]
    assert renew(anonymous, token.partition(".")[0]).status == 401


def test_revoked_family_is_rejected_within_a_second(anonymous: ApiClient, root: Any) -> None:
    granted = sign_in(anonymous).json
    client = with_token(anonymous, granted["access_token"])
    assert_authorized(client)
    assert anonymous.post("/api/v1/auth/revoke", {"refresh_token": granted["refresh_token"]}).status == 200
    revoked_at = time.monotonic()
    while ENDPOINTS["fast lane"](client).status == 200:  # the web process reads the revocation
        assert time.monotonic() - revoked_at < 1.0
        time.sleep(0.02)
    assert_unauthorized(client)
    assert renew(anonymous, granted["refresh_token"]).status == 401


def changes(user: Any) -> dict[str, Any]:
    def deactivate() -> None:
        user.is_active = False
        user.save()

    def change_password() -> None:
        user.set_password("another")
        user.save()

    def demote() -> None:
        user.is_superuser = False
        user.save()

    return {"inactive": deactivate, "password": change_password, "role": demote, "deleted": user.delete}


@pytest.mark.parametrize("change", ["inactive", "password", "role", "deleted"])
def test_changes_of_a_user_apply_to_its_tokens(anonymous: ApiClient, root: Any, change: str) -> None:
    granted = sign_in(anonymous).json
    client = with_token(anonymous, granted["access_token"])
    assert_authorized(client)
    changes(root)[change]()
    series_registry.refresh_registry()
    assert_unauthorized(client)
    renewed = renew(anonymous, granted["refresh_token"])
    if change == "role":  # the user still exists: the new token has the new scope
        assert with_token(anonymous, renewed.json["access_token"]).get("metrics").status == 200
        assert with_token(anonymous, renewed.json["access_token"]).get("keys").status == 403
    else:
        assert renewed.status == 401


@pytest.mark.parametrize("change", ["revoke", "expire", "delete"])
def test_changes_of_a_key_apply_to_its_tokens(admin: ApiClient, change: str) -> None:
    key, text = ApiKey.issue("program", "admin")
    granted = ApiClient(admin.port, {}).post("/api/v1/auth/token", {"grant_type": "api_key", "api_key": text}).json
    client = with_token(admin, granted["access_token"])
    assert_authorized(client)
    if change == "delete":
        key.delete()
    else:
        setattr(key, {"revoke": "revoked_at", "expire": "expires_at"}[change], timezone.now())
        key.save()
    series_registry.refresh_registry()
    assert_unauthorized(client)
    assert renew(admin, granted["refresh_token"]).status == 401


def test_tokens_of_a_key_expire_with_the_key(admin: ApiClient) -> None:
    _, text = ApiKey.issue("short", "read", expires_at=timezone.now() + timedelta(seconds=100))
    granted = ApiClient(admin.port, {}).post("/api/v1/auth/token", {"grant_type": "api_key", "api_key": text}).json
    assert 90 <= granted["expires_in"] <= 100
    assert 90 <= granted["refresh_expires_in"] <= 100


def test_token_of_a_user_follows_changes_of_groups(admin: ApiClient, ana: Any, anonymous: ApiClient) -> None:
    assert admin.post("devices/press/telemetry", point(value=4.5)).status == 200
    group_membership.add_devices(DeviceGroup.objects.get(name="site a"), [Device.objects.get(device_id="press").pk])
    series_registry.refresh_registry()
    client = with_token(anonymous, sign_in(anonymous, "ana").json["access_token"])

    def count_visible_series() -> int:
        series_registry.refresh_registry()
        return len(client.post("latest", {"metrics": ["temperature"]}).json["series"])

    assert count_visible_series() == 1
    DeviceGroup.objects.get(name="site a").members.clear()
    assert count_visible_series() == 0
    DeviceGroup.objects.get(name="site a").members.add(ana)
    assert count_visible_series() == 1


def test_change_of_scope_needs_a_new_token(anonymous: ApiClient, ana: Any) -> None:
    granted = sign_in(anonymous, "ana").json
    client = with_token(anonymous, granted["access_token"])
    assert client.get("metrics").status == 200
    ana.groups.add(Group.objects.get_or_create(name=OPERATORS)[0])
    series_registry.refresh_registry()
    assert client.get("metrics").status == 401
    renewed = renew(anonymous, granted["refresh_token"]).json["access_token"]
    assert jwt.decode(renewed, options={"verify_signature": False})["scope"] == "operate"


def test_user_removed_from_operators_loses_the_scope(anonymous: ApiClient, ana: Any) -> None:
    operators = Group.objects.get_or_create(name=OPERATORS)[0]
    ana.groups.add(operators)
    client = with_token(anonymous, sign_in(anonymous, "ana").json["access_token"])
    assert client.get("metrics").status == 200
    operators.delete()
    series_registry.refresh_registry()
    assert client.get("metrics").status == 401


def test_sign_in_does_not_clear_caches(client: Any, anonymous: ApiClient, root: Any) -> None:
    revision = Revision.objects.get().number
    assert client.login(username="root", password=PASSWORD)
    assert sign_in(anonymous).status == 200
    assert Revision.objects.get().number == revision


def test_token_is_verified_once_and_then_cached(
    anonymous: ApiClient, root: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    verified_tokens = []
    find_owner = tokens.find_owner
    monkeypatch.setattr(tokens, "find_owner", lambda token: verified_tokens.append(token) or find_owner(token))
    client = with_token(anonymous, sign_in(anonymous).json["access_token"])
    series_registry.refresh_registry()
    for _ in range(5):
        assert_authorized(client)
    assert len(verified_tokens) == 1


def test_refresh_tokens_are_stored_as_hashes(anonymous: ApiClient, root: Any) -> None:
    token = sign_in(anonymous).json["refresh_token"]
    stored = repr(TokenFamily.objects.values().get())
    for part in token.removeprefix("tr_").split("."):
        assert len(part) == 32  # 192 bits
        assert part not in stored


def test_audit_records_sign_in_sign_out_and_token_reuse(anonymous: ApiClient, root: Any) -> None:
    first = sign_in(anonymous).json
    renew(anonymous, first["refresh_token"])
    renew(anonymous, first["refresh_token"])
    anonymous.post("/api/v1/auth/revoke", {"refresh_token": sign_in(anonymous).json["refresh_token"]})
    entries = AuditEntry.objects.filter(object_id="root").order_by("pk").values_list("action", "actor")
    assert list(entries)[1:] == [  # without the creation of the user
        ("signed in", "user:root"),
        ("revoked tokens: refresh token used twice", "anonymous"),
        ("signed in", "user:root"),
        ("revoked tokens", "anonymous"),
    ]
    assert first["refresh_token"] not in repr(AuditEntry.objects.values())


def test_expired_families_are_deleted(anonymous: ApiClient, root: Any) -> None:
    valid, expired = (sign_in(anonymous).json["refresh_token"] for _ in range(2))
    TokenFamily.objects.filter(pk=2).update(expires_at=timezone.now() - timedelta(seconds=1))
    assert renew(anonymous, expired).status == 401
    assert forget_expired_tokens() == 1
    assert renew(anonymous, valid).status == 200
