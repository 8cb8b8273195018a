"""Browser pages of a signed-in user, the errors in their consoles, and faster checks of live streams."""

import os
import shutil
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth import get_user_model
from django.db import connection
from django.test import Client
from playwright.sync_api import Browser, ConsoleMessage, Page, ViewportSize, sync_playwright

from dashboard.streams import open_sessions
from telemetry_site import websocket_protocol
from tests.conftest import ApiClient
from tests.dashboard.stream_proxy import StreamProxy
from tests.telemetry_site.site_process import wait_until

NAME, PASSWORD = "mei", "a password of some length"
DESKTOP, PHONE = ViewportSize(width=1280, height=900), ViewportSize(width=390, height=844)


@pytest.fixture
def admin_user(site: None, settings: Any) -> Any:
    """A superuser; the password is hashed cheaply to save time."""
    settings.PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
    return get_user_model().objects.create_superuser(NAME, password=PASSWORD)


@pytest.fixture
def client(admin_user: Any) -> Client:
    """A test client that is signed in as the superuser."""
    client = Client()
    client.force_login(admin_user)
    return client


@pytest.fixture
def browser(site: None) -> Iterator[Browser]:
    """A browser per test: while Playwright runs, Django refuses to use its ORM in this thread."""
    with sync_playwright() as playwright:
        bundled = Path(playwright.chromium.executable_path)
        executable = str(bundled) if bundled.exists() else shutil.which("chromium") or shutil.which("google-chrome")
        if not executable:
            assert not os.environ.get("CI"), "no Chromium: the pages cannot be tested"
            pytest.skip("no Chromium on this machine")
        flags = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
        browser = playwright.chromium.launch(executable_path=executable, args=flags)
        yield browser
        browser.close()


NETWORK_ERRORS = ("Failed to load resource", "WebSocket connection", "EventSource", "Event at")
EXPECTED_WARNING = "Canvas2D: Multiple readback operations"  # the tests read the canvas


@dataclass
class BrowserPage:
    """A page, the address of the site, and the errors and warnings in the console."""

    page: Page
    address: str
    console_errors: list[str] = field(default_factory=list)

    def open(self, path: str) -> None:
        self.page.goto(self.address + path)

    def record_message(self, message: ConsoleMessage) -> None:
        if message.type in ("error", "warning") and not message.text.startswith(EXPECTED_WARNING):
            self.console_errors.append(message.text)

    def wait_until(self, script: str) -> None:
        """Wait until a script returns true. Waiting inside the page would need `eval`, which its policy forbids."""
        wait_until(lambda: self.page.evaluate(script), 30, script)


def open_page(browser: Browser, port: int, viewport: ViewportSize = DESKTOP) -> BrowserPage:
    context = browser.new_context(viewport=viewport, has_touch=viewport == PHONE, timezone_id="Europe/Oslo")
    browser_page = BrowserPage(context.new_page(), f"http://127.0.0.1:{port}")
    browser_page.page.on("console", browser_page.record_message)
    browser_page.page.on("pageerror", lambda error: browser_page.console_errors.append(str(error)))
    return browser_page


def sign_in(browser_page: BrowserPage, path: str = "/") -> None:
    browser_page.open(path)
    browser_page.page.fill("[name=username]", NAME)
    browser_page.page.fill("[name=password]", PASSWORD)
    browser_page.page.click("button[type=submit]")
    browser_page.page.wait_for_url(browser_page.address + path)


@pytest.fixture
def desktop(admin_user: Any, gateway: ApiClient, browser: Browser) -> Iterator[BrowserPage]:
    """A wide page that is not signed in yet; the test fails if its console shows errors."""
    page = open_page(browser, gateway.port)
    yield page
    assert page.console_errors == []


@pytest.fixture
def proxy(web_port: int) -> Iterator[StreamProxy]:
    """A proxy in front of the site."""
    proxy = StreamProxy(web_port)
    proxy.start()
    yield proxy
    proxy.stop()


@pytest.fixture
def proxied(admin_user: Any, gateway: ApiClient, proxy: StreamProxy, browser: Browser) -> Iterator[BrowserPage]:
    """A wide page that reaches the site through the proxy; the test fails if a script fails."""
    page = open_page(browser, proxy.port)
    yield page
    assert [text for text in page.console_errors if not text.startswith(NETWORK_ERRORS)] == []


@pytest.fixture
def phone(admin_user: Any, gateway: ApiClient, browser: Browser) -> Iterator[BrowserPage]:
    """A narrow page that is not signed in yet."""
    page = open_page(browser, gateway.port, PHONE)
    yield page
    assert page.console_errors == []


@pytest.fixture
def fast_close(monkeypatch: pytest.MonkeyPatch) -> None:
    """Cut a connection soon whose client does not answer a close; clients that broke the protocol do not."""
    monkeypatch.setattr(websocket_protocol, "CLOSE_TIMEOUT", 0.5)


@pytest.fixture
def fast_checks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Check open streams more often."""
    monkeypatch.setattr(open_sessions, "TICK", 0.02)


def in_thread(function: Callable[..., Any], *arguments: Any) -> Any:
    """Call a function in another thread: Playwright runs an event loop in this one, where Django refuses its ORM."""

    def call() -> Any:
        try:
            return function(*arguments)
        finally:
            connection.close()

    with ThreadPoolExecutor(1) as pool:
        return pool.submit(call).result(60)
