"""The page of rejected points: list, replay and dismissal."""

import time
from typing import Any

import pytest
from django.contrib.auth import get_user_model
from django.contrib.auth.models import Group
from django.test import Client

from ingest.models import Rejected
from ingest.rejected.inbox import rejected_inbox
from ingest.rejected.point_packets import RejectedPoint
from ingest.rejected.write_rows import InboxRow, write_rows
from metrics.models import Device, DeviceGroup, MetricDefinition
from metrics.storage import series_registry
from metrics.storage.connection import connect
from rest.caller import OPERATORS
from tests.conftest import ApiClient, point
from tests.dashboard.conftest import BrowserPage, sign_in


@pytest.fixture
def battery_definition(admin: ApiClient) -> MetricDefinition:
    definition = MetricDefinition.objects.create(name="battery", data_type="numeric", max_value=100)
    series_registry.refresh_registry()
    group = DeviceGroup.objects.get_or_create(name="site a")[0]
    Device.objects.create(device_id="boiler-7").groups.add(group)
    for device_id in ("boiler-7", "elsewhere"):
        body = {"data_points": [point("battery", 101, 5), point("battery", 102)]}
        admin.post(f"devices/{device_id}/telemetry/batch", body)
    rejected_inbox().flush()
    return definition


def client_of(name: str, *, operates: bool) -> Client:
    user = get_user_model().objects.create_user(name)
    DeviceGroup.objects.get(name="site a").members.add(user)
    if operates:
        user.groups.add(Group.objects.get_or_create(name=OPERATORS)[0])
    client = Client()
    client.force_login(user)
    return client


def test_empty_inbox_shows_no_rejected_points(client: Client):
    assert "No rejected points" in client.get("/rejected/").content.decode()


def test_inbox_shows_metric_reason_and_sender(client: Client, battery_definition: Any):
    page = client.get("/rejected/").content.decode()
    for text in (
        "battery",
        "boiler-7",
        "Value out of bounds",
        "102 is above the maximum 100 of battery",
        "admin of all",
    ):
        assert text in page
    assert "elsewhere" not in client.get("/rejected/?q=BOILER").content.decode()
    assert "No rejected points with" in client.get("/rejected/?q=none").content.decode()


@pytest.mark.slow
def test_operators_replay_and_dismiss_and_viewers_read(battery_definition: Any):
    visible = Rejected.objects.get(device_id="boiler-7").pk
    hidden = Rejected.objects.get(device_id="elsewhere").pk
    viewer, operator = client_of("v", operates=False), client_of("o", operates=True)
    for user_client in (viewer, operator):
        page = user_client.get("/rejected/").content.decode()
        assert "boiler-7" in page and "elsewhere" not in page
    assert "<button" not in viewer.get("/rejected/").content.decode().split("<table")[1].split("</table>")[0]
    for path in (f"{visible}/replay/", f"{visible}/dismiss/", "replay/"):
        assert viewer.post(f"/rejected/{path}").status_code == 403
        assert operator.get(f"/rejected/{path}").status_code == 405
    assert operator.post(f"/rejected/{hidden}/replay/").status_code == 404
    page = operator.post(f"/rejected/{visible}/replay/", follow=True).content.decode()
    assert "2 points rejected again: 10" in page
    battery_definition.max_value = 200
    battery_definition.save()
    page = operator.post("/rejected/replay/", follow=True).content.decode()
    assert "2 points stored." in page and "No rejected points" in page
    assert [row.pk for row in Rejected.objects.all()] == [hidden]


def test_page_requires_login_and_csrf_token(battery_definition: Any):
    row_id = Rejected.objects.first().pk
    csrf_client = Client(enforce_csrf_checks=True)
    csrf_client.force_login(get_user_model().objects.create_superuser("boss"))
    assert csrf_client.post(f"/rejected/{row_id}/replay/").status_code == 403
    assert Client().get("/rejected/").headers["Location"].startswith("/login/")


def test_dismissed_row_is_deleted(client: Client, battery_definition: Any):
    row_id = Rejected.objects.get(device_id="elsewhere").pk
    page = client.post(f"/rejected/{row_id}/dismiss/", follow=True).content.decode()
    assert "2 rejected points dismissed." in page and "elsewhere" not in page


@pytest.mark.slow
def test_list_has_pages_and_takes_few_queries(client: Client, django_assert_max_num_queries: Any):
    now = time.time()
    rows = [
        InboxRow("key:1:gw", f"d{n:03}", "m", "too_old", now, now - n, 1, "old", [RejectedPoint(0, 1.0, b"")])
        for n in range(120)
    ]
    with connect() as connection:
        write_rows(connection, rows)
    with django_assert_max_num_queries(5):
        page = client.get("/rejected/").content.decode()
    assert page.count("too old") + page.count("Too old") == 50 and "?from=50" in page
    assert "d119" in client.get("/rejected/?from=100").content.decode()
    assert client.get("/rejected/?from=x").status_code == 200


@pytest.mark.slow
def test_admin_action_replays_selected_rows(client: Client, battery_definition: Any):
    battery_definition.max_value = 200
    battery_definition.save()
    assert "boiler-7" in client.get("/admin/ingest/rejected/").content.decode()
    selected = list(Rejected.objects.values_list("pk", flat=True))
    form = {"action": "replay_selected", "_selected_action": selected}
    page = client.post("/admin/ingest/rejected/", form, follow=True).content.decode()
    assert "4 points stored, 0 rejected again." in page and not Rejected.objects.exists()


def test_admin_action_deletes_selected_rows(client: Client, battery_definition: Any):
    selected = list(Rejected.objects.values_list("pk", flat=True))
    client.post("/admin/ingest/rejected/", {"action": "delete_selected", "_selected_action": selected, "post": "yes"})
    assert not Rejected.objects.exists()


@pytest.fixture
def relaxed_definition(battery_definition: Any) -> None:
    battery_definition.max_value = 200
    battery_definition.save()


@pytest.mark.slow
def test_points_are_replayed_in_a_browser(relaxed_definition: None, desktop: BrowserPage, phone: BrowserPage):
    for browser_page in (desktop, phone):
        sign_in(browser_page, "/rejected/")
        assert browser_page.page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        browser_page.page.get_by_role("button", name="Replay battery of").first.click()
        browser_page.page.get_by_text("2 points of battery stored.").wait_for()
