"""Alerts over the API: which are seen, how they are chosen and counted, and what people do with them."""

from datetime import timedelta
from typing import Any
from urllib.parse import quote

import pytest

from alerts import alert_actions
from alerts.models import Alert, AlertEvent, Incident, Resolution, Status
from metrics.models import Device
from tests.alerts.factories import NOON, create_alert, create_device, create_rule
from tests.conftest import ApiClient


@pytest.fixture
def some(site: None) -> dict[str, Alert]:
    """Six alerts, each triggered a minute after the one before: `a` at noon. The last two are of no list that
    does not ask for them, or told nobody."""
    hot, wet = create_rule(level="critical"), create_rule(name="Too wet", metric_name="humidity")
    trial = create_rule(name="Trial")
    boiler, pump = create_device("boiler", "site a"), create_device("pump", "site b")
    made = {
        "a": create_alert(hot, boiler, 0),
        "b": create_alert(wet, boiler, 1, level="emergency"),
        "c": create_alert(hot, pump, 2, owner="mei"),
        "d": create_alert(wet, pump, 3, message="the pump is under water"),
        "e": create_alert(trial, boiler, 4, shadow=True),
        "f": create_alert(trial, pump, 5, retroactive=True, status=Status.RESOLVED, resolution=Resolution.RETROACTIVE),
    }
    alert_actions.acknowledge(Alert.objects.filter(pk=made["b"].pk), "user:mei")
    alert_actions.resolve(Alert.objects.filter(pk=made["d"].pk), Resolution.PERSON, "user:mei")
    Alert.objects.filter(pk=made["a"].pk).update(incident=Incident.objects.create(incident_id="inc_1", cause="a"))
    return made


def letters(some: dict[str, Alert], answer: Any) -> str:
    """Which of the alerts an answer holds, in its order."""
    names = {made.alert_id: letter for letter, made in some.items()}
    return "".join(names[one["alert_id"]] for one in answer["alerts"])


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


@pytest.mark.parametrize("asked", FILTERS)
def test_list_filters_alerts(reader: ApiClient, some: dict[str, Alert], asked: str):
    answer = reader.get(f"alerts?{asked}")
    assert answer.status == 200 and letters(some, answer.json) == FILTERS[asked]
    assert answer.json["total"] == answer.json["count"] == len(FILTERS[asked])
    assert (answer.json["active_count"], answer.json["critical_count"]) == (3, 3)
    assert set(answer.json["filters"]) == {one.partition("=")[0] for one in asked.split("&") if one}


def test_list_filters_alerts_by_rule(reader: ApiClient, some: dict[str, Alert]):
    of = some["a"].rule
    assert of is not None
    assert letters(some, reader.get(f"alerts?rule_id={of.rule_id}").json) == "ca"


@pytest.mark.parametrize(
    "asked",
    ["status=open", "level=fatal", "start_time=soon", "shadow=perhaps", "limit=1001", "offset=-1", "search=a%00b"],
)
def test_invalid_filter_is_rejected_with_its_field(reader: ApiClient, asked: str):
    answer = reader.get(f"alerts?{asked}")
    assert answer.status == 400 and answer.json["errors"][0]["field"] == asked.partition("=")[0]


def test_cursor_returns_every_alert_once_while_new_ones_open(reader: ApiClient, some: dict[str, Alert]):
    found, cursor = "", ""
    for number in range(9):
        answer = reader.get("alerts?limit=2" + (f"&cursor={cursor}" if cursor else "")).json
        found, cursor = found + letters(some, answer), answer["next_cursor"]
        if cursor is None:
            break
        create_alert(create_rule(name=f"Later {number}"), create_device("boiler"), minutes=60 + number)
    assert found == "fdcba"


def test_person_sees_and_counts_only_alerts_of_visible_devices(
    viewer: ApiClient, stranger: ApiClient, some: dict[str, Alert]
):
    seen = viewer.get("alerts").json
    assert letters(some, seen) == "ba" and (seen["active_count"], seen["critical_count"]) == (2, 2)
    assert letters(some, viewer.get("alerts?device_group=site%20b").json) == ""
    assert viewer.get(f"alerts/{some['a'].alert_id}").status == 200
    assert viewer.get(f"alerts/{some['c'].alert_id}").status == 404
    nothing = stranger.get("alerts").json
    assert (nothing["alerts"], nothing["active_count"]) == ([], 0)


def test_device_key_sees_alerts_of_its_device(device_key: ApiClient):
    create_alert(create_rule(), create_device("device_001"))
    create_alert(create_rule(), create_device("other"))
    assert device_key.get("alerts?device_id=device_001").json["count"] == 1
    assert device_key.get("alerts?device_id=other").status == 403
    assert device_key.get("alerts").status == 403


@pytest.fixture
def device_key(device: ApiClient) -> ApiClient:
    return device


