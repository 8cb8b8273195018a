"""The pages of the overview and of devices in a browser."""

import re
import time

import pytest
from playwright.sync_api import expect

from tests.conftest import ApiClient, point
from tests.dashboard.conftest import PASSWORD, PHONE, BrowserPage, sign_in

pytestmark = pytest.mark.slow

LIVE = re.compile(r"^Live, \d")
DEVICE = "/devices/cold-room-07/"


@pytest.fixture
def hour_of_points(gateway: ApiClient) -> None:
    """Store an hour of two metrics, one point every 10 s."""
    for metric, value in (("temperature", 4.0), ("humidity", 60.0)):
        points = [point(metric, value + n % 7 / 10, seconds_ago=10 * n, unit="°C") for n in range(360)]
        assert gateway.post("devices/cold-room-07/telemetry/batch", {"data_points": points}).status == 200


def send(gateway: ApiClient, value: float, metric: str = "temperature") -> None:
    assert gateway.post("devices/cold-room-07/telemetry", point(metric, value, unit="°C")).status == 200


COLOURS = """() => {
    const canvas = document.querySelector("#chart canvas");
    const { width, height } = canvas;
    const data = canvas.getContext("2d").getImageData(width * 0.2, 0, width * 0.7, height * 0.85).data;
    const colours = new Set();
    for (let i = 0; i < data.length; i += 4)
        if (data[i + 3] === 255) colours.add(`${data[i]},${data[i + 1]},${data[i + 2]}`);
    return [...colours];
}"""


def read_colours(desktop: BrowserPage) -> list[str]:
    """Return the colours in the middle of the chart: more than one if there is a line."""
    return desktop.page.evaluate(COLOURS)


def read_window(desktop: BrowserPage) -> tuple[str, str]:
    match = re.search(r"from=([^&]+)&to=([^&]+)", desktop.page.url)
    assert match, desktop.page.url
    return match[1], match[2]


def test_login_shows_errors_and_returns_to_the_requested_page(desktop: BrowserPage, hour_of_points: None):
    desktop.open(DEVICE)
    desktop.page.fill("[name=username]", "mei")
    desktop.page.fill("[name=password]", "wrong")
    desktop.page.click("button[type=submit]")
    expect(desktop.page.get_by_role("alert")).to_contain_text("User name or password is wrong")
    expect(desktop.page.locator("[name=username]")).to_have_value("mei")
    desktop.page.fill("[name=password]", PASSWORD)
    desktop.page.click("button[type=submit]")
    expect(desktop.page.locator("h1")).to_have_text("cold-room-07")


def test_first_point_replaces_the_empty_page_with_a_chart(desktop: BrowserPage, gateway: ApiClient):
    sign_in(desktop)
    expect(desktop.page.get_by_text("Waiting for the first point")).to_be_visible()
    expect(desktop.page.locator("#live")).to_contain_text("Live")
    send(gateway, 4.2)
    expect(desktop.page.locator("#big")).to_contain_text("4.2 °C")
    expect(desktop.page.locator("#device-states")).to_have_text("1 device online")
    expect(desktop.page.locator("#chart canvas")).to_be_visible()


def test_stored_value_is_shown_within_a_second(desktop: BrowserPage, gateway: ApiClient, hour_of_points: None):
    sign_in(desktop, DEVICE)
    reading = desktop.page.locator('tr[data-metric="temperature"] .reading')
    expect(desktop.page.locator("#live")).to_contain_text("Live")
    send(gateway, 77.25)  # the stream is connected from here on
    expect(reading).to_have_text("77.25")
    for value in (81.5, 82.5, 83.5):
        send(gateway, value)
        stored = time.monotonic()
        expect(reading).to_have_text(str(value))
        assert time.monotonic() - stored < 1
    expect(desktop.page.locator("#live")).to_have_text(LIVE)
    expect(desktop.page.locator("#legend b")).to_contain_text("83.5")


def test_dragging_zooms_and_go_live_resets(desktop: BrowserPage, hour_of_points: None):
    sign_in(desktop, DEVICE)
    chart = desktop.page.locator("#chart .u-over")
    expect(chart).to_be_visible()
    box = chart.bounding_box()
    assert box
    middle = box["y"] + box["height"] / 2
    desktop.page.mouse.move(box["x"] + box["width"] * 0.25, middle)
    desktop.page.mouse.down()
    desktop.page.mouse.move(box["x"] + box["width"] * 0.5, middle, steps=4)
    desktop.page.mouse.up()
    expect(desktop.page).to_have_url(re.compile("from="))
    go_live = desktop.page.get_by_role("button", name="Go live")
    expect(go_live).to_be_visible()
    start, end = read_window(desktop)
    # The window stays fixed, and a reload restores it from the address.
    desktop.page.reload()
    expect(go_live).to_be_visible()
    assert read_window(desktop) == (start, end)
    go_live.click()
    expect(go_live).to_be_hidden()
    expect(desktop.page.locator("#following")).to_have_text("Live")
    assert "from=" not in desktop.page.url


