"""The page of exports, as the server renders it and in a real browser."""

import csv
import io
import re
import threading
from collections.abc import Callable
from typing import Any

import pytest
from django.db import connection
from django.test import Client
from playwright.sync_api import expect

from metrics.export import jobs
from metrics.models import ExportJob
from tests.conftest import ApiClient, point
from tests.dashboard.conftest import PHONE, Desk, sign_in

PAGE = "/exports/"


def elsewhere(do: Callable[[], Any]) -> Any:
    """On another thread, since Playwright's has an event loop in which the ORM refuses to work."""
    found: list[Any] = []

    def run() -> None:
        found.append(do())
        connection.close()

    thread = threading.Thread(target=run)
    thread.start()
    thread.join(60)
    return found[0]


@pytest.fixture(autouse=True)
def folder(settings: Any, tmp_path: Any) -> None:
    settings.EXPORTS_DIR = tmp_path / "exports"


@pytest.fixture
def rooms(gateway: ApiClient) -> None:
    for device in ("cold-room-07", "cold-room-08"):
        points = [
            point(metric, 4.0 + n, seconds_ago=60 * n, unit="°C")
            for metric in ("temperature", "humidity")
            for n in range(30)
        ]
        assert gateway.post(f"devices/{device}/telemetry/batch", {"data_points": points}).status == 200


def choose(desk: Desk, devices: list[str], metrics: list[str]) -> None:
    for field, names in (("#device", devices), ("#metric", metrics)):
        for name in names:
            desk.page.fill(field, name)
            desk.page.press(field, "Enter")


def test_the_page_and_its_names_are_for_those_who_are_signed_in(client: Client, rooms: None):
    for path in (PAGE, "/exports/names/devices/", "/exports/names/metrics/"):
        assert Client().get(path)["Location"] == f"/login/?next={path}"
        assert client.post(path).status_code == 405
    assert client.get("/exports/names/devices/?q=ROOM-08").json() == {"names": ["cold-room-08"]}
    assert client.get("/exports/names/metrics/?device=cold-room-07&q=").json() == {"names": ["humidity", "temperature"]}
    assert client.get("/exports/names/metrics/?device=nobody%00&q=%00").json() == {"names": []}
    page = client.get(f"{PAGE}?device=cold-room-07&metric=%22%3Ex").content.decode()
    assert 'data-chosen="cold-room-07"' in page and 'data-chosen="&quot;&gt;x"' in page


def test_an_export_is_ordered_watched_and_fetched(desk: Desk, rooms: None):
    sign_in(desk, PAGE)
    expect(desk.page.get_by_text("No exports yet")).to_be_visible()
    choose(desk, ["cold-room-07", "cold-room-08"], ["temperature"])
    expect(desk.page.locator("#devices .chip")).to_have_text(["cold-room-07", "cold-room-08"])
    desk.page.get_by_role("button", name="Export", exact=True).click()
    row = desk.page.locator("#list tbody tr")
    expect(row).to_have_count(1)
    expect(row).to_contain_text("temperature of cold-room-07 and cold-room-08")
    expect(row).to_contain_text("Queued")
    assert elsewhere(jobs.run_pending_jobs) == 1
    expect(row).to_contain_text("Ready")
    expect(row.locator("[data-rows]")).to_have_text("60")
    with desk.page.expect_download() as download:
        row.get_by_role("link", name="Download").click()
    assert re.fullmatch(r"2-devices_temperature_\w+\.csv", download.value.suggested_filename)
    found = list(csv.DictReader(io.StringIO(download.value.path().read_text())))
    assert len(found) == 60 and {one["unit"] for one in found} == {"°C"}


def test_progress_is_live_and_a_waiting_export_can_be_cancelled(desk: Desk, rooms: None):
    sign_in(desk, PAGE)
    choose(desk, ["cold-room-07"], ["temperature", "humidity"])
    desk.page.get_by_role("button", name="Export", exact=True).click()
    row = desk.page.locator("#list tbody tr")
    expect(row).to_contain_text("Queued")
    elsewhere(lambda: ExportJob.objects.update(status="running", progress=0.42))
    expect(row).to_contain_text("Running, 42 %")
    expect(row.locator("progress")).to_have_js_property("value", 0.42)
    row.get_by_role("button", name="Cancel").press("Enter")
    expect(row).to_contain_text("Cancelled")
    expect(row.get_by_role("button")).to_be_hidden()
    elsewhere(lambda: ExportJob.objects.all().delete()[0])
    desk.page.reload()
    expect(desk.page.get_by_text("No exports yet")).to_be_visible()


