"""Access control: every route and method with every kind of caller."""

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
from tests.telemetry_site.routes import Route, all_routes

ACCESS_TABLE = Path(__file__).parents[2] / "docs" / "integrate" / "access.md"
GENERATED = "## Requests by caller"  # the rest of the document
SECRET_VALUE = 12345.5  # an unmistakable value, to detect leaks

PUBLIC = "everybody"
READERS = {
    "viewer",
    "stranger",
    "operator",
    "administrator",
    "admin key",
    "read key",
    "operate key",
    "token",
    "service",
}
OWN_DEVICE = {"device"}  # the key of the device in the path, in addition
ADMINS = {"administrator", "admin key", "token", "service"}
OPERATORS = {"operator", "operate key"} | ADMINS
WRITERS = ADMINS | {"gateway"}
GROUP_KEY = {"group gateway"}  # a key of a group that contains the device
USERS = {"viewer", "stranger", "operator", "administrator"}

# (path pattern, methods, allowed callers). Every route must match exactly one row.
ACCESS_RULES: list[tuple[str, str, set[str] | str]] = [
    (
        r"/(health|health/detailed|livez|readyz|login/|logout/|favicon\.ico|agent\.(json|pyz(\.sha256)?)|api/schema/|api/docs/.*)",
        "GET POST",
        PUBLIC,
    ),
    (r"/api/v1/telemetry/auth/(token|refresh|revoke)", "POST", PUBLIC),
    (r"/api/v1/telemetry/collectors(/{collector_id}(/collections)?)?", "GET", READERS),
    (r"/api/v1/telemetry/collectors(/{collector_id})?", "POST PATCH DELETE", ADMINS),
    (r"/api/v1/telemetry/collectors/{collector_id}/run", "POST", OPERATORS),
    (r"/api/v1/telemetry/collectors/{collector_id}/deployments", "POST", set()),  # needs a token of its own
    (r"/api/v1/telemetry/devices/{device_id}/annotations", "GET", READERS | OWN_DEVICE),
    (r"/api/v1/telemetry/keys(/{key_id}(/rotate|/revoke)?)?", "GET POST PATCH DELETE", ADMINS),
    (r"/api/v1/telemetry/devices/{device_id}/telemetry(/batch)?", "POST", WRITERS | OWN_DEVICE | GROUP_KEY),
    (r"/telemetry/public", "GET", PUBLIC),
    (r"/api/v1/telemetry/devices/{device_id}/agent", "GET", READERS | OWN_DEVICE | GROUP_KEY | {"gateway"}),
    (r"/api/v1/telemetry/devices/{device_id}/agent", "PUT", ADMINS),
    (r"/status/.*", "GET", PUBLIC),
    (r"/dashboard/agents", "GET", READERS),
    (r"/api/v1/telemetry/(bulk|snapshot)", "POST", WRITERS | GROUP_KEY | {"device", "other device"}),
    (r"/(api/telemetry/snapshot|telemetry)", "POST", WRITERS | GROUP_KEY | {"device", "other device"}),
    (r"/telemetry/(status|history|collect/{snapshot_id})|/dashboard", "GET", READERS),
    (r"/telemetry/collect", "POST", OPERATORS),
    (
        r"/api/v1/telemetry/devices/{device_id}/metrics(/{metric_name}/(latest|range|anomalies))?",
        "GET",
        READERS | OWN_DEVICE,
    ),
    (r"/api/v1/telemetry/devices/{device_id}/stats", "GET", READERS | OWN_DEVICE),
    (r"/api/v1/telemetry/(stats|service/stats)", "GET", READERS),
    (r"/api/v1/telemetry/(query|latest)", "POST", READERS),
    (r"/api/v1/telemetry/(aggregated|export/csv)", "GET", READERS),
    (r"/api/v1/telemetry/export/jobs", "POST", READERS),
    (
        r"/api/v1/telemetry/export/jobs(/{export_id}.*)?",
        "GET",
        READERS | GROUP_KEY | {"device", "other device", "gateway"},
    ),
    (
        r"/api/v1/telemetry/export/jobs/{export_id}/cancel",
        "POST",
        READERS | GROUP_KEY | {"device", "other device", "gateway"},
    ),
    (r"/api/v1/telemetry/metrics(/{metric_name})?", "GET", READERS),
    (r"/api/v1/telemetry/metrics(/{metric_name})?", "POST PATCH DELETE", ADMINS),
    (r"/api/v1/telemetry/(subscribe|tickets)", "GET POST", READERS | {"device", "other device"}),
    # When this request is sent, the device in the paths has been deleted together with its key.
    (r"/api/v1/telemetry/subscribe/{subscription_id}", "DELETE", READERS | {"other device"}),
    (r"/api/v1/telemetry/audit", "GET", ADMINS),
    (r"/api/v1/telemetry/bus/parked(/{number}(/replay)?)?", "GET POST DELETE", ADMINS),
    (
        r"/api/v1/telemetry/(devices|devices\.csv|deletions(/{deletion_id})?|groups(/{name}(/devices)?)?)",
        "GET",
        READERS,
    ),
    (r"/api/v1/telemetry/devices/{device_id}", "GET", READERS | OWN_DEVICE),
    (r"/api/v1/telemetry/devices/{device_id}", "PATCH", OPERATORS),
    (r"/api/v1/telemetry/groups/{name}/devices", "POST DELETE", OPERATORS),
    (r"/api/v1/telemetry/(devices|devices\.csv|groups)", "POST", ADMINS),
    (r"/api/v1/telemetry/(devices/{device_id}|groups/{name})", "DELETE", ADMINS),
    (r"/api/v1/telemetry/groups/{name}", "PATCH", ADMINS),
    (r"/api/v1/telemetry/rejected(/{number})?", "GET", READERS),
    (r"/api/v1/telemetry/rejected/({number}|replay|{number}/replay)", "POST DELETE", OPERATORS),
    (r"/api/v1/telemetry/alerts(/{alert_id}(/notices|/trace)?|/patterns|/deliveries|/metrics)?", "GET", READERS),
    (r"/api/v1/telemetry/alerts/bulk", "POST", OPERATORS),
    (r"/(alerts|patterns)", "GET", READERS),
    (r"/api/v1/telemetry/alerts/silences(/{silence_id})?", "GET", READERS),
    (r"/api/v1/telemetry/alerts/silences(/{silence_id})?", "POST PATCH DELETE", OPERATORS),
    (r"/api/v1/telemetry/alerts/(silences/preview|backtest)", "POST", READERS),
    (r"/api/v1/telemetry/devices/{device_id}/maintenance", "POST DELETE", OPERATORS | OWN_DEVICE),
    (r"/api/v1/telemetry/alerts/(channels(/{channel_id})?|routes(/{route_id})?)", "GET", OPERATORS),
    (r"/api/v1/telemetry/alerts/(channels|routes)(/{(channel|route)_id}(/test)?)?", "POST PATCH DELETE", ADMINS),
    (r"/api/v1/telemetry/alerts/rules(/{rule_id}(/comparison|/trace|/versions(/{version})?)?)?", "GET", READERS),
    (r"/api/v1/telemetry/alerts/rules(/{rule_id}(/versions/{version}/rollback|/shadow|/promote)?)?", "POST", ADMINS),
    (r"/api/v1/telemetry/alerts/rules/{rule_id}", "PATCH PUT DELETE", ADMINS),
    (r"/api/v1/telemetry/alerts/rules/{rule_id}/enable", "PUT", OPERATORS),
    (r"/api/v1/telemetry/alerts/{alert_id}/(acknowledge|resolve|assign|feedback)", "PUT", OPERATORS),
    (r"/api/v1/telemetry/alerts/{alert_id}/feedback", "DELETE", OPERATORS),
    (r"/api/v1/telemetry/alerts/{alert_id}/comments", "POST", OPERATORS),
    (r"/rejected/({number}/)?(replay|dismiss)/", "GET", USERS),
    (r"/alerts/(|updates/|sparklines/|act/|{alert_id}/)", "GET", USERS),
    (r"/rules/(|check/|{rule_id}/((switch|restore|promote|delete)/)?)", "GET", USERS),
    (r"/api/v1/telemetry/status-pages(/.*)?", "GET POST PATCH DELETE", OPERATORS),
    (
        r"/status-pages/({page_id}/)?(|new/|settings/|preview/|(components|incidents|templates)/({\w+}/)?|maintenances/)",
        "GET",
        {"operator", "administrator"},
    ),
    (r"/status-pages/{page_id}/((components|incidents|templates)/{\w+}/)?(move|publish|delete)/", "GET", USERS),
    (r"/(rules|channels|channels/routes)/new/", "GET", {"administrator"}),
    (r"/channels/routes/{route_id}/", "GET", {"administrator"}),
    (r"/channels/({channel_id}/)?", "GET", {"operator", "administrator"}),
    (r"/channels/({channel_id}/(test|delete)|routes/{route_id}/delete)/", "GET", USERS),
    (r"/silences/({silence_id}/end/)?|/alerts/{alert_id}/(silence|feedback)/", "GET", USERS),
    (r"/collectors/({collector_id}/((run|switch|delete)/)?)?", "GET", USERS),
    (r"/collectors/new/({kind}/)?", "GET", {"administrator"}),
    (
        r"/(|overview/(alerts|devices)/|patterns/|rejected/|settings/|agent/.*|devices/.*|recent/.*|exports/.*)",
        "GET",
        USERS,
    ),
]


