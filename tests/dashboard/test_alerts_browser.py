"""The pages of alerts in a browser: keys, selection, updates and small screens."""

from typing import Any

import pytest
from playwright.sync_api import Page, expect

from alerts import alert_actions
from alerts.models import Alert, Incident, Resolution, Rule, Status
from alerts.rules import lifecycle
from tests.conftest import ApiClient, point
from tests.dashboard.conftest import BrowserPage, in_thread, sign_in
from tests.dashboard.factories import open_alert, queryset_of

pytestmark = pytest.mark.slow


@pytest.fixture
def rule(site: None) -> Rule:
    fields = {"name": "Too warm", "metric_name": "temperature", "threshold_value": 2.0, "level": "critical"}
    return lifecycle.create(fields | {"clear_threshold": 1.5}, "user:mei")


@pytest.fixture
def three_alerts(rule: Rule) -> list[Alert]:
    return [open_alert(rule, f"room-{number}", f"Room {number} is too warm", minutes_ago=number) for number in range(3)]


def statuses_by_message() -> dict[str, str]:
    return dict(Alert.objects.values_list("message", "status"))


def row(page: Page, number: int) -> Any:
    return page.locator(".arow", has_text=f"Room {number} is too warm")


def test_keys_move_select_and_acknowledge(three_alerts: list[Alert], desktop: BrowserPage):
    sign_in(desktop, "/alerts/")
    keys = desktop.page.keyboard
    for key in "jjx":
        keys.press(key)
    expect(row(desktop.page, 1).locator(".box")).to_be_checked()
    expect(desktop.page.locator("#selected-count")).to_have_text("1 selected")
    keys.press("k")
    keys.press("x")
    keys.press("a")
    for number in (0, 1):
        expect(row(desktop.page, number)).to_have_attribute("data-status", "acknowledged")
        expect(row(desktop.page, number).locator(".whose")).to_contain_text("mei")
    expect(desktop.page.locator("#result")).to_have_text("2 alerts acknowledged.")
    expect(desktop.page.locator("#bulk")).to_be_hidden()
    expect(desktop.page).to_have_title("(1) Alerts · Telemetry")
    keys.press("r")  # resolves the alert of the focused row
    expect(row(desktop.page, 0)).to_have_class("arow critical pick done")
    expected = {
        f"Room {number} is too warm": status for number, status in enumerate(("resolved", "acknowledged", "active"))
    }
    assert in_thread(statuses_by_message) == expected
    keys.press("Enter")
    expect(desktop.page.locator("h1")).to_have_text("Too warm: temperature of room-0")


def test_note_is_added_to_the_selected_alert(three_alerts: list[Alert], desktop: BrowserPage):
    sign_in(desktop, "/alerts/")
    desktop.page.keyboard.press("j")
    desktop.page.keyboard.press("n")
    expect(desktop.page.locator("#note")).to_be_focused()
    desktop.page.keyboard.type("Seen, a door was open.")
    desktop.page.keyboard.press("Enter")
    expect(desktop.page.locator("#result")).to_have_text("Note added to 1 alert.")
    assert set(in_thread(statuses_by_message).values()) == {"active"}
    row(desktop.page, 0).get_by_role("link").first.click()
    expect(desktop.page.locator(".talk")).to_have_text("Seen, a door was open.")


def test_newer_alerts_wait_and_resolved_rows_stay(three_alerts: list[Alert], rule: Rule, desktop: BrowserPage):
    sign_in(desktop, "/alerts/")
    in_thread(open_alert, rule, "room-9", "Room 9 is too warm", 0)
    in_thread(alert_actions.resolve, queryset_of(three_alerts[2]), Resolution.RECOVERED, "evaluator")
    expect(desktop.page.locator("#newer")).to_contain_text("1 newer alert: Room 9 is too warm", timeout=10_000)
    expect(row(desktop.page, 2)).to_have_class("arow critical pick done")
    expect(row(desktop.page, 2).locator(".word")).to_have_text("Resolved")
    expect(row(desktop.page, 9)).to_have_count(0)
    desktop.page.keyboard.press(".")
    expect(row(desktop.page, 9)).to_have_count(1)
    expect(desktop.page.locator("#newer")).to_be_hidden()


def test_selected_filter_is_applied_at_once(three_alerts: list[Alert], desktop: BrowserPage):
    sign_in(desktop, "/alerts/")
    desktop.page.get_by_label("Level").select_option("info")
    expect(desktop.page.get_by_text("No matching alerts")).to_be_visible()
    desktop.page.get_by_role("link", name="Show all alerts").click()
    expect(row(desktop.page, 0)).to_be_visible()


def test_buttons_work_without_scripts(three_alerts: list[Alert], desktop: BrowserPage):
    sign_in(desktop, "/alerts/")
    desktop.page.route("**/inbox.js", lambda route: route.fulfill(body="", content_type="text/javascript"))
    desktop.page.reload()
    row(desktop.page, 1).get_by_role("checkbox").check()
    row(desktop.page, 2).get_by_role("checkbox").check()
    desktop.page.locator("#bulk").get_by_role("button", name="Resolve").click()
    expect(desktop.page.get_by_text("2 alerts resolved.")).to_be_visible()


