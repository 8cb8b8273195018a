"""A user in no device group, as "Add user" of the admin creates one: every page answers, with zeros and a hint."""

import pytest
from django.contrib.auth import get_user_model
from django.contrib.auth.models import Group
from django.test import Client

from dashboard.open_alert_counts import OpenAlertCounts
from rest.caller import OPERATORS, Caller
from tests.alerts.factories import create_alert, create_device, create_rule
from tests.conftest import ApiClient, point
from tests.telemetry_site.routes import all_routes

HINT = "You are in no device group yet; ask an administrator."
FRAGMENTS = {"/overview/alerts/", "/overview/devices/"}
PAGES = sorted(
    route.path
    for route in all_routes()
    if route.method == "GET" and "{" not in route.template and not route.path.startswith(("/api/", "/log"))
)


@pytest.fixture
def newcomer(gateway: ApiClient) -> Client:
    """The client of a new user of a site with a device of a group, which has data and an open alert."""
    assert gateway.post("devices/boiler/telemetry", point(value=4321.5)).status == 200
    create_alert(create_rule(name="Secret rule"), create_device("boiler", "site b"), value=4321.5)
    client = Client()
    client.force_login(get_user_model().objects.create_user("newcomer"))
    return client


@pytest.mark.parametrize("operates", [False, True])
@pytest.mark.parametrize("path", PAGES)
def test_every_page_answers_without_content_of_any_group(newcomer: Client, path: str, operates: bool):
    if operates:
        user = get_user_model().objects.get(username="newcomer")
        user.groups.add(Group.objects.get_or_create(name=OPERATORS)[0])
    response = newcomer.get(path)
    assert response.status_code < 500
    page = response.content.decode(errors="replace") if not response.streaming else ""
    for secret in ("boiler", "site b", "Secret rule", "4321.5", "4,321.5"):
        assert secret not in page
    if response.status_code == 200 and "<main" in page and path not in FRAGMENTS:
        assert page.count(HINT) == 1


@pytest.mark.slow
def test_overview_and_inbox_show_zeros(newcomer: Client):
    assert "0 devices" in newcomer.get("/").content.decode()
    assert "0 open, 0 unacknowledged" in newcomer.get("/alerts/").content.decode()
    nothing = {"newer": 0, "newest": "", "counts": "0 open, 0 unacknowledged", "alerts": {}}
    assert newcomer.get("/alerts/updates/").json() == nothing
    assert "unacknowledged" not in newcomer.get("/overview/alerts/").content.decode()


@pytest.mark.slow
def test_members_and_admins_get_no_hint(client: Client, newcomer: Client):
    assert HINT not in client.get("/").content.decode()


def test_count_of_a_caller_without_devices_is_zero(newcomer: Client):
    for caller in (Caller("user:x", "read", groups=()), Caller("user:x", "read", groups=("site c",))):
        assert OpenAlertCounts.visible_to(caller).open.number == 0
    assert OpenAlertCounts.visible_to(Caller("user:x", "read", groups=("site b",))).open.number == 1
