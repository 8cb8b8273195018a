"""The pages in a real browser."""

import re
import time

import pytest
from playwright.sync_api import expect

from tests.conftest import ApiClient, point
from tests.dashboard.conftest import PASSWORD, PHONE, Desk, sign_in

LIVE = re.compile(r"^Live, \d")
DEVICE = "/devices/cold-room-07/"


@pytest.fixture
def hour(gateway: ApiClient) -> None:
    """An hour of two metrics of a cold room, one value every 10 s."""
    for metric, value in (("temperature", 4.0), ("humidity", 60.0)):
        points = [point(metric, value + n % 7 / 10, seconds_ago=10 * n, unit="°C") for n in range(360)]
        assert gateway.post("devices/cold-room-07/telemetry/batch", {"data_points": points}).status == 200


def send(gateway: ApiClient, value: float, metric: str = "temperature") -> None:
    assert gateway.post("devices/cold-room-07/telemetry", point(metric, value, unit="°C")).status == 200


COLOURS = """() => {
    const canvas = document.querySelector("#chart canvas");
    const { width, height } = canvas;
    const data = canvas.getContext("2d").getImageData(width * 0.2, 0, width * 0.7, height * 0.85).data;
    const found = new Set();
    for (let i = 0; i < data.length; i += 4)
        if (data[i + 3] === 255) found.add(`${data[i]},${data[i + 1]},${data[i + 2]}`);
    return [...found];
}"""


def drawn(desk: Desk) -> list[str]:
    """The colours in the middle of the chart's canvas: more than one when there is a line."""
    return desk.page.evaluate(COLOURS)


def window(desk: Desk) -> tuple[str, str]:
    found = re.search(r"from=([^&]+)&to=([^&]+)", desk.page.url)
    assert found, desk.page.url
    return found[1], found[2]


def test_a_wrong_password_is_said_and_the_right_one_leads_to_where_one_wanted_to_go(desk: Desk, hour: None):
    desk.open(DEVICE)
    desk.page.fill("[name=username]", "mei")
    desk.page.fill("[name=password]", "wrong")
    desk.page.click("button[type=submit]")
    expect(desk.page.get_by_role("alert")).to_contain_text("User name or password is wrong")
    expect(desk.page.locator("[name=username]")).to_have_value("mei")
    desk.page.fill("[name=password]", PASSWORD)
    desk.page.click("button[type=submit]")
    expect(desk.page.locator("h1")).to_have_text("cold-room-07")


def test_the_first_measurement_turns_the_empty_page_into_a_chart(desk: Desk, gateway: ApiClient):
    sign_in(desk)
    expect(desk.page.get_by_text("Waiting for the first point")).to_be_visible()
    expect(desk.page.locator("#live")).to_contain_text("Live")
    send(gateway, 4.2)
    expect(desk.page.locator("#big")).to_contain_text("4.20 °C")
    expect(desk.page.locator("#device-states")).to_have_text("1 device online")
    expect(desk.page.locator("#chart canvas")).to_be_visible()


def test_a_value_is_on_the_page_within_a_second_of_being_stored(desk: Desk, gateway: ApiClient, hour: None):
    sign_in(desk, DEVICE)
    shown = desk.page.locator('tr[data-metric="temperature"] .reading')
    expect(desk.page.locator("#live")).to_contain_text("Live")
    send(gateway, 77.25)  # the way is open from here on
    expect(shown).to_have_text("77.25")
    for value in (81.5, 82.5, 83.5):
        send(gateway, value)
        stored = time.monotonic()
        expect(shown).to_have_text(f"{value:.2f}")
        assert time.monotonic() - stored < 1
    expect(desk.page.locator("#live")).to_have_text(LIVE)
    expect(desk.page.locator("#legend b")).to_contain_text("83.50")


def test_dragging_over_the_chart_zooms_and_follow_leads_back(desk: Desk, hour: None):
    sign_in(desk, DEVICE)
    over = desk.page.locator("#chart .u-over")
    expect(over).to_be_visible()
    box = over.bounding_box()
    assert box
    middle = box["y"] + box["height"] / 2
    desk.page.mouse.move(box["x"] + box["width"] * 0.25, middle)
    desk.page.mouse.down()
    desk.page.mouse.move(box["x"] + box["width"] * 0.5, middle, steps=4)
    desk.page.mouse.up()
    expect(desk.page).to_have_url(re.compile("from="))
    follow = desk.page.get_by_role("button", name="Go live")
    expect(follow).to_be_visible()
    start, end = window(desk)
    # Seconds later the window still stands where it was, and its address opens the same.
    desk.page.reload()
    expect(follow).to_be_visible()
    assert window(desk) == (start, end)
    follow.click()
    expect(follow).to_be_hidden()
    expect(desk.page.locator("#following")).to_have_text("Live")
    assert "from=" not in desk.page.url


