"""The configuration of an agent: set over REST, page and admin, signed for the agent."""

import base64
import json
from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth import get_user_model
from django.test import Client

from ingest.agent.config import Config
from ingest.agent.ed25519 import verify
from ingest.agent.poster import TelemetryPoster
from ingest.agent.remote_config import PURPOSE
from ingest.agent.site_config import SiteConfig
from ingest.agent.updates import signed_bytes
from ingest.agents.models import AgentConfiguration
from ingest.agents.signing import site_key
from metrics.models import AuditEntry, Device
from tests.conftest import ApiClient, point

SETTINGS: dict[str, Any] = {"interval": 30, "probes": [{"name": "level", "path": "/sys/level", "interval": 60}]}


@pytest.fixture
def pump(site: None) -> Device:
    return Device.objects.create(device_id="pump/7")


def agent_of(client: ApiClient, folder: Path, device_id: str = "pump/7") -> tuple[SiteConfig, TelemetryPoster]:
    config = Config(
        f"http://127.0.0.1:{client.port}",
        device_id,
        queue_path=folder / "queue.db",
        site_key=base64.b64decode(site_key()),
        remote_probes=True,
    )
    return SiteConfig(config), TelemetryPoster(config.url, client.headers["X-Api-Key"])


def test_agent_takes_the_configuration_that_an_admin_sets(
    admin: ApiClient, gateway: ApiClient, pump: Device, tmp_path: Path
) -> None:
    site_config, poster = agent_of(gateway, tmp_path)
    assert not site_config.poll(poster.fetch)
    stored = admin.call("PUT", "devices/pump%2F7/agent", SETTINGS)
    assert stored.status == 200 and stored.json["version"] > 1_700_000_000
    assert site_config.poll(poster.fetch)
    assert (site_config.in_force.version, site_config.in_force.interval) == (stored.json["version"], 30.0)
    assert [probe.name for probe in site_config.in_force.probes] == ["level"]
    assert admin.call("PUT", "devices/pump%2F7/agent", {"interval": None, "probes": []}).status == 200
    assert site_config.poll(poster.fetch)  # within the same second, and still a higher version
    assert site_config.in_force.version == stored.json["version"] + 1
    assert site_config.in_force.probes == ()
    poster.close()


def test_database_of_a_backup_does_not_bring_back_an_old_version(pump: Device) -> None:
    configuration = AgentConfiguration.objects.create(device=pump, interval=5)
    first = configuration.version
    AgentConfiguration.objects.update(version=3)
    configuration = AgentConfiguration.objects.get()
    configuration.save()
    assert configuration.version >= first


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"interval": 0}, "interval"),
        ({"interval": "often"}, "interval"),
        ({"probes": {}}, "probes"),
        ({"probes": [{"name": "a"}]}, "probes[0]"),
        ({"probes": [{"name": "a", "run": "x '"}]}, "probes[0].run"),
        ({"probes": [{"name": "a", "run": "x", "interval": 10**9}]}, "probes[0].interval"),
        ({"probes": [{"name": "a\0", "run": "x"}]}, "probes[0].name"),
        ({"more": 1}, "more"),
    ],
)
def test_invalid_configuration_is_rejected_with_its_field(
    admin: ApiClient, pump: Device, change: dict[str, Any], field: str
) -> None:
    answer = admin.call("PUT", "devices/pump%2F7/agent", SETTINGS | change)
    assert answer.status in (400, 422)
    assert answer.json["errors"][0]["field"] == field
    assert not AgentConfiguration.objects.exists()


def test_change_of_an_outdated_version_is_refused(admin: ApiClient, pump: Device) -> None:
    first = admin.get("devices/pump%2F7/agent")
    assert first.json["version"] == 0
    stored = admin.call("PUT", "devices/pump%2F7/agent", SETTINGS, If_Match=first.headers["ETag"])
    assert stored.status == 200
    assert admin.call("PUT", "devices/pump%2F7/agent", SETTINGS, If_Match=first.headers["ETag"]).status == 412
    assert admin.get("devices/pump%2F7/agent", If_None_Match=stored.headers["ETag"]).status == 304


def test_change_is_in_the_audit_log_with_the_device(admin: ApiClient, pump: Device) -> None:
    admin.call("PUT", "devices/pump%2F7/agent", SETTINGS)
    entry = AuditEntry.objects.filter(object_type="agent configuration").latest("pk")
    assert entry.object_id == "pump/7"
    assert json.loads(entry.after)["interval"] == 30


def test_configuration_is_deleted_with_its_device(admin: ApiClient, pump: Device) -> None:
    admin.call("PUT", "devices/pump%2F7/agent", SETTINGS)
    assert admin.call("DELETE", "devices/pump%2F7").status in (200, 202)
    assert not AgentConfiguration.objects.exists()
    assert admin.get("devices/pump%2F7/agent").status == 404