def test_alert_has_evidence_and_timeline(operator: ApiClient, some: dict[str, Alert]):
    path = f"alerts/{some['a'].alert_id}"
    operator.call("PUT", f"{path}/acknowledge", {"note": "looking"})
    operator.post(f"{path}/comments", {"note": "a fan is broken"})
    operator.call("PUT", f"{path}/assign", {"owner": "jo"})
    operator.call("PUT", f"{path}/resolve", {"resolution_note": "new fan"})
    shown = operator.get(path).json
    assert (shown["value"], shown["threshold_value"], shown["evidence"]) == (97.5, 80, {"values": [91.0, 97.5]})
    assert [(one["kind"], one["by"], one["note"]) for one in shown["timeline"]] == [
        ("triggered", "evaluator", ""),
        ("acknowledged", "user:operator", "looking"),
        ("commented", "user:operator", "a fan is broken"),
        ("assigned", "user:operator", "jo"),
        ("resolved", "user:operator", "new fan"),
    ]
    assert shown["incident_id"] == "inc_1" and shown["owner"] == "jo"


# --- verbs --------------------------------------------------------------------------------------------

STATES = (Status.ACTIVE, Status.ACKNOWLEDGED, Status.RESOLVED)
VERBS: dict[str, tuple[str, dict[str, Any], tuple[int, int, int]]] = {  # what is answered in each of the states
    "acknowledge": ("PUT", {}, (200, 200, 409)),
    "resolve": ("PUT", {}, (200, 200, 200)),
    "assign": ("PUT", {"owner": "jo"}, (200, 200, 409)),
    "comments": ("POST", {"note": "hm"}, (200, 200, 200)),
}


@pytest.mark.parametrize("state", STATES)
@pytest.mark.parametrize("verb", VERBS)
def test_action_in_unsuitable_state_returns_409(admin: ApiClient, verb: str, state: Status):
    made = create_alert(create_rule(), create_device("boiler"))
    among = Alert.objects.filter(pk=made.pk)
    if state == Status.ACKNOWLEDGED:
        alert_actions.acknowledge(among, "user:mei", "mine")
    elif state == Status.RESOLVED:
        alert_actions.resolve(among, Resolution.RECOVERED, "evaluator")
    method, body, expected = VERBS[verb]
    answer = admin.call(method, f"alerts/{made.alert_id}/{verb}", body)
    assert answer.status == expected[STATES.index(state)]
    if answer.status == 409:
        assert state in answer.json["detail"] and made.alert_id in answer.json["detail"]
    else:
        assert answer.json["success"] is True and answer.json["alert"]["alert_id"] == made.alert_id


def test_repeated_action_keeps_first_acknowledgement_and_resolution(admin: ApiClient):
    made = create_alert(create_rule(), create_device("boiler"))
    alert_actions.acknowledge(Alert.objects.filter(pk=made.pk), "user:mei", "mine")
    again = admin.call("PUT", f"alerts/{made.alert_id}/acknowledge", {"note": "no, mine"}).json
    assert "nothing was changed" in again["message"]
    assert (again["alert"]["acknowledged_by"], again["alert"]["acknowledgement_note"]) == ("user:mei", "mine")
    alert_actions.resolve(Alert.objects.filter(pk=made.pk), Resolution.RECOVERED, "evaluator")
    again = admin.call("PUT", f"alerts/{made.alert_id}/resolve", {"note": "done"}).json
    assert (again["alert"]["resolution"], again["alert"]["resolution_note"]) == ("recovered", "")
    assert AlertEvent.objects.filter(alert=made).count() == 3


WRONG: list[tuple[str, str, Any, str]] = [
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
    ("method", "verb", "body", "field"), WRONG, ids=[f"{i}-{one[1]}" for i, one in enumerate(WRONG)]
)
def test_invalid_action_body_is_rejected_with_its_field(
    admin: ApiClient, method: str, verb: str, body: Any, field: str
):
    made = create_alert(create_rule(), create_device("boiler"))
    answer = admin.call(method, f"alerts/{made.alert_id}/{verb}", body)
    assert answer.status == 422 and [one["field"] for one in answer.json["errors"]] == [field]
    assert AlertEvent.objects.filter(alert=made).count() == 1


def test_actions_need_operate_scope_and_visible_alerts(
    operator: ApiClient, viewer: ApiClient, reader: ApiClient, some: dict[str, Alert]
):
    for verb, (method, body, _) in VERBS.items():
        seen, hidden = (f"alerts/{some[letter].alert_id}/{verb}" for letter in "ac")
        assert viewer.call(method, seen, body).status == 403
        assert reader.call(method, seen, body).status == 403
        assert operator.call(method, hidden, body).status == 404
    assert AlertEvent.objects.filter(alert=some["c"]).count() == 1
    assert (
        operator.call("PUT", f"alerts/{some['a'].alert_id}/acknowledge", {}).json["alert"]["owner"] == "user:operator"
    )


@pytest.mark.parametrize("unknown", ["alt_0000000000000000", "a%00b"])
def test_unknown_alert_returns_404(admin: ApiClient, unknown: str):
    assert admin.get(f"alerts/{unknown}").status == 404
    assert admin.call("PUT", f"alerts/{unknown}/resolve", {}).status == 404


def test_alert_of_deleted_device_is_visible_without_group_restriction(reader: ApiClient, viewer: ApiClient):
    made = create_alert(create_rule(), create_device("boiler", "site a"))
    Device.objects.get(device_id="boiler").delete()
    assert reader.get(f"alerts/{made.alert_id}").json["device_id"] == "boiler"
    assert viewer.get(f"alerts/{made.alert_id}").status == 404
