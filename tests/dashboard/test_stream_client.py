"""The stream client of the pages, against a server whose frames and close codes are chosen by the test."""

import json
import re
from typing import Any

import pytest
from django.contrib.auth import get_user_model
from playwright.sync_api import expect
from websockets.exceptions import ConnectionClosed
from websockets.sync.server import ServerConnection

from tests.conftest import ApiClient, point
from tests.dashboard.conftest import BrowserPage, sign_in
from tests.dashboard.stream_proxy import StreamProxy
from tests.telemetry_site.site_process import wait_until

pytestmark = pytest.mark.slow

DEVICE = "/devices/cold-room-07/"
READING = 'tr[data-metric="temperature"] .reading'


@pytest.fixture
def device(gateway: ApiClient) -> None:
    points = [point("temperature", 4.0 + n % 5, seconds_ago=10 * n, unit="°C") for n in range(100)]
    points += [point("note", "fine")]
    assert gateway.post("devices/cold-room-07/telemetry/batch", {"data_points": points}).status == 200


def value(number: Any, metric: str = "temperature", **fields: Any) -> dict[str, Any]:
    """Return a value of a frame that was measured now."""
    stored = point(metric, number, unit="°C")
    return {
        "device_id": "cold-room-07",
        "metric_name": metric,
        "timestamp": stored["timestamp"],
        "value": number,
        "unit": "°C",
        **fields,
    }


class ScriptedStream:
    """Answers subscriptions with an empty snapshot, and sends the frames that a test gives it."""

    def __init__(self) -> None:
        self.connections: list[ServerConnection] = []
        self.received: list[dict[str, Any]] = []
        self.snapshot: dict[str, Any] = {"position": "0a0a0a0a.5", "recovered": None, "reason": None, "more": False}
        self.final: dict[str, Any] | None = None  # the error frame with which new connections are closed

    def __call__(self, connection: ServerConnection) -> None:
        self.connections.append(connection)
        try:
            if self.final:
                self.close(self.final["code"], self.final)
            for text in connection:
                self.answer(connection, json.loads(text))
        except ConnectionClosed:
            pass

    def answer(self, connection: ServerConnection, message: dict[str, Any]) -> None:
        self.received.append(message)
        if "channels" in message and message["type"] == "subscribe":
            connection.send(json.dumps({"type": "subscribed", "channels": message["channels"]}))
        elif message["type"] == "subscribe":
            snapshot = {"subscription": message["subscription"], "type": "snapshot", **self.snapshot, "values": []}
            connection.send(json.dumps(snapshot))

    def subscriptions(self) -> list[dict[str, Any]]:
        return [message for message in self.received if message["type"] == "subscribe" and "subscription" in message]

    def send(self, frame: dict[str, Any]) -> None:
        self.connections[-1].send(json.dumps(frame))

    def send_values(self, *values: dict[str, Any], kind: str = "points", position: str = "0a0a0a0a.6") -> None:
        wait_until(lambda: bool(self.subscriptions()), 10, "a data subscription")
        subscription = self.subscriptions()[-1]["subscription"]
        self.send({"subscription": subscription, "type": kind, "position": position, "values": values})

    def close(self, code: int, error: dict[str, Any] | None = None) -> None:
        if error:
            self.connections[-1].send(json.dumps(error))
        self.connections[-1].close(code)


@pytest.fixture
def stream(proxy: StreamProxy) -> ScriptedStream:
    stream = ScriptedStream()
    proxy.script = stream
    return stream


def error(code: int, detail: str, retry: bool = False, retry_after_ms: int | None = None) -> dict[str, Any]:
    return {"type": "error", "code": code, "detail": detail, "retry": retry, "retry_after_ms": retry_after_ms}


def open_live(page: BrowserPage, path: str = DEVICE) -> None:
    sign_in(page, path)
    expect(page.page.locator("#live")).to_have_text(re.compile("^Live"))


FINAL_REASONS = [
    (4001, "the ticket was used", "Signed out", "You are signed out."),
    (4003, "access has ended", "Not live", "Live updates have ended. Your access has ended"),
    (4004, "the subscription was cancelled", "Not live", "Live updates have ended. The subscription has ended."),
    (4009, "this caller has 50 streams", "Too many connections", "Too many open connections. Close other pages"),
    (4013, "messages must be objects", "Not live", "Live updates have ended. The server has rejected"),
]


