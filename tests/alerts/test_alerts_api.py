"""API of alerts: visibility, filters, counts and actions."""

from datetime import timedelta
from typing import Any
from urllib.parse import quote

import pytest

from alerts import alert_actions
from alerts.models import Alert, AlertEvent, Incident, Resolution, Status
from metrics.models import Device, DeviceGroup
from tests.alerts.factories import NOON, build_alert, create_alert, create_device, create_devices, create_rule
from tests.conftest import ApiClient, ApiResponse


@pytest.fixture
def alerts_by_letter(site: None) -> dict[str, Alert]:
    """Six alerts, triggered one minute apart from noon on.

    `e` is a shadow alert, which lists omit by default; `f` is retroactive, without notifications.
    """
    too_hot, too_wet = create_rule(level="critical"), create_rule(name="Too wet", metric_name="humidity")
    trial = create_rule(name="Trial")
    boiler, pump = create_device("boiler", "site a"), create_device("pump", "site b")
    alerts = {
        "a": create_alert(too_hot, boiler, 0),
        "b": create_alert(too_wet, boiler, 1, level="emergency"),
        "c": create_alert(too_hot, pump, 2, owner="mei"),
        "d": create_alert(too_wet, pump, 3, message="the pump is under water"),
        "e": create_alert(trial, boiler, 4, shadow=True),
        "f": create_alert(trial, pump, 5, retroactive=True, status=Status.RESOLVED, resolution=Resolution.RETROACTIVE),
    }
    alert_actions.acknowledge(Alert.objects.filter(pk=alerts["b"].pk), "user:mei")
    alert_actions.resolve(Alert.objects.filter(pk=alerts["d"].pk), Resolution.PERSON, "user:mei")
    Alert.objects.filter(pk=alerts["a"].pk).update(incident=Incident.objects.create(incident_id="inc_1", cause="a"))
    return alerts


def letters(alerts_by_letter: dict[str, Alert], response: Any) -> str:
    """Return the letters of the alerts of a response, in its order."""
    names = {alert.alert_id: letter for letter, alert in alerts_by_letter.items()}
    return "".join(names[alert["alert_id"]] for alert in response["alerts"])


def minute(number: int) -> str:
    return quote((NOON + timedelta(minutes=number)).isoformat())


FILTERS = {
    "": "fdcba",
    "status=active": "ca",
    "status=active,acknowledged": "cba",
    "status=active&status=resolved": "fdca",
    "level=critical": "ca",
    "level=critical,emergency&status=acknowledged": "b",
    "device_id=boiler": "ba",
    "device_id=nobodys": "",
    "metric_name=humidity": "db",
    "device_group=site%20b": "fdc",
    "owner=mei": "c",
    "owner=user%3Amei": "b",
    "incident=inc_1": "a",
    "retroactive=true": "f",
    "retroactive=false": "dcba",
    "shadow=true": "e",
    f"start_time={minute(1)}": "fdcb",
    f"start_time={minute(1)}&end_time={minute(3)}": "cb",
    "start_time=2026-01-01T12:03:00": "fd",
    "search=under%20WATER": "d",
    "search=boil": "ba",
    "search=too%20wet": "db",
}


@pytest.mark.slow
@pytest.mark.parametrize("query", FILTERS)
def test_list_filters_alerts(reader: ApiClient, alerts_by_letter: dict[str, Alert], query: str):
    response = reader.get(f"alerts?{query}")
    assert response.status == 200 and letters(alerts_by_letter, response.json) == FILTERS[query]
    assert response.json["total"] == response.json["count"] == len(FILTERS[query])
    assert (response.json["active_count"], response.json["critical_count"]) == (3, 3)
    assert set(response.json["filters"]) == {parameter.partition("=")[0] for parameter in query.split("&") if parameter}


@pytest.mark.slow
def test_list_filters_alerts_by_rule(reader: ApiClient, alerts_by_letter: dict[str, Alert]):
    rule = alerts_by_letter["a"].rule
    assert rule is not None
    assert letters(alerts_by_letter, reader.get(f"alerts?rule_id={rule.rule_id}").json) == "ca"


@pytest.mark.parametrize(
    "query",
    ["status=open", "level=fatal", "start_time=soon", "shadow=perhaps", "limit=1001", "offset=-1", "search=a%00b"],
)
def test_invalid_filter_is_rejected_with_its_field(reader: ApiClient, query: str):
    response = reader.get(f"alerts?{query}")
    assert response.status == 400 and response.json["errors"][0]["field"] == query.partition("=")[0]


