"""Rate limits of keys and IP addresses, in the fast lane and in Django, and of logins."""

import re
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from django.conf import settings
from django.contrib.auth import get_user_model
from django.db.models import F
from django.test import Client, override_settings
from django.utils import timezone

from ingest.models import ApiKey
from metrics.models import Revision
from metrics.storage import series_registry
from rest.ip_rate_limit import address_of
from rest.rate_limit import Limit, buckets
from telemetry_site import login
from tests.conftest import ApiClient, point

ADDRESS_LIMIT, USERNAME_LIMIT = 5, 8
SLOW_RATE = 0.001  # tokens per second: no token is refilled during a test
ROUTES = [
    ("POST", "devices/d/telemetry"),
    ("POST", "devices/d/telemetry/batch"),
    ("POST", "bulk"),
    ("GET", "devices/d/metrics/m/latest"),
    ("GET", "devices/d/metrics/m/range"),
    ("GET", "metrics"),
    ("POST", "query"),
]


def send_request(caller: ApiClient, method: str, path: str) -> Any:
    return caller.call(method, path, {} if method == "POST" else None)


@pytest.mark.parametrize(("method", "path"), ROUTES)
def test_key_over_its_rate_limit_gets_429_and_retry_after(admin: ApiClient, reader: ApiClient, method: str, path: str):
    with override_settings(RATE_PER_KEY=(0.5, 3)):
        statuses = [send_request(admin, method, path).status for _ in range(3)]
        response = send_request(admin, method, path)
        assert 429 not in statuses and response.status == 429
        assert response.headers["Content-Type"] == "application/problem+json"
        assert response.json["title"] == "Too Many Requests" and "try again in" in response.json["detail"]
        assert response.headers["Retry-After"] in ("1", "2")
        assert send_request(reader, method, path).status != 429  # another key


def test_key_has_one_bucket_for_fast_lane_and_views_and_sessions_have_none(admin: ApiClient, administrator: ApiClient):
    with override_settings(RATE_PER_KEY=(SLOW_RATE, 2)):
        assert admin.post("devices/d/telemetry", point()).status == 200
        assert admin.get("metrics").status == 200
        assert admin.get("metrics").status == 429 and admin.post("devices/d/telemetry", point()).status == 429
        assert {administrator.get("metrics").status for _ in range(5)} == {200}


@pytest.mark.slow
def test_keys_are_not_rate_limited_by_default(admin: ApiClient):
    assert settings.RATE_PER_KEY is None
    with ThreadPoolExecutor(4) as pool:
        statuses = pool.map(lambda _: admin.post("devices/d/telemetry", point()).status, range(500))
    assert set(statuses) == {200}
    assert not buckets._buckets


@pytest.mark.parametrize(("method", "path"), ROUTES)
def test_address_that_guesses_keys_is_limited_and_valid_keys_are_not(
    admin: ApiClient, anonymous: ApiClient, method: str, path: str
):
    admin.get("metrics")
    with override_settings(RATE_PER_ADDRESS=(SLOW_RATE, 5)):
        statuses = []
        for number in range(8):
            anonymous.headers = {"X-Api-Key": f"tk_{number}"}
            statuses.append(send_request(anonymous, method, path).status)
        assert statuses == [401] * 5 + [429] * 3
        response = send_request(anonymous, method, path)
        assert int(response.headers["Retry-After"]) >= 1 and "address" in response.json["detail"]
        assert send_request(admin, method, path).status not in (401, 429)


def test_valid_key_is_accepted_during_guessing_until_it_is_revoked(gateway: ApiClient, anonymous: ApiClient):
    assert gateway.post("devices/d/telemetry", point()).status == 200
    with override_settings(RATE_PER_ADDRESS=(SLOW_RATE, 3)):
        anonymous.headers = {"Authorization": "Bearer tk_wrong"}
        assert [anonymous.post("bulk", {}).status for _ in range(4)] == [401, 401, 401, 429]
        assert {gateway.post("devices/d/telemetry", point()).status for _ in range(20)} == {200}
        Revision.objects.update(number=F("number") + 1)  # all cached keys are refreshed
        series_registry.refresh_registry()
        assert {gateway.post("devices/d/telemetry", point()).status for _ in range(20)} == {200}
        ApiKey.objects.update(revoked_at=timezone.now())
        Revision.objects.update(number=F("number") + 1)
        series_registry.refresh_registry()
        assert [gateway.post("devices/d/telemetry", point()).status for _ in range(2)] == [401, 429]