@pytest.mark.parametrize(("code", "detail", "word", "text"), FINAL_REASONS)
@pytest.mark.parametrize("has_frame", [True, False], ids=["frame", "code"])
def test_final_close_is_explained_and_not_retried(
    proxied: BrowserPage,
    stream: ScriptedStream,
    device: None,
    code: int,
    detail: str,
    word: str,
    text: str,
    has_frame: bool,
):
    open_live(proxied)
    stream.send_values(value(5.5))
    expect(proxied.page.locator(READING)).to_have_text("5.5")
    stream.close(code, error(code, detail) if has_frame else None)
    expect(proxied.page.locator("#live")).to_have_text(word)
    strap = proxied.page.locator("#strap")
    expect(strap).to_contain_text(text)
    expect(strap).to_contain_text(re.compile(r"Data is complete up to \d\d:\d\d:\d\d"))
    expect(proxied.page.locator(READING)).to_have_text("5.5")
    proxied.page.wait_for_timeout(1500)  # longer than the first wait
    assert len(stream.connections) == 1


RETRIED_REASONS = [
    (1012, "the server is restarting", "The server is restarting."),
    (1011, "the stream failed", "The live stream failed on the server."),
    (4008, "the client reads too slowly", "This page received more than its connection can carry."),
    (4029, "more than 50 messages", "This page sent too many requests."),
    (1006, "", "The server cannot be reached."),
]


@pytest.mark.parametrize(("code", "detail", "text"), RETRIED_REASONS)
def test_retried_close_is_explained_until_the_page_is_live_again(
    proxied: BrowserPage, proxy: StreamProxy, stream: ScriptedStream, device: None, code: int, detail: str, text: str
):
    open_live(proxied)
    stream.send_values(value(5.5))
    expect(proxied.page.locator(READING)).to_have_text("5.5")
    stream.final = error(code, detail, True, 4000) if detail else None
    if detail:
        stream.close(code, stream.final)
    else:
        proxy.cut()
    strap = proxied.page.locator("#strap")
    expect(strap).to_contain_text(text)
    expect(strap).to_contain_text("Reconnecting…")
    expect(proxied.page.locator("#live")).to_have_text("Reconnecting…")
    expect(proxied.page.locator("body")).to_have_class(re.compile("stale"))
    stream.final = None
    proxy.restore()
    strap.get_by_role("button", name="Try now").click()
    expect(proxied.page.locator("#live")).to_have_text(re.compile("^Live"))
    expect(strap).to_be_hidden()
    assert stream.subscriptions()[-1]["resume_from"] == "0a0a0a0a.6"


def test_gap_is_drawn_and_second_snapshot_reads_the_range_again(
    proxied: BrowserPage, stream: ScriptedStream, device: None
):
    open_live(proxied)
    stream.send_values(value(5.5))
    expect(proxied.page.locator(READING)).to_have_text("5.5")
    stream.close(1012)
    wait_until(lambda: len(stream.subscriptions()) == 2, 10, "a second subscription")
    stream.send_values(value(6.25), value(6.5), kind="gap", position="0a0a0a0a.9")
    expect(proxied.page.locator(READING)).to_have_text("6.5")
    # The answer of the scripted stream was a snapshot: the position could not be resumed.
    with proxied.page.expect_response(re.compile("/metrics/temperature/range")):
        stream.send_values(kind="snapshot", position="0a0a0a0a.10")


def test_texts_of_frames_are_not_interpreted_as_markup(proxied: BrowserPage, stream: ScriptedStream, device: None):
    markup = "<img src=x onerror=\"document.title='owned'\">"
    open_live(proxied)
    stream.send_values(value(markup, "note", unit=markup), value(5.5, device_id=markup), value(6.5, metric_name=markup))
    expect(proxied.page.locator('tr[data-metric="note"] .reading')).to_have_text(markup)
    stream.close(4000, error(4000, markup))
    expect(proxied.page.locator("#strap")).to_contain_text(markup)
    assert proxied.page.locator("img").count() == 0
    assert "owned" not in proxied.page.title()


def test_repeated_event_is_ignored_and_resync_reads_once(proxied: BrowserPage, stream: ScriptedStream, site: None):
    open_live(proxied, "/alerts/")
    requests: list[str] = []
    proxied.page.wait_for_timeout(2000)  # the first reading after the subscription
    proxied.page.on("request", lambda request: requests.append(request.url))
    event = {"id": "e1", "type": "alert.triggered", "subject": "alert/alt_1", "time": point()["timestamp"], "data": {}}
    frame = {"type": "event", "channel": "alerts", "position": "0a0a0a0a.7", "event": event}
    for _ in range(3):
        stream.send(frame)
    proxied.page.wait_for_timeout(2000)
    assert len([url for url in requests if "/alerts/updates/" in url]) == 1
    stream.send(frame)
    for _ in range(5):
        stream.send({"type": "resync", "channel": None, "reason": "overflow"})
    proxied.page.wait_for_timeout(2500)
    assert len([url for url in requests if "/alerts/updates/" in url]) == 2
    stream.close(1012)
    wait_until(lambda: stream.received[-1].get("resume_from") == "0a0a0a0a.7", 10, "the position of the last event")


