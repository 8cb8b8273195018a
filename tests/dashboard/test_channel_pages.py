"""The rendered pages and forms of channels and routes."""

import http.server
import re
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from ipaddress import ip_network
from typing import Any

import pytest
from django.test import Client
from django.utils import timezone

from alerts.models import Alert, Channel, Delivery, DeliveryStatus, Route
from alerts.notifications import channel_lifecycle, grouping, retry_queue
from alerts.notifications.channels.transport import SendFailed
from tests.alerts.factories import create_alerts, create_device, create_devices, create_notifying_rule
from tests.dashboard.factories import client_of
from tests.telemetry_site.two_sites import create_delivery

CHANNEL: dict[str, Any] = {
    "name": "duty", "kind": "email", "addresses": "a@example.com\nb@example.com", "gather_seconds": "60",
    "send_resolved": "on", "enabled": "on",
}  # fmt: skip
WEBHOOK = {"name": "hook", "kind": "webhook", "url": "https://hooks.example.com/secret/path", "enabled": "on"}
ROUTE: dict[str, Any] = {
    "name": "Nights", "levels": ["critical"], "days": ["5", "6"], "from": "18:00", "to": "07:00",
    "timezone": "Europe/Oslo", "channels": ["duty"], "repeat_minutes": "15", "after_minutes": ["10", "", ""],
    "step_0": ["hook"], "enabled": "on",
}  # fmt: skip


@pytest.fixture
def webhook_channel(site: None) -> Channel:
    return channel_lifecycle.create_channel(
        {"name": "hook", "kind": "webhook", "url": WEBHOOK["url"], "secret": "s3cret"}, "user:mei"
    )


def test_empty_list_explains_channels(client: Client):
    assert "Without a channel, alerts appear in the inbox only" in client.get("/channels/").content.decode()


def test_submitted_form_creates_a_channel(client: Client):
    page = client.post("/channels/new/", CHANNEL, follow=True).content.decode()
    channel = Channel.objects.get()
    assert "duty saved." in page and "Destination: a@example.com, b@example.com" in page
    assert (channel.addresses, channel.gather_seconds) == (["a@example.com", "b@example.com"], 60)
    assert channel.send_resolved and channel.enabled and channel.created_by == "user:mei"


def test_url_and_secret_are_hidden_and_kept_by_empty_inputs(client: Client, webhook_channel: Channel):
    for path in ("/channels/", f"/channels/{webhook_channel.channel_id}/"):
        page = client.get(path).content.decode()
        assert "hooks.example.com" in page and "secret/path" not in page and "s3cret" not in page
    client.post(f"/channels/{webhook_channel.channel_id}/", WEBHOOK | {"url": "", "name": "other"})
    webhook_channel.refresh_from_db()
    assert (webhook_channel.name, webhook_channel.url, webhook_channel.secret) == ("other", WEBHOOK["url"], "s3cret")
    client.post(
        f"/channels/{webhook_channel.channel_id}/", WEBHOOK | {"url": "https://new.example.com", "no_secret": "on"}
    )
    webhook_channel.refresh_from_db()
    assert (webhook_channel.url, webhook_channel.secret) == ("https://new.example.com", "")


@pytest.mark.parametrize(
    ("invalid_fields", "error"),
    [
        ({"name": ""}, "must be 1 to 200 printable characters"),
        ({"addresses": ""}, "is required for a channel of kind email"),
        ({"kind": "webhook", "url": ""}, "is required for a channel of kind webhook"),
        ({"kind": "none"}, "must be one of webhook"),
        ({"gather_seconds": "soon"}, "Enter a whole number."),
    ],
)
def test_invalid_form_shows_errors(client: Client, invalid_fields: dict[str, Any], error: str):
    response = client.post("/channels/new/", CHANNEL | invalid_fields)
    assert response.status_code == 422 and error in response.content.decode() and not Channel.objects.exists()


