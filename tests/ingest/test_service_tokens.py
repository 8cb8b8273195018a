"""Services call with a signed token, once; a header that says that a call is internal says nothing."""

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
from tests.ingest.doors import DOORS, assert_refused, bearing, said

SECRET = "s" * 40
OTHER = "o" * 40


@pytest.fixture(autouse=True)
def services(settings: Any) -> None:
    settings.SERVICES = {
        "device-service": trusted_issuers.Service(SECRET, "admin"),
        "billing": trusted_issuers.Service(OTHER, "read"),
    }


def forged(claims: dict[str, Any], **how: Any) -> str:
    """A token of device-service with other claims; None takes one away."""
    now = int(time.time())
    whole = {"iss": "device-service", "sub": "device-service", "aud": "telemetry-service", "iat": now, "exp": now + 30}
    whole |= {"jti": f"{time.monotonic_ns()}"} | claims
    given = {"key": SECRET, "algorithm": "HS256"} | how
    return jwt.encode({name: value for name, value in whole.items() if value is not None}, **given)


@pytest.mark.parametrize("door", DOORS)
def test_a_service_token_opens_once(anonymous: ApiClient, door: str) -> None:
    caller = bearing(anonymous, forged({}))
    assert DOORS[door](caller).status == 200
    assert_refused(caller)


def test_a_service_token_used_at_once_by_many_opens_once(anonymous: ApiClient) -> None:
    caller = bearing(anonymous, forged({}))
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: DOORS["fast lane"](caller).status, range(8)))
    assert sorted(answers) == [200] + [401] * 7


def test_a_service_may_do_what_the_settings_say_of_it_and_no_more(anonymous: ApiClient) -> None:
    def token() -> ApiClient:
        return bearing(anonymous, service_tokens.make("billing"))

    assert token().get("metrics").status == 200
    assert token().get("keys").status == 403
    assert token().post("devices/d/telemetry", point()).status == 403


def spoilt() -> dict[str, str]:
    now = int(time.time())
    return {
        "alg=none": forged({}, key=None, algorithm="none"),
        "another algorithm": forged({}, algorithm="HS384"),
        "another service's secret": forged({}, key=OTHER),
        "wrong audience": forged({"aud": "telemetry-api"}),
        "no audience": forged({"aud": None}),
        "unknown service": forged({"iss": "nobody"}),
        "longer than a minute": forged({"exp": now + 61}),
        "a minute, but later": forged({"iat": now + 600, "exp": now + 660}),
        "made long ago": forged({"iat": now - 600, "exp": now + 30}),
        "expired": forged({"iat": now - 60, "exp": now - 10}),
        "not yet good": forged({"nbf": now + 30}),
        "no exp": forged({"exp": None}),
        "no iat": forged({"iat": None}),
        "no jti": forged({"jti": None}),
        "empty jti": forged({"jti": ""}),
        "jti that is no text": forged({"jti": 7}),
        "jti that is half a character": forged({"jti": "\ud800"}),
    }


def test_every_service_token_that_breaks_a_rule_is_refused_at_every_door(anonymous: ApiClient) -> None:
    for why in spoilt():
        assert_refused(bearing(anonymous, spoilt()[why]), why)
    assert not UsedServiceToken.objects.exists()


@pytest.mark.parametrize("jti", ["a\x00b", "\u00e9", "x" * 5000])
def test_odd_names_of_tokens_are_names_like_others(anonymous: ApiClient, jti: str) -> None:
    caller = bearing(anonymous, forged({"jti": jti}))
    assert DOORS["REST"](caller).status == 200
    assert_refused(caller)


def test_the_same_name_of_a_token_in_two_services_is_two_tokens(anonymous: ApiClient) -> None:
    assert bearing(anonymous, forged({"jti": "1"})).get("metrics").status == 200
    theirs = forged({"jti": "1", "iss": "billing", "sub": "billing"}, key=OTHER)
    assert bearing(anonymous, theirs).get("metrics").status == 200


@pytest.mark.parametrize("name", ["X-Internal-Call", "X_Internal_Call", "X-Internal-Service", "X_Internal_Service"])
@pytest.mark.parametrize("value", ["true", "1", "device-service"])
def test_a_header_that_says_that_a_call_is_internal_changes_nothing(
    anonymous: ApiClient, reader: ApiClient, name: str, value: str
) -> None:
    for door in DOORS.values():
        for caller in (anonymous, reader, bearing(anonymous, "tk_wrong")):
            internal = ApiClient(caller.port, caller.headers | {name: value})
            assert said(door(internal)) == said(door(caller))
            assert door(internal).status in (401, 403)


def test_used_tokens_are_forgotten_some_time_after_they_expired(anonymous: ApiClient) -> None:
    for _ in range(2):
        assert DOORS["REST"](bearing(anonymous, forged({}))).status == 200
    long_ago = timezone.now() - service_tokens.RETENTION - timedelta(seconds=1)
    first = UsedServiceToken.objects.first()
    assert first is not None
    UsedServiceToken.objects.filter(pk=first.pk).update(expires_at=long_ago)
    assert forget_expired_tokens() == 1
    assert UsedServiceToken.objects.count() == 1


def test_the_command_prints_a_token_that_opens(anonymous: ApiClient) -> None:
    out = io.StringIO()
    call_command("service_token", "device-service", stdout=out)
    printed = out.getvalue()
    assert printed == printed.strip() + "\n"
    assert DOORS["fast lane"](bearing(anonymous, printed.strip())).status == 200
    with pytest.raises(CommandError) as refused:
        call_command("service_token", "nobody", stdout=out)
    assert "NAME must be a service of TELEMETRY_SERVICE_SECRETS: billing, device-service" in str(refused.value)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("x", "JSON"),
        ("[]", "Expected `object`"),
        ('{"a": {"secret": "short", "scope": "read"}}', "at least 32 characters"),
        (f'{{"a": {{"secret": "{SECRET}", "scope": "root"}}}}', "Invalid enum value 'root'"),
        (f'{{"a": {{"secret": "{SECRET}"}}}}', "missing required field `scope`"),
        (f'{{"telemetry-site": {{"secret": "{SECRET}", "scope": "read"}}}}', "differ from telemetry-site"),
    ],
)
def test_a_wrong_setting_names_the_variable_and_keeps_the_secret(text: str, told: str) -> None:
    environment = Environment({"TELEMETRY_SERVICE_SECRETS": text})
    with pytest.raises(InvalidSetting) as refused:
        environment.parsed("TELEMETRY_SERVICE_SECRETS", trusted_issuers.parse_services, "{}")
    assert told in str(refused.value)
    assert "TELEMETRY_SERVICE_SECRETS" in str(refused.value)
    assert SECRET not in str(refused.value)