@pytest.mark.slow
def test_cursor_returns_every_alert_once_while_new_ones_open(reader: ApiClient, alerts_by_letter: dict[str, Alert]):
    listed, cursor = "", ""
    for number in range(9):
        response = reader.get("alerts?limit=2" + (f"&cursor={cursor}" if cursor else "")).json
        listed, cursor = listed + letters(alerts_by_letter, response), response["next_cursor"]
        if cursor is None:
            break
        create_alert(create_rule(name=f"Later {number}"), create_device("boiler"), minutes=60 + number)
    assert listed == "fdcba"


@pytest.mark.slow
def test_person_sees_and_counts_only_alerts_of_visible_devices(
    viewer: ApiClient, stranger: ApiClient, alerts_by_letter: dict[str, Alert]
):
    visible = viewer.get("alerts").json
    assert letters(alerts_by_letter, visible) == "ba" and (visible["active_count"], visible["critical_count"]) == (2, 2)
    assert letters(alerts_by_letter, viewer.get("alerts?device_group=site%20b").json) == ""
    assert viewer.get(f"alerts/{alerts_by_letter['a'].alert_id}").status == 200
    assert viewer.get(f"alerts/{alerts_by_letter['c'].alert_id}").status == 404
    empty = stranger.get("alerts").json
    assert (empty["alerts"], empty["active_count"]) == ([], 0)


def test_device_key_sees_alerts_of_its_device(device_key: ApiClient):
    create_alert(create_rule(), create_device("device_001"))
    create_alert(create_rule(), create_device("other"))
    assert device_key.get("alerts?device_id=device_001").json["count"] == 1
    assert device_key.get("alerts?device_id=other").status == 403
    assert device_key.get("alerts").status == 403


@pytest.fixture
def device_key(device: ApiClient) -> ApiClient:
    return device


@pytest.mark.slow
def test_alert_has_evidence_and_timeline(operator: ApiClient, alerts_by_letter: dict[str, Alert]):
    path = f"alerts/{alerts_by_letter['a'].alert_id}"
    operator.call("PUT", f"{path}/acknowledge", {"note": "looking"})
    operator.post(f"{path}/comments", {"note": "a fan is broken"})
    operator.call("PUT", f"{path}/assign", {"owner": "jo"})
    operator.call("PUT", f"{path}/resolve", {"resolution_note": "new fan"})
    alert = operator.get(path).json
    assert (alert["value"], alert["threshold_value"]) == (97.5, 80)
    assert alert["evidence"] == alerts_by_letter["a"].evidence
    assert [(event["kind"], event["by"], event["note"]) for event in alert["timeline"]] == [
        ("triggered", "evaluator", ""),
        ("acknowledged", "user:operator", "looking"),
        ("commented", "user:operator", "a fan is broken"),
        ("assigned", "user:operator", "jo"),
        ("resolved", "user:operator", "new fan"),
    ]
    assert alert["incident_id"] == "inc_1" and alert["owner"] == "jo"


# --- actions ------------------------------------------------------------------------------------------

STATUSES = (Status.ACTIVE, Status.ACKNOWLEDGED, Status.RESOLVED)
VERBS: dict[str, tuple[str, dict[str, Any], tuple[int, int, int]]] = {  # response status for each of STATUSES
    "acknowledge": ("PUT", {}, (200, 200, 409)),
    "resolve": ("PUT", {}, (200, 200, 200)),
    "assign": ("PUT", {"owner": "jo"}, (200, 200, 409)),
    "comments": ("POST", {"note": "hm"}, (200, 200, 200)),
}


@pytest.mark.parametrize("status", STATUSES)
@pytest.mark.parametrize("verb", VERBS)
def test_action_in_unsuitable_state_returns_409(admin: ApiClient, verb: str, status: Status):
    alert = create_alert(create_rule(), create_device("boiler"))
    alerts = Alert.objects.filter(pk=alert.pk)
    if status == Status.ACKNOWLEDGED:
        alert_actions.acknowledge(alerts, "user:mei", "mine")
    elif status == Status.RESOLVED:
        alert_actions.resolve(alerts, Resolution.RECOVERED, "evaluator")
    method, body, expected = VERBS[verb]
    response = admin.call(method, f"alerts/{alert.alert_id}/{verb}", body)
    assert response.status == expected[STATUSES.index(status)]
    if response.status == 409:
        assert status in response.json["detail"] and alert.alert_id in response.json["detail"]
    else:
        assert response.json["success"] is True and response.json["alert"]["alert_id"] == alert.alert_id


