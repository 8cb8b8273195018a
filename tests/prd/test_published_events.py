"""The criteria of the PRD about published events, at a NATS server."""

from collections.abc import Callable
from typing import Any

import pytest

from telemetry_site.bus.models import CommitPosition
from tests.alerts.factories import create_alert, create_device, create_rule
from tests.conftest import ApiClient, point
from tests.private_nats import PrivateNats, Session
from tests.telemetry_site.bus.conftest import nats, nats_target, run_relay  # noqa: F401 - fixtures
from tests.telemetry_site.site_process import wait_until

pytestmark = pytest.mark.slow
TEMPERATURE = {"name": "temperature", "data_type": "numeric", "unit": "celsius"}
HOT = {"name": "Too hot", "metric_name": "temperature", "condition": ">", "threshold_value": 30}


@pytest.fixture
def published(nats: PrivateNats, run_relay: Callable[..., Any]) -> Callable[[str], Any]:  # noqa: F811
    """Return a function that waits for the one event of a type, and returns its data."""
    run_relay(nats_target(nats))
    wait_until(CommitPosition.objects.exists, 20, "the relay follows the commits")

    def wait_for(kind: str) -> Any:
        stream = "DATA" if kind.startswith("telemetry.data") else "EVENTS"

        def found() -> list[Any]:
            with Session(nats.url) as session:
                messages = session.messages(stream)
            return [data for _, headers, data in messages if headers["ce-type"] == kind]

        [data] = wait_until(found, 20, f"{kind} is published")
        return data

    return wait_for


def test_e1_us1_ac7_stored_points_publish_telemetry_data_received(
    sender: ApiClient, published: Callable[[str], Any]
) -> None:
    assert sender.post("devices/device_001/telemetry", point(value=25.5)).status == 200
    data = published("telemetry.data.received")
    assert (data["device_id"], data["points"], data["metrics"]) == ("device_001", 1, ["temperature"])


def test_e2_us1_ac6_a_new_definition_publishes_metric_defined(
    sender: ApiClient, published: Callable[[str], Any]
) -> None:
    assert sender.post("metrics", TEMPERATURE).status == 201
    data = published("metric.defined")
    assert {name: data[name] for name in TEMPERATURE} == TEMPERATURE


def test_e4_us1_ac7_a_new_rule_publishes_alert_rule_created(sender: ApiClient, published: Callable[[str], Any]) -> None:
    rule_id = sender.post("alerts/rules", HOT).json["rule_id"]
    data = published("alert.rule.created")
    assert (data["rule_id"], data["name"]) == (rule_id, "Too hot")


def test_e4_us7_ac5_resolving_publishes_alert_resolved(sender: ApiClient, published: Callable[[str], Any]) -> None:
    alert = create_alert(create_rule(), create_device("boiler"))
    assert sender.call("PUT", f"alerts/{alert.alert_id}/resolve", {"note": "fixed"}).status == 200
    data = published("alert.resolved")
    assert (data["alert_id"], data["status"], data["device_id"]) == (alert.alert_id, "resolved", "boiler")