def test_page_without_shared_workers_has_its_own_connection(proxied: BrowserPage, stream: ScriptedStream, device: None):
    proxied.page.context.add_init_script("delete globalThis.SharedWorker")
    open_live(proxied)
    stream.send_values(value(5.5))
    expect(proxied.page.locator(READING)).to_have_text("5.5")
    second = proxied.page.context.new_page()
    second.goto(proxied.address + DEVICE)
    wait_until(lambda: len(stream.connections) == 2, 10, "a connection of the second page")


def test_page_that_does_not_read_is_disconnected_with_a_message(
    proxied: BrowserPage, stream: ScriptedStream, device: None
):
    sign_in(proxied, "/settings/")
    proxied.page.evaluate(
        """async () => {
            const { Hub } = await import("/static/dashboard/stream/hub.js");
            globalThis.hub = new Hub();
            globalThis.messages = [];
            const url = `ws://${location.host}/ws/live`;
            const number = hub.join({ socket: url, events: "/sse/live" }, (message) => {
                messages.push(message.type);
                if (message.type === "open") hub.receive(number, { verb: "subscribe", id: "1", filter: {} });
            });
        }"""
    )
    wait_until(lambda: len(stream.subscriptions()) == 1, 10, "the subscription")
    for n in range(300):
        stream.send_values(value(n), position=f"0a0a0a0a.{n}")
    wait_until(lambda: stream.received[-1]["type"] == "unsubscribe", 10, "the end of the subscription")
    messages = proxied.page.evaluate("messages")
    assert messages[-1] == "lapsed" and len(messages) <= 101
    assert proxied.page.evaluate("hub.pages.size") == 0


@pytest.fixture
def other_user(admin_user: Any) -> None:
    get_user_model().objects.create_superuser("noor", password="another password")


def test_other_user_of_the_browser_gets_another_connection(
    other_user: None, proxied: BrowserPage, stream: ScriptedStream, device: None
):
    open_live(proxied)
    first = stream.connections[-1]
    proxied.page.context.clear_cookies()
    # The old page still shows the data of its user; the new one must not be served from the old user's socket.
    second = BrowserPage(proxied.page.context.new_page(), proxied.address)
    second.open(DEVICE)
    second.page.fill("[name=username]", "noor")
    second.page.fill("[name=password]", "another password")
    second.page.click("button[type=submit]")
    expect(second.page.locator("#live")).to_have_text(re.compile("^Live"))
    assert len(stream.connections) == 2
    stream.send_values(value(7.5))
    expect(second.page.locator(READING)).to_have_text("7.5")
    expect(proxied.page.locator("#live")).to_have_text("Signed out")
    assert proxied.page.locator(READING).text_content() != "7.5"
    assert first is not stream.connections[-1]


def test_signing_out_ends_the_stream_of_every_page_at_once(proxied: BrowserPage, stream: ScriptedStream, device: None):
    open_live(proxied)
    second = BrowserPage(proxied.page.context.new_page(), proxied.address)
    second.open("/settings/")
    second.page.locator("details.me summary").click()
    second.page.get_by_role("button", name="Sign out").click()
    expect(proxied.page.locator("#live")).to_have_text("Signed out")
    link = proxied.page.locator("#strap").get_by_role("link", name="Sign in")
    expect(link).to_have_attribute("href", f"/login/?next={DEVICE.replace('/', '%2F')}")
    assert len(stream.connections) == 1


def test_page_from_the_back_forward_cache_subscribes_again(proxied: BrowserPage, stream: ScriptedStream, device: None):
    open_live(proxied)
    stream.send_values(value(5.5))
    expect(proxied.page.locator(READING)).to_have_text("5.5")
    for persisted_event in ("pagehide", "pageshow"):
        proxied.page.evaluate(
            "(name) => dispatchEvent(new PageTransitionEvent(name, { persisted: true }))", persisted_event
        )
    wait_until(lambda: len(stream.subscriptions()) == 2, 10, "a second subscription")
    assert stream.subscriptions()[-1]["resume_from"] == "0a0a0a0a.6"
    assert len(stream.connections) == 1
    stream.send_values(value(6.5))
    expect(proxied.page.locator(READING)).to_have_text("6.5")