def allowed_callers(route: Route) -> set[str] | str:
    matches = [
        callers
        for path, methods, callers in ACCESS_RULES
        if re.fullmatch(path, route.template) and route.method in methods
    ]
    assert len(matches) == 1, f"{route.method} {route.template} is in {len(matches)} rows of RIGHTS: give it one"
    return matches[0]


def token(header: dict[str, str], **claims: object) -> str:
    """Return a token with an invalid signature."""
    all_claims = {"iss": OWN_ISSUER, "aud": tokens.AUDIENCE, "sub": "user:administrator", "scope": "admin", "family": 1}
    parts = [header, all_claims | {"exp": int(time.time()) + 600} | claims]
    encoded_parts = [base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=").decode() for part in parts]
    return ".".join([*encoded_parts, "" if header["alg"] == "none" else "c2lnbmVk"])


class ServiceClient(ApiClient):
    """A client of the service `planner`, which signs a token for each request."""

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
    """Return all callers by name. `device` has a key of the device in the paths, `other device` of another."""
    admin.post("devices/device_001/telemetry", point(value=SECRET_VALUE))
    group = DeviceGroup.objects.get(name="site a")
    group_membership.add_devices(group, Device.objects.filter(device_id="device_001").values_list("pk", flat=True))

    def token_client(text: str) -> ApiClient:
        return ApiClient(admin.port, {"Authorization": f"Bearer {text}"})

    def key_client(name: str, scope: str, **options: object) -> ApiClient:
        return ApiClient(admin.port, {"X-Api-Key": ApiKey.issue(name, scope, **options)[1]})  # type: ignore[arg-type]

    root = get_user_model().objects.get(username="administrator")
    valid, revoked = tokens.issue_for_user(root), tokens.issue_for_user(root)
    tokens.revoke(revoked.refresh_token)
    settings.SERVICES = {"planner": Service("s" * 32, "admin")}

    def sign_token(**claims: object) -> str:
        """Return a validly signed token with these claims."""
        all_claims = jwt.decode(valid.access_token, options={"verify_signature": False}) | claims
        return jwt.encode(all_claims, tokens._signing_key(), tokens.ALGORITHM)

    other_device = Device.objects.create(device_id="device_002")
    yesterday = timezone.now() - timedelta(days=1)
    return {
        "anonymous": anonymous,
        "viewer": viewer,
        "stranger": stranger,
        "operator": operator,
        "administrator": administrator,
        "admin key": admin,
        "operate key": key_client("operate", Scope.OPERATE),
        "read key": reader,
        "token": token_client(valid.access_token),
        "service": ServiceClient(admin.port, {}),
        "gateway": gateway,
        "group gateway": key_client("group", Scope.INGEST, group=group),
        "device": device,
        "other device": key_client("other", Scope.INGEST, device=other_device),
        "revoked key": key_client("revoked", Scope.ADMIN, revoked_at=yesterday),
        "expired key": key_client("expired", Scope.ADMIN, expires_at=yesterday),
        "wrong key": ApiClient(admin.port, {"X-Api-Key": "tk_nobodys"}),
        "alg=none": token_client(token({"alg": "none", "typ": "JWT"})),
        "forged signature": token_client(token({"alg": "HS256", "typ": "JWT"})),
        "wrong audience": token_client(sign_token(aud="elsewhere")),
        "expired token": token_client(sign_token(exp=int(time.time()) - 1)),
        "revoked token": token_client(revoked.access_token),
        "refresh token": token_client(tokens.issue_for_user(root).refresh_token),
        "X-Internal-Call": ApiClient(admin.port, {"X-Internal-Call": "true"}),
        "X_Internal_Call": ApiClient(admin.port, {"X_Internal_Call": "true", "x-internal-call": "True"}),
    }


def is_allowed(response: ApiResponse) -> bool:
    """Return whether a response shows that the caller is authorized. A server error fails the test."""
    assert response.status < 500 or (response.status == 503 and b"worker" in response.raw), (
        response.status,
        response.raw,
    )
    if response.status in (301, 302):
        return "login" not in response.headers["Location"]
    return response.status not in (401, 403)


@pytest.mark.slow
def test_every_path_rejects_anonymous_requests(anonymous: ApiClient) -> None:
    for route in all_routes():
        if allowed_callers(route) is PUBLIC:
            continue
        response = anonymous.call(route.method, route.path, None if route.method == "GET" else {})
        assert not is_allowed(response), (route, response.status)


@pytest.mark.slow
def test_django_admin_is_open_only_to_staff(anonymous: ApiClient, viewer: ApiClient, operator: ApiClient) -> None:
    for caller in (anonymous, viewer, operator):
        for path in ("/admin/", "/admin/metrics/device/", "/admin/auth/user/", "/admin/ingest/apikey/add/"):
            response = caller.get(path)
            assert response.status == 302, path
            assert "/admin/login/" in response.headers["Location"]


@pytest.mark.slow
def test_each_caller_has_exactly_the_granted_access(callers: dict[str, ApiClient]) -> None:
    violations, rows = [], []
    for route in all_routes():
        allowed = allowed_callers(route)
        row = []
        for name, caller in callers.items():
            if route.path.startswith("/logout") and "Cookie" in caller.headers:
                continue
            response = caller.call(route.method, route.path, None if route.method == "GET" else {})
            expected = allowed is PUBLIC or name in allowed
            if is_allowed(response) is not expected:
                violations.append((route.method, route.template, name, response.status))
            if name == "stranger" and allowed is not PUBLIC:
                assert str(SECRET_VALUE) not in response.raw.decode(errors="replace"), route
            row.append("yes" if is_allowed(response) else "")
        if allowed is not PUBLIC:
            rows.append((f"{route.method} `{route.template}`", row))
    assert violations == []
    _check_table(list(callers), rows)


def _check_table(names: list[str], rows: list[tuple[str, list[str]]]) -> None:
    """Compare the rules with the committed table, so that changes of access are reviewed."""
    rejected_everywhere = [name for index, name in enumerate(names) if not any(row[index] for _, row in rows)]
    columns = [index for index, name in enumerate(names) if name not in rejected_everywhere]
    lines = [
        GENERATED,
        "",
        "Generated by `tests/telemetry_site/test_access.py`, which sends every request as every caller. Users see only",
        "the devices of their groups, so a viewer without a group (`stranger`) gets empty responses. `device` has a",
        "key of the device in the path. These callers can use only the public routes:",
        f"{', '.join(rejected_everywhere)}.",
        "",
        f"| | {' | '.join(names[index] for index in columns)} |",
        f"|---|{'---|' * len(columns)}",
        *(f"| {route} | {' | '.join(row[index] for index in columns)} |" for route, row in sorted(rows, key=_sort_key)),
    ]
    text = ACCESS_TABLE.read_text().partition(GENERATED)[0] + "\n".join(lines) + "\n"
    if os.environ.get("WRITE_ACCESS_TABLE"):
        ACCESS_TABLE.write_text(text)
    assert ACCESS_TABLE.read_text() == text, (
        "the access table changed: run with WRITE_ACCESS_TABLE=1 to update docs/integrate/access.md"
    )


def _sort_key(row: tuple[str, list[str]]) -> tuple[str, str]:
    method, _, address = row[0].partition(" ")
    return address, method
