"""Pages in a browser that follow the live stream of the site: values, alerts, devices, exports and interruptions."""

import json
import re
import time
from typing import Any

import pytest
from django.contrib.sessions.models import Session
from django.test import Client
from playwright.sync_api import Page, expect

from alerts import alert_actions
from alerts.models import Alert, Resolution, Rule
from alerts.rules import lifecycle
from metrics.export import jobs
from metrics.models import Device
from tests.conftest import ApiClient, point
from tests.dashboard.conftest import NAME, BrowserPage, in_thread, sign_in
from tests.dashboard.factories import open_alert, queryset_of
from tests.dashboard.stream_proxy import StreamProxy
from tests.telemetry_site.site_process import wait_until

pytestmark = pytest.mark.slow

DEVICE = "/devices/cold-room-07/"
READING = 'tr[data-metric="temperature"] .reading'
IS_LIVE = re.compile("^Live")
REMEMBER = "globalThis.wasNotReloaded = true"


def send(gateway: ApiClient, value: float, **fields: Any) -> None:
    assert (
        gateway.post("devices/cold-room-07/telemetry", point("temperature", value, unit="°C", **fields)).status == 200
    )


@pytest.fixture
def points(gateway: ApiClient) -> None:
    points = [point("temperature", 4.0 + n % 5, seconds_ago=5 * n + 1, unit="°C") for n in range(60)]
    assert gateway.post("devices/cold-room-07/telemetry/batch", {"data_points": points}).status == 200


@pytest.fixture
def rule(site: None) -> Rule:
    return lifecycle.create({"name": "Too warm", "metric_name": "temperature", "threshold_value": 2.0}, "user:mei")


def open_live(page: BrowserPage, path: str) -> Page:
    sign_in(page, path)
    expect(page.page.locator("#live")).to_have_text(IS_LIVE)
    page.page.wait_for_timeout(1500)  # what a page reads once after its subscription
    page.page.evaluate(REMEMBER)
    return page.page


def was_reloaded(page: Page) -> bool:
    return page.evaluate("!globalThis.wasNotReloaded")


PAGES = ["/", "/alerts/", DEVICE, "/devices/", "/exports/", "alert"]


@pytest.mark.parametrize("path", PAGES, ids=["overview", "inbox", "device", "devices", "exports", "alert"])
def test_quiet_page_makes_no_request(rule: Rule, desktop: BrowserPage, points: None, path: str):
    alert = in_thread(open_alert, rule, "room-1", "Room 1 is too warm")
    page = open_live(desktop, f"/alerts/{alert.alert_id}/" if path == "alert" else path)
    page.wait_for_timeout(2500)
    requests: list[str] = []
    page.on("request", lambda request: requests.append(request.url))
    page.wait_for_timeout(10_000)
    assert requests == []


def test_new_alert_is_in_the_inbox_within_a_second(rule: Rule, desktop: BrowserPage):
    in_thread(open_alert, rule, "room-1", "Room 1 is too warm")
    page = open_live(desktop, "/alerts/")
    page.locator(".arow .box").check()
    in_thread(open_alert, rule, "room-9", "Room 9 is too warm", 0)
    created = time.monotonic()
    expect(page.locator("#newer")).to_contain_text("1 newer alert: Room 9 is too warm")
    assert time.monotonic() - created < 1
    expect(page).to_have_title("(2) Alerts · Telemetry")
    page.keyboard.press(".")
    expect(page.locator(".arow", has_text="Room 9")).to_be_visible()
    expect(page.locator(".arow", has_text="Room 1").locator(".box")).to_be_checked()
    expect(page.locator("#selected-count")).to_have_text("1 selected")
    assert not was_reloaded(page)


def test_first_alert_is_in_the_empty_inbox_without_a_reload(rule: Rule, desktop: BrowserPage):
    page = open_live(desktop, "/alerts/")
    in_thread(open_alert, rule, "room-9", "Room 9 is too warm", 0)
    created = time.monotonic()
    expect(page.locator(".arow", has_text="Room 9 is too warm")).to_be_visible()
    assert time.monotonic() - created < 2  # two requests one after the other, on a busy machine
    page.keyboard.press("j")
    page.keyboard.press("a")
    expect(page.locator(".arow")).to_have_attribute("data-status", "acknowledged")
    assert not was_reloaded(page)