@pytest.mark.slow
def test_logged_in_user_is_not_limited_by_a_bad_key_of_the_same_address(viewer: ApiClient, anonymous: ApiClient):
    with override_settings(RATE_PER_ADDRESS=(SLOW_RATE, 3)):
        anonymous.headers = {"X-Api-Key": "tk_wrong"}
        assert [anonymous.get("metrics").status for _ in range(4)][-1] == 429
        assert {viewer.get("metrics").status for _ in range(10)} == {200}
        anonymous.headers = {"Cookie": f"{settings.SESSION_COOKIE_NAME}=guessed"}
        assert [anonymous.get("metrics").status for _ in range(4)] == [401, 401, 401, 429]


def test_requests_without_credentials_are_limited_except_probes_and_static_files(anonymous: ApiClient):
    with override_settings(RATE_PER_ADDRESS=(SLOW_RATE, 3)):
        assert [anonymous.get("/login/").status for _ in range(4)] == [200, 200, 200, 429]
        for path in ("/health", "/livez", "/readyz", "/static/dashboard/mark.svg"):
            assert {anonymous.get(path).status for _ in range(5)} == {200}
    with override_settings(RATE_PER_ADDRESS=None):
        assert anonymous.get("/login/").status == 200


def scope(client: str = "10.0.0.1", *forwarded: str) -> dict[str, Any]:
    return {"client": (client, 1), "headers": [(b"x-forwarded-for", address.encode()) for address in forwarded]}


def test_forwarded_address_counts_only_behind_a_proxy():
    assert address_of(scope("10.0.0.1", "1.2.3.4")) == "10.0.0.1"
    with override_settings(BEHIND_PROXY=True):
        assert address_of(scope("10.0.0.1", "6.6.6.6, 1.2.3.4")) == "1.2.3.4"  # the client can set the other addresses
        assert address_of(scope("10.0.0.1", "6.6.6.6", "1.2.3.4")) == "1.2.3.4"
        assert address_of(scope("10.0.0.1")) == "10.0.0.1"
        assert address_of(scope("10.0.0.1", "x" * 5000)) == address_of(scope("10.0.0.1", "y"))
    assert address_of(scope("2001:db8:1:2:3:4:5:6")) == address_of(scope("2001:db8:1:2::1")) == "2001:db8:1:2::/64"
    assert address_of(scope("::ffff:1.2.3.4")) == "1.2.3.4"
    assert address_of({"client": None, "headers": []}) == "this machine"


