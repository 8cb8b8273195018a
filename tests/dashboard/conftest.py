"""Somebody at a browser, and what the browser complained of."""

import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth import get_user_model
from django.test import Client
from playwright.sync_api import Browser, ConsoleMessage, Page, ViewportSize, sync_playwright

from tests.conftest import ApiClient
from tests.telemetry_site.site_process import wait_until

NAME, PASSWORD = "mei", "a password of some length"
DESK, PHONE = ViewportSize(width=1280, height=900), ViewportSize(width=390, height=844)


@pytest.fixture
def mei(site: None, settings: Any) -> Any:
    """May do everything. Her password is hashed cheaply: it protects nothing here."""
    settings.PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
    return get_user_model().objects.create_superuser(NAME, password=PASSWORD)


@pytest.fixture
def client(mei: Any) -> Client:
    """Mei's requests, without a browser."""
    client = Client()
    client.force_login(mei)
    return client


@pytest.fixture
def browser(site: None) -> Iterator[Browser]:
    """One per test: while Playwright runs, Django sees an event loop in this thread and refuses its ORM."""
    with sync_playwright() as playwright:
        own = Path(playwright.chromium.executable_path)
        found = str(own) if own.exists() else shutil.which("chromium") or shutil.which("google-chrome")
        if not found:
            assert not os.environ.get("CI"), "no Chromium: the pages cannot be tested"
            pytest.skip("no Chromium on this machine")
        flags = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
        browser = playwright.chromium.launch(executable_path=found, args=flags)
        yield browser
        browser.close()


OF_TESTS = "Canvas2D: Multiple readback operations"  # which they do, to see what is drawn


@dataclass
class Desk:
    """A signed-in page, the site's address, and every complaint of the browser."""

    page: Page
    address: str
    complaints: list[str] = field(default_factory=list)

    def open(self, path: str) -> None:
        self.page.goto(self.address + path)

    def hear(self, message: ConsoleMessage) -> None:
        if message.type in ("error", "warning") and not message.text.startswith(OF_TESTS):
            self.complaints.append(message.text)

    def until(self, script: str) -> None:
        """Wait until the page answers a script with true. To wait within the page would be `eval`, which it forbids."""
        wait_until(lambda: self.page.evaluate(script), 30, script)


def sit_down(browser: Browser, port: int, viewport: ViewportSize = DESK) -> Desk:
    context = browser.new_context(viewport=viewport, has_touch=viewport == PHONE, timezone_id="Europe/Oslo")
    desk = Desk(context.new_page(), f"http://127.0.0.1:{port}")
    desk.page.on("console", desk.hear)
    desk.page.on("pageerror", lambda error: desk.complaints.append(str(error)))
    return desk


def sign_in(desk: Desk, path: str = "/") -> None:
    desk.open(path)
    desk.page.fill("[name=username]", NAME)
    desk.page.fill("[name=password]", PASSWORD)
    desk.page.click("button[type=submit]")
    desk.page.wait_for_url(desk.address + path)


@pytest.fixture
def desk(mei: Any, gateway: ApiClient, browser: Browser) -> Iterator[Desk]:
    """Mei at a wide screen, not yet signed in. Whatever she does, the browser has nothing to complain of."""
    desk = sit_down(browser, gateway.port)
    yield desk
    assert desk.complaints == []


@pytest.fixture
def phone(mei: Any, gateway: ApiClient, browser: Browser) -> Iterator[Desk]:
    desk = sit_down(browser, gateway.port, PHONE)
    yield desk
    assert desk.complaints == []