def test_keys_move_zoom_and_open_the_table(desk: Desk, hour: None):
    sign_in(desk, DEVICE)
    expect(desk.page.locator("#chart canvas")).to_be_visible()
    desk.page.keyboard.press("[")
    expect(desk.page).to_have_url(re.compile("from="))
    before = window(desk)
    desk.page.keyboard.press("+")
    expect(desk.page).not_to_have_url(re.compile(re.escape(before[0])))
    desk.page.keyboard.press("t")
    rows = desk.page.locator("#points tbody tr")
    expect(rows.first).to_contain_text("°C")
    desk.page.keyboard.press("f")
    expect(desk.page).not_to_have_url(re.compile("from="))
    desk.page.keyboard.press("?")
    expect(desk.page.get_by_role("dialog")).to_be_visible()
    desk.page.keyboard.press("Escape")
    desk.page.keyboard.press("g")
    desk.page.keyboard.press("d")
    desk.page.wait_for_url(desk.address + "/devices/", wait_until="load")
    desk.page.keyboard.press("/")
    expect(desk.page.locator("#search")).to_be_focused()


def test_a_time_range_is_in_the_address_and_draws_what_it_holds(desk: Desk, hour: None):
    sign_in(desk, DEVICE)
    with desk.page.expect_response(re.compile("/metrics/temperature/range")) as asked:
        desk.page.get_by_text("6 h", exact=True).click()
    assert asked.value.ok
    expect(desk.page).to_have_url(re.compile(r"range=6h"))
    desk.page.reload()
    expect(desk.page.get_by_label("6 h")).to_be_checked()
    expect(desk.page.locator("#chart canvas")).to_be_visible()
    desk.until("document.querySelector('.chart-say').hidden")
    desk.until(f"({COLOURS})().length > 1")  # a slow browser draws a moment later


def test_only_a_pause_out_of_step_is_drawn_as_a_hole(desk: Desk):
    desk.open("/login/")
    holes = desk.page.evaluate(
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
    assert holes == [1, None, 1, None]


def test_several_metrics_are_numbered_lines_and_can_be_shared(desk: Desk, hour: None):
    sign_in(desk, DEVICE)
    desk.page.get_by_text("Metrics", exact=True).click()
    desk.page.get_by_label("humidity").check()
    expect(desk.page.locator("#legend li")).to_have_count(2)
    desk.page.reload()
    expect(desk.page.locator("#legend li")).to_have_text([re.compile("1 *temperature"), re.compile("2 *humidity")])


def test_pointing_at_the_chart_holds_it_still(desk: Desk, hour: None):
    sign_in(desk, DEVICE)
    desk.page.locator("#chart .u-over").hover()
    expect(desk.page.locator("#following")).to_have_text("Paused while hovering")
    desk.page.locator("h1").hover()
    expect(desk.page.locator("#following")).to_have_text("Live")


def test_a_lost_connection_is_said_and_what_was_missed_is_fetched(desk: Desk, gateway: ApiClient, hour: None):
    sockets = []
    open_way = [True]

    def route(ws):
        if not open_way[0]:
            ws.close(code=1012)
            return
        sockets.append(ws)
        ws.connect_to_server()

    desk.page.route_web_socket("**/ws/live", route)
    sign_in(desk, DEVICE)
    expect(desk.page.locator("#live")).to_contain_text("Live")
    expect(desk.page.locator("#live")).not_to_contain_text("paused")
    open_way[0] = False
    sockets[-1].close(code=1012)
    strap = desk.page.locator("#strap")
    expect(strap).to_contain_text("Live paused. Data is complete up to", timeout=10_000)
    expect(desk.page.locator("body")).to_have_class(re.compile("stale"))
    send(gateway, 55.5)
    open_way[0] = True
    expect(strap).to_be_hidden(timeout=15_000)
    expect(desk.page.locator('tr[data-metric="temperature"] .reading')).to_have_text("55.50")


def test_nothing_scrolls_sideways_on_a_phone(phone: Desk, hour: None):
    sign_in(phone)
    for path in ("/", DEVICE, DEVICE + "?metric=temperature&metric=humidity", "/devices/"):
        phone.open(path)
        if path != "/devices/":
            expect(phone.page.locator("#chart canvas")).to_be_visible()
        assert phone.page.evaluate("document.documentElement.scrollWidth") == PHONE["width"]
        expect(phone.page.locator(".tabbar")).to_be_visible()


def test_the_theme_is_kept_and_signing_out_leads_to_the_sign_in(desk: Desk, hour: None):
    sign_in(desk)
    desk.page.locator("details.me summary").click()
    desk.page.get_by_label("Dark").check()
    expect(desk.page.locator("html")).to_have_attribute("data-theme", "dark")
    desk.page.reload()
    expect(desk.page.locator("html")).to_have_attribute("data-theme", "dark")
    assert desk.page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(14, 19, 21)"
    desk.page.locator("details.me summary").click()
    desk.page.get_by_role("button", name="Sign out").click()
    expect(desk.page).to_have_url(re.compile("/login/"))