def test_overview_and_device_page_show_new_and_resolved_alerts(rule: Rule, desktop: BrowserPage, points: None):
    overview = open_live(desktop, "/")
    device = desktop.page.context.new_page()
    device.goto(desktop.address + DEVICE)
    expect(device.locator("#live")).to_have_text(IS_LIVE)
    alert = in_thread(open_alert, rule, "cold-room-07", "Room 7 is too warm", 0)
    expect(overview.locator("#open-alerts")).to_have_text("1 unacknowledged alert")
    expect(device.locator("#device-alerts-part .arow")).to_contain_text("Room 7 is too warm")
    expect(device).to_have_title(re.compile(r"^\(1\) "))
    in_thread(alert_actions.resolve, queryset_of(alert), Resolution.RECOVERED, "evaluator")
    expect(overview.locator("#open-alerts")).to_have_count(0)
    expect(device.locator("#device-alerts-part .arow")).to_have_count(0)
    expect(device).to_have_title("cold-room-07 · Telemetry")
    assert not was_reloaded(overview)


def test_alert_page_changes_in_place_and_keeps_what_is_typed(rule: Rule, desktop: BrowserPage, points: None):
    alert = in_thread(open_alert, rule, "cold-room-07", "Room 7 is too warm", 1)
    page = open_live(desktop, f"/alerts/{alert.alert_id}/")
    note = page.locator("#note")
    note.fill("The door was")
    page.evaluate("scrollTo(0, 300)")
    place = page.evaluate("document.getElementById('note').getBoundingClientRect().top")
    in_thread(alert_actions.acknowledge, queryset_of(alert), "user:noor", "I look")
    expect(page.locator(".alert-state")).to_contain_text("Owner: noor")
    expect(page.locator("#timeline-events")).to_contain_text("I look")
    in_thread(alert_actions.resolve, queryset_of(alert), Resolution.RECOVERED, "evaluator")
    expect(page.locator(".alert-state")).to_contain_text("values recovered")
    expect(page.get_by_role("button", name="Acknowledge")).to_have_count(0)
    expect(note).to_have_value("The door was")
    expect(note).to_be_focused()
    moved = page.evaluate("document.getElementById('note').getBoundingClientRect().top") - place
    assert abs(moved) < 2  # the parts above became smaller
    assert not was_reloaded(page)


def test_part_with_the_focus_waits_until_it_is_free(rule: Rule, desktop: BrowserPage, points: None):
    alert = in_thread(open_alert, rule, "cold-room-07", "Room 7 is too warm", 1)
    page = open_live(desktop, f"/alerts/{alert.alert_id}/")
    resolve = page.get_by_role("button", name="Resolve r")
    resolve.focus()
    in_thread(alert_actions.acknowledge, queryset_of(alert), "user:noor", "I look")
    expect(page.locator("#timeline-events")).to_contain_text("I look")
    expect(page.locator(".alert-state")).to_contain_text("Unassigned")
    expect(resolve).to_be_focused()
    page.locator("#note").focus()
    expect(page.locator(".alert-state")).to_contain_text("Owner: noor")


def test_device_state_follows_its_data(gateway: ApiClient, desktop: BrowserPage, points: None):
    in_thread(lambda: Device.objects.filter(device_id="cold-room-07").update(expected_interval=1))
    page = open_live(desktop, "/")
    row = page.locator('tr[data-device="cold-room-07"] .st')
    expect(row).to_contain_text("Offline", timeout=15_000)
    expect(page.locator("#device-states")).to_have_text("The device is offline")
    send(gateway, 4.5)
    expect(row).to_contain_text("Online")
    expect(page.locator("#device-states")).to_have_text("1 device online")
    assert not was_reloaded(page)