@pytest.fixture
def receiver_port() -> Iterator[int]:
    """Run an HTTP server that receives webhooks; return its port."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            self.send_response(204)
            self.end_headers()

        def log_message(self, *arguments: Any) -> None:
            pass

    server = http.server.HTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server.server_port
    server.shutdown()
    server.server_close()


@pytest.mark.slow
def test_test_notification_shows_the_response(client: Client, receiver_port: int, settings: Any):
    settings.ALLOW_PRIVATE_WEBHOOKS = [ip_network("127.0.0.0/8")]
    webhook_channel = Channel.objects.create(name="hook", kind="webhook", url=f"http://127.0.0.1:{receiver_port}/")
    page = client.post(f"/channels/{webhook_channel.channel_id}/test/", follow=True).content.decode()
    assert "Test notification sent to hook (HTTP 204)." in page and ">test<" in page
    Channel.objects.filter(pk=webhook_channel.pk).update(url="http://127.0.0.1:9/")
    page = client.post(f"/channels/{webhook_channel.channel_id}/test/", follow=True).content.decode()
    assert "Test notification to hook failed:" in page
    assert Delivery.objects.filter(test=True, status=DeliveryStatus.FAILED).count() == 1


def test_list_shows_last_deliveries_and_pages_of_the_log(client: Client, webhook_channel: Channel):
    Delivery.objects.bulk_create(
        Delivery(channel=webhook_channel, channel_name="hook", title=f"message {n:03}", payload={}, status="sent")
        for n in range(60)
    )
    Delivery.objects.create(
        channel=webhook_channel,
        channel_name="hook",
        title="the last",
        payload={},
        status="failed",
        error="mailbox full",
    )
    page = client.get("/channels/").content.decode()
    assert page.count("mailbox full") == 2 and "message 011" in page and "message 010" not in page
    assert "message 010" in client.get("/channels/?from=50").content.decode()


def test_a_channel_is_deleted(client: Client, webhook_channel: Channel):
    assert (
        "hook deleted." in client.post(f"/channels/{webhook_channel.channel_id}/delete/", follow=True).content.decode()
    )
    assert not Channel.objects.exists()


class TestRoutes:
    def test_submitted_form_creates_a_route(self, client: Client):
        page = client.post("/channels/routes/new/", ROUTE, follow=True).content.decode()
        route = Route.objects.get()
        assert route.weekly == {"days": [5, 6], "from": "18:00", "to": "07:00", "timezone": "Europe/Oslo"}
        assert route.escalation == [{"after_minutes": 10, "channels": ["hook"]}]
        assert "critical alerts, Sat, Sun 18:00 to 07:00 to duty, repeated every 15 min; after 10 min to hook" in page
        address = f"/channels/routes/{route.route_id}/"
        assert 'value="18:00"' in client.get(address).content.decode()
        client.post(address, ROUTE | {"days": [], "after_minutes": [""]})
        route.refresh_from_db()
        assert (route.weekly, route.escalation) == (None, [])
        client.post(f"{address}delete/")
        assert not Route.objects.exists()

    @pytest.mark.parametrize(
        ("invalid_fields", "error"),
        [
            ({"name": ""}, "must be 1 to 200 printable characters"),
            ({"channels": [], "after_minutes": [""]}, "at least one channel or escalation step is required"),
            ({"repeat_minutes": "often"}, "Enter a whole number."),
            ({"from": ""}, "from: must be a time"),
            ({"step_0": []}, "a list of at most 10 steps"),
        ],
    )
    def test_invalid_form_shows_errors(self, client: Client, invalid_fields: dict[str, Any], error: str):
        response = client.post("/channels/routes/new/", ROUTE | invalid_fields)
        assert response.status_code == 422 and error in response.content.decode() and not Route.objects.exists()


class TestPermissions:
    @pytest.mark.slow
    def test_operators_read_admins_change_and_viewers_get_403(self, webhook_channel: Channel):
        viewer, operator = client_of("v"), client_of("o", operates=True)
        create_notifying_rule()
        for path in ("/channels/", f"/channels/{webhook_channel.channel_id}/"):
            assert viewer.get(path).status_code == 403
            page = operator.get(path).content.decode()
            assert "hooks.example.com" in page and "<form method" not in page.split("<main")[1].split("</main>")[0]
        for path in (
            "new/",
            f"{webhook_channel.channel_id}/",
            f"{webhook_channel.channel_id}/test/",
            f"{webhook_channel.channel_id}/delete/",
        ):
            assert operator.post(f"/channels/{path}", CHANNEL).status_code == 403
        assert operator.post("/channels/routes/new/", ROUTE).status_code == 403

    @pytest.mark.slow
    def test_operators_see_channels_routes_and_deliveries_of_their_groups_only(self, webhook_channel: Channel):
        operator, path = client_of("o", operates=True), f"/channels/{webhook_channel.channel_id}/"
        rule = create_notifying_rule(device_groups=["site b"])
        own = create_notifying_rule("own", ["own channel"], device_groups=["site a"])
        channel_lifecycle.create_channel({"name": "own channel", "kind": "email", "addresses": ["a@b.org"]}, "user:mei")
        for name, groups in (("Own nights", ["site a", "site b"]), ("Other nights", ["site b"])):
            route = {"name": name, "device_groups": groups, "channels": ["own channel"]}
            channel_lifecycle.create_route(route, "user:mei")
        [other_alert] = create_alerts(rule, create_device("pump", "site b"))
        [own_alert] = create_alerts(own, create_device("boiler", "site a"))
        create_delivery([other_alert], "of pump", "hook")
        create_delivery([own_alert, other_alert], "of both", "own channel")
        create_delivery([own_alert], "of boiler", "own channel")
        page = operator.get("/channels/").content.decode()
        for text in ("own channel", "a@b.org", "Own nights", "of boiler"):
            assert text in page
        for text in ("hooks.example.com", "Other nights", "site b", "of pump", "of both"):
            assert text not in page
        assert operator.get(path).status_code == 404

    def test_anonymous_visitor_is_redirected_to_login(self, site: None):
        assert Client().get("/channels/")["Location"].startswith("/login/")


class TestFailingChannels:
    """A failing channel is seen on the channel page, the overview and the page of its alert."""

    @pytest.fixture
    def alert(self, webhook_channel: Channel) -> Alert:
        rule = create_notifying_rule(channels=["hook"])
        return create_alerts(rule, *create_devices(1, "site a"))[0]

    def fail(self, attempts: int, **fields: Any) -> None:
        grouping.create_deliveries(timezone.now())
        due_at = datetime(2026, 3, 1, 20, 5, tzinfo=UTC)
        failed = {"error": "HTTP 500", "answer_status": 500, "attempts": attempts, "due_at": due_at}
        Delivery.objects.update(**failed | fields)

    @pytest.mark.parametrize("path", ["/channels/", "/", "alert"])
    def test_retry_is_shown_with_error_attempt_and_time_of_the_next(self, client: Client, alert: Alert, path: str):
        self.fail(7)
        page = client.get(f"/alerts/{alert.alert_id}/" if path == "alert" else path).content.decode()
        expected = r"Retrying \(HTTP 500, attempt 7 of 10, next <time datetime=\"[^\"]+\">20:05</time>\)"
        assert re.search(expected, page)

    @pytest.mark.slow
    def test_final_failure_is_shown_on_the_alert_page_and_counted_on_the_overview(self, client: Client, alert: Alert):
        self.fail(10)
        delivery = Delivery.objects.get()
        Delivery.objects.update(status="sending")
        retry_queue.record_attempts([(Delivery.objects.get(), SendFailed("HTTP 500", status=500))], timezone.now())
        page = client.get(f"/alerts/{alert.alert_id}/").content.decode()
        assert "Notification to <b>hook</b>: Failed (HTTP 500, attempt 10 of 10)" in page
        assert "Notification to <b>hook</b> failed: HTTP 500" in " ".join(page.split())
        overview = client.get("/").content.decode()
        assert "1 notification channel failing:" in overview and "hook, Failed (HTTP 500, attempt 10 of 10)" in overview
        Delivery.objects.create(channel=delivery.channel, channel_name="hook", payload={}, status="sent", attempts=1)
        assert "channel failing" not in client.get("/").content.decode()

    def test_sent_and_first_attempts_are_not_failing(self, client: Client, alert: Alert):
        self.fail(1, error="", answer_status=None, status="sending")
        assert "failing" not in client.get("/").content.decode()
        self.fail(1, error="", answer_status=204, status="sent")
        assert "failing" not in client.get("/").content.decode()
        page = client.get(f"/alerts/{alert.alert_id}/").content.decode()
        assert "Sent (HTTP 204)" in page and "strap bad" not in page

    @pytest.mark.slow
    def test_overview_shows_failing_channels_to_operators_but_not_to_viewers(self, alert: Alert):
        self.fail(7)
        assert "channel failing" in client_of("operator", operates=True).get("/").content.decode()
        assert "channel failing" not in client_of("viewer").get("/").content.decode()
