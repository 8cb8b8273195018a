"""The rendered pages of the overview and of devices."""

import json
import re
from zoneinfo import ZoneInfo

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from metrics.devices import group_membership
from metrics.models import Device, DeviceGroup
from metrics.query import last_seen
from tests.conftest import ApiClient, point
from tests.dashboard.factories import client_of
from tests.metrics.test_damage import damage_all

PAGES = ["/", "/overview/devices/", "/devices/", "/devices/cold-room-07/", "/recent/cold-room-07/"]


@pytest.fixture
def cold_room(gateway: ApiClient) -> Device:
    points = [point("temperature", 4.25, unit="°C"), point("door_open", True), point("firmware", "2.4.1")]
    assert gateway.post("devices/cold-room-07/telemetry/batch", {"data_points": points}).status == 200
    return Device.objects.get(device_id="cold-room-07")


@pytest.mark.parametrize("path", PAGES)
def test_anonymous_visitor_is_redirected_to_login(site: None, path: str):
    response = Client().get(path)
    assert (response.status_code, response["Location"]) == (302, f"/login/?next={path}")


@pytest.mark.parametrize("path", PAGES)
def test_pages_reject_post(client: Client, path: str):
    assert client.post(path).status_code == 405


def test_empty_site_shows_first_command(client: Client):
    page = client.get("/").content.decode()
    assert "curl http://testserver/api/v1/telemetry/devices/my-device/telemetry" in page
    assert "Waiting for the first point" in page


def test_overview_shows_device_states_and_values(client: Client, cold_room: Device):
    page = client.get("/").content.decode()
    assert "1 device online" in page
    assert re.search(r"temperature <b[^>]*>4.25</b> <small>°C</small>", page)


def test_offline_device_is_listed_first(client: Client, cold_room: Device, gateway: ApiClient):
    assert gateway.post("devices/pump-02/telemetry", point("pressure", 3, seconds_ago=1200)).status == 200
    page = client.get("/").content.decode()
    assert "1 of 2 devices is offline" in page
    assert re.findall(r'<tr data-device="([^"]+)"', page) == ["pump-02", "cold-room-07"]


def test_newest_value_of_months_ago_is_shown(client: Client, gateway: ApiClient):
    assert gateway.post("devices/old/telemetry", point("temperature", 1.5, seconds_ago=80 * 86400)).status == 200
    page = client.get("/devices/").content.decode()
    assert "1.5" in page
    assert "80\xa0d" in page


def test_device_page_shows_every_kind_of_value(client: Client, cold_room: Device):
    page = client.get("/devices/cold-room-07/").content.decode()
    for text in ("4.25", ">true<", "2.4.1"):
        assert text in page
    drawable = json.loads(re.search(r'id="drawable" type="application/json">(.*?)</script>', page)[1])
    assert {metric["name"]: metric["kind"] for metric in drawable} == {"temperature": "number", "door_open": "boolean"}


def test_device_without_data_shows_first_command(client: Client):
    Device.objects.create(device_id="cold room/85")
    page = client.get("/devices/cold%20room/85/").content.decode()
    assert "No data yet" in page
    assert "/devices/cold%20room%2F85/telemetry" in page


def test_unknown_device_is_404(client: Client):
    response = client.get("/devices/nobody/")
    assert response.status_code == 404
    assert "Page not found" in response.content.decode()


def test_device_names_are_escaped(client: Client, gateway: ApiClient):
    name = "<img src=x onerror=alert(1)>"
    Device.objects.create(device_id="evil", name=name)
    assert gateway.post("devices/evil/telemetry", point(name, name)).status == 200
    for path in ("/", "/devices/", "/devices/evil/"):
        assert name not in client.get(path).content.decode()


def test_recent_returns_last_hour_and_range_since_midnight_of_the_user(client: Client, gateway: ApiClient):
    points = [point("temperature", value, seconds_ago=ago) for value, ago in ((9, 7200), (2, 1800), (4, 0))]
    assert gateway.post("devices/d/telemetry/batch", {"data_points": points}).status == 200
    now = timezone.now()
    for name in ("Pacific/Kiritimati", "Pacific/Pago_Pago", "Asia/Kathmandu"):
        client.cookies["telemetry_time_zone"] = name
        local = now.astimezone(ZoneInfo(name))
        since_midnight = (local - local.replace(hour=0, minute=0, second=0)).total_seconds()
        recent = client.get("/recent/d/", {"metric": ["temperature"]}).json()["metrics"]["temperature"]
        expected = [value for value, ago in ((9, 7200), (2, 1800), (4, 0)) if ago <= since_midnight]
        assert recent["values"] == [2, 4]
        assert (recent["low"], recent["high"]) == (min(expected), max(expected)), name


def test_recent_returns_a_sparkline_for_every_metric(client: Client, gateway: ApiClient):
    points = [point("on", True), point("words", "so it is"), point("count", 3, seconds_ago=7200)]
    assert gateway.post("devices/d/telemetry/batch", {"data_points": points}).status == 200
    # A zone in which the day began more than two hours ago.
    client.cookies["telemetry_time_zone"] = "Etc/GMT-12" if timezone.now().hour < 12 else "UTC"
    sparklines = client.get("/recent/d/", {"metric": ["on", "words", "count", "unknown", "nul\0"]}).json()["metrics"]
    values = {
        name: (sparkline["values"], sparkline["low"], sparkline["high"]) for name, sparkline in sparklines.items()
    }
    assert values == {
        "on": ([1.0], 1.0, 1.0),
        "words": ([], None, None),
        "count": ([], 3.0, 3.0),
        "unknown": ([], None, None),
    }


