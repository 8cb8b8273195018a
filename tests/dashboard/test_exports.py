"""The exports page, rendered and in a browser."""

import csv
import io
import re
from typing import Any

import pytest
from django.db import transaction
from django.test import Client
from playwright.sync_api import expect

from metrics.events.definitions import JobProgressed
from metrics.export import jobs
from metrics.export.job_events import record_job_event
from metrics.models import ExportJob
from tests.conftest import ApiClient, point
from tests.dashboard.conftest import PHONE, BrowserPage, in_thread, sign_in

PAGE = "/exports/"


@pytest.fixture(autouse=True)
def exports_dir(settings: Any, tmp_path: Any) -> None:
    settings.EXPORTS_DIR = tmp_path / "exports"


@pytest.fixture
def cold_rooms(gateway: ApiClient) -> None:
    for device in ("cold-room-07", "cold-room-08"):
        points = [
            point(metric, 4.0 + number, seconds_ago=60 * number, unit="°C")
            for metric in ("temperature", "humidity")
            for number in range(30)
        ]
        assert gateway.post(f"devices/{device}/telemetry/batch", {"data_points": points}).status == 200


def choose(browser_page: BrowserPage, devices: list[str], metrics: list[str]) -> None:
    for field, names in (("#device", devices), ("#metric", metrics)):
        for name in names:
            browser_page.page.fill(field, name)
            browser_page.page.press(field, "Enter")


@pytest.mark.slow
def test_page_and_suggestions_require_login(client: Client, cold_rooms: None):
    for path in (PAGE, "/exports/names/devices/", "/exports/names/metrics/"):
        assert Client().get(path)["Location"] == f"/login/?next={path}"
        assert client.post(path).status_code == 405
    assert client.get("/exports/names/devices/?q=ROOM-08").json() == {"names": ["cold-room-08"]}
    assert client.get("/exports/names/metrics/?device=cold-room-07&q=").json() == {"names": ["humidity", "temperature"]}
    assert client.get("/exports/names/metrics/?device=nobody%00&q=%00").json() == {"names": []}
    page = client.get(f"{PAGE}?device=cold-room-07&metric=%22%3Ex").content.decode()
    assert 'data-chosen="[&quot;cold-room-07&quot;]"' in page and r'data-chosen="[&quot;\&quot;&gt;x&quot;]"' in page


@pytest.mark.slow
def test_export_is_created_followed_and_downloaded(desktop: BrowserPage, cold_rooms: None):
    sign_in(desktop, PAGE)
    expect(desktop.page.get_by_text("No exports yet")).to_be_visible()
    choose(desktop, ["cold-room-07", "cold-room-08"], ["temperature"])
    expect(desktop.page.locator("#devices .chip")).to_have_text(["cold-room-07", "cold-room-08"])
    desktop.page.get_by_role("button", name="Export", exact=True).click()
    row = desktop.page.locator("#list tbody tr")
    expect(row).to_have_count(1)
    expect(row).to_contain_text("temperature of cold-room-07 and cold-room-08")
    expect(row).to_contain_text("Queued")
    assert in_thread(jobs.run_pending_jobs) == 1
    expect(row).to_contain_text("Ready")
    expect(row.locator("[data-rows]")).to_have_text("60")
    with desktop.page.expect_download() as download:
        row.get_by_role("link", name="Download").click()
    assert re.fullmatch(r"2-devices_temperature_\w+\.csv", download.value.suggested_filename)
    points = list(csv.DictReader(io.StringIO(download.value.path().read_text())))
    assert len(points) == 60 and {row["unit"] for row in points} == {"°C"}


@pytest.mark.slow
def test_export_for_excel_has_a_byte_order_mark_and_semicolons(desktop: BrowserPage, cold_rooms: None):
    sign_in(desktop, PAGE)
    choose(desktop, ["cold-room-07"], ["temperature"])
    style = desktop.page.get_by_label("CSV for")
    desktop.page.get_by_text("Parquet", exact=True).click()
    expect(style).to_be_disabled()
    desktop.page.get_by_text("CSV", exact=True).click()
    style.select_option("Excel: semicolon, decimal comma")
    desktop.page.get_by_role("button", name="Export", exact=True).click()
    expect(desktop.page.locator("#list tbody .sub").first).to_contain_text("CSV for Excel")
    assert in_thread(jobs.run_pending_jobs) == 1
    with desktop.page.expect_download() as download:
        desktop.page.get_by_role("link", name="Download").click()
    content = download.value.path().read_bytes()
    assert content.startswith("\ufefftimestamp;device_id;metric_name;value;unit;tags\r\n".encode())
    assert content.count(b";cold-room-07;temperature;") == 30 and b";4,0;" in content


def make_progress() -> None:
    """Store progress as a worker does."""
    with transaction.atomic():
        ExportJob.objects.update(status="running", progress=0.42)
        record_job_event(JobProgressed, ExportJob.objects.get())


@pytest.mark.slow
def test_progress_is_updated_and_an_export_is_cancelled(desktop: BrowserPage, cold_rooms: None):
    sign_in(desktop, PAGE)
    choose(desktop, ["cold-room-07"], ["temperature", "humidity"])
    desktop.page.get_by_role("button", name="Export", exact=True).click()
    row = desktop.page.locator("#list tbody tr")
    expect(row).to_contain_text("Queued")
    expect(desktop.page.locator("#live")).to_contain_text("Live")
    in_thread(make_progress)
    expect(row).to_contain_text("Running, 42 %")
    expect(row.locator("progress")).to_have_js_property("value", 0.42)
    row.get_by_role("button", name="Cancel").press("Enter")
    expect(row).to_contain_text("Cancelled")
    expect(row.get_by_role("button")).to_be_hidden()
    in_thread(lambda: ExportJob.objects.all().delete()[0])
    desktop.page.reload()
    expect(desktop.page.get_by_text("No exports yet")).to_be_visible()