THRESHOLD_DRAWN = """() => {
    const canvas = document.querySelector("#chart canvas");
    const { width, height } = canvas;
    const data = canvas.getContext("2d").getImageData(width * 0.3, 0, width * 0.6, height).data;
    const colour = getComputedStyle(document.querySelector("#probes .limit")).color.match(/\\d+/g).map(Number);
    let pixels = 0;
    for (let i = 0; i < data.length; i += 4)
        if (colour.every((part, n) => Math.abs(data[i + n] - part) < 3)) pixels++;
    return pixels > width * 0.3;
}"""


def test_alert_page_draws_the_threshold_and_handles_keys(
    three_alerts: list[Alert], admin: ApiClient, desktop: BrowserPage
):
    points = [point("temperature", number % 5, seconds_ago=10 * number, unit="°C") for number in range(200)]
    assert admin.post("devices/room-0/telemetry/batch", {"data_points": points}).status == 200
    sign_in(desktop, f"/alerts/{three_alerts[0].alert_id}/")
    expect(desktop.page.locator("#chart canvas")).to_be_visible()
    expect(desktop.page.locator("#legend b")).to_contain_text("°C")
    desktop.wait_until(THRESHOLD_DRAWN)
    desktop.page.keyboard.press("a")
    expect(desktop.page.get_by_text("1 alert acknowledged.")).to_be_visible()
    expect(desktop.page.locator(".alert-state")).to_contain_text("Owner: mei")
    in_thread(alert_actions.resolve, queryset_of(three_alerts[0]), Resolution.RECOVERED, "evaluator")
    expect(desktop.page.locator(".alert-state")).to_contain_text("values recovered")


@pytest.fixture
def long_named_alert(rule: Rule) -> Alert:
    name = "a-very-long-name-" * 6
    alert = open_alert(rule, name, f"{name} is too warm", incident=Incident.objects.create(cause="x", title="Many"))
    open_alert(rule, "room-5", "Room 5 is too warm", incident=alert.incident)
    return alert


def test_rule_form_shows_inputs_of_its_kind_and_runs_a_backtest(rule: Rule, admin: ApiClient, desktop: BrowserPage):
    points = [
        point("temperature", 3 if 100 < number < 110 else 1, seconds_ago=10 * number, unit="°C")
        for number in range(200)
    ]
    assert admin.post("devices/room-0/telemetry/batch", {"data_points": points}).status == 200
    sign_in(desktop, f"/rules/{rule.rule_id}/")
    sentence = desktop.page.locator("#sentence")
    expect(sentence.get_by_label("Threshold", exact=True).first).to_be_visible()
    expect(sentence.get_by_label("Grace period", exact=True)).to_be_hidden()
    desktop.page.get_by_label("No data").check(force=True)
    expect(sentence.get_by_label("Grace period", exact=True)).to_be_visible()
    expect(sentence.get_by_label("Threshold", exact=True).first).to_be_hidden()
    desktop.page.get_by_label("Threshold", exact=True).first.check(force=True)
    desktop.page.get_by_role("button", name="Run backtest").click()
    expect(desktop.page.locator("#backtest-status")).to_contain_text("Replayed in")
    expect(desktop.page.locator("[data-firings]")).to_have_text("1")
    expect(desktop.page.locator("#firings tbody tr")).to_have_count(1)
    desktop.wait_until(THRESHOLD_DRAWN.replace("#chart", "#backtest-chart"))
    desktop.page.locator("[name=threshold_value]").fill("9")
    desktop.page.get_by_role("button", name="Run backtest").click()
    expect(desktop.page.locator("#backtest-status")).to_contain_text("No alert would have opened.")
    desktop.page.locator("[name=trigger_count]").fill("many")
    desktop.page.get_by_role("button", name="Run backtest").click()
    expect(desktop.page.locator("#backtest-status")).to_contain_text("Not replayed: trigger count:")
    assert lifecycle.document_of(in_thread(Rule.objects.get))["threshold_value"] == 2


def test_alert_pages_fit_the_width_of_a_phone(three_alerts: list[Alert], long_named_alert: Alert, phone: BrowserPage):
    sign_in(phone, "/alerts/")
    rule_id = in_thread(Rule.objects.get).rule_id
    pages = (
        "/",
        f"/devices/{long_named_alert.device_name}/",
        "/rules/",
        f"/rules/{rule_id}/",
        "/rules/new/",
        "/silences/",
    )
    for path in ("/alerts/", f"/alerts/{long_named_alert.alert_id}/", *pages, "/channels/", "/channels/new/"):
        phone.open(path)
        assert phone.page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    phone.open("/alerts/")
    row(phone.page, 0).get_by_role("button", name="Acknowledge").click()
    expect(row(phone.page, 0)).to_have_attribute("data-status", Status.ACKNOWLEDGED)
    phone.page.get_by_text("More", exact=True).click()
    expect(phone.page.locator(".rest").get_by_role("link", name="Exports")).to_be_visible()