def test_offer_of_the_site_is_signed_for_its_program(admin: ApiClient, pump: Device) -> None:
    offer = admin.get("/agent.json").json
    key = base64.b64decode(offer["site_key"])
    assert verify(key, signed_bytes(offer["version"], offer["sha256"]), base64.b64decode(offer["signature"]))
    assert admin.get("/agent.pyz.sha256").raw.decode().startswith(offer["sha256"])
    signed = admin.get("devices/pump%2F7/agent").json
    assert verify(key, PURPOSE + signed["document"].encode(), base64.b64decode(signed["signature"]))


# --- pages ------------------------------------------------------------------------------------------


@pytest.fixture
def browser(site: None) -> Client:
    client = Client()
    client.force_login(get_user_model().objects.create_superuser("boss"))
    return client


def test_page_sets_interval_and_probes_as_the_agent_writes_them(browser: Client, pump: Device) -> None:
    text = "[command:pressure]\r\nrun = read --json\r\ninterval = 60\r\ntimeout = 2.5\r\n\r\n[file:a:b]\npath = /sys/a"
    posted = {"interval": "2", "interval_unit": "60", "probes": text}
    assert browser.post("/agent/pump/7/", posted).status_code == 302
    configuration = AgentConfiguration.objects.get()
    assert configuration.interval == 120
    assert configuration.probes == [
        {"name": "pressure", "run": "read --json", "interval": 60, "timeout": 2.5},
        {"name": "a:b", "path": "/sys/a"},
    ]
    page = browser.get("/agent/pump/7/").content.decode()
    assert "[command:pressure]\nrun = read --json\ninterval = 60\ntimeout = 2.5\n\n[file:a:b]\npath = /sys/a" in page


@pytest.mark.parametrize(
    ("fields", "error"),
    [
        ({"probes": "run = x"}, "no section headers"),
        ({"probes": "[disk]\nrun = x"}, "[disk]: [command:NAME] and [file:NAME] are accepted"),
        ({"probes": "[command:a]\nrun = x\nrun = y"}, "already exists"),
        ({"probes": "[command:a]\nrun = x\ninterval = soon"}, "[command:a] interval: enter a number"),
        ({"probes": "[command:a]\ninterval = 5"}, "a run: a text of 1 to 1000"),
        ({"probes": "[command:a]\nrun = x\ninterval = 0"}, "a interval: a number of seconds"),
        ({"interval": "0", "interval_unit": "1"}, "a number of seconds from 1 to 86400"),
        ({"interval": "x", "interval_unit": "1"}, "Enter a number"),
    ],
)
def test_page_names_the_error(browser: Client, pump: Device, fields: dict[str, str], error: str) -> None:
    response = browser.post("/agent/pump/7/", fields)
    assert response.status_code == 422
    assert error in response.content.decode().replace("&#x27;", "'")
    assert not AgentConfiguration.objects.exists()


def test_page_shows_what_the_agent_reports(browser: Client, gateway: ApiClient, pump: Device) -> None:
    AgentConfiguration.objects.create(device=pump, interval=5)
    reported = {
        "agent.version": "1.1.0",
        "agent.config.version": 0,
        "agent.config.error": "the site's configuration is ignored: the signature is not of this site's key",
        "agent.queue.dropped": 3,
        "agent.queue.dropped.age": 2,
        "agent.queue.dropped.size": 1,
    }
    points = [point(name, value) for name, value in reported.items()]
    assert gateway.post("devices/pump%2F7/telemetry/batch", {"data_points": points}).status == 200
    page = " ".join(browser.get("/agent/pump/7/").content.decode().split())
    assert "<dd>2 age, 1 size</dd>" in page
    assert "the device's own" in page and "a newer one is waiting" in page
    assert "The site&#x27;s configuration is ignored: the signature" in page
    assert "is refused" in browser.get("/devices/pump/7/").content.decode()


def test_only_admins_change_the_configuration(operator: ApiClient, pump: Device) -> None:
    client = Client()
    client.force_login(get_user_model().objects.get(username="operator"))
    assert client.get("/agent/pump/7/").status_code == 404  # not of its group
    assert client.post("/agent/pump/7/", {}).status_code in (403, 404)
    assert operator.call("PUT", "devices/pump%2F7/agent", SETTINGS).status == 403


def test_admin_page_checks_the_configuration(browser: Client, pump: Device) -> None:
    address = "/admin/ingest/agentconfiguration/add/"
    refused = browser.post(address, {"device": pump.pk, "interval": "0.1", "probes": "[]"})
    assert "a number of seconds from 1 to 86400" in refused.content.decode()
    assert browser.post(address, {"device": pump.pk, "interval": "20", "probes": "[]"}).status_code == 302
    assert AgentConfiguration.objects.get().version > 0