def test_what_is_missing_or_wrong_is_said_beside_its_field(desk: Desk, rooms: None):
    sign_in(desk, PAGE)
    desk.page.get_by_role("button", name="Export", exact=True).click()
    expect(desk.page.locator("#device-fault")).to_have_text("Choose at least one device")
    expect(desk.page.locator("#metric-fault")).to_have_text("Choose at least one metric")
    expect(desk.page.locator("#device")).to_be_focused()
    choose(desk, ["cold-room-07"], ["temperature"])
    expect(desk.page.locator("#device-fault")).to_be_hidden()
    desk.page.get_by_text("Custom").click()
    desk.page.fill("#from", "2026-03-02T10:00")
    desk.page.fill("#to", "2026-03-02T09:00")
    desk.page.get_by_role("button", name="Export", exact=True).click()
    expect(desk.page.get_by_text("The start must be before the end")).to_be_visible()
    expect(desk.page.locator("#from")).to_be_focused()
    desk.page.fill("#from", "1969-03-02T09:00")
    desk.page.get_by_role("button", name="Export", exact=True).click()
    expect(desk.page.get_by_text("must be 1970-01-01 or later")).to_be_visible()
    # The browser notes every refused request; the page has said it in words.
    assert all("422" in one for one in desk.complaints)
    desk.complaints.clear()


def test_an_aggregated_export_has_an_interval_and_a_failed_one_says_why(desk: Desk, rooms: None):
    sign_in(desk, PAGE)
    expect(desk.page.locator("#interval")).to_be_disabled()
    choose(desk, ["cold-room-07"], ["temperature"])
    desk.page.select_option("#aggregation", "avg")
    desk.page.select_option("#interval", "60")
    desk.page.get_by_text("JSON lines", exact=True).click()
    desk.page.get_by_role("button", name="Export", exact=True).click()
    row = desk.page.locator("#list tbody tr").first
    expect(row).to_contain_text("avg per minute, JSON lines")
    assert elsewhere(lambda: jobs.query_of(ExportJob.objects.get()).timezone) == "Europe/Oslo"
    desk.page.locator("#devices button").click()
    choose(desk, ["nobody"], [])
    desk.page.get_by_role("button", name="Export", exact=True).click()
    expect(desk.page.locator("#list tbody tr")).to_have_count(2)
    assert elsewhere(jobs.run_pending_jobs) == 2
    expect(row).to_contain_text("These devices and metrics have no data in this range")
    expect(desk.page.locator("#list tbody tr").nth(1)).to_contain_text("Ready")


def test_names_are_offered_while_one_types(desk: Desk, rooms: None):
    sign_in(desk, PAGE)
    desk.page.locator("#device").press_sequentially("room-0")
    expect(desk.page.locator("#device-names option")).to_have_count(2)
    choose(desk, ["cold-room-07"], [])
    desk.page.locator("#metric").press_sequentially("hum")
    expect(desk.page.locator("#metric-names option")).to_have_count(1)
    desk.page.evaluate(
        """() => {
            const input = document.querySelector("#metric");
            input.value = "humidity";
            input.dispatchEvent(new InputEvent("input", { inputType: "insertReplacementText" }));
        }"""
    )
    expect(desk.page.locator("#metrics .chip")).to_have_text("humidity")
    desk.page.press("#metric", "Backspace")
    expect(desk.page.locator("#metrics .chip")).to_have_count(0)
    desk.page.fill("#metric", "a, b,a")
    expect(desk.page.locator("#metrics .chip")).to_have_text(["a", "b"])
    desk.page.press("#metric", "Enter")
    expect(desk.page.get_by_text("No exports yet")).to_be_visible()


def test_a_list_that_cannot_be_refreshed_says_so_and_goes_on(desk: Desk, rooms: None):
    sign_in(desk, PAGE)
    choose(desk, ["cold-room-07"], ["temperature"])
    desk.page.get_by_role("button", name="Export", exact=True).click()
    expect(desk.page.locator("#list tbody tr")).to_have_count(1)
    desk.page.route("**/export/jobs?*", lambda route: route.abort())
    expect(desk.page.locator("#list-fault")).to_contain_text("cannot be refreshed")
    expect(desk.page.locator("#list tbody tr")).to_be_visible()
    desk.page.unroute("**/export/jobs?*")
    expect(desk.page.locator("#list-fault")).to_be_hidden()
    desk.complaints.clear()  # of the requests that were broken off


def test_nothing_scrolls_sideways_on_a_phone(phone: Desk, rooms: None):
    sign_in(phone, PAGE)
    choose(phone, ["cold-room-07", "cold-room-08" * 9], ["temperature", "humidity"])
    phone.page.get_by_text("Custom").click()
    phone.page.get_by_role("button", name="Export", exact=True).click()
    expect(phone.page.locator("#list tbody tr")).to_have_count(1)
    assert phone.page.evaluate("document.documentElement.scrollWidth") == PHONE["width"]
    expect(phone.page.locator(".tabbar [aria-current=page]")).to_have_text("Exports")
