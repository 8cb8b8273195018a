"""The pages of alerts in a real browser: keys, choosing many, news, and a phone."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from django.db import connection
from playwright.sync_api import Page, expect

from alerts import alert_actions
from alerts.models import Alert, Incident, Resolution, Rule, Status
from alerts.rules import lifecycle
from tests.conftest import ApiClient, point
from tests.dashboard.conftest import Desk, sign_in
from tests.dashboard.test_alert_pages import of, raised


@pytest.fixture
def rule(site: None) -> Rule:
    fields = {"name": "Too warm", "metric_name": "temperature", "threshold_value": 2.0, "level": "critical"}
    return lifecycle.create(fields | {"clear_threshold": 1.5}, "user:mei")


@pytest.fixture
def three(rule: Rule) -> list[Alert]:
    return [raised(rule, f"room-{n}", f"Room {n} is too warm", minutes_ago=n) for n in range(3)]


def elsewhere(verb: Callable[..., Any], *given: Any) -> Any:
    """What somebody else does meanwhile; in another thread, since Playwright has an event loop in this one."""

    def act() -> Any:
        try:
            return verb(*given)
        finally:
            connection.close()

    with ThreadPoolExecutor(1) as pool:
        return pool.submit(act).result(10)


def statuses() -> dict[str, str]:
    return dict(Alert.objects.values_list("message", "status"))


def row(page: Page, n: int) -> Any:
    return page.locator(".arow", has_text=f"Room {n} is too warm")


def test_keys_move_select_and_acknowledge(three: list[Alert], desk: Desk):
    sign_in(desk, "/alerts/")
    keys = desk.page.keyboard
    for key in "jjx":
        keys.press(key)
    expect(row(desk.page, 1).locator(".box")).to_be_checked()
    expect(desk.page.locator("#selected-count")).to_have_text("1 selected")
    keys.press("k")
    keys.press("x")
    keys.press("a")
    for n in (0, 1):
        expect(row(desk.page, n)).to_have_attribute("data-status", "acknowledged")
        expect(row(desk.page, n).locator(".whose")).to_contain_text("mei")
    expect(desk.page.locator("#result")).to_have_text("2 alerts acknowledged.")
    expect(desk.page.locator("#bulk")).to_be_hidden()
    expect(desk.page).to_have_title("(1) Alerts · Telemetry")
    keys.press("r")  # of the row with the focus
    expect(row(desk.page, 0)).to_have_class("arow critical pick done")
    told = {f"Room {n} is too warm": status for n, status in enumerate(("resolved", "acknowledged", "active"))}
    assert elsewhere(statuses) == told
    keys.press("Enter")
    expect(desk.page.locator("h1")).to_have_text("Room 0 is too warm")


def test_a_note_goes_to_what_is_chosen(three: list[Alert], desk: Desk):
    sign_in(desk, "/alerts/")
    desk.page.keyboard.press("j")
    desk.page.keyboard.press("n")
    expect(desk.page.locator("#note")).to_be_focused()
    desk.page.keyboard.type("Seen, a door was open.")
    desk.page.keyboard.press("Enter")
    expect(desk.page.locator("#result")).to_have_text("Note added to 1 alert.")
    assert set(elsewhere(statuses).values()) == {"active"}
    row(desk.page, 0).get_by_role("link").first.click()
    expect(desk.page.locator(".talk")).to_have_text("Seen, a door was open.")


def test_newer_alerts_wait_and_what_is_over_stays_struck(three: list[Alert], rule: Rule, desk: Desk):
    sign_in(desk, "/alerts/")
    elsewhere(raised, rule, "room-9", "Room 9 is too warm", 0)
    elsewhere(alert_actions.resolve, of(three[2]), Resolution.RECOVERED, "evaluator")
    expect(desk.page.locator("#newer")).to_contain_text("1 newer alert. Reload", timeout=10_000)
    expect(row(desk.page, 2)).to_have_class("arow critical pick done")
    expect(row(desk.page, 2).locator(".word")).to_have_text("Resolved")
    expect(row(desk.page, 9)).to_have_count(0)
    desk.page.keyboard.press(".")
    expect(row(desk.page, 9)).to_have_count(1)
    expect(desk.page.locator("#newer")).to_be_hidden()


def test_a_choice_filters_at_once(three: list[Alert], desk: Desk):
    sign_in(desk, "/alerts/")
    desk.page.get_by_label("Level").select_option("info")
    expect(desk.page.get_by_text("No matching alerts")).to_be_visible()
    desk.page.get_by_role("link", name="Show all alerts").click()
    expect(row(desk.page, 0)).to_be_visible()


def test_without_a_script_buttons_do_the_same(three: list[Alert], desk: Desk):
    sign_in(desk, "/alerts/")
    desk.page.route("**/inbox.js", lambda route: route.fulfill(body="", content_type="text/javascript"))
    desk.page.reload()
    row(desk.page, 1).get_by_role("checkbox").check()
    row(desk.page, 2).get_by_role("checkbox").check()
    desk.page.locator("#bulk").get_by_role("button", name="Resolve").click()
    expect(desk.page.get_by_text("2 alerts resolved.")).to_be_visible()


LIMIT_DRAWN = """() => {
    const canvas = document.querySelector("#chart canvas");
    const { width, height } = canvas;
    const data = canvas.getContext("2d").getImageData(width * 0.3, 0, width * 0.6, height).data;
    const wanted = getComputedStyle(document.querySelector("#probes .limit")).color.match(/\\d+/g).map(Number);
    let found = 0;
    for (let i = 0; i < data.length; i += 4)
        if (wanted.every((part, n) => Math.abs(data[i + n] - part) < 3)) found++;
    return found > width * 0.3;
}"""


def test_the_alert_page_draws_the_limit_and_takes_verbs_by_key(three: list[Alert], admin: ApiClient, desk: Desk):
    points = [point("temperature", n % 5, seconds_ago=10 * n, unit="°C") for n in range(200)]
    assert admin.post("devices/room-0/telemetry/batch", {"data_points": points}).status == 200
    sign_in(desk, f"/alerts/{three[0].alert_id}/")
    expect(desk.page.locator("#chart canvas")).to_be_visible()
    expect(desk.page.locator("#legend b")).to_contain_text("°C")
    desk.until(LIMIT_DRAWN)
    desk.page.keyboard.press("a")
    expect(desk.page.get_by_text("1 alert acknowledged.")).to_be_visible()
    expect(desk.page.locator(".alert-state")).to_contain_text("Owner: mei")
    elsewhere(alert_actions.resolve, of(three[0]), Resolution.RECOVERED, "evaluator")
    expect(desk.page.locator("#changed")).to_contain_text("This alert changed", timeout=10_000)
    desk.page.locator("#changed a").click()
    expect(desk.page.locator(".alert-state")).to_contain_text("values recovered")


@pytest.fixture
def long_one(rule: Rule) -> Alert:
    name = "a-very-long-name-" * 6
    alert = raised(rule, name, f"{name} is too warm", incident=Incident.objects.create(cause="x", title="Many"))
    raised(rule, "room-5", "Room 5 is too warm", incident=alert.incident)
    return alert


def test_a_rule_reads_as_a_sentence_and_says_what_it_would_have_done(rule: Rule, admin: ApiClient, desk: Desk):
    points = [point("temperature", 3 if 100 < n < 110 else 1, seconds_ago=10 * n, unit="°C") for n in range(200)]
    assert admin.post("devices/room-0/telemetry/batch", {"data_points": points}).status == 200
    sign_in(desk, f"/rules/{rule.rule_id}/")
    sentence = desk.page.locator("#sentence")
    expect(sentence.get_by_label("Threshold", exact=True).first).to_be_visible()
    expect(sentence.get_by_label("Grace period", exact=True)).to_be_hidden()
    desk.page.get_by_label("No data").check(force=True)
    expect(sentence.get_by_label("Grace period", exact=True)).to_be_visible()
    expect(sentence.get_by_label("Threshold", exact=True).first).to_be_hidden()
    desk.page.get_by_label("Threshold", exact=True).first.check(force=True)
    desk.page.get_by_role("button", name="Run backtest").click()
    expect(desk.page.locator("#backtest-status")).to_contain_text("Replayed in")
    expect(desk.page.locator("[data-firings]")).to_have_text("1")
    expect(desk.page.locator("#firings tbody tr")).to_have_count(1)
    desk.until(LIMIT_DRAWN.replace("#chart", "#backtest-chart"))
    desk.page.locator("[name=threshold_value]").fill("9")
    desk.page.get_by_role("button", name="Run backtest").click()
    expect(desk.page.locator("#backtest-status")).to_contain_text("No alert would have opened.")
    desk.page.locator("[name=trigger_count]").fill("many")
    desk.page.get_by_role("button", name="Run backtest").click()
    expect(desk.page.locator("#backtest-status")).to_contain_text("Not replayed: trigger count:")
    assert lifecycle.document_of(elsewhere(Rule.objects.get))["threshold_value"] == 2


def test_on_a_phone_nothing_is_wider_than_the_screen(three: list[Alert], long_one: Alert, phone: Desk):
    sign_in(phone, "/alerts/")
    rule_id = elsewhere(Rule.objects.get).rule_id
    pages = ("/", f"/devices/{long_one.device_name}/", "/rules/", f"/rules/{rule_id}/", "/rules/new/", "/silences/")
    for path in ("/alerts/", f"/alerts/{long_one.alert_id}/", *pages, "/channels/", "/channels/new/"):
        phone.open(path)
        assert phone.page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    phone.open("/alerts/")
    row(phone.page, 0).get_by_role("button", name="Acknowledge").click()
    expect(row(phone.page, 0)).to_have_attribute("data-status", Status.ACKNOWLEDGED)
    phone.page.get_by_text("More", exact=True).click()
    expect(phone.page.locator(".rest").get_by_role("link", name="Exports")).to_be_visible()