@pytest.fixture
def person(site: None, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A user with a password; login attempts are not refilled during a test."""
    monkeypatch.setattr(login, "ADDRESS_LIMIT", Limit(SLOW_RATE, ADDRESS_LIMIT))
    monkeypatch.setattr(login, "USERNAME_LIMIT", Limit(SLOW_RATE, USERNAME_LIMIT))
    return get_user_model().objects.create_superuser("maria", password="the right one")


class LoginPage:
    """A client of a login page over a real connection."""

    def __init__(self, port: int, page: str = "/login/", address: str = "") -> None:
        self.caller, self.page = ApiClient(port, {"X-Forwarded-For": address} if address else {}), page
        form = self.caller.get(page)
        [self.cookie] = [value.split(";")[0] for value in form.headers.get_all("Set-Cookie") if "csrf" in value]
        match = re.search(rb'name="csrfmiddlewaretoken" value="(\w+)"', form.raw)
        assert match is not None
        self.token = match[1].decode()

    def log_in(self, name: str, password: str) -> Any:
        body = f"csrfmiddlewaretoken={self.token}&username={name}&password={password}".encode()
        content_type = "application/x-www-form-urlencoded"
        return self.caller.call("POST", self.page, body, Content_Type=content_type, Cookie=self.cookie)


@pytest.mark.slow
@pytest.mark.parametrize("page", ["/login/", "/admin/login/"])
def test_login_attempts_are_limited_per_address(person: Any, web_port: int, page: str):
    visitor = LoginPage(web_port, page)
    for number in range(ADDRESS_LIMIT):
        response = visitor.log_in(f"user{number}", "wrong")
        assert response.status == 200 and b"Too many attempts" not in response.raw
    response = visitor.log_in("maria", "the+right+one")
    assert re.search(rb"Too many attempts. Try again in \d+ seconds", response.raw)
    assert response.status == (429 if page == "/login/" else 200)


@pytest.mark.slow
def test_login_attempts_are_limited_per_user_name_where_the_address_is_unknown(person: Any):
    client = Client()
    for _ in range(USERNAME_LIMIT):
        assert not client.login(username="MARIA", password="wrong")
    response = client.post("/login/", {"username": "maria", "password": "the right one"})
    assert response.status_code == 429 and b"Too many attempts" in response.content
    get_user_model().objects.create_superuser("other", password="the right one")
    assert client.post("/login/", {"username": "other", "password": "the right one"}).status_code == 302


@pytest.mark.slow
@pytest.mark.parametrize("page", ["/login/", "/admin/login/"])
def test_attacks_from_many_addresses_do_not_lock_a_user_out(person: Any, web_port: int, page: str):
    with override_settings(BEHIND_PROXY=True):
        attackers = [LoginPage(web_port, page, f"203.0.113.{number}") for number in range(USERNAME_LIMIT)]
        for attacker in attackers:
            assert b"Too many attempts" not in attacker.log_in("Maria", "wrong").raw
        assert b"Too many attempts" in attackers[0].log_in("maria", "the+right+one").raw
        attackers[1].log_in("maria", "wrong")
        for number in range(3):
            assert LoginPage(web_port, page, f"198.51.100.{number}").log_in("maria", "the+right+one").status == 302
        newcomer = LoginPage(web_port, page, "198.51.100.9")
        assert b"Too many attempts" not in newcomer.log_in("maria", "wrong").raw
        assert b"Too many attempts" in newcomer.log_in("maria", "the+right+one").raw  # it has failed


@pytest.mark.slow
def test_attacks_do_not_lock_a_user_out_of_tokens(person: Any, web_port: int):
    def sign_in(address: str, password: str) -> int:
        body = {"grant_type": "password", "username": "maria", "password": password}
        return ApiClient(web_port, {"X-Forwarded-For": address}).post("auth/token", body).status

    with override_settings(BEHIND_PROXY=True):
        for number in range(2 * USERNAME_LIMIT):
            assert sign_in(f"203.0.113.{number}", "wrong") == 401
        assert sign_in("203.0.113.1", "the right one") == 429
        assert sign_in("198.51.100.1", "the right one") == 200


@pytest.mark.slow
def test_parallel_login_attempts_are_limited(person: Any, web_port: int):
    visitor = LoginPage(web_port)
    with ThreadPoolExecutor(25) as pool:
        statuses = list(pool.map(lambda _: visitor.log_in("maria", "wrong").status, range(50)))
    assert statuses.count(200) == ADDRESS_LIMIT and statuses.count(429) == 50 - ADDRESS_LIMIT


def test_default_login_limits_are_10_per_address_and_30_per_user_name():
    assert (Limit(1 / 30, 10), Limit(1 / 20, 30)) == (login.ADDRESS_LIMIT, login.USERNAME_LIMIT)


@pytest.mark.slow
def test_successful_logins_are_not_limited(person: Any, web_port: int):
    for _ in range(ADDRESS_LIMIT + 2):
        assert LoginPage(web_port).log_in("maria", "the+right+one").status == 302
