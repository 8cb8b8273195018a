"""API of channels and routes: validation, hidden secrets and permissions."""

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from ipaddress import ip_network
from typing import Any

import pytest

from alerts.models import Channel, Delivery, Route
from metrics.models import AuditEntry, IdempotentAnswer
from tests.conftest import ApiClient

CHANNELS, ROUTES = "alerts/channels", "alerts/routes"
WEBHOOK: dict[str, Any] = {"name": "hook", "kind": "webhook", "url": "https://8.8.8.8/services/T0/token-in-path"}
VALID_CHANNELS: dict[str, dict[str, Any]] = {  # one channel of each kind by the target that the API shows
    "https://8.8.8.8": WEBHOOK,
    "mei@example.com, jo@example.com": {"kind": "email", "addresses": ["mei@example.com", "jo@example.com"]},
    "slack": {"kind": "apprise", "url": "slack://TokenA/TokenB/TokenC/#alerts"},
    "log_alert": {"kind": "action", "action": "log_alert"},
}


@pytest.mark.slow
@pytest.mark.parametrize("target", VALID_CHANNELS)
def test_channel_of_every_kind_is_created_without_showing_secrets(admin: ApiClient, target: str):
    created = admin.post(
        CHANNELS, WEBHOOK | {"url": ""} | VALID_CHANNELS[target] | {"secret": "s3cret"}, Idempotency_Key="k"
    )
    assert created.status == 201, created.json
    assert (created.json["target"], created.json["has_secret"]) == (target, True)
    read = admin.get(f"{CHANNELS}/{created.json['channel_id']}")
    assert read.json == created.json == admin.get(CHANNELS).json["channels"][0]
    stored = str([*AuditEntry.objects.values(), *IdempotentAnswer.objects.values()])
    for secret in ("s3cret", "token-in-path", "TokenA", "TokenB"):
        assert secret not in created.raw.decode() + read.raw.decode() + stored


INVALID_FIELDS: list[tuple[dict[str, Any], str]] = [
    ({"name": None}, "name"),
    ({"kind": None}, "kind"),
    ({"kind": "pigeon"}, "kind"),
    ({"url": ""}, "url"),
    ({"url": "http://127.0.0.1/hook"}, "url"),
    ({"url": "http://10.1.2.3/hook"}, "url"),
    ({"url": "http://[::1]/hook"}, "url"),
    ({"url": "file:///etc/passwd"}, "url"),
    ({"url": "https://user:password@8.8.8.8/"}, "url"),
    ({"kind": "apprise", "url": "syslog://"}, "url"),
    ({"kind": "email", "url": "", "addresses": ["nobody"]}, "addresses.0"),
    ({"kind": "email", "url": "", "addresses": []}, "addresses"),
    ({"kind": "email", "addresses": ["mei@example.com"]}, "url"),
    ({"kind": "action", "url": "", "action": "os.system"}, "action"),
    ({"gather_seconds": -1}, "gather_seconds"),
    ({"colour": "red"}, "colour"),
    ({"secret": "a\0b"}, "secret"),
]


@pytest.mark.parametrize(
    ("invalid", "field"), INVALID_FIELDS, ids=[f"{number}-{row[1]}" for number, row in enumerate(INVALID_FIELDS)]
)
def test_invalid_channel_is_rejected_with_its_field(admin: ApiClient, invalid: dict[str, Any], field: str):
    body = {name: value for name, value in (WEBHOOK | invalid).items() if value is not None}
    response = admin.post(CHANNELS, body)
    assert response.status in (400, 422) and field in [error["field"] for error in response.json["errors"]]
    assert not Channel.objects.exists()


def test_duplicate_name_is_rejected(admin: ApiClient):
    created = admin.post(CHANNELS, WEBHOOK).json
    duplicate = admin.post(CHANNELS, WEBHOOK)
    assert duplicate.status == 400 and duplicate.json["errors"][0]["field"] == "name"
    other_channel = admin.post(CHANNELS, WEBHOOK | {"name": "other"}).json
    assert admin.call("PATCH", f"{CHANNELS}/{other_channel['channel_id']}", {"name": "hook"}).status == 400
    assert admin.call("PATCH", f"{CHANNELS}/{created['channel_id']}", {"name": "hook"}).status == 200


def test_omitted_secrets_are_kept(admin: ApiClient):
    created = admin.post(CHANNELS, WEBHOOK | {"secret": "s3cret"}).json
    path = f"{CHANNELS}/{created['channel_id']}"
    etag = admin.get(path).headers["ETag"]
    changed = admin.call("PATCH", path, {"enabled": False, "gather_seconds": 60}, If_Match=etag)
    assert changed.status == 200 and changed.json["enabled"] is False
    channel = Channel.objects.get()
    assert (channel.url, channel.secret) == (WEBHOOK["url"], "s3cret")
    assert admin.call("PATCH", path, {"enabled": True}, If_Match=etag).status == 412
    assert admin.call("PATCH", path, {"url": "http://127.0.0.1/"}).status == 422
    assert admin.call("PATCH", path, {"secret": ""}).json["has_secret"] is False
    assert admin.call("DELETE", path).status == 200 and admin.get(path).status == 404


def test_list_filters_channels(admin: ApiClient):
    for name, fields in (
        ("a", {}),
        ("b", {"enabled": False}),
        ("c", {"kind": "action", "url": "", "action": "log_alert"}),
    ):
        assert admin.post(CHANNELS, WEBHOOK | {"name": name} | fields).status == 201
    for query, expected in {"": "abc", "kind=action": "c", "enabled=false": "b", "search=A": "a"}.items():
        assert "".join(channel["name"] for channel in admin.get(f"{CHANNELS}?{query}").json["channels"]) == expected