def test_repeated_action_keeps_first_acknowledgement_and_resolution(admin: ApiClient):
    alert = create_alert(create_rule(), create_device("boiler"))
    alert_actions.acknowledge(Alert.objects.filter(pk=alert.pk), "user:mei", "mine")
    repeated = admin.call("PUT", f"alerts/{alert.alert_id}/acknowledge", {"note": "no, mine"}).json
    assert "nothing was changed" in repeated["message"]
    assert (repeated["alert"]["acknowledged_by"], repeated["alert"]["acknowledgement_note"]) == ("user:mei", "mine")
    alert_actions.resolve(Alert.objects.filter(pk=alert.pk), Resolution.RECOVERED, "evaluator")
    repeated = admin.call("PUT", f"alerts/{alert.alert_id}/resolve", {"note": "done"}).json
    assert (repeated["alert"]["resolution"], repeated["alert"]["resolution_note"]) == ("recovered", "")
    assert AlertEvent.objects.filter(alert=alert).count() == 3


INVALID_BODIES: list[tuple[str, str, Any, str]] = [
    ("PUT", "acknowledge", {"note": "x" * 10_001}, "note"),
    ("PUT", "acknowledge", {"note": {}}, "note"),
    ("PUT", "acknowledge", {"force": True}, "force"),
    ("PUT", "resolve", {"note": "a", "resolution_note": "b"}, "resolution_note"),
    ("PUT", "assign", {}, "owner"),
    ("PUT", "assign", {"owner": "a\nb"}, "owner"),
    ("PUT", "assign", {"owner": "x" * 401}, "owner"),
    ("POST", "comments", {}, "note"),
    ("POST", "comments", {"note": ""}, "note"),
    ("POST", "comments", {"note": "a\0b"}, "note"),
]


@pytest.mark.parametrize(
    ("method", "verb", "body", "field"),
    INVALID_BODIES,
    ids=[f"{number}-{row[1]}" for number, row in enumerate(INVALID_BODIES)],
)
def test_invalid_action_body_is_rejected_with_its_field(
    admin: ApiClient, method: str, verb: str, body: Any, field: str
):
    alert = create_alert(create_rule(), create_device("boiler"))
    response = admin.call(method, f"alerts/{alert.alert_id}/{verb}", body)
    assert response.status in (400, 422) and [error["field"] for error in response.json["errors"]] == [field]
    assert AlertEvent.objects.filter(alert=alert).count() == 1


@pytest.mark.slow
def test_actions_need_operate_scope_and_visible_alerts(
    operator: ApiClient, viewer: ApiClient, reader: ApiClient, alerts_by_letter: dict[str, Alert]
):
    for verb, (method, body, _) in VERBS.items():
        visible, hidden = (f"alerts/{alerts_by_letter[letter].alert_id}/{verb}" for letter in "ac")
        assert viewer.call(method, visible, body).status == 403
        assert reader.call(method, visible, body).status == 403
        assert operator.call(method, hidden, body).status == 404
    assert AlertEvent.objects.filter(alert=alerts_by_letter["c"]).count() == 1
    assert (
        operator.call("PUT", f"alerts/{alerts_by_letter['a'].alert_id}/acknowledge", {}).json["alert"]["owner"]
        == "user:operator"
    )


@pytest.mark.parametrize(("alert_id", "status"), [("alt_0000000000000000", 404), ("a%00b", 400)])
def test_unknown_alert_returns_404_and_invalid_id_400(admin: ApiClient, alert_id: str, status: int):
    assert admin.get(f"alerts/{alert_id}").status == status
    assert admin.call("PUT", f"alerts/{alert_id}/resolve", {}).status == status


def test_alert_of_deleted_device_is_visible_without_group_restriction(reader: ApiClient, viewer: ApiClient):
    alert = create_alert(create_rule(), create_device("boiler", "site a"))
    Device.objects.get(device_id="boiler").delete()
    assert reader.get(f"alerts/{alert.alert_id}").json["device_id"] == "boiler"
    assert viewer.get(f"alerts/{alert.alert_id}").status == 404


@pytest.mark.slow
def test_timeline_shows_the_incident_without_devices_of_other_groups(
    viewer: ApiClient, reader: ApiClient, operator: ApiClient
):
    rule = create_rule()
    own, hidden = create_devices(2, "site a", "own"), create_devices(5, "secret place", "hidden")
    DeviceGroup.objects.get(name="secret place").devices.add(*own)
    [alert, *_] = alert_actions.open_alerts([build_alert(rule, device) for device in [*own, *hidden]])
    assert Incident.objects.get().title == "7 devices of secret place: Too hot"
    path = f"alerts/{alert.alert_id}"

    def joined(answer: ApiResponse) -> str:
        body = answer.json.get("alert", answer.json)
        return "".join(event["note"] for event in body["timeline"] if event["kind"] == "joined")

    assert joined(reader.get(path)) == "7 devices of secret place: Too hot"
    assert joined(viewer.get(path)) == "2 devices: Too hot"
    assert joined(operator.call("PUT", f"{path}/acknowledge", {})) == "2 devices: Too hot"
    page = viewer.get(f"/{path}/").raw.decode()
    assert "2 devices: Too hot" in page and "secret" not in page and "7 devices" not in page