@pytest.mark.slow
def test_errors_are_shown_at_their_inputs(desktop: BrowserPage, cold_rooms: None):
    sign_in(desktop, PAGE)
    desktop.page.get_by_role("button", name="Export", exact=True).click()
    expect(desktop.page.locator("#device-fault")).to_have_text("Choose at least one device")
    expect(desktop.page.locator("#metric-fault")).to_have_text("Choose at least one metric")
    expect(desktop.page.locator("#device")).to_be_focused()
    choose(desktop, ["cold-room-07"], ["temperature"])
    expect(desktop.page.locator("#device-fault")).to_be_hidden()
    desktop.page.get_by_text("Custom").click()
    desktop.page.fill("#from", "2026-03-02T10:00")
    desktop.page.fill("#to", "2026-03-02T09:00")
    desktop.page.get_by_role("button", name="Export", exact=True).click()
    expect(desktop.page.get_by_text("The start must be before the end")).to_be_visible()
    expect(desktop.page.locator("#from")).to_be_focused()
    desktop.page.fill("#from", "1969-03-02T09:00")
    desktop.page.get_by_role("button", name="Export", exact=True).click()
    expect(desktop.page.get_by_text("must be 1970-01-01 or later")).to_be_visible()
    # The browser logs every rejected request; the page shows the errors.
    assert all("422" in error for error in desktop.console_errors)
    desktop.console_errors.clear()


@pytest.mark.slow
def test_aggregated_export_has_an_interval_and_failed_export_a_reason(desktop: BrowserPage, cold_rooms: None):
    sign_in(desktop, PAGE)
    expect(desktop.page.locator("#interval")).to_be_disabled()
    choose(desktop, ["cold-room-07"], ["temperature"])
    desktop.page.select_option("#aggregation", "avg")
    desktop.page.select_option("#interval", "60")
    desktop.page.get_by_text("JSON lines", exact=True).click()
    desktop.page.get_by_role("button", name="Export", exact=True).click()
    row = desktop.page.locator("#list tbody tr").first
    expect(row).to_contain_text("avg per minute, JSON lines")
    assert in_thread(lambda: jobs.query_of(ExportJob.objects.get()).timezone) == "Europe/Oslo"
    desktop.page.locator("#devices button").click()
    choose(desktop, ["nobody"], [])
    desktop.page.get_by_role("button", name="Export", exact=True).click()
    expect(desktop.page.locator("#list tbody tr")).to_have_count(2)
    assert in_thread(jobs.run_pending_jobs) == 2
    expect(row).to_contain_text("These devices and metrics have no data in this range")
    expect(desktop.page.locator("#list tbody tr").nth(1)).to_contain_text("Ready")


@pytest.mark.slow
def test_names_are_suggested_while_typing(desktop: BrowserPage, cold_rooms: None):
    sign_in(desktop, PAGE)
    desktop.page.locator("#device").press_sequentially("room-0")
    expect(desktop.page.locator("#device-names option")).to_have_count(2)
    choose(desktop, ["cold-room-07"], [])
    desktop.page.locator("#metric").press_sequentially("hum")
    expect(desktop.page.locator("#metric-names option")).to_have_count(1)
    desktop.page.evaluate(
        """() => {
            const input = document.querySelector("#metric");
            input.value = "humidity";
            input.dispatchEvent(new InputEvent("input", { inputType: "insertReplacementText" }));
        }"""
    )
    expect(desktop.page.locator("#metrics .chip")).to_have_text("humidity")
    desktop.page.press("#metric", "Backspace")
    expect(desktop.page.locator("#metrics .chip")).to_have_count(0)
    desktop.page.fill("#metric", "a, b,a")
    expect(desktop.page.locator("#metrics .chip")).to_have_text(["a", "b"])
    desktop.page.press("#metric", "Enter")
    expect(desktop.page.get_by_text("No exports yet")).to_be_visible()


@pytest.mark.slow
def test_failed_refresh_is_shown_and_retried(desktop: BrowserPage, cold_rooms: None):
    sign_in(desktop, PAGE)
    choose(desktop, ["cold-room-07"], ["temperature"])
    desktop.page.get_by_role("button", name="Export", exact=True).click()
    expect(desktop.page.locator("#list tbody tr")).to_have_count(1)
    expect(desktop.page.locator("#live")).to_contain_text("Live")
    desktop.page.route("**/export/jobs?*", lambda route: route.abort())
    assert in_thread(jobs.run_pending_jobs) == 1
    strap = desktop.page.locator("#strap")
    expect(strap).to_contain_text("Not refreshed.")
    expect(desktop.page.locator("#list tbody tr")).to_be_visible()
    desktop.page.unroute("**/export/jobs?*")
    expect(strap).to_be_hidden(timeout=20_000)
    expect(desktop.page.locator("#list tbody tr")).to_contain_text("Ready")
    desktop.console_errors.clear()  # of the aborted requests


@pytest.mark.slow
def test_pages_fit_the_width_of_a_phone(phone: BrowserPage, cold_rooms: None):
    sign_in(phone, PAGE)
    choose(phone, ["cold-room-07", "cold-room-08" * 9], ["temperature", "humidity"])
    phone.page.get_by_text("Custom").click()
    phone.page.get_by_role("button", name="Export", exact=True).click()
    expect(phone.page.locator("#list tbody tr")).to_have_count(1)
    assert phone.page.evaluate("document.documentElement.scrollWidth") == PHONE["width"]
    expect(phone.page.locator(".tabbar [aria-current=page]")).to_have_text("Exports")
