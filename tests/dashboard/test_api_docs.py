"""The pages that show the API's description: from this site alone, with nothing for the browser to complain of."""

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, expect

from tests.dashboard.conftest import Desk, sit_down

QUERY = "/api/v1/telemetry/query"
PATIENCE = 30_000  # ms: the description is made when it is first asked for, and these are a megabyte of script each


@pytest.fixture
def passer_by(browser: Browser, web_port: int) -> Iterator[Desk]:
    """Somebody who is not logged in, and everything that the browser asks for."""
    desk = sit_down(browser, web_port)
    asked: list[str] = []
    desk.page.on("request", lambda request: asked.append(request.url))
    yield desk
    assert desk.complaints == []
    assert [url for url in asked if not url.startswith((desk.address, "data:", f"blob:{desk.address}"))] == []


def test_swagger_ui_shows_an_operation_with_its_examples(passer_by: Desk):
    passer_by.open("/api/docs/")
    page = passer_by.page
    expect(page.get_by_role("heading", name="Telemetry")).to_be_visible(timeout=PATIENCE)
    page.get_by_text(QUERY).click()
    expect(page.locator(".opblock-post.is-open")).to_contain_text('"aggregation"')


def test_redoc_shows_the_operations_and_searches_among_them(passer_by: Desk):
    passer_by.open("/api/docs/redoc/")
    page = passer_by.page
    expect(page.get_by_text(QUERY).first).to_be_attached(timeout=PATIENCE)
    expect(page.get_by_alt_text("redocly logo")).to_be_visible()
    page.get_by_role("textbox").fill("aggregated")
    expect(page.get_by_role("search").get_by_text("A metric aggregated over intervals")).to_be_visible(timeout=PATIENCE)
