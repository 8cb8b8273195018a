"""The rendered pages and forms of collectors."""

from typing import Any

import pytest
from django.test import Client
from playwright.sync_api import expect

from ingest.collection.kinds import KINDS
from ingest.collection.models import Annotation, Collector, CollectorState
from metrics.models import Device, DeviceGroup
from telemetry_site.env import Environment
from tests.conftest import ApiClient, point
from tests.dashboard.conftest import BrowserPage, sign_in
from tests.dashboard.factories import client_of
from tests.ingest.collectors import servers
from tests.ingest.collectors.factories import create_collector, now, run_once

FORM: dict[str, Any] = {
    "name": "front page", "device_id": "shop", "interval": "30", "deadline": "5", "jitter": "", "metric_prefix": "",
    "enabled": "on", "configuration.url": "http://127.0.0.1:9/", "configuration.method": "GET",
    "configuration.expected_status": "", "configuration.body_contains": "", "configuration.username": "",
    "configuration.verify_tls": "on", "secrets.bearer_token": "wonderful-secret", "secrets.password": "",
}  # fmt: skip
NEW = "/collectors/new/http/"


@pytest.fixture(autouse=True)
def local_targets(site: None, settings: Any) -> None:
    settings.ALLOW_PRIVATE_COLLECTORS = Environment({"X": "127.0.0.0/8"}).networks("X")


def page_of(collector: Collector) -> str:
    return f"/collectors/{collector.collector_id}/"


def test_empty_list_explains_collectors(client: Client):
    page = client.get("/collectors/").content.decode()
    assert "No collectors yet" in page and "/collectors/new/" in page


@pytest.mark.slow
def test_every_kind_has_a_form(client: Client):
    page = client.get("/collectors/new/").content.decode()
    for name, kind in KINDS.items():
        assert kind.label in page
        form = client.get(f"/collectors/new/{name}/?device=shop").content.decode()
        assert 'value="shop"' in form and kind.description in form
        for field in kind.configuration_class().fields:
            assert f'name="configuration.{field}"' in form
    assert client.get("/collectors/new/other/").status_code == 404


def test_submitted_form_creates_a_collector_without_showing_its_secret(client: Client):
    page = client.post(NEW, FORM, follow=True).content.decode()
    collector = Collector.objects.get()
    assert "front page saved." in page and "wonderful" not in page and 'placeholder="unchanged"' in page
    assert (collector.interval, collector.deadline, collector.jitter) == (30, 5, None)
    assert collector.configuration["url"] == "http://127.0.0.1:9/" and collector.configuration["verify_tls"] is True
    assert collector.secrets == {"bearer_token": "wonderful-secret"}


def test_form_keeps_secrets_of_empty_inputs_and_removes_chosen_ones(client: Client):
    client.post(NEW, FORM)
    collector = Collector.objects.get()
    client.post(page_of(collector), FORM | {"name": "shop", "secrets.bearer_token": "", "secrets.password": "p"})
    collector.refresh_from_db()
    assert (collector.name, collector.secrets) == ("shop", {"bearer_token": "wonderful-secret", "password": "p"})
    client.post(page_of(collector), FORM | {"secrets.bearer_token": "", "remove_secrets": ["bearer_token"]})
    collector.refresh_from_db()
    assert collector.secrets == {"password": "p"}


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({"name": ""}, "must have 1 to 200 characters"),
        ({"interval": ""}, "must be 1 to 86400 seconds"),
        ({"interval": "soon"}, "Enter a whole number."),
        ({"jitter": "31"}, "must be 0 seconds to the interval"),
        ({"configuration.url": "ftp://x"}, "must be a URL such as"),
        ({"configuration.url": "http://10.0.0.1/"}, "add its network to TELEMETRY_ALLOW_PRIVATE_COLLECTORS"),
        ({"configuration.expected_status": "7"}, "greater than or equal to 100"),
    ],
)
def test_invalid_form_shows_the_error_at_its_field(client: Client, change: dict[str, str], error: str):
    response = client.post(NEW, FORM | change)
    (field,) = change
    assert response.status_code == 422 and not Collector.objects.exists()
    assert error in str(response.context["form"].errors[field]) and error in response.content.decode()


def test_mapping_field_takes_a_name_and_a_value_per_line(client: Client):
    form = {
        "name": "agent",
        "device_id": "a",
        "interval": "9",
        "deadline": "5",
        "configuration.url": "http://127.0.0.1/",
    }
    path = "/collectors/new/agent_health/"
    for text, error in (
        ("x", "a colon and a value"),
        ("x: $.x\nx: $.y", "is there twice"),
        ("x: $[", "x: not a JSONPath"),
    ):
        response = client.post(path, form | {"configuration.paths": text})
        assert error in response.content.decode()
    client.post(path, form | {"configuration.paths": "x: $.x\n y : $['a:b']\n"})
    assert Collector.objects.get().configuration["paths"] == {"x": "$.x", "y": "$['a:b']"}


