"""Silences and maintenance over the API."""

from datetime import timedelta
from typing import Any

import pytest
from django.utils import timezone

from alerts.models import Silence
from tests.alerts.factories import NOON, create_alert, create_device, create_rule
from tests.conftest import ApiClient

SILENCES = "alerts/silences"


def in_hours(hours: float) -> str:
    return (timezone.now() + timedelta(hours=hours)).isoformat()


def body(**fields: Any) -> dict[str, Any]:
    defaults = {"device_ids": ["boiler"], "ends_at": in_hours(2), "reason": "repair"} | fields
    return {name: value for name, value in defaults.items() if value is not None}


@pytest.mark.slow
def test_silence_is_created_changed_and_ended(operator: ApiClient):
    create_device("boiler", "site a")
    created = operator.post(SILENCES, body(levels=["warning"]))
    assert created.status == 201
    assert (created.json["active"], created.json["created_by"], created.json["kind"]) == (
        True,
        "user:operator",
        "silence",
    )
    path = f"{SILENCES}/{created.json['silence_id']}"
    etag = created.headers["ETag"]
    later = in_hours(5)
    changed = operator.call("PATCH", path, {"ends_at": later, "reason": "longer"}, If_Match=etag)
    assert changed.status == 200 and changed.json["reason"] == "longer" and changed.json["levels"] == ["warning"]
    assert operator.call("PATCH", path, {"reason": "other"}, If_Match=etag).status == 412
    assert operator.call("DELETE", path, If_Match=etag).status == 412
    ended = operator.call("DELETE", path)
    assert ended.status == 200 and ended.json["active"] is False
    assert operator.get(path).json["active"] is False
    assert [operator.get(f"{SILENCES}?active={active}").json["total"] for active in ("true", "false")] == [0, 1]


INVALID_FIELDS: list[tuple[dict[str, Any], str]] = [
    ({"ends_at": None}, "ends_at"),
    ({"ends_at": "2020-01-01T00:00:00Z"}, "ends_at"),
    ({"ends_at": "never"}, "ends_at"),
    ({"ends_at": "2099-01-01T00:00:00Z"}, "ends_at"),
    ({"reason": None}, "reason"),
    ({"reason": " "}, "reason"),
    ({"reason": "x" * 1001}, "reason"),
    ({"device_ids": None}, "device_ids"),
    ({"device_ids": "boiler"}, "device_ids"),
    ({"levels": ["fatal"]}, "levels.0"),
    ({"weekly": {"days": [9], "from": "00:00", "to": "01:00"}}, "weekly"),
    ({"weekly": {"days": [1], "from": "00:00", "to": "01:00", "timezone": {}}}, "weekly.timezone"),
    ({"kind": "party"}, "kind"),
    ({"forever": True}, "forever"),
]


@pytest.mark.parametrize(
    ("fields", "field"), INVALID_FIELDS, ids=[f"{number}-{row[1]}" for number, row in enumerate(INVALID_FIELDS)]
)
def test_invalid_silence_is_rejected_with_its_field(admin: ApiClient, fields: dict[str, Any], field: str):
    response = admin.post(SILENCES, body(**fields))
    assert response.status in (400, 422) and field in [error["field"] for error in response.json["errors"]], (
        response.json
    )
    assert not Silence.objects.exists()


@pytest.mark.slow
def test_person_silences_only_visible_devices_and_sees_related_silences(
    operator: ApiClient, viewer: ApiClient, admin: ApiClient, stranger: ApiClient
):
    create_device("boiler", "site a")
    create_device("pump", "site b")
    assert operator.post(SILENCES, body()).status == 201
    for fields in (
        {"device_ids": ["pump"]},
        {"device_ids": ["boiler", "pump"]},
        {"device_ids": [], "levels": ["info"]},
    ):
        assert operator.post(SILENCES, body(**fields)).status == 422
    hidden_silence = admin.post(SILENCES, body(device_ids=["pump"])).json["silence_id"]
    assert viewer.post(SILENCES, body()).status == 403
    assert viewer.get(SILENCES).json["total"] == 1 and stranger.get(SILENCES).json["total"] == 0
    for method in ("GET", "PATCH", "DELETE"):
        assert operator.call(method, f"{SILENCES}/{hidden_silence}", {"reason": "mine"}).status == 404
    own_silence = operator.get(SILENCES).json["silences"][0]["silence_id"]
    assert operator.call("PATCH", f"{SILENCES}/{own_silence}", {"device_ids": ["pump"]}).status == 422


