"""API of deliveries, notifications and patterns: filters and visibility."""

from typing import Any

import pytest

from alerts.models import Alert, Delivery, Notice, Pattern
from tests.alerts.factories import create_alert, create_device, create_rule
from tests.conftest import ApiClient


def create_delivery(alerts: list[Alert], channel: str = "on call", **fields: Any) -> Delivery:
    """Create a delivery with a notice for each of the alerts."""
    delivery = Delivery.objects.create(
        channel_name=channel, title="hot", payload={"secret": "of the payload"}, **fields
    )
    Notice.objects.bulk_create(
        Notice(alert=alert, channel_name=channel, kind="fired", status="sent", delivery=delivery) for alert in alerts
    )
    return delivery


@pytest.fixture
def deliveries(site: None) -> dict[str, Delivery]:
    """Deliveries about a device of site a, about another device, about both, and a test message."""
    rule = create_rule()
    visible, hidden = create_alert(rule, create_device("boiler", "site a")), create_alert(rule, create_device("pump"))
    return {
        "visible": create_delivery([visible], status="sent", answer_status=200, answer="ok", attempts=1),
        "hidden": create_delivery([hidden], status="failed", error="no route to host"),
        "both": create_delivery([visible, hidden], channel="mail"),
        "test": create_delivery([], test=True),
    }


def delivery_names(deliveries: dict[str, Delivery], response: Any) -> list[str]:
    name_by_id = {delivery.delivery_id: name for name, delivery in deliveries.items()}
    return [name_by_id[row["delivery_id"]] for row in response["deliveries"]]


FILTERS = {
    "": ["test", "both", "hidden", "visible"],
    "channel=mail": ["both"],
    "status=sent,failed": ["hidden", "visible"],
    "test=true": ["test"],
    "test=false&status=waiting": ["both"],
}


@pytest.mark.slow
@pytest.mark.parametrize("query", FILTERS)
def test_list_filters_deliveries(reader: ApiClient, deliveries: dict[str, Delivery], query: str):
    response = reader.get(f"alerts/deliveries?{query}")
    assert delivery_names(deliveries, response.json) == FILTERS[query] and response.json["total"] == len(FILTERS[query])
    assert b"of the payload" not in response.raw


@pytest.mark.slow
def test_delivery_has_the_response_of_the_channel(reader: ApiClient, deliveries: dict[str, Delivery]):
    delivery = reader.get("alerts/deliveries").json["deliveries"][-1]
    assert (delivery["status"], delivery["answer_status"], delivery["answer"], delivery["attempts"]) == (
        "sent",
        200,
        "ok",
        1,
    )


@pytest.mark.slow
def test_person_sees_only_deliveries_of_visible_alerts(
    viewer: ApiClient, stranger: ApiClient, deliveries: dict[str, Delivery]
):
    assert delivery_names(deliveries, viewer.get("alerts/deliveries").json) == ["visible"]
    assert delivery_names(deliveries, stranger.get("alerts/deliveries").json) == []


@pytest.mark.slow
def test_notifications_of_an_alert_have_only_visible_deliveries(
    reader: ApiClient, viewer: ApiClient, deliveries: dict[str, Delivery]
):
    alert = Alert.objects.get(device_name="boiler")
    notices = reader.get(f"alerts/{alert.alert_id}/notices").json
    assert [notice["channel"] for notice in notices["notices"]] == ["on call", "mail"] and notices["total"] == 2
    assert [notice["delivery"]["delivery_id"] for notice in notices["notices"]] == [
        deliveries["visible"].delivery_id,
        deliveries["both"].delivery_id,
    ]
    viewer_notices = viewer.get(f"alerts/{alert.alert_id}/notices").json["notices"]
    assert [bool(notice["delivery"]) for notice in viewer_notices] == [True, False]
    hidden_alert = Alert.objects.get(device_name="pump")
    assert viewer.get(f"alerts/{hidden_alert.alert_id}/notices").status == 404


def test_invalid_filter_is_rejected_with_its_field(reader: ApiClient):
    response = reader.get("alerts/deliveries?status=lost")
    assert response.status == 400 and response.json["errors"][0]["field"] == "status"


# --- patterns and recent alerts -----------------------------------------------------------------------


@pytest.fixture
def patterns(site: None) -> None:
    create_device("boiler", "site a")
    for name, devices, confidence in (("a", ["boiler"], 0.5), ("b", ["boiler", "pump"], 0.9), ("c", [], 0.7)):
        Pattern.objects.create(
            kind="flapping" if name == "a" else "together",
            subject={"devices": devices},
            support=3,
            confidence=confidence,
            description=name,
            devices=devices,
        )


@pytest.mark.slow
def test_pattern_is_visible_only_with_all_of_its_devices(
    reader: ApiClient, viewer: ApiClient, stranger: ApiClient, patterns: None
):
    for client, expected in ((reader, "bca"), (viewer, "a"), (stranger, "")):
        listed = client.get("alerts/patterns").json
        assert "".join(pattern["description"] for pattern in listed["patterns"]) == expected
        plain_list = client.get("/patterns?limit=10").json
        assert [pattern["description"] for pattern in plain_list] == list(expected)
    assert reader.get("alerts/patterns?kind=flapping").json["total"] == 1
    assert reader.get("/patterns?limit=1").json[0]["confidence"] == 0.9


@pytest.mark.slow
def test_recent_alerts_are_a_plain_list(reader: ApiClient, viewer: ApiClient, anonymous: ApiClient):
    rule = create_rule()
    for minute, name in enumerate(("boiler", "pump", "fan")):
        create_alert(rule, create_device(name, "site a" if name == "boiler" else None), minute)
    create_alert(create_rule(name="Trial"), create_device("boiler"), 9, shadow=True)
    assert [alert["device_id"] for alert in reader.get("/alerts?limit=2").json] == ["fan", "pump"]
    assert [alert["device_id"] for alert in viewer.get("/alerts").json] == ["boiler"]
    assert anonymous.get("/alerts").status == 401
    assert reader.get("/alerts?limit=0").status == 400