def test_trial_shows_what_would_be_stored_and_stores_nothing(client: Client):
    with servers.http_server(lambda path, headers: (200, "text/plain", b"hello")) as url:
        response = client.post(NEW, FORM | {"configuration.url": url, "try": "1"})
    page = response.content.decode()
    assert "nothing was stored" in page and "http.<wbr>status" in page and "wonderful" not in page
    assert not Collector.objects.exists() and not Device.objects.filter(device_id="shop").exists()
    failed = client.post(NEW, FORM | {"try": "1"}).content.decode()
    assert "Connection refused" in failed


def test_trial_of_a_stored_collector_uses_its_secrets(client: Client):
    client.post(NEW, FORM)
    seen = []

    def record(path: str, headers: dict[str, str]) -> servers.Answer:
        seen.append(headers.get("Authorization"))
        return 200, "text/plain", b""

    with servers.http_server(record) as url:
        changed = FORM | {"configuration.url": url, "secrets.bearer_token": "", "try": "1"}
        client.post(page_of(Collector.objects.get()), changed)
    assert seen == ["Bearer wonderful-secret"]
    assert Collector.objects.get().configuration["url"] == FORM["configuration.url"]


def test_list_and_page_show_the_last_collection(client: Client):
    collector = create_collector("tcp", {"host": "127.0.0.1", "port": 9}, name="closed port")
    create_collector("tcp", {"host": "127.0.0.1", "port": 9}, name="a paused one", enabled=False)
    run_once()
    page = client.get("/collectors/").content.decode()
    assert "Failing" in page and "Connection refused" in page and "Paused" in page
    assert page.index("closed port") < page.index("a paused one")  # failing ones first
    assert "a paused one" not in client.get("/collectors/?q=closed").content.decode()
    page = client.get(page_of(collector)).content.decode()
    assert "Failed" in page and "127.0.0.1:9 does not accept connections: Connection refused" in page


def test_buttons_run_pause_resume_and_delete(client: Client):
    collector = create_collector("tcp", {"host": "127.0.0.1", "port": 9})
    assert "runs now" in client.post(f"{page_of(collector)}run/", follow=True).content.decode()
    assert CollectorState.objects.get().requested_by == "user:mei"
    client.post(f"{page_of(collector)}switch/", {"enabled": "false"})
    collector.refresh_from_db()
    assert not collector.enabled
    client.post(f"{page_of(collector)}switch/", {"enabled": "true"})
    collector.refresh_from_db()
    assert collector.enabled
    assert "Its points are kept" in client.post(f"{page_of(collector)}delete/", follow=True).content.decode()
    assert not Collector.objects.exists()


def test_people_see_collectors_of_their_groups_and_change_none(client: Client):
    collector = create_collector("tcp", {"host": "127.0.0.1", "port": 9}, secrets={})
    run_once()
    for operates in (False, True):
        person = client_of(f"person {operates}", operates=operates)
        assert collector.name not in person.get("/collectors/").content.decode()
        for path in ("", "run/", "switch/", "delete/"):
            method = person.post if path else person.get
            assert method(page_of(collector) + path).status_code in (403, 404)
        assert person.get(NEW).status_code == 403 and person.post(NEW, FORM).status_code == 403
    DeviceGroup.objects.get(name="site a").devices.add(Device.objects.get(device_id="boiler"))
    page = person.get(page_of(collector)).content.decode()
    assert "Connection refused" in page and "Run now" in page and "Save" not in page and "Pause" not in page
    assert person.post(page_of(collector), FORM).status_code == 403


def test_device_page_lists_deployments_and_gives_them_to_the_chart(client: Client, admin: ApiClient):
    admin.post("devices/shop/telemetry", point("load", 1.0))
    for device, version in (("shop", "1.4.2"), ("other", "9.9.9")):
        Annotation.objects.create(device_id=device, at=now(), deployment_id="d", version=version, state="completed")
    page = client.get("/devices/shop/").content.decode()
    assert "Deployments" in page and "1.4.2" in page and "9.9.9" not in page
    assert '"text": "1.4.2 completed"' in page and 'id="annotations"' in page


@pytest.mark.slow
def test_snmp_form_shows_the_inputs_of_the_selected_version(desktop: BrowserPage):
    sign_in(desktop, "/collectors/new/snmp/")
    page = desktop.page
    expect(page.get_by_label("Community")).to_be_visible()
    expect(page.get_by_label("Username")).to_be_hidden()
    page.get_by_label("Version").select_option("3")
    expect(page.get_by_label("Community")).to_be_hidden()
    expect(page.get_by_label("Authentication password")).to_be_visible()
    page.get_by_label("Name", exact=True).fill("switch")
    page.get_by_label("Device", exact=True).fill("switch-1")
    page.get_by_label("Host").fill("127.0.0.1")
    page.get_by_label("OIDs").fill("uptime: 1.3.6.1.2.1.1.3.0")
    page.get_by_role("button", name="Save").click()
    expect(page.get_by_text("is required for version 3")).to_be_visible()
    expect(page.get_by_label("Community")).to_be_hidden()
    assert [text for text in desktop.console_errors if "422" not in text] == []
    desktop.console_errors.clear()  # the browser reports the status of the rejected form
