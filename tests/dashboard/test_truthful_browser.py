"""Pages in a browser that stay true: gaps, stale data, lost sessions, stopped servers, long names and time zones."""

import re
from datetime import datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from django.utils import timezone
from playwright.sync_api import expect

from alerts import alert_actions, silences
from alerts.models import Alert, Rule, Silence
from alerts.rules import lifecycle
from metrics.models import Device
from rest.caller import Caller
from tests.conftest import ApiClient, point
from tests.dashboard.conftest import DESKTOP, NAME, PASSWORD, PHONE, BrowserPage, in_thread, sign_in
from tests.dashboard.factories import open_alert, queryset_of

pytestmark = pytest.mark.slow

DEVICE = "/devices/cold-room-07/"
LONG_ID, LONG_METRIC = "a" * 120, "averylongmetricnamewithoutanybreak" * 3


@pytest.fixture
def hour_of_points(gateway: ApiClient) -> None:
    """Store an hour of two metrics and of the largest numbers, one point every 10 s."""
    for metric, values in (("temperature", (4.0, 5.0)), ("humidity", (60.0, 61.0)), ("huge", (-1e308, 1e308))):
        points = [point(metric, values[n % 2], seconds_ago=10 * n) for n in range(360)]
        assert gateway.post("devices/cold-room-07/telemetry/batch", {"data_points": points}).status == 200


@pytest.fixture
def rule(site: None) -> Rule:
    return lifecycle.create({"name": "Too warm", "metric_name": "temperature", "threshold_value": 2.0}, "user:mei")


@pytest.fixture
def alert(rule: Rule) -> Alert:
    return open_alert(rule, "room-7", "Room 7 is too warm", minutes_ago=0)


def expect_drawn(browser_page: BrowserPage) -> None:
    """Expect a line in the colour of the first series across the chart."""
    browser_page.wait_until(
        """(() => {
            const canvas = document.querySelector("#chart canvas");
            if (!canvas) return false;
            const { width, height } = canvas;
            const data = canvas.getContext("2d").getImageData(width * 0.2, 0, width * 0.7, height * 0.85).data;
            const colour = getComputedStyle(document.querySelector("#probes .s1")).color.match(/\\d+/g).map(Number);
            let pixels = 0;
            for (let i = 0; i < data.length; i += 4)
                if (colour.every((part, n) => Math.abs(data[i + n] - part) < 9)) pixels++;
            return pixels > width;
        })()"""
    )


def test_gap_of_one_line_is_not_closed_by_the_points_of_another(desktop: BrowserPage, hour_of_points: None):
    sign_in(desktop, DEVICE)  # which loads uPlot
    between = desktop.page.evaluate(
        """async () => {
            const { Chart } = await import("/static/dashboard/chart.js");
            const { Series } = await import("/static/dashboard/series.js");
            const element = document.createElement("div");
            const chart = new Chart(element, { hover() {}, zoom() {}, reset() {} });
            const number = { kind: "number", unit: "" };
            const [gappy, whole] = ["gappy", "whole"].map((name, i) => new Series({ name, ...number }, i + 1));
            const seconds = [...Array(200).keys()];
            const kept = seconds.filter((second) => second < 80 || second > 120);
            gappy.replace(kept.map((second) => second * 1000), kept);
            whole.replace(seconds.map((second) => second * 1000 + 7), seconds);
            chart.series = [gappy, whole];
            const [times, values] = chart.data();
            return values.filter((_value, i) => times[i] > 79_000 && times[i] < 121_000);
        }"""
    )
    assert len(between) == 43 and set(between) == {None}


def test_largest_numbers_are_drawn(desktop: BrowserPage, hour_of_points: None):
    sign_in(desktop, f"{DEVICE}?metric=huge")
    expect(desktop.page.locator("#legend b")).to_contain_text("e308")
    expect_drawn(desktop)
    path = desktop.page.locator('tr[data-metric="huge"] .spark path')
    expect(path).to_have_attribute("d", re.compile(r"^M[\d.]+ [\d.]+L"))
    assert "NaN" not in (path.get_attribute("d") or "")


