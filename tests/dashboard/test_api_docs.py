"""The pages of the API documentation: they load from this site only, without console errors."""

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, expect

from tests.dashboard.conftest import BrowserPage, open_page

pytestmark = pytest.mark.slow

QUERY = "/api/v1/telemetry/query"
TIMEOUT_MS = 30_000  # the schema is generated at the first request


@pytest.fixture
def anonymous_page(browser: Browser, web_port: int) -> Iterator[BrowserPage]:
    """A page that is not signed in; the test fails if it requests another site."""
    browser_page = open_page(browser, web_port)
    requested_urls: list[str] = []
    browser_page.page.on("request", lambda request: requested_urls.append(request.url))
    yield browser_page
    assert browser_page.console_errors == []
    assert [
        url
        for url in requested_urls
        if not url.startswith((browser_page.address, "data:", f"blob:{browser_page.address}"))
    ] == []


def test_swagger_ui_shows_an_operation_with_its_examples(anonymous_page: BrowserPage):
    anonymous_page.open("/api/docs/#/Queries")  # only operations near the visible ones are rendered
    page = anonymous_page.page
    expect(page.get_by_role("heading", name="Telemetry")).to_be_visible(timeout=TIMEOUT_MS)
    page.get_by_text(QUERY, exact=True).click()
    expect(page.locator(".opblock-post.is-open")).to_contain_text('"aggregation"')


def test_redoc_shows_and_searches_operations(anonymous_page: BrowserPage):
    anonymous_page.open("/api/docs/redoc/")
    page = anonymous_page.page
    expect(page.get_by_text(QUERY).first).to_be_attached(timeout=TIMEOUT_MS)
    expect(page.get_by_alt_text("redocly logo")).to_be_visible()
    page.get_by_role("textbox").fill("aggregated")
    expect(page.get_by_role("search").get_by_text("Aggregate a metric")).to_be_visible(timeout=TIMEOUT_MS)