def test_keys_move_zoom_and_open_the_table(desktop: BrowserPage, hour_of_points: None):
    sign_in(desktop, DEVICE)
    expect(desktop.page.locator("#chart canvas")).to_be_visible()
    desktop.page.keyboard.press("[")
    expect(desktop.page).to_have_url(re.compile("from="))
    window_before = read_window(desktop)
    desktop.page.keyboard.press("+")
    expect(desktop.page).not_to_have_url(re.compile(re.escape(window_before[0])))
    desktop.page.keyboard.press("t")
    rows = desktop.page.locator("#points tbody tr")
    expect(rows.first).to_contain_text("°C")
    desktop.page.keyboard.press("f")
    expect(desktop.page).not_to_have_url(re.compile("from="))
    desktop.page.keyboard.press("?")
    expect(desktop.page.get_by_role("dialog")).to_be_visible()
    desktop.page.keyboard.press("Escape")
    desktop.page.keyboard.press("g")
    desktop.page.keyboard.press("d")
    desktop.page.wait_for_url(desktop.address + "/devices/", wait_until="load")
    desktop.page.keyboard.press("/")
    expect(desktop.page.locator("#search")).to_be_focused()


def test_time_range_is_kept_in_the_address(desktop: BrowserPage, hour_of_points: None):
    sign_in(desktop, DEVICE)
    with desktop.page.expect_response(re.compile("/metrics/temperature/range")) as response:
        desktop.page.get_by_text("6 h", exact=True).click()
    assert response.value.ok
    expect(desktop.page).to_have_url(re.compile(r"range=6h"))
    desktop.page.reload()
    expect(desktop.page.get_by_label("6 h")).to_be_checked()
    expect(desktop.page.locator("#chart canvas")).to_be_visible()
    desktop.wait_until("document.querySelector('.chart-say').hidden")
    desktop.wait_until(f"({COLOURS})().length > 1")  # drawing is asynchronous


def test_only_an_unusual_pause_is_drawn_as_a_gap(desktop: BrowserPage):
    desktop.open("/login/")
    gaps = desktop.page.evaluate(
        """async () => {
            const { Series } = await import("/static/dashboard/series.js");
            const series = new Series({ name: "temperature", kind: "number", unit: "" }, 1);
            const steps = [...Array(30).fill(30), ...Array(200).fill(5), 400, ...Array(30).fill(5)];
            let at = 0;
            const times = steps.map((step) => (at += step * 1000));
            series.replace(times, times.map(() => 1));
            const [, values] = series.columns();
            const moments = [15_000, 100_000, at - 200_000];
            return [values.filter((v) => v === null).length, ...moments.map((ms) => series.at(ms))];
        }"""
    )
    assert gaps == [1, None, 1, None]


def test_several_metrics_are_numbered_and_kept_in_the_address(desktop: BrowserPage, hour_of_points: None):
    sign_in(desktop, DEVICE)
    desktop.page.get_by_text("Metrics", exact=True).click()
    desktop.page.get_by_label("humidity").check()
    expect(desktop.page.locator("#legend li")).to_have_count(2)
    desktop.page.reload()
    expect(desktop.page.locator("#legend li")).to_have_text([re.compile("1 *temperature"), re.compile("2 *humidity")])


def test_hovering_pauses_the_chart(desktop: BrowserPage, hour_of_points: None):
    sign_in(desktop, DEVICE)
    desktop.page.locator("#chart .u-over").hover()
    expect(desktop.page.locator("#following")).to_have_text("Paused while hovering")
    desktop.page.locator("h1").hover()
    expect(desktop.page.locator("#following")).to_have_text("Live")


def test_pages_fit_the_width_of_a_phone(phone: BrowserPage, hour_of_points: None):
    sign_in(phone)
    for path in ("/", DEVICE, DEVICE + "?metric=temperature&metric=humidity", "/devices/"):
        phone.open(path)
        if path != "/devices/":
            expect(phone.page.locator("#chart canvas")).to_be_visible()
        assert phone.page.evaluate("document.documentElement.scrollWidth") == PHONE["width"]
        expect(phone.page.locator(".tabbar")).to_be_visible()


def test_theme_is_kept_and_logout_shows_the_login_page(desktop: BrowserPage, hour_of_points: None):
    sign_in(desktop)
    desktop.page.locator("details.me summary").click()
    desktop.page.get_by_label("Dark").check()
    expect(desktop.page.locator("html")).to_have_attribute("data-theme", "dark")
    desktop.page.reload()
    expect(desktop.page.locator("html")).to_have_attribute("data-theme", "dark")
    assert desktop.page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(14, 19, 21)"
    desktop.page.locator("details.me summary").click()
    desktop.page.get_by_role("button", name="Sign out").click()
    expect(desktop.page).to_have_url(re.compile("/login/"))