def test_failed_refetch_keeps_the_chart_and_says_so(desktop: BrowserPage, hour_of_points: None):
    sign_in(desktop, DEVICE)
    expect_drawn(desktop)
    desktop.page.route("**/range?*", lambda route: route.abort())
    desktop.page.get_by_text("6 h", exact=True).click()
    note = desktop.page.locator("#chart-card #incomplete")
    expect(note).to_contain_text(re.compile(r"Chart not refreshed since \d\d:\d\d:\d\d: the server cannot be reached"))
    expect(desktop.page.locator("#following")).to_have_text("Not refreshed")
    expect(desktop.page.locator(".chart-say")).to_be_hidden()
    desktop.page.unroute("**/range?*")
    note.get_by_role("button", name="Try again").click()
    expect(note).to_be_hidden()
    expect(desktop.page.locator("#following")).to_have_text("Live")
    desktop.console_errors.clear()


def test_inbox_says_when_it_is_stale_and_ages_stop(alert: Alert, desktop: BrowserPage):
    sign_in(desktop, "/alerts/")
    expect(desktop.page.locator("#live")).to_contain_text("Live")
    desktop.page.route("**/alerts/updates/*", lambda route: route.abort())
    in_thread(alert_actions.acknowledge, queryset_of(alert), "user:noor", "")
    strap = desktop.page.locator("#strap")
    expect(strap).to_contain_text(re.compile(r"Not refreshed. This page is as of \d\d:\d\d:\d\d"), timeout=10_000)
    age = desktop.page.locator(".arow time[data-age]")
    shown = age.text_content()
    desktop.page.wait_for_timeout(2500)
    assert age.text_content() == shown
    desktop.page.unroute("**/alerts/updates/*")
    expect(strap).to_be_hidden(timeout=20_000)
    expect(age).not_to_have_text(shown or "")
    desktop.console_errors.clear()


def test_draft_survives_a_lost_session_until_it_is_saved(desktop: BrowserPage):
    sign_in(desktop, "/silences/")
    reason = desktop.page.locator("#silence [name=reason]")
    desktop.page.locator("#silence [name=device_ids]").fill("room-7")
    desktop.page.locator("#silence [name=lasting][value='14400']").check(force=True)
    reason.fill("Defrosting the whole of room 7")
    desktop.page.context.clear_cookies(name=re.compile("session"))
    desktop.page.get_by_role("button", name="Create silence").click()
    desktop.page.fill("[name=username]", NAME)
    desktop.page.fill("[name=password]", PASSWORD)
    desktop.page.click("button[type=submit]")
    expect(desktop.page.locator(".draft-note")).to_contain_text("Unsaved input restored.")
    expect(reason).to_have_value("Defrosting the whole of room 7")
    expect(desktop.page.locator("#silence [name=lasting][value='14400']")).to_be_checked()
    desktop.page.get_by_role("button", name="Create silence").click()
    expect(desktop.page.get_by_text("Silenced until")).to_be_visible()
    expect(reason).to_have_value("")
    desktop.page.reload()
    expect(reason).to_have_value("")
    assert in_thread(Silence.objects.get).reason == "Defrosting the whole of room 7"


def test_draft_survives_a_stopped_server_and_can_be_discarded(rule: Rule, desktop: BrowserPage):
    sign_in(desktop, f"/rules/{rule.rule_id}/")
    threshold = desktop.page.locator("#rule [name=threshold_value]").first
    threshold.fill("77")
    desktop.page.context.set_offline(True)
    with pytest.raises(Exception, match="ERR_INTERNET_DISCONNECTED"):
        desktop.page.reload()
    desktop.page.context.set_offline(False)
    desktop.open(f"/rules/{rule.rule_id}/")
    expect(threshold).to_have_value("77")
    desktop.page.get_by_role("button", name="Discard").click()
    expect(desktop.page.locator(".draft-note")).to_have_count(0)
    expect(threshold).not_to_have_value("77")
    desktop.console_errors.clear()


def test_note_leads_back_to_its_alert_after_a_lost_session(alert: Alert, desktop: BrowserPage):
    sign_in(desktop, f"/alerts/{alert.alert_id}/")
    desktop.page.locator("#note").fill("The door was open.")
    desktop.page.context.clear_cookies(name=re.compile("session"))
    desktop.page.get_by_role("button", name="Add note").click()
    desktop.page.fill("[name=username]", NAME)
    desktop.page.fill("[name=password]", PASSWORD)
    desktop.page.click("button[type=submit]")
    expect(desktop.page.locator("h1")).to_contain_text("room-7")
    expect(desktop.page.locator("#note")).to_have_value("The door was open.")


