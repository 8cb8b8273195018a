"""Service tokens are accepted once, and headers that claim an internal call have no effect."""

import io
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import jwt
import pytest
from django.core.management import CommandError, call_command
from django.utils import timezone

from ingest.identity import service_tokens, trusted_issuers
from ingest.identity.models import UsedServiceToken
from ingest.tasks import forget_expired_tokens
from telemetry_site.env import Environment, InvalidSetting
from tests.conftest import ApiClient, point
from tests.ingest.credential_checks import ENDPOINTS, assert_unauthorized, with_token, without_request_id

SECRET = "s" * 40
OTHER = "o" * 40


@pytest.fixture(autouse=True)
def services(settings: Any) -> None:
    settings.SERVICES = {
        "device-service": trusted_issuers.Service(SECRET, "admin"),
        "billing": trusted_issuers.Service(OTHER, "read"),
    }


def sign_token(claims: dict[str, Any], **options: Any) -> str:
    """Return a token of device-service with changed claims; None removes a claim."""
    now = int(time.time())
    all_claims = {
        "iss": "device-service",
        "sub": "device-service",
        "aud": "telemetry-service",
        "iat": now,
        "exp": now + 30,
    }
    all_claims |= {"jti": f"{time.monotonic_ns()}"} | claims
    arguments = {"key": SECRET, "algorithm": "HS256"} | options
    return jwt.encode({name: value for name, value in all_claims.items() if value is not None}, **arguments)


@pytest.mark.parametrize("endpoint", ENDPOINTS)
def test_service_token_is_accepted_once(anonymous: ApiClient, endpoint: str) -> None:
    caller = with_token(anonymous, sign_token({}))
    assert ENDPOINTS[endpoint](caller).status == 200
    assert_unauthorized(caller)


def test_service_token_in_simultaneous_requests_is_accepted_once(anonymous: ApiClient) -> None:
    caller = with_token(anonymous, sign_token({}))
    with ThreadPoolExecutor(8) as pool:
        statuses = list(pool.map(lambda _: ENDPOINTS["fast lane"](caller).status, range(8)))
    assert sorted(statuses) == [200] + [401] * 7


def test_service_has_its_configured_scope(anonymous: ApiClient) -> None:
    def client() -> ApiClient:
        return with_token(anonymous, service_tokens.make("billing"))

    assert client().get("metrics").status == 200
    assert client().get("keys").status == 403
    assert client().post("devices/d/telemetry", point()).status == 403


def invalid_tokens() -> dict[str, str]:
    now = int(time.time())
    return {
        "alg=none": sign_token({}, key=None, algorithm="none"),
        "another algorithm": sign_token({}, algorithm="HS384"),
        "another service's secret": sign_token({}, key=OTHER),
        "wrong audience": sign_token({"aud": "telemetry-api"}),
        "no audience": sign_token({"aud": None}),
        "unknown service": sign_token({"iss": "nobody"}),
        "longer than a minute": sign_token({"exp": now + 61}),
        "issued in the future": sign_token({"iat": now + 600, "exp": now + 660}),
        "issued too long ago": sign_token({"iat": now - 600, "exp": now + 30}),
        "expired": sign_token({"iat": now - 60, "exp": now - 10}),
        "nbf in the future": sign_token({"nbf": now + 30}),
        "no exp": sign_token({"exp": None}),
        "no iat": sign_token({"iat": None}),
        "no jti": sign_token({"jti": None}),
        "empty jti": sign_token({"jti": ""}),
        "jti that is not a string": sign_token({"jti": 7}),
        "jti with a lone surrogate": sign_token({"jti": "\ud800"}),
    }


@pytest.mark.slow
def test_invalid_service_token_is_rejected_at_all_endpoints(anonymous: ApiClient) -> None:
    for case in invalid_tokens():
        assert_unauthorized(with_token(anonymous, invalid_tokens()[case]), case)
    assert not UsedServiceToken.objects.exists()


@pytest.mark.parametrize("jti", ["a\x00b", "\u00e9", "x" * 5000])
def test_unusual_token_ids_are_accepted(anonymous: ApiClient, jti: str) -> None:
    caller = with_token(anonymous, sign_token({"jti": jti}))
    assert ENDPOINTS["REST"](caller).status == 200
    assert_unauthorized(caller)


def test_same_token_id_in_two_services_is_two_tokens(anonymous: ApiClient) -> None:
    assert with_token(anonymous, sign_token({"jti": "1"})).get("metrics").status == 200
    other_token = sign_token({"jti": "1", "iss": "billing", "sub": "billing"}, key=OTHER)
    assert with_token(anonymous, other_token).get("metrics").status == 200


@pytest.mark.parametrize("name", ["X-Internal-Call", "X_Internal_Call", "X-Internal-Service", "X_Internal_Service"])
@pytest.mark.parametrize("value", ["true", "1", "device-service"])
def test_internal_call_header_has_no_effect(anonymous: ApiClient, reader: ApiClient, name: str, value: str) -> None:
    for endpoint in ENDPOINTS.values():
        for caller in (anonymous, reader, with_token(anonymous, "tk_wrong")):
            internal = ApiClient(caller.port, caller.headers | {name: value})
            assert without_request_id(endpoint(internal)) == without_request_id(endpoint(caller))
            assert endpoint(internal).status in (401, 403)


def test_used_service_tokens_are_deleted_after_their_expiry(anonymous: ApiClient) -> None:
    for _ in range(2):
        assert ENDPOINTS["REST"](with_token(anonymous, sign_token({}))).status == 200
    expired_at = timezone.now() - service_tokens.RETENTION - timedelta(seconds=1)
    first = UsedServiceToken.objects.first()
    assert first is not None
    UsedServiceToken.objects.filter(pk=first.pk).update(expires_at=expired_at)
    assert forget_expired_tokens() == 1
    assert UsedServiceToken.objects.count() == 1


def test_command_prints_a_valid_token(anonymous: ApiClient) -> None:
    output = io.StringIO()
    call_command("service_token", "device-service", stdout=output)
    printed = output.getvalue()
    assert printed == printed.strip() + "\n"
    assert ENDPOINTS["fast lane"](with_token(anonymous, printed.strip())).status == 200
    with pytest.raises(CommandError) as raised:
        call_command("service_token", "nobody", stdout=output)
    assert "NAME must be a service of TELEMETRY_SERVICE_SECRETS: billing, device-service" in str(raised.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("x", "JSON"),
        ("[]", "Expected `object`"),
        ('{"a": {"secret": "short", "scope": "read"}}', "at least 32 characters"),
        (f'{{"a": {{"secret": "{SECRET}", "scope": "root"}}}}', "Invalid enum value 'root'"),
        (f'{{"a": {{"secret": "{SECRET}"}}}}', "missing required field `scope`"),
        (f'{{"telemetry-site": {{"secret": "{SECRET}", "scope": "read"}}}}', "differ from telemetry-site"),
    ],
)
def test_invalid_setting_is_reported_without_the_secret(text: str, message: str) -> None:
    environment = Environment({"TELEMETRY_SERVICE_SECRETS": text})
    with pytest.raises(InvalidSetting) as raised:
        environment.parsed("TELEMETRY_SERVICE_SECRETS", trusted_issuers.parse_services, "{}")
    assert message in str(raised.value)
    assert "TELEMETRY_SERVICE_SECRETS" in str(raised.value)
    assert SECRET not in str(raised.value)