def test_list_filters_silences(admin: ApiClient, operator: ApiClient):
    create_device("boiler", "site a")
    operator.post(SILENCES, body(reason="a"))
    admin.post(SILENCES, body(reason="b", device_ids=["pump"], starts_at=in_hours(1)))
    admin.post(SILENCES, body(reason="c", device_ids=[], metric_names=["m"], kind="maintenance"))
    for query, expected in {
        "": {"a", "b", "c"},
        "active=true": {"a", "c"},
        "active=false": {"b"},
        "device_id=pump": {"b"},
        "owner=user:operator": {"a"},
        "kind=maintenance": {"c"},
    }.items():
        assert {silence["reason"] for silence in admin.get(f"{SILENCES}?{query}").json["silences"]} == expected, query


def test_preview_lists_matching_alerts_and_mutes_none(admin: ApiClient, viewer: ApiClient):
    too_hot, too_wet = create_rule(), create_rule(name="Too wet", metric_name="humidity")
    boiler, pump = create_device("boiler", "site a"), create_device("pump")
    alerts = [create_alert(too_hot, boiler), create_alert(too_wet, boiler, 1), create_alert(too_hot, pump, 2)]
    preview = admin.post(f"{SILENCES}/preview", {"metric_names": ["temperature"]}).json
    assert [alert["alert_id"] for alert in preview["alerts"]] == [alerts[2].alert_id, alerts[0].alert_id]
    assert preview["total"] == 2
    assert viewer.post(f"{SILENCES}/preview", {"metric_names": ["temperature"]}).json["total"] == 1
    future = {"device_ids": ["boiler"], "since": in_hours(1)}
    assert admin.post(f"{SILENCES}/preview", future).json["total"] == 0
    assert admin.post(f"{SILENCES}/preview", {"device_ids": ["boiler"], "since": NOON.isoformat()}).json["total"] == 2
    assert admin.post(f"{SILENCES}/preview", {"device_ids": ["boiler"], "since": "soon"}).status == 400
    assert admin.post(f"{SILENCES}/preview?limit=1", {"device_ids": ["boiler"]}).json["count"] == 1
    assert admin.post(f"{SILENCES}/preview", {}).status == 422
    assert not Silence.objects.exists()


# --- maintenance --------------------------------------------------------------------------------------

OWN_MAINTENANCE = "devices/device_001/maintenance"


def test_device_opens_and_ends_its_own_maintenance(device: ApiClient, admin: ApiClient):
    created = device.post(OWN_MAINTENANCE, {"minutes": 30, "reason": "reboot"})
    assert created.status == 201
    assert (created.json["kind"], created.json["device_ids"], created.json["active"]) == (
        "maintenance",
        ["device_001"],
        True,
    )
    assert device.call("DELETE", OWN_MAINTENANCE).json["success"] is True
    assert admin.get(f"{SILENCES}?active=true").json["total"] == 0
    assert device.call("DELETE", OWN_MAINTENANCE).status == 200
    assert device.post(OWN_MAINTENANCE, {"minutes": 1}).json["reason"] == "Maintenance"


@pytest.mark.parametrize("minutes", [0, -5, 241, "soon", None, 10**9])
def test_maintenance_by_a_device_is_limited_in_time(device: ApiClient, minutes: Any):
    response = device.post(OWN_MAINTENANCE, {"minutes": minutes})
    assert response.status in (400, 422) and response.json["errors"][0]["field"] == "minutes"
    assert not Silence.objects.exists()


def test_device_key_opens_maintenance_only_for_its_device(
    device: ApiClient, gateway: ApiClient, viewer: ApiClient, operator: ApiClient
):
    create_device("device_002", "site a")
    for path in ("devices/device_002/maintenance", "devices/nobody/maintenance"):
        assert device.post(path, {"minutes": 5}).status == device.call("DELETE", path).status == 403
    assert (
        gateway.post(OWN_MAINTENANCE, {"minutes": 5}).status
        == viewer.post(OWN_MAINTENANCE, {"minutes": 5}).status
        == 403
    )
    assert (
        operator.post(OWN_MAINTENANCE, {"minutes": 5}).status == operator.call("DELETE", OWN_MAINTENANCE).status == 404
    )
    by_operator = operator.post("devices/device_002/maintenance", {"minutes": 600, "reason": "new roof"})
    assert by_operator.status == 201 and by_operator.json["created_by"] == "user:operator"
    assert operator.call("DELETE", "devices/device_002/maintenance").status == 200
    assert operator.get(f"{SILENCES}?active=true").json["total"] == 0
