"""Deny by default: who may do what, of every address and method of the site, by everyone who may come."""

import base64
import json
import os
import re
import time
from datetime import timedelta
from pathlib import Path
from typing import Any

import jwt
import pytest
from django.contrib.auth import get_user_model
from django.utils import timezone

from ingest.identity import service_tokens, tokens
from ingest.identity.trusted_issuers import OWN_ISSUER, Service
from ingest.models import ApiKey
from metrics.devices import group_membership
from metrics.models import Device, DeviceGroup
from rest.caller import Scope
from tests.conftest import ApiClient, ApiResponse, point
from tests.telemetry_site.routes import Route, routes

TABLE = Path(__file__).parents[2] / "docs" / "integrate" / "access.md"
SECRET = 12345.5  # a value that nobody sees by chance

PUBLIC = "everybody"
READ = {"viewer", "stranger", "operator", "administrator", "admin key", "read key", "operate key", "token", "service"}
OWN = {"device"}  # what a key that is bound to the device in the address may do besides
ADMIN = {"administrator", "admin key", "token", "service"}
OPERATE = {"operator", "operate key"} | ADMIN
WRITE = ADMIN | {"gateway"}
GROUP = {"group gateway"}  # has a key that is bound to a group with the device in it, and writes for that
PEOPLE = {"viewer", "stranger", "operator", "administrator"}

# Address and methods → who may. Every address has to be found here, in exactly one row.
RIGHTS: list[tuple[str, str, set[str] | str]] = [
    (r"/(health|health/detailed|livez|readyz|login/|logout/|favicon\.ico|api/schema/|api/docs/.*)", "GET POST", PUBLIC),
    (r"/api/v1/telemetry/auth/(token|refresh|revoke)", "POST", PUBLIC),
    (r"/api/v1/telemetry/keys(/{key_id}(/rotate|/revoke)?)?", "GET POST PATCH DELETE", ADMIN),
    (r"/api/v1/telemetry/devices/{device_id}/telemetry(/batch)?", "POST", WRITE | OWN | GROUP),
    (r"/telemetry/public", "GET", PUBLIC),
    (r"/api/v1/telemetry/(bulk|snapshot)", "POST", WRITE | GROUP | {"device", "other device"}),
    (r"/(api/telemetry/snapshot|telemetry)", "POST", WRITE | GROUP | {"device", "other device"}),
    (r"/telemetry/(status|history)|/dashboard", "GET", READ),
    (r"/telemetry/collect", "POST", OPERATE),
    (r"/api/v1/telemetry/devices/{device_id}/metrics(/{metric_name}/(latest|range|anomalies))?", "GET", READ | OWN),
    (r"/api/v1/telemetry/devices/{device_id}/stats", "GET", READ | OWN),
    (r"/api/v1/telemetry/(stats|service/stats)", "GET", READ),
    (r"/api/v1/telemetry/(query|latest)", "POST", READ),
    (r"/api/v1/telemetry/(aggregated|export/csv)", "GET", READ),
    (r"/api/v1/telemetry/export/jobs", "POST", READ),
    (r"/api/v1/telemetry/export/jobs(/{export_id}.*)?", "GET", READ | GROUP | {"device", "other device", "gateway"}),
    (r"/api/v1/telemetry/export/jobs/{export_id}/cancel", "POST", READ | GROUP | {"device", "other device", "gateway"}),
    (r"/api/v1/telemetry/metrics(/{metric_name})?", "GET", READ),
    (r"/api/v1/telemetry/metrics(/{metric_name})?", "POST PATCH DELETE", ADMIN),
    (r"/api/v1/telemetry/audit", "GET", ADMIN),
    (r"/api/v1/telemetry/(devices|devices\.csv|deletions(/{deletion_id})?|groups(/{name}(/devices)?)?)", "GET", READ),
    (r"/api/v1/telemetry/devices/{device_id}", "GET", READ | OWN),
    (r"/api/v1/telemetry/devices/{device_id}", "PATCH", OPERATE),
    (r"/api/v1/telemetry/groups/{name}/devices", "POST DELETE", OPERATE),
    (r"/api/v1/telemetry/(devices|devices\.csv|groups)", "POST", ADMIN),
    (r"/api/v1/telemetry/(devices/{device_id}|groups/{name})", "DELETE", ADMIN),
    (r"/api/v1/telemetry/groups/{name}", "PATCH", ADMIN),
    (r"/api/v1/telemetry/rejected(/{number})?", "GET", READ),
    (r"/api/v1/telemetry/rejected/({number}|replay|{number}/replay)", "POST DELETE", OPERATE),
    (r"/api/v1/telemetry/alerts(/{alert_id}(/notices|/trace)?|/patterns|/deliveries|/metrics)?", "GET", READ),
    (r"/api/v1/telemetry/alerts/bulk", "POST", OPERATE),
    (r"/(alerts|patterns)", "GET", READ),
    (r"/api/v1/telemetry/alerts/silences(/{silence_id})?", "GET", READ),
    (r"/api/v1/telemetry/alerts/silences(/{silence_id})?", "POST PATCH DELETE", OPERATE),
    (r"/api/v1/telemetry/alerts/(silences/preview|backtest)", "POST", READ),
    (r"/api/v1/telemetry/devices/{device_id}/maintenance", "POST DELETE", OPERATE | OWN),
    (r"/api/v1/telemetry/alerts/(channels(/{channel_id})?|routes(/{route_id})?)", "GET", OPERATE),
    (r"/api/v1/telemetry/alerts/(channels|routes)(/{(channel|route)_id}(/test)?)?", "POST PATCH DELETE", ADMIN),
    (r"/api/v1/telemetry/alerts/rules(/{rule_id}(/comparison|/trace|/versions(/{version})?)?)?", "GET", READ),
    (r"/api/v1/telemetry/alerts/rules(/{rule_id}(/versions/{version}/rollback|/shadow|/promote)?)?", "POST", ADMIN),
    (r"/api/v1/telemetry/alerts/rules/{rule_id}", "PATCH PUT DELETE", ADMIN),
    (r"/api/v1/telemetry/alerts/rules/{rule_id}/enable", "PUT", OPERATE),
    (r"/api/v1/telemetry/alerts/{alert_id}/(acknowledge|resolve|assign)", "PUT", OPERATE),
    (r"/api/v1/telemetry/alerts/{alert_id}/comments", "POST", OPERATE),
    (r"/rejected/({number}/)?(replay|dismiss)/", "GET", PEOPLE),
    (r"/alerts/(|updates/|sparklines/|act/|{alert_id}/)", "GET", PEOPLE),
    (r"/rules/(|check/|{rule_id}/((switch|restore|promote|delete)/)?)", "GET", PEOPLE),
    (r"/(rules|channels|channels/routes)/new/", "GET", {"administrator"}),
    (r"/channels/routes/{route_id}/", "GET", {"administrator"}),
    (r"/channels/({channel_id}/)?", "GET", {"operator", "administrator"}),
    (r"/channels/({channel_id}/(test|delete)|routes/{route_id}/delete)/", "GET", PEOPLE),
    (r"/silences/({silence_id}/end/)?|/alerts/{alert_id}/silence/", "GET", PEOPLE),
    (r"/(|overview/(alerts|devices)/|patterns/|rejected/|devices/.*|recent/.*|exports/.*)", "GET", PEOPLE),
]