def test_new_device_is_offered_and_shown_without_a_reload(gateway: ApiClient, desktop: BrowserPage, points: None):
    page = open_live(desktop, "/devices/")
    assert gateway.post("devices/cold-room-08/telemetry", point("temperature", 1.5)).status == 200
    newer = page.get_by_role("button", name="1 new device. Show")
    newer.click()
    expect(page.locator('tr[data-device="cold-room-08"]')).to_be_visible()
    assert gateway.post("devices/cold-room-08/telemetry", point("temperature", 2.5)).status == 200
    expect(page.locator('tr[data-device="cold-room-08"]')).to_contain_text("2.5")
    assert not was_reloaded(page)


@pytest.fixture(autouse=True)
def exports_dir(settings: Any, tmp_path: Any) -> None:
    settings.EXPORTS_DIR = tmp_path / "exports"


def test_export_is_followed_from_another_page(client: Client, desktop: BrowserPage, points: None):
    page = open_live(desktop, "/exports/")
    body = {"device_ids": ["cold-room-07"], "metric_names": ["temperature"], "format": "csv"}
    times = {"start_time": point(seconds_ago=3600)["timestamp"], "end_time": point()["timestamp"]}
    created = in_thread(
        lambda: client.post("/api/v1/telemetry/export/jobs", json.dumps(body | times), content_type="application/json")
    )
    assert created.status_code in (201, 202), created.content
    row = page.locator("#list tbody tr")
    expect(row).to_contain_text("Queued")
    assert in_thread(jobs.run_pending_jobs) == 1
    expect(row).to_contain_text("Ready")
    assert not was_reloaded(page)


# Keeps the charts that the page makes, so that a test can read the drawn points.
KEEP_PLOTS = """
    globalThis.plots = [];
    let plotClass;
    Object.defineProperty(globalThis, "uPlot", {
        get: () => plotClass,
        set(original) {
            plotClass = class extends original {
                constructor(...options) { super(...options); plots.push(this); }
            };
        },
    });
"""
DRAWN = """async () => {
    const { readRange } = await import("/static/dashboard/telemetry_api.js");
    const { metricsUrl } = document.getElementById("chart-card").dataset;
    const [times, values] = plots.at(-1).data;
    const drawn = [...times].map((ms, i) => [ms, values[i]]).filter(([, value]) => typeof value === "number");
    const read = await readRange(metricsUrl, "temperature", Date.now() - 600000, Date.now() + 60000, 2000);
    return [drawn, read.times.map((ms, i) => [ms, read.values[i]])];
}"""


def test_chart_after_a_cut_of_thirty_seconds_equals_the_range(
    gateway: ApiClient, proxied: BrowserPage, proxy: StreamProxy, points: None
):
    proxied.page.add_init_script(KEEP_PLOTS)
    page = open_live(proxied, f"{DEVICE}?range=15m")
    ranges: list[str] = []
    send(gateway, 10.5)
    expect(page.locator(READING)).to_have_text("10.5")
    page.on("request", lambda request: ranges.append(request.url))
    proxy.cut()
    for n in range(30):  # three of them late
        send(gateway, 20 + n / 4, seconds_ago=0 if n % 10 else 200)
        page.wait_for_timeout(1000)
    expect(page.locator("#live")).to_have_text("Reconnecting…")
    expect(page.locator("#strap")).to_contain_text("Reconnecting… Data is complete up to")
    proxy.restore()
    page.locator("#strap").get_by_role("button", name="Try now").click()
    expect(page.locator("#live")).to_have_text(IS_LIVE)
    send(gateway, 77.5)
    expect(page.locator(READING)).to_have_text("77.5")
    assert not any("/range" in url for url in ranges)  # the gap came by the stream
    drawn, stored = page.evaluate(DRAWN)
    for _ in range(20):  # the chart is drawn in the next frame of the browser
        if len(drawn) == 92:
            break
        page.wait_for_timeout(100)
        drawn, stored = page.evaluate(DRAWN)
    assert drawn == stored
    assert len(drawn) == 92
    assert not was_reloaded(page)