def test_secrets_of_a_channel_are_not_kept(desktop: BrowserPage):
    sign_in(desktop, "/channels/new/")
    desktop.page.locator("#channel [name=name]").fill("on call")
    desktop.page.get_by_label("Webhook", exact=True).check(force=True)
    desktop.page.locator("#channel [name=url]").fill("https://example.com/token-of-mine")
    drafts = desktop.page.evaluate("Object.entries(localStorage).flat().join()")
    assert "on call" in drafts and "token-of-mine" not in drafts


@pytest.fixture
def long_names(gateway: ApiClient, rule: Rule) -> list[str]:
    """Store points, an alert, a rule and a silence with long names, and return the pages that show them."""
    names = (LONG_METRIC, "temperature_of_the_outer_casing_of_the_bearing_at_the_drive_end_of_the_motor", "temperature")
    points = [point(name, 4.5, unit="°C") for name in names] + [point("state", "W" * 200)]
    assert gateway.post(f"devices/{LONG_ID}/telemetry/batch", {"data_points": points}).status == 200
    Device.objects.filter(device_id=LONG_ID).update(name="n" * 150)
    fields = {"name": "r" * 150, "metric_name": LONG_METRIC, "threshold_value": 2.0, "device_ids": [LONG_ID]}
    long_rule = lifecycle.create(fields, "user:mei")
    alert = open_alert(long_rule, LONG_ID, f"{LONG_METRIC} of {LONG_ID} is 4.5, over 2")
    ends_at = timezone.now() + timedelta(hours=1)
    silence: dict[str, Any] = {"device_ids": [LONG_ID], "reason": "x" * 200, "ends_at": ends_at}
    silences.create_silence(silence, Caller("user:mei", "admin"))
    devices = [f"/devices/{LONG_ID}/", f"/alerts/?device={LONG_ID}", f"/exports/?device={LONG_ID}"]
    lists = ["/", "/alerts/", "/devices/", "/rules/", "/silences/", "/rejected/", "/settings/"]
    return [*lists, *devices, f"/alerts/{alert.alert_id}/", f"/rules/{long_rule.rule_id}/"]


@pytest.mark.parametrize("width", [PHONE["width"], DESKTOP["width"], 1920])
def test_pages_with_long_names_fit_every_width(long_names: list[str], desktop: BrowserPage, width: int):
    desktop.page.set_viewport_size({"width": width, "height": 900})
    sign_in(desktop)
    for path in long_names:
        desktop.open(path)
        assert desktop.page.evaluate("document.documentElement.scrollWidth") <= width, path
    desktop.open("/devices/")
    expect(desktop.page.locator(f'tr[data-device="{LONG_ID}"] .long').last).to_have_attribute("title", LONG_ID)


def test_scripts_use_the_zone_that_the_page_names(desktop: BrowserPage, hour_of_points: None):
    sign_in(desktop, DEVICE)
    expect(desktop.page.locator(".page-zone")).to_have_text("Times in Europe/Oslo")  # the browser's
    desktop.page.locator(".page-zone a").click()
    desktop.page.locator("#time_zone").select_option("Asia/Kathmandu")
    desktop.page.get_by_role("button", name="Save").click()
    desktop.open(DEVICE)
    expect(desktop.page.locator(".page-zone")).to_have_text("Times in Asia/Kathmandu")
    texts = desktop.page.evaluate(
        """async () => {
            const { momentText } = await import("/static/dashboard/number_format.js");
            const { fromWallClock } = await import("/static/dashboard/time_zone.js");
            const ms = Date.parse("2026-06-30T20:15:00Z");
            return [momentText(ms), new Date(fromWallClock("2026-07-01T02:00")).toISOString()];
        }"""
    )
    assert texts == ["1\xa0Jul 2026, 02:00:00", "2026-06-30T20:15:00.000Z"]
    age = desktop.page.locator("#values time[data-age]").first
    local = datetime.fromisoformat(age.get_attribute("datetime") or "").astimezone(ZoneInfo("Asia/Kathmandu"))
    assert age.get_attribute("title") == f"{local.day}\xa0{local:%b %Y, %H:%M:%S}"