def rights(route: Route) -> set[str] | str:
    found = [who for path, methods, who in RIGHTS if re.fullmatch(path, route.template) and route.method in methods]
    assert len(found) == 1, f"{route.method} {route.template} is in {len(found)} rows of RIGHTS: give it one"
    return found[0]


def token(header: dict[str, str], **claims: object) -> str:
    """A token without a signature that is worth anything."""
    given = {"iss": OWN_ISSUER, "aud": tokens.AUDIENCE, "sub": "user:administrator", "scope": "admin", "family": 1}
    parts = [header, given | {"exp": int(time.time()) + 600} | claims]
    packed = [base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=").decode() for part in parts]
    return ".".join([*packed, "" if header["alg"] == "none" else "c2lnbmVk"])


class OncePerCall(ApiClient):
    """The service `planner`, which signs a token for each call."""

    def call(self, method: str, path: str, body: Any = None, **headers: str) -> ApiResponse:
        token = service_tokens.make("planner")
        return super().call(method, path, body, Authorization=f"Bearer {token}", **headers)


@pytest.fixture
def callers(
    admin: ApiClient,
    reader: ApiClient,
    gateway: ApiClient,
    device: ApiClient,
    anonymous: ApiClient,
    administrator: ApiClient,
    operator: ApiClient,
    viewer: ApiClient,
    stranger: ApiClient,
    settings: Any,
) -> dict[str, ApiClient]:
    """Everyone who may come. `device` is bound to the device in the addresses, `other device` to another."""
    admin.post("devices/device_001/telemetry", point(value=SECRET))
    group = DeviceGroup.objects.get(name="site a")
    group_membership.add_devices(group, Device.objects.filter(device_id="device_001").values_list("pk", flat=True))

    def bearer(text: str) -> ApiClient:
        return ApiClient(admin.port, {"Authorization": f"Bearer {text}"})

    def key(name: str, scope: str, **more: object) -> ApiClient:
        return ApiClient(admin.port, {"X-Api-Key": ApiKey.issue(name, scope, **more)[1]})  # type: ignore[arg-type]

    root = get_user_model().objects.get(username="administrator")
    good, revoked = tokens.issue_for_user(root), tokens.issue_for_user(root)
    tokens.revoke(revoked.refresh_token)
    settings.SERVICES = {"planner": Service("s" * 32, "admin")}

    def signed(**claims: object) -> str:
        """A token that is flawless but for these claims."""
        whole = jwt.decode(good.access_token, options={"verify_signature": False}) | claims
        return jwt.encode(whole, tokens._signing_key(), tokens.ALGORITHM)

    other = Device.objects.create(device_id="device_002")
    long_ago = timezone.now() - timedelta(days=1)
    return {
        "anonymous": anonymous,
        "viewer": viewer,
        "stranger": stranger,
        "operator": operator,
        "administrator": administrator,
        "admin key": admin,
        "operate key": key("operate", Scope.OPERATE),
        "read key": reader,
        "token": bearer(good.access_token),
        "service": OncePerCall(admin.port, {}),
        "gateway": gateway,
        "group gateway": key("group", Scope.INGEST, group=group),
        "device": device,
        "other device": key("other", Scope.INGEST, device=other),
        "revoked key": key("revoked", Scope.ADMIN, revoked_at=long_ago),
        "expired key": key("expired", Scope.ADMIN, expires_at=long_ago),
        "wrong key": ApiClient(admin.port, {"X-Api-Key": "tk_nobodys"}),
        "alg=none": bearer(token({"alg": "none", "typ": "JWT"})),
        "forged signature": bearer(token({"alg": "HS256", "typ": "JWT"})),
        "wrong audience": bearer(signed(aud="elsewhere")),
        "expired token": bearer(signed(exp=int(time.time()) - 1)),
        "revoked token": bearer(revoked.access_token),
        "refresh token": bearer(tokens.issue_for_user(root).refresh_token),
        "X-Internal-Call": ApiClient(admin.port, {"X-Internal-Call": "true"}),
        "X_Internal_Call": ApiClient(admin.port, {"X_Internal_Call": "true", "x-internal-call": "True"}),
    }


def may(answer: ApiResponse) -> bool:
    """Whether the door was open, whatever was behind it."""
    if answer.status in (301, 302):
        return "login" not in answer.headers["Location"]
    return answer.status not in (401, 403)


@pytest.mark.slow
def test_every_path_rejects_anonymous_requests(anonymous: ApiClient) -> None:
    for route in routes():
        if rights(route) is PUBLIC:
            continue
        answer = anonymous.call(route.method, route.path, None if route.method == "GET" else {})
        assert not may(answer), (route, answer.status)


def test_django_admin_is_open_only_to_staff(anonymous: ApiClient, viewer: ApiClient, operator: ApiClient) -> None:
    for somebody in (anonymous, viewer, operator):
        for path in ("/admin/", "/admin/metrics/device/", "/admin/auth/user/", "/admin/ingest/apikey/add/"):
            answer = somebody.get(path)
            assert answer.status == 302, path
            assert "/admin/login/" in answer.headers["Location"]


@pytest.mark.slow
def test_each_caller_has_exactly_the_granted_access(callers: dict[str, ApiClient]) -> None:
    wrong, rows = [], []
    for route in routes():
        granted = rights(route)
        row = []
        for name, caller in callers.items():
            if route.path.startswith("/logout") and "Cookie" in caller.headers:
                continue
            answer = caller.call(route.method, route.path, None if route.method == "GET" else {})
            expected = granted is PUBLIC or name in granted
            if may(answer) is not expected:
                wrong.append((route.method, route.template, name, answer.status))
            if name == "stranger" and granted is not PUBLIC:
                assert str(SECRET) not in answer.raw.decode(errors="replace"), route
            row.append("yes" if may(answer) else "")
        if granted is not PUBLIC:
            rows.append((f"{route.method} `{route.template}`", row))
    assert wrong == []
    _check_table(list(callers), rows)


def _check_table(names: list[str], rows: list[tuple[str, list[str]]]) -> None:
    """The table for people: committed, so that nobody's rights change unannounced."""
    closed = [name for place, name in enumerate(names) if not any(row[place] for _, row in rows)]
    kept = [place for place, name in enumerate(names) if name not in closed]
    lines = [
        "# Who may do what",
        "",
        "Made and held by `tests/telemetry_site/test_access.py`, by asking. People see the devices of their groups",
        "alone, so a viewer who is in no group (`stranger`) gets empty answers. `device` has a key bound to the",
        "device in the address. These get nothing but what is open to everybody:",
        f"{', '.join(closed)}.",
        "",
        f"| | {' | '.join(names[place] for place in kept)} |",
        f"|---|{'---|' * len(kept)}",
        *(f"| {what} | {' | '.join(row[place] for place in kept)} |" for what, row in sorted(rows, key=_address)),
    ]
    text = "\n".join(lines) + "\n"
    if os.environ.get("WRITE_ACCESS_TABLE"):
        TABLE.write_text(text)
    assert TABLE.read_text() == text, (
        "the table of rights changed: WRITE_ACCESS_TABLE=1 renews docs/integrate/access.md"
    )


def _address(row: tuple[str, list[str]]) -> tuple[str, str]:
    method, _, address = row[0].partition(" ")
    return address, method
