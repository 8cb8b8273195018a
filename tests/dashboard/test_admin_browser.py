"""The administration pages in a browser: they follow the content security policy."""

import re

import pytest
from playwright.sync_api import expect

from metrics.models import Device, DeviceGroup, MetricDefinition
from tests.dashboard.conftest import PHONE, BrowserPage, sign_in

pytestmark = pytest.mark.slow

PAGES = (
    "/admin/", "/admin/metrics/device/", "/admin/metrics/device/add/", "/admin/metrics/devicegroup/",
    "/admin/metrics/devicegroup/add/", "/admin/metrics/metricdefinition/", "/admin/metrics/metricdefinition/1/change/",
    "/admin/metrics/series/", "/admin/auth/user/", "/admin/auth/user/add/", "/admin/auth/user/1/change/",
    "/admin/auth/user/1/password/", "/admin/ingest/apikey/", "/admin/ingest/apikey/add/", "/admin/metrics/auditentry/",
    "/admin/metrics/auditentry/1/change/", "/admin/journal/", "/admin/metrics/exportjob/",
    "/admin/metrics/damagedblock/",
)  # fmt: skip


@pytest.fixture
def fleet(site: None) -> None:
    """Create 60 devices, 300 groups and a metric definition."""
    Device.objects.bulk_create(Device(device_id=f"d{number:02}") for number in range(60))
    DeviceGroup.objects.bulk_create(DeviceGroup(name=f"group {number:03}") for number in range(300))
    MetricDefinition.objects.create(name="level", data_type="numeric")


def test_admin_pages_fit_a_phone_and_follow_the_csp(fleet: None, phone: BrowserPage):
    sign_in(phone)
    for path in PAGES:
        phone.open(path)
        expect(phone.page.locator("#content h1").first).to_be_visible()
        assert phone.page.evaluate("document.documentElement.scrollWidth") == PHONE["width"], path


@pytest.mark.parametrize("viewport", ["desktop", "phone"])
def test_devices_are_added_to_a_group_found_by_search(request: pytest.FixtureRequest, fleet: None, viewport: str):
    browser_page: BrowserPage = request.getfixturevalue(viewport)
    sign_in(browser_page)
    browser_page.open("/admin/metrics/device/")
    for name in ("d00", "d07"):
        browser_page.page.get_by_role("row", name=re.compile(name)).get_by_role("checkbox").check()
    browser_page.page.locator("select[name=action]").select_option("add_to_group")
    browser_page.page.locator(".actions .select2-selection").click()
    browser_page.page.locator(".select2-search__field").fill("group 29")
    browser_page.page.get_by_role("option", name="group 297").click()
    browser_page.page.get_by_role("button", name="Go").click()
    expect(browser_page.page.locator(".messagelist")).to_contain_text("2 devices were added to group 297.")
