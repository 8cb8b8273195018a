"""Figures of agents in GET /telemetry/status: IDs and costs for those who see the device, and never in public."""

import pytest

from ingest.collection.models import Collector
from metrics.devices import group_membership
from metrics.models import Device, DeviceGroup
from tests.conftest import ApiClient, point
from tests.ingest.collectors.factories import create_collector


@pytest.fixture
def agent(gateway: ApiClient) -> Collector:
    """A collector that has stored figures of the agent `scout` of `site a`."""
    figures = {"agent_health.up": 1.0, "version": "1.4.2", "cost_cents_24h": 41.5, "other": 7.0}
    points = [point(name, value) for name, value in figures.items()]
    assert gateway.post("devices/scout/telemetry/batch", {"data_points": points}).status == 200
    device = Device.objects.get(device_id="scout")
    group_membership.add_devices(DeviceGroup.objects.get_or_create(name="site a")[0], [device.pk])
    return create_collector("agent_health", {"url": "http://scout.example/health"}, device_id="scout", deadline=1)


def test_status_has_the_newest_figures_of_each_agent(viewer: ApiClient, agent: Collector):
    [figures] = viewer.get("/telemetry/status").json["agents"]
    assert (figures["device_id"], figures["collector_id"], figures["healthy"]) == ("scout", agent.collector_id, True)
    assert figures["values"] == {"version": "1.4.2", "cost_cents_24h": 41.5}
    assert figures["last_contact"] is not None


def test_agent_that_never_answered_is_listed_without_figures(viewer: ApiClient, agent: Collector):
    agent.metric_prefix = "second."
    agent.save()
    [figures] = viewer.get("/telemetry/status").json["agents"]
    assert (figures["healthy"], figures["last_contact"], figures["values"]) == (None, None, {})


def test_agents_of_other_groups_are_not_listed(stranger: ApiClient, agent: Collector):
    assert stranger.get("/telemetry/status").json["agents"] == []


def test_public_status_names_no_agent(anonymous: ApiClient, agent: Collector):
    response = anonymous.get("/telemetry/public")
    assert response.status == 200 and "agents" not in response.json
    for secret in (b"scout", agent.collector_id.encode(), b"41.5", b"1.4.2"):
        assert secret not in response.raw
