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
def quick_passwords(settings: Any) -> None:
    """A real hasher takes half a second for each, by design."""
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


def sign(claims: dict[str, Any], **how: Any) -> str:
    """A token as the site makes them, with other claims; None takes one away."""
    family = TokenFamily.objects.get()
    now = int(time.time())
    whole = {"iss": "telemetry-site", "aud": "telemetry-api", "sub": "user:root", "scope": "admin"}
    whole |= {"family": family.pk, "jti": "1", "iat": now, "exp": now + 60} | claims
    given = {"key": tokens._signing_key(), "algorithm": "HS256"} | how
    return jwt.encode({name: value for name, value in whole.items() if value is not None}, **given)


@pytest.mark.parametrize("prefix", ["/api/v1", API])
def test_password_sign_in_returns_tokens_that_are_accepted(anonymous: ApiClient, root: Any, prefix: str) -> None:
    sent = {"grant_type": "password", "username": "root", "password": PASSWORD}
    answer = anonymous.post(f"{prefix}/auth/token", sent)
    assert answer.status == 200
    assert answer.headers["Cache-Control"] == "no-store"
    given = answer.json
    assert set(given) == {"access_token", "token_type", "expires_in", "refresh_token", "refresh_expires_in"}
    assert (given["token_type"], given["expires_in"]) == ("bearer", 900)
    assert 14 * 86400 - 5 <= given["refresh_expires_in"] <= 14 * 86400
    assert_authorized(with_token(anonymous, given["access_token"]))
    assert_authorized(ApiClient(anonymous.port, {"X-Api-Key": given["access_token"]}))


def test_tokens_of_a_key_have_the_rights_of_the_key(admin: ApiClient, device: ApiClient) -> None:
    sent = {"grant_type": "api_key", "api_key": device.headers["X-Api-Key"]}
    given = ApiClient(admin.port, {}).post("/api/v1/auth/token", sent)
    assert given.status == 200
    holder = with_token(admin, given.json["access_token"])
    assert holder.post("devices/device_001/telemetry", point()).status == 200
    assert holder.post("devices/device_002/telemetry", point()).status == 403
    assert holder.get("keys").status == 403


def test_failed_sign_ins_get_the_same_response(anonymous: ApiClient, root: Any, ana: Any) -> None:
    get_user_model().objects.filter(pk=ana.pk).update(is_active=False)
    answers = [sign_in(anonymous, *who) for who in (("root", "wrong"), ("nobody", PASSWORD), ("ana", PASSWORD))]
    assert {answer.status for answer in answers} == {401}
    assert without_request_id(answers[0]) == without_request_id(answers[1]) == without_request_id(answers[2])
    assert {answer.headers["WWW-Authenticate"] for answer in answers} == {'Bearer realm="telemetry"'}
    assert not TokenFamily.objects.exists()


def test_too_many_failed_sign_ins_are_rejected_with_retry_after(anonymous: ApiClient, root: Any) -> None:
    answers = [sign_in(anonymous, password="wrong") for _ in range(11)]
    assert [answer.status for answer in answers] == [401] * 10 + [429]
    assert int(answers[-1].headers["Retry-After"]) > 0
    assert "too many failed sign-ins" in answers[-1].json["detail"]
    assert sign_in(anonymous).status == 429  # the right one, too


@pytest.mark.parametrize("spoil", ["expired", "revoked", "unknown"])
def test_invalid_key_is_not_exchanged(admin: ApiClient, spoil: str) -> None:
    key, text = ApiKey.issue("k", "read")
    past = timezone.now() - timedelta(seconds=1)
    ApiKey.objects.filter(pk=key.pk).update(
        **{"expired": {"expires_at": past}, "revoked": {"revoked_at": past}}.get(spoil, {})
    )
    sent = {"grant_type": "api_key", "api_key": text if spoil != "unknown" else text + "x"}
    answer = ApiClient(admin.port, {}).post("/api/v1/auth/token", sent)
    assert (answer.status, answer.headers["WWW-Authenticate"]) == (401, 'Bearer realm="telemetry"')