def test_zoom_selection_and_table_stay_while_values_arrive(gateway: ApiClient, desktop: BrowserPage, points: None):
    page = open_live(desktop, DEVICE)
    page.locator("#chart").focus()
    page.keyboard.press("+")
    expect(page).to_have_url(re.compile("from="))
    address = page.url
    page.keyboard.press("t")
    page.evaluate("getSelection().selectAllChildren(document.querySelector('h1'))")
    scrolled = page.evaluate("scrollTo(0, 200), scrollY")
    for value in (31.5, 32.5, 33.5):
        send(gateway, value)
        expect(page.locator(READING)).to_have_text(str(value))
    assert page.url == address and page.evaluate("scrollY") == scrolled
    assert page.evaluate("getSelection().toString()") == "cold-room-07"
    expect(page.locator("#points")).to_be_focused()


def test_eight_pages_of_one_browser_share_a_connection(
    gateway: ApiClient, proxied: BrowserPage, proxy: StreamProxy, points: None
):
    pages = [open_live(proxied, DEVICE)]
    for _ in range(7):
        pages.append(proxied.page.context.new_page())
        pages[-1].goto(proxied.address + DEVICE)
    for page in pages:
        expect(page.locator("#live")).to_have_text(IS_LIVE)
    send(gateway, 55.5)
    for page in pages:
        expect(page.locator(READING)).to_have_text("55.5")
    assert proxy.stream_connections == 1
    for page in pages[:7]:
        page.close()
    send(gateway, 56.5)
    expect(pages[7].locator(READING)).to_have_text("56.5")
    assert proxy.stream_connections == 1


def test_blocked_websockets_are_replaced_by_server_sent_events(
    rule: Rule, gateway: ApiClient, proxied: BrowserPage, proxy: StreamProxy, points: None
):
    proxy.blocks_websockets = True
    sign_in(proxied, DEVICE)
    page = proxied.page
    expect(page.locator("#live")).to_have_text(IS_LIVE, timeout=15_000)
    expect(page.locator("#live")).to_have_attribute("title", re.compile("server-sent events"))
    send(gateway, 55.5)
    expect(page.locator(READING)).to_have_text("55.5")
    in_thread(open_alert, rule, "cold-room-07", "Room 7 is too warm", 0)
    expect(page.locator("#device-alerts-part .arow")).to_contain_text("Room 7 is too warm")
    proxy.cut()
    send(gateway, 66.5)
    expect(page.locator("#live")).to_have_text("Reconnecting…")
    proxy.restore()
    expect(page.locator(READING)).to_have_text("66.5", timeout=30_000)


def test_ended_session_is_explained(desktop: BrowserPage, points: None, gateway: ApiClient):
    page = open_live(desktop, DEVICE)
    in_thread(Session.objects.all().delete)
    expect(page.locator("#live")).to_have_text(re.compile("Signed out|Not live"), timeout=75_000)
    expect(page.locator("#strap")).to_contain_text("Data is complete up to")


def test_lost_rights_are_explained(desktop: BrowserPage, points: None, admin_user: Any):
    page = open_live(desktop, DEVICE)
    in_thread(lambda: type(admin_user).objects.filter(username=NAME).update(is_active=False))
    expect(page.locator("#strap")).to_contain_text("Live updates have ended.", timeout=75_000)
    expect(page.locator("#strap")).to_contain_text("Your access has ended or has changed.")
    assert page.locator(READING).text_content() == "4"


def test_returning_to_a_page_resumes_its_stream(gateway: ApiClient, desktop: BrowserPage, points: None):
    page = open_live(desktop, DEVICE)
    page.goto(desktop.address + "/settings/")
    send(gateway, 44.5)
    page.go_back()
    expect(page.locator(READING)).to_have_text("44.5")
    expect(page.locator("#live")).to_have_text(IS_LIVE)
    send(gateway, 45.5)
    expect(page.locator(READING)).to_have_text("45.5")
    assert in_thread(Alert.objects.count) == 0
    wait_until(lambda: page.evaluate("!document.body.classList.contains('stale')"), 10, "a page that is not stale")