class ScriptedHandler(BaseHTTPRequestHandler):
    statuses: list[int] = []

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(self.statuses.pop(0))
        self.end_headers()
        self.wfile.write(b"thank you")

    def log_message(self, *args: Any) -> None:
        return None


@pytest.fixture
def receiver_url(settings: Any) -> Iterator[str]:
    """Return the URL of a server that responds with 200, then with 503."""
    settings.ALLOW_PRIVATE_WEBHOOKS = [ip_network("127.0.0.0/8")]
    ScriptedHandler.statuses = [200, 503]
    server = HTTPServer(("127.0.0.1", 0), ScriptedHandler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/"
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.mark.slow
def test_channel_test_returns_its_delivery(admin: ApiClient, receiver_url: str):
    channel = admin.post(CHANNELS, WEBHOOK | {"url": receiver_url}).json
    sent, failed = (admin.post(f"{CHANNELS}/{channel['channel_id']}/test", {}).json for _ in range(2))
    assert (sent["success"], sent["delivery"]["answer_status"]) == (True, 200)
    assert (failed["success"], failed["delivery"]["answer_status"], failed["delivery"]["status"]) == (
        False,
        503,
        "failed",
    )
    assert Delivery.objects.filter(test=True).count() == 2


@pytest.mark.slow
def test_reading_needs_operate_and_changes_need_admin(
    operator: ApiClient, reader: ApiClient, viewer: ApiClient, admin: ApiClient
):
    channel = admin.post(CHANNELS, WEBHOOK).json["channel_id"]
    route = admin.post(ROUTES, {"name": "r", "channels": ["hook"]}).json["route_id"]
    for path in (CHANNELS, f"{CHANNELS}/{channel}", ROUTES, f"{ROUTES}/{route}"):
        assert operator.get(path).status == 200
        assert (reader.get(path).status, viewer.get(path).status) == (403, 403)
        for method in ("PATCH", "DELETE"):
            assert operator.call(method, path, {}).status in (403, 405)
    assert operator.post(CHANNELS, WEBHOOK).status == operator.post(f"{CHANNELS}/{channel}/test", {}).status == 403
    assert operator.post(ROUTES, {}).status == 403
    assert Channel.objects.count() == Route.objects.count() == 1


# --- routes -------------------------------------------------------------------------------------------

NIGHTS: dict[str, Any] = {
    "name": "nights",
    "levels": ["critical", "emergency"],
    "device_groups": ["site a"],
    "weekly": {"days": [0, 1], "from": "18:00", "to": "08:00", "timezone": "Europe/Berlin"},
    "channels": ["hook", "pager"],
    "repeat_minutes": 30,
    "escalation": [{"after_minutes": 15, "channels": ["manager"]}],
}


@pytest.mark.slow
def test_route_is_created_changed_and_deleted(admin: ApiClient):
    admin.post(CHANNELS, WEBHOOK)
    created = admin.post(ROUTES, NIGHTS)
    assert created.status == 201 and {name: created.json[name] for name in NIGHTS} == NIGHTS
    assert created.json["unconfigured_channels"] == ["pager", "manager"]
    path = f"{ROUTES}/{created.json['route_id']}"
    assert admin.get(path).json == created.json == admin.get(ROUTES).json["routes"][0]
    etag = created.headers["ETag"]
    changed = admin.call("PATCH", path, {"weekly": None, "repeat_minutes": None}, If_Match=etag)
    assert (changed.status, changed.json["weekly"], changed.json["channels"]) == (200, None, NIGHTS["channels"])
    assert admin.call("PATCH", path, {"enabled": False}, If_Match=etag).status == 412
    assert admin.get(f"{ROUTES}?enabled=false").json["total"] == 0
    assert admin.call("DELETE", path).status == 200 and admin.get(path).status == 404


INVALID_ROUTE_FIELDS: list[tuple[dict[str, Any], str]] = [
    ({"name": ""}, "name"),
    ({"levels": ["fatal"]}, "levels.0"),
    ({"channels": [], "escalation": []}, "channels"),
    ({"channels": ["a\0"]}, "channels.0"),
    ({"repeat_minutes": 0}, "repeat_minutes"),
    ({"weekly": {"days": [7], "from": "18:00", "to": "08:00"}}, "weekly"),
    ({"weekly": {"days": [1], "from": "25:00", "to": "08:00"}}, "weekly"),
    ({"weekly": {"days": [1], "from": "18:00", "to": "08:00", "timezone": "Mars/North"}}, "weekly"),
    ({"weekly": {"days": [1], "from": "18:00", "to": "08:00", "timezone": []}}, "weekly.timezone"),
    ({"weekly": "always"}, "weekly"),
    ({"escalation": [{"after_minutes": 0, "channels": ["a"]}]}, "escalation.0.after_minutes"),
    ({"escalation": [{"after_minutes": 5, "channels": []}]}, "escalation.0.channels"),
    ({"escalation": {}}, "escalation"),
    ({"colour": "red"}, "colour"),
]


@pytest.mark.parametrize(
    ("invalid", "field"),
    INVALID_ROUTE_FIELDS,
    ids=[f"{number}-{row[1]}" for number, row in enumerate(INVALID_ROUTE_FIELDS)],
)
def test_invalid_route_is_rejected_with_its_field(admin: ApiClient, invalid: dict[str, Any], field: str):
    response = admin.post(ROUTES, NIGHTS | invalid)
    assert response.status in (400, 422) and field in [error["field"] for error in response.json["errors"]], (
        response.json
    )
    assert not Route.objects.exists()
