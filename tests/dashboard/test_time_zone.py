"""All pages show times in one time zone, which the user sets."""

import re
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from django.test import Client
from django.utils import timezone

from alerts import silences
from alerts.models import Rule
from alerts.rules import lifecycle
from rest.caller import Caller
from tests.conftest import API, ApiClient, point
from tests.dashboard.factories import open_alert

CHOSEN, BROWSER = "telemetry_time_zone", "telemetry_browser_time_zone"
PAGES = (
    "/", "/alerts/", "/devices/", "/devices/room-7/", "/rules/", "/silences/", "/channels/", "/exports/", "/rejected/",
    "/patterns/", "/settings/",
)  # fmt: skip


@pytest.fixture
def rule(site: None) -> Rule:
    fields = {"name": "Too warm", "metric_name": "temperature", "threshold_value": 2.0}
    return lifecycle.create(fields, "user:mei")


def zone_named_by(client: Client, path: str) -> list[str]:
    return re.findall(r'Times in <a href="/settings/">([^<]+)</a>', client.get(path).content.decode())


@pytest.mark.slow
@pytest.mark.parametrize(
    ("chosen", "browser", "zone"),
    [
        ("", "", "UTC"),
        ("", "Asia/Kathmandu", "Asia/Kathmandu"),
        ("America/St_Johns", "Asia/Kathmandu", "America/St_Johns"),
        ("Europe/Nowhere", "../../etc/passwd", "UTC"),
    ],
)
def test_every_page_names_the_zone_once(
    client: Client, rule: Rule, gateway: ApiClient, chosen: str, browser: str, zone: str
):
    assert gateway.post("devices/room-7/telemetry", point("temperature", 1)).status == 200
    client.cookies[CHOSEN], client.cookies[BROWSER] = chosen, browser
    for path in (*PAGES, f"/rules/{rule.rule_id}/"):
        assert zone_named_by(client, path) == [zone], path
    assert f"Times in {zone}</a>" in client.get("/admin/").content.decode()


@pytest.mark.slow
def test_times_of_lists_pages_and_the_admin_are_in_the_zone(client: Client, rule: Rule):
    zone = ZoneInfo("Asia/Kathmandu")
    client.cookies[CHOSEN] = zone.key
    alert = open_alert(rule, "room-7", "Room 7 is too warm")
    ends_at = timezone.now() + timedelta(hours=3)
    fields = {"device_ids": ["room-7"], "reason": "Defrosting", "ends_at": ends_at}
    silences.create_silence(fields, Caller("user:mei", "admin"))
    opened, ends = alert.triggered_at.astimezone(zone), ends_at.astimezone(zone)
    assert f">{opened:%H:%M}<" in client.get("/alerts/").content.decode()
    page = client.get(f"/alerts/{alert.alert_id}/").content.decode()
    assert f">{opened.day} {opened:%b %H:%M:%S}<" in page and f"until {ends.day} {ends:%b %H:%M}" in page
    assert f">{ends.day} {ends:%b %H:%M}<" in client.get("/silences/").content.decode()
    admin = client.get("/admin/alerts/silence/").content.decode()
    assert f"{ends:%H:%M}" in admin and f"{ends_at.astimezone(UTC):%H:%M}" not in admin
    for path in ("/alerts/", f"/alerts/{alert.alert_id}/", "/silences/", "/channels/"):
        assert "UTC" not in client.get(path).content.decode(), path


@pytest.mark.slow
def test_settings_save_the_zone_and_return_to_that_of_the_browser(client: Client):
    client.cookies[BROWSER] = "Asia/Kathmandu"
    page = client.post("/settings/", {"time_zone": "Europe/Oslo"}, follow=True).content.decode()
    assert "Times are shown in Europe/Oslo." in page
    assert '<option value="Europe/Oslo" selected>' in page
    assert zone_named_by(client, "/alerts/") == ["Europe/Oslo"]
    client.post("/settings/", {"time_zone": "Europe/Nowhere"})
    assert zone_named_by(client, "/alerts/") == ["Europe/Oslo"]
    client.post("/settings/", {"time_zone": ""})
    assert zone_named_by(client, "/alerts/") == ["Asia/Kathmandu"]


@pytest.mark.slow
def test_api_times_are_utc_for_users_with_another_time_zone(client: Client, rule: Rule):
    alert = open_alert(rule, "room-7", "Room 7 is too warm")
    client.cookies[CHOSEN] = "Asia/Kathmandu"
    client.get("/alerts/")
    answer = client.get(f"{API}/alerts/{alert.alert_id}").json()
    assert answer["triggered_at"].endswith("Z")
    assert datetime.fromisoformat(answer["triggered_at"]) == alert.triggered_at
    trace = client.get(f"{API}/alerts/{alert.alert_id}/trace").content.decode()
    assert "+0545" not in trace