@pytest.mark.parametrize(
    ("sent", "field"),
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
def test_invalid_token_request_reports_the_field(anonymous: ApiClient, sent: Any, field: str) -> None:
    answer = anonymous.post("/api/v1/auth/token", sent)
    assert (answer.status, answer.json["errors"][0]["field"]) == (400, field)


def invalid_tokens(good: dict[str, Any]) -> dict[str, str]:
    """Every token that must not open: what is wrong with it, and the token."""
    now = int(time.time())
    head, payload, signature = good["access_token"].split(".")
    other_head = jwt.encode({"a": 1}, tokens._signing_key(), "HS256").split(".")
    return {
        "alg=none": sign({}, key=None, algorithm="none"),
        "alg=none with the signature of a good one": f"{sign({}, key=None, algorithm='none')}{signature}",
        "another algorithm": sign({}, algorithm="HS512"),
        "another key": sign({}, key=b"x" * 32),
        "wrong audience": sign({"aud": "telemetry-service"}),
        "no audience": sign({"aud": None}),
        "wrong issuer": sign({"iss": "https://evil.example"}),
        "no issuer": sign({"iss": None}),
        "expired": sign({"exp": now - 1}),
        "nbf in the future": sign({"nbf": now + 60}),
        "iat in the future": sign({"iat": now + 60}),
        "no exp": sign({"exp": None}),
        "exp that is no time": sign({"exp": "soon"}),
        "exp without end": sign({"exp": 1e400}),
        "greater scope": sign({"scope": "root"}),
        "unknown family": sign({"family": 999}),
        "no scope": sign({"scope": None}),
        "no family": sign({"family": None}),
        "family of another kind": sign({"family": "x"}),
        "family out of range": sign({"family": 10**30}),
        "changed payload": ".".join((head, other_head[1], signature)),
        "changed head": ".".join((other_head[0] + "e30", payload, signature)),
        "no signature": f"{head}.{payload}.",
        "a refresh token": good["refresh_token"],
        "too long": sign({"more": "x" * 9000}),
        "deep": "eyJ" + ".".join(("W1tb" * 1500, "W1tb" * 400, "x")),
        "not base64": "ey!.ey!.ey!",
        "nothing": "ey..",
    }


def test_forged_token_is_rejected_at_all_endpoints(anonymous: ApiClient, root: Any) -> None:
    good = sign_in(anonymous).json
    assert_authorized(with_token(anonymous, sign({})))  # so that what is refused below is refused for its one flaw
    for why, token in invalid_tokens(good).items():
        assert_unauthorized(with_token(anonymous, token), why)
        assert_unauthorized(ApiClient(anonymous.port, {"X-Api-Key": token}), why)


@pytest.mark.slow
def test_access_token_expires(anonymous: ApiClient, root: Any, settings: Any) -> None:
    settings.ACCESS_TOKEN_SECONDS = 2
    begun = time.time()
    holder = with_token(anonymous, sign_in(anonymous).json["access_token"])
    assert_authorized(holder)
    time.sleep(max(0.0, begun + 2.1 - time.time()))  # what was remembered must not outlive it: a real clock shows it
    assert_unauthorized(holder)


def test_refresh_token_can_be_used_once(anonymous: ApiClient, root: Any) -> None:
    first = sign_in(anonymous).json
    second = renew(anonymous, first["refresh_token"])
    assert second.status == 200
    assert second.json["refresh_token"] != first["refresh_token"]
    assert second.json["access_token"] != first["access_token"]
    assert second.json["refresh_expires_in"] <= first["refresh_expires_in"]
    assert renew(anonymous, second.json["refresh_token"]).status == 200
    assert_authorized(with_token(anonymous, first["access_token"]))  # good until it expires


def test_reused_refresh_token_revokes_the_family(anonymous: ApiClient, root: Any) -> None:
    first = sign_in(anonymous).json
    second = renew(anonymous, first["refresh_token"]).json
    other = sign_in(anonymous).json
    for one in (first, second):
        assert_authorized(with_token(anonymous, one["access_token"]))
    again = renew(anonymous, first["refresh_token"])
    assert (again.status, again.headers["WWW-Authenticate"]) == (401, 'Bearer realm="telemetry"')
    series_registry.refresh_registry()
    assert renew(anonymous, second["refresh_token"]).status == 401
    for one in (first, second):
        assert_unauthorized(with_token(anonymous, one["access_token"]))
    assert_authorized(with_token(anonymous, other["access_token"]))


def test_at_most_one_of_simultaneous_refreshes_succeeds(anonymous: ApiClient, root: Any) -> None:
    token = sign_in(anonymous).json["refresh_token"]
    with ThreadPoolExecutor(6) as pool:
        answers = list(pool.map(lambda _: renew(anonymous, token).status, range(6)))
    assert sorted(set(answers)) == [200, 401]
    assert answers.count(200) == 1
    assert TokenFamily.objects.get().revoked_at is not None


@pytest.mark.parametrize("token", ["tr_x.y", "x", ".", "tr_", "\u00e9.\u00e9", "tr_" + "a" * 200])
def test_unknown_refresh_token_is_rejected_and_revokes_nothing(anonymous: ApiClient, root: Any, token: str) -> None:
    good = sign_in(anonymous).json
    assert renew(anonymous, token).status == 401
    assert anonymous.post("/api/v1/auth/revoke", {"refresh_token": token}).status == 200
    assert_authorized(with_token(anonymous, good["access_token"]))


def test_first_part_of_a_refresh_token_is_not_enough(anonymous: ApiClient, root: Any) -> None:
    token = sign_in(anonymous).json["refresh_token"]
    assert renew(anonymous, token.partition(".")[0]).status == 401


def test_revoked_family_is_rejected_within_a_second(anonymous: ApiClient, root: Any) -> None:
    given = sign_in(anonymous).json
    holder = with_token(anonymous, given["access_token"])
    assert_authorized(holder)
    assert anonymous.post("/api/v1/auth/revoke", {"refresh_token": given["refresh_token"]}).status == 200
    revoked = time.monotonic()
    while ENDPOINTS["fast lane"](holder).status == 200:  # the web process finds out by itself
        assert time.monotonic() - revoked < 1.0
        time.sleep(0.02)
    assert_unauthorized(holder)
    assert renew(anonymous, given["refresh_token"]).status == 401


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
    given = sign_in(anonymous).json
    holder = with_token(anonymous, given["access_token"])
    assert_authorized(holder)
    changes(root)[change]()
    series_registry.refresh_registry()
    assert_unauthorized(holder)
    renewed = renew(anonymous, given["refresh_token"])
    if change == "role":  # still somebody: the new token says what it may do now
        assert with_token(anonymous, renewed.json["access_token"]).get("metrics").status == 200
        assert with_token(anonymous, renewed.json["access_token"]).get("keys").status == 403
    else:
        assert renewed.status == 401


@pytest.mark.parametrize("how", ["revoke", "expire", "delete"])
def test_changes_of_a_key_apply_to_its_tokens(admin: ApiClient, how: str) -> None:
    key, text = ApiKey.issue("program", "admin")
    given = ApiClient(admin.port, {}).post("/api/v1/auth/token", {"grant_type": "api_key", "api_key": text}).json
    holder = with_token(admin, given["access_token"])
    assert_authorized(holder)
    if how == "delete":
        key.delete()
    else:
        setattr(key, {"revoke": "revoked_at", "expire": "expires_at"}[how], timezone.now())
        key.save()
    series_registry.refresh_registry()
    assert_unauthorized(holder)
    assert renew(admin, given["refresh_token"]).status == 401


def test_tokens_of_a_key_expire_with_the_key(admin: ApiClient) -> None:
    _, text = ApiKey.issue("short", "read", expires_at=timezone.now() + timedelta(seconds=100))
    given = ApiClient(admin.port, {}).post("/api/v1/auth/token", {"grant_type": "api_key", "api_key": text}).json
    assert 90 <= given["expires_in"] <= 100
    assert 90 <= given["refresh_expires_in"] <= 100


def test_token_of_a_user_follows_changes_of_groups(admin: ApiClient, ana: Any, anonymous: ApiClient) -> None:
    assert admin.post("devices/press/telemetry", point(value=4.5)).status == 200
    group_membership.add_devices(DeviceGroup.objects.get(name="site a"), [Device.objects.get(device_id="press").pk])
    series_registry.refresh_registry()
    holder = with_token(anonymous, sign_in(anonymous, "ana").json["access_token"])

    def seen() -> int:
        series_registry.refresh_registry()
        return len(holder.post("latest", {"metrics": ["temperature"]}).json["series"])

    assert seen() == 1
    DeviceGroup.objects.get(name="site a").members.clear()
    assert seen() == 0
    DeviceGroup.objects.get(name="site a").members.add(ana)
    assert seen() == 1


def test_change_of_scope_needs_a_new_token(anonymous: ApiClient, ana: Any) -> None:
    given = sign_in(anonymous, "ana").json
    holder = with_token(anonymous, given["access_token"])
    assert holder.get("metrics").status == 200
    ana.groups.add(Group.objects.get_or_create(name=OPERATORS)[0])
    series_registry.refresh_registry()
    assert holder.get("metrics").status == 401
    renewed = renew(anonymous, given["refresh_token"]).json["access_token"]
    assert jwt.decode(renewed, options={"verify_signature": False})["scope"] == "operate"


def test_user_removed_from_operators_loses_the_scope(anonymous: ApiClient, ana: Any) -> None:
    operators = Group.objects.get_or_create(name=OPERATORS)[0]
    ana.groups.add(operators)
    holder = with_token(anonymous, sign_in(anonymous, "ana").json["access_token"])
    assert holder.get("metrics").status == 200
    operators.delete()
    series_registry.refresh_registry()
    assert holder.get("metrics").status == 401


def test_sign_in_does_not_clear_caches(client: Any, anonymous: ApiClient, root: Any) -> None:
    before = Revision.objects.get().number
    assert client.login(username="root", password=PASSWORD)
    assert sign_in(anonymous).status == 200
    assert Revision.objects.get().number == before


def test_token_is_verified_once_and_then_cached(
    anonymous: ApiClient, root: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    checked = []
    really = tokens.find_owner
    monkeypatch.setattr(tokens, "find_owner", lambda token: checked.append(token) or really(token))
    holder = with_token(anonymous, sign_in(anonymous).json["access_token"])
    series_registry.refresh_registry()
    for _ in range(5):
        assert_authorized(holder)
    assert len(checked) == 1


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
    told = AuditEntry.objects.filter(object_id="root").order_by("pk").values_list("action", "actor")
    assert list(told)[1:] == [  # after that it was made
        ("signed in", "user:root"),
        ("revoked tokens: refresh token used twice", "anonymous"),
        ("signed in", "user:root"),
        ("revoked tokens", "anonymous"),
    ]
    assert first["refresh_token"] not in repr(AuditEntry.objects.values())


def test_expired_families_are_deleted(anonymous: ApiClient, root: Any) -> None:
    kept, gone = (sign_in(anonymous).json["refresh_token"] for _ in range(2))
    TokenFamily.objects.filter(pk=2).update(expires_at=timezone.now() - timedelta(seconds=1))
    assert renew(anonymous, gone).status == 401
    assert forget_expired_tokens() == 1
    assert renew(anonymous, kept).status == 200
