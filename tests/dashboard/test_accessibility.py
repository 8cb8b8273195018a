"""Every page by axe: contrast, names of controls, structure; wide and narrow, light and dark."""

from collections.abc import Iterator
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, ViewportSize

from dashboard.status_page.models import StatusPage
from ingest.collection.kinds import KINDS
from tests.conftest import ApiClient
from tests.dashboard.conftest import DESKTOP, PHONE, BrowserPage, open_page, sign_in
from tests.telemetry_site.routes import all_routes
from tests.telemetry_site.test_access_by_content import path_of
from tests.telemetry_site.two_sites import Site, create_shared_objects, create_site

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

RULES = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]
LOOKS: list[tuple[ViewportSize, Any]] = [(DESKTOP, "light"), (PHONE, "dark")]


@pytest.fixture
def objects(admin: ApiClient) -> Iterator[Site]:
    """Two groups with an object of every kind; returns the first, with a published status page."""
    sites = [create_site(word, admin) for word in ("alpha", "beta")]
    create_shared_objects(*sites)
    StatusPage.objects.update(published=True)
    yield sites[0]


def page_paths(ids: dict[str, str]) -> list[str]:
    """Return the paths of all pages, with these IDs."""
    skipped = ("/logout/", "/api/")  # ReDoc and Swagger UI bring pages of their own
    routes = [route for route in all_routes() if route.method == "GET" and route.template.endswith("/")]
    paths = [path_of(route, ids) for route in routes if not route.template.startswith(skipped)]
    return [*paths, *(f"/collectors/new/{kind}/" for kind in KINDS if f"/collectors/new/{kind}/" not in paths)]


def find_violations(browser_page: BrowserPage, paths: list[str]) -> tuple[int, dict[str, list[str]]]:
    """Return the number of pages, and by rule which page and elements violate it."""
    page, axe, checked = browser_page.page, Axe(), 0
    found: dict[str, list[str]] = {}
    for path in paths:
        answer = page.request.get(browser_page.address + path)
        is_page = "text/html" in answer.headers["content-type"] and b"<html" in answer.body()
        if not is_page or answer.status not in (200, 404):
            continue  # files, parts of pages, and actions
        browser_page.open(path)
        checked += 1
        result = axe.run(page, options={"resultTypes": ["violations"], "runOnly": RULES})
        for violation in result.response["violations"]:
            nodes = "; ".join(f"{node['target']} {node['html'][:160]}" for node in violation["nodes"][:3])
            found.setdefault(f"{violation['id']}: {violation['help']}", []).append(f"{path} {nodes}")
    return checked, found


@pytest.mark.parametrize(("viewport", "colours"), LOOKS, ids=["wide-light", "phone-dark"])
def test_pages_of_a_site_with_objects_of_each_kind_have_no_violations(
    objects: Site, admin_user: Any, browser: Browser, web_port: int, viewport: ViewportSize, colours: Any
) -> None:
    browser_page = open_page(browser, web_port, viewport)
    browser_page.page.emulate_media(color_scheme=colours, reduced_motion="reduce")
    sign_in(browser_page)
    checked, found = find_violations(browser_page, page_paths(objects.ids))
    assert found == {} and checked > 50


@pytest.mark.parametrize(("viewport", "colours"), LOOKS, ids=["wide-light", "phone-dark"])
def test_pages_of_an_empty_site_have_no_violations(
    admin_user: Any, browser: Browser, web_port: int, viewport: ViewportSize, colours: Any
) -> None:
    browser_page = open_page(browser, web_port, viewport)
    browser_page.page.emulate_media(color_scheme=colours, reduced_motion="reduce")
    sign_in(browser_page)
    checked, found = find_violations(browser_page, page_paths({}))
    assert found == {} and checked > 20
