"""Messages, notices and patterns over the API: who sees which."""

from typing import Any

import pytest

from alerts.models import Alert, Delivery, Notice, Pattern
from tests.alerts.factories import create_alert, create_device, create_rule
from tests.conftest import ApiClient


def told_of(alerts: list[Alert], channel: str = "on call", **more: Any) -> Delivery:
    """One message about some alerts."""
    made = Delivery.objects.create(channel_name=channel, title="hot", payload={"secret": "of the payload"}, **more)
    Notice.objects.bulk_create(
        Notice(alert=one, channel_name=channel, kind="fired", status="sent", delivery=made) for one in alerts
    )
    return made


@pytest.fixture
def messages(site: None) -> dict[str, Delivery]:
    """By whom they are about: a device of site a, one elsewhere, both, and nobody (a test)."""
    hot = create_rule()
    mine, theirs = create_alert(hot, create_device("boiler", "site a")), create_alert(hot, create_device("pump"))
    return {
        "mine": told_of([mine], status="sent", answer_status=200, answer="ok", attempts=1),
        "theirs": told_of([theirs], status="failed", error="no route to host"),
        "both": told_of([mine, theirs], channel="mail"),
        "test": told_of([], test=True),
    }


def names(messages: dict[str, Delivery], answer: Any) -> list[str]:
    known = {made.delivery_id: name for name, made in messages.items()}
    return [known[one["delivery_id"]] for one in answer["deliveries"]]


FILTERS = {
    "": ["test", "both", "theirs", "mine"],
    "channel=mail": ["both"],
    "status=sent,failed": ["theirs", "mine"],
    "test=true": ["test"],
    "test=false&status=waiting": ["both"],
}


@pytest.mark.parametrize("asked", FILTERS)
def test_list_filters_deliveries(reader: ApiClient, messages: dict[str, Delivery], asked: str):
    answer = reader.get(f"alerts/deliveries?{asked}")
    assert names(messages, answer.json) == FILTERS[asked] and answer.json["total"] == len(FILTERS[asked])
    assert b"of the payload" not in answer.raw


def test_delivery_has_the_response_of_the_channel(reader: ApiClient, messages: dict[str, Delivery]):
    mine = reader.get("alerts/deliveries").json["deliveries"][-1]
    assert (mine["status"], mine["answer_status"], mine["answer"], mine["attempts"]) == ("sent", 200, "ok", 1)


def test_person_sees_only_deliveries_of_visible_alerts(
    viewer: ApiClient, stranger: ApiClient, messages: dict[str, Delivery]
):
    assert names(messages, viewer.get("alerts/deliveries").json) == ["mine"]
    assert names(messages, stranger.get("alerts/deliveries").json) == []


def test_notifications_of_an_alert_have_only_visible_deliveries(
    reader: ApiClient, viewer: ApiClient, messages: dict[str, Delivery]
):
    of = Alert.objects.get(device_name="boiler")
    seen = reader.get(f"alerts/{of.alert_id}/notices").json
    assert [one["channel"] for one in seen["notices"]] == ["on call", "mail"] and seen["total"] == 2
    assert [one["delivery"]["delivery_id"] for one in seen["notices"]] == [
        messages["mine"].delivery_id,
        messages["both"].delivery_id,
    ]
    narrowed = viewer.get(f"alerts/{of.alert_id}/notices").json["notices"]
    assert [bool(one["delivery"]) for one in narrowed] == [True, False]
    hidden = Alert.objects.get(device_name="pump")
    assert viewer.get(f"alerts/{hidden.alert_id}/notices").status == 404


def test_invalid_filter_is_rejected_with_its_field(reader: ApiClient):
    answer = reader.get("alerts/deliveries?status=lost")
    assert answer.status == 400 and answer.json["errors"][0]["field"] == "status"


# --- patterns, and the doors of the alerting document -------------------------------------------------


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


def test_pattern_is_visible_only_with_all_of_its_devices(
    reader: ApiClient, viewer: ApiClient, stranger: ApiClient, patterns: None
):
    for somebody, expected in ((reader, "bca"), (viewer, "a"), (stranger, "")):
        listed = somebody.get("alerts/patterns").json
        assert "".join(one["description"] for one in listed["patterns"]) == expected
        plain = somebody.get("/patterns?limit=10").json
        assert [one["description"] for one in plain] == list(expected)
    assert reader.get("alerts/patterns?kind=flapping").json["total"] == 1
    assert reader.get("/patterns?limit=1").json[0]["confidence"] == 0.9


def test_recent_alerts_are_a_plain_list(reader: ApiClient, viewer: ApiClient, anonymous: ApiClient):
    hot = create_rule()
    for minute, name in enumerate(("boiler", "pump", "fan")):
        create_alert(hot, create_device(name, "site a" if name == "boiler" else None), minute)
    create_alert(create_rule(name="Trial"), create_device("boiler"), 9, shadow=True)
    assert [one["device_id"] for one in reader.get("/alerts?limit=2").json] == ["fan", "pump"]
    assert [one["device_id"] for one in viewer.get("/alerts").json] == ["boiler"]
    assert anonymous.get("/alerts").status == 401
    assert reader.get("/alerts?limit=0").status == 400