def test_damaged_blocks_are_shown_as_incomplete(client: Client, gateway: ApiClient):
    assert gateway.post("devices/d/telemetry", point("temperature", 1)).status == 200
    message = "unmerged block 1 is damaged and was left out"
    assert message not in client.get("/devices/d/").content.decode()
    damage_all("metrics_young")
    assert gateway.post("devices/d/telemetry", point("temperature", 2)).status == 200
    assert f"Incomplete: {message}" in client.get("/devices/d/").content.decode()
    assert client.get("/recent/d/", {"metric": ["temperature"]}).json()["incomplete"] == [message]


class TestManyDevices:
    """Pages of a fleet of 12,000 devices."""

    @pytest.fixture(autouse=True)
    def fleet(self, client: Client, cold_room: Device) -> None:
        Device.objects.bulk_create(Device(device_id=f"device-{n:05}", name=f"Sensor {n}") for n in range(12_000))

    @pytest.mark.slow
    @pytest.mark.parametrize("path", ["/", "/devices/", "/devices/?q=sensor+99", "/devices/?after=device-05000"])
    def test_page_takes_few_queries_and_shows_few_rows(self, client: Client, path: str):
        client.get(path)
        with CaptureQueriesContext(
            connection,
        ) as queries:
            response = client.get(path)
        assert len(queries) <= 7
        assert response.content.count(b"<tr data-device") <= 50

    @pytest.mark.slow
    def test_overview_counts_every_device_and_lists_the_worst_first(self, client: Client, gateway: ApiClient):
        for number, seconds_ago in ((42, 3), (43, 1200), (44, 600), (45, 90_000)):
            body = point("temperature", 3, seconds_ago=seconds_ago)
            assert gateway.post(f"devices/device-{number:05}/telemetry", body).status == 200
        Device.objects.filter(device_id="device-00044").update(expected_interval=120)  # late after 6 min
        last_seen.clear_cache()
        page = client.get("/").content.decode()
        assert "2 of 12,001 devices are offline" in page
        assert "1 late, 2 online, 11,996 without data yet." in page
        assert "situation offline" in page
        listed = re.findall(r'<tr data-device="([^"]+)"', page)
        assert listed[:3] == ["device-00043", "device-00045", "device-00044"]
        assert set(listed[3:5]) == {"cold-room-07", "device-00042"}
        assert 'data-metric="temperature" data-kind' in page  # an online device is charted

    @pytest.mark.slow
    def test_members_of_groups_count_their_devices_only(self, gateway: ApiClient):
        viewer = client_of("v", group="site a")
        group = DeviceGroup.objects.get(name="site a")
        members = Device.objects.filter(device_id__lt="device-00300").exclude(device_id="cold-room-07")
        group_membership.add_devices(group, members.values_list("pk", flat=True))
        assert gateway.post("devices/device-00007/telemetry", point("m", 3, seconds_ago=1200)).status == 200
        last_seen.clear_cache()
        page = viewer.get("/").content.decode()
        assert "1 of 300 devices is offline" in page and "299 without data yet." in page

    @pytest.mark.slow
    def test_tick_requires_every_device_online(self, client: Client):
        last_seen.clear_cache()
        page = client.get("/").content.decode()
        assert "1 of 12,001 devices is online" in page and "situation never" in page

    @pytest.mark.slow
    def test_list_counts_up_to_the_bound(self, client: Client):
        assert "9,999+ devices" in client.get("/devices/").content.decode()

    @pytest.mark.slow
    def test_list_pages_contain_every_device(self, client: Client):
        device_ids, path = [], "/devices/?q=sensor+77"
        while path:
            page = client.get(path).content.decode()
            device_ids += re.findall(r'data-device="([^"]+)"', page)
            next_link = re.search(r'rel="next" href="([^"]+)"', page)
            path = "/devices/" + next_link[1].replace("&amp;", "&") if next_link else ""
        expected = sorted(f"device-{n:05}" for n in range(12_000) if f"Sensor {n}".startswith("Sensor 77"))
        assert device_ids == expected


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_theme_is_in_the_html_without_scripts(client: Client, theme: str):
    client.cookies["telemetry_theme"] = theme
    assert f'<html lang="en" data-theme="{theme}">' in client.get("/").content.decode()


def test_unknown_theme_is_ignored(client: Client):
    client.cookies["telemetry_theme"] = '"><script>'
    assert '<html lang="en">' in client.get("/").content.decode()


def test_pages_contain_no_inline_scripts_or_styles(client: Client, cold_room: Device):
    for path in ("/", "/devices/", "/devices/cold-room-07/", "/nothing/"):
        response = client.get(path)
        page = response.content.decode()
        assert "unsafe" not in response["Content-Security-Policy"]
        assert not re.search(r"\sstyle=|\son[a-z]+=|<style|<script>", page)


def test_logout_requires_post(client: Client):
    assert client.get("/logout/").status_code == 405
    assert client.post("/logout/").status_code == 302
    assert client.get("/").status_code == 302
