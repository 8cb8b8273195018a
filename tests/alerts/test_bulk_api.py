"""API of actions on several alerts at once."""

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from alerts import alert_actions
from alerts.models import Alert, AlertEvent, Resolution, Rule, Status
from tests.alerts.factories import create_alert, create_device, create_rule
from tests.conftest import ApiClient

BULK = "alerts/bulk"


@pytest.fixture
def alerts(site: None) -> list[Alert]:
    """Four alerts of site a (two active, one acknowledged, one resolved) and one active alert of another device."""
    rule = create_rule(level="critical")
    site_a_alerts = [create_alert(rule, create_device(f"d{number}", "site a"), number) for number in range(4)]
    alert_actions.acknowledge(Alert.objects.filter(pk=site_a_alerts[2].pk), "user:mei")
    alert_actions.resolve(Alert.objects.filter(pk=site_a_alerts[3].pk), Resolution.RECOVERED, "evaluator")
    return [*site_a_alerts, create_alert(create_rule(name="Other"), create_device("elsewhere"), 9)]


def list_statuses() -> list[str]:
    return list(Alert.objects.order_by("pk").values_list("status", flat=True))


def alert_ids(alerts: list[Alert]) -> list[str]:
    return [alert.alert_id for alert in alerts]


@pytest.mark.slow
def test_unchanged_alerts_are_listed_with_the_reason(operator: ApiClient, alerts: list[Alert]):
    response = operator.post(
        BULK, {"verb": "acknowledge", "alert_ids": [*alert_ids(alerts), "alt_none"], "note": "storm"}
    )
    assert response.status == 200
    assert (response.json["found"], response.json["changed"], response.json["more"]) == (4, 2, False)
    assert {(unchanged["alert_id"], unchanged["detail"]) for unchanged in response.json["left_alone"]} == {
        (alerts[2].alert_id, "it is acknowledged"),
        (alerts[3].alert_id, "it is resolved"),
        (alerts[4].alert_id, "is not known"),
        ("alt_none", "is not known"),
    }
    assert list_statuses() == ["acknowledged", "acknowledged", "acknowledged", "resolved", "active"]
    assert AlertEvent.objects.filter(kind="acknowledged", by="user:operator", note="storm").count() == 2


VERBS: dict[str, tuple[dict[str, Any], int, list[str]]] = {
    "acknowledge": ({}, 2, ["acknowledged", "acknowledged", "acknowledged", "resolved", "active"]),
    "resolve": ({"note": "fixed"}, 3, ["resolved", "resolved", "resolved", "resolved", "active"]),
    "assign": ({"owner": "jo"}, 3, ["active", "active", "acknowledged", "resolved", "active"]),
    "comment": ({"note": "hm"}, 4, ["active", "active", "acknowledged", "resolved", "active"]),
}


@pytest.mark.slow
@pytest.mark.parametrize("verb", VERBS)
def test_filter_selects_alerts_in_a_suitable_state(admin: ApiClient, alerts: list[Alert], verb: str):
    parameters, changed, statuses = VERBS[verb]
    response = admin.post(BULK, {"verb": verb, "filter": {"device_group": "site a"}} | parameters).json
    assert (response["changed"], response["left_alone"], list_statuses()) == (changed, [], statuses)
    assert str(changed) in response["message"]


@pytest.mark.slow
def test_filter_by_state_leaves_unsuitable_alerts_unchanged(admin: ApiClient, alerts: list[Alert]):
    body = {"verb": "assign", "owner": "", "filter": {"status": ["resolved", "acknowledged"], "level": "critical"}}
    response = admin.post(BULK, body).json
    assert response["changed"] == 1
    assert response["left_alone"] == [{"alert_id": alerts[3].alert_id, "detail": "it is resolved"}]
    alerts[2].refresh_from_db()
    assert alerts[2].owner == ""


@pytest.mark.slow
def test_person_changes_only_alerts_of_visible_devices(operator: ApiClient, viewer: ApiClient, alerts: list[Alert]):
    assert viewer.post(BULK, {"verb": "resolve", "alert_ids": alert_ids(alerts)}).status == 403
    assert operator.post(BULK, {"verb": "resolve", "filter": {"level": ["warning", "critical"]}}).json["changed"] == 3
    assert Alert.objects.get(pk=alerts[4].pk).status == Status.ACTIVE


@pytest.mark.slow
def test_alerts_beyond_the_batch_are_changed_by_the_next_request(
    admin: ApiClient, alerts: list[Alert], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("alerts.api.bulk_actions.BULK_BATCH", 2)
    body = {"verb": "resolve", "filter": {"level": "critical"}}
    assert [
        (response["changed"], response["more"]) for response in (admin.post(BULK, body).json for _ in range(3))
    ] == [
        (2, True),
        (1, False),
        (0, False),
    ]


@pytest.mark.slow
def test_concurrent_requests_change_each_alert_once(admin: ApiClient, site: None):
    rule = create_rule()
    for number in range(20):
        create_alert(rule, create_device(f"d{number}"))
    with ThreadPoolExecutor(6) as pool:
        body = {"verb": "acknowledge", "filter": {"status": "active"}}
        changed_counts = list(pool.map(lambda _: admin.post(BULK, body).json["changed"], range(6)))
    assert sum(changed_counts) == 20 and AlertEvent.objects.filter(kind="acknowledged").count() == 20
    assert Rule.objects.get().total_triggers == 20


INVALID_BODIES: list[tuple[dict[str, Any], str]] = [
    ({"verb": "delete", "alert_ids": ["a"]}, "verb"),
    ({"alert_ids": ["a"]}, "verb"),
    ({"verb": "resolve"}, "alert_ids"),
    ({"verb": "resolve", "alert_ids": []}, "alert_ids"),
    ({"verb": "resolve", "alert_ids": ["a"] * 1001}, "alert_ids"),
    ({"verb": "resolve", "alert_ids": ["a"], "filter": {"owner": "mei"}}, "alert_ids"),
    ({"verb": "resolve", "filter": {}}, "filter"),
    ({"verb": "resolve", "filter": {"shadow": True}}, "filter"),
    ({"verb": "resolve", "filter": {"colour": "red"}}, "filter.colour"),
    ({"verb": "resolve", "filter": {"status": "open"}}, "filter.status"),
    ({"verb": "assign", "alert_ids": ["a"]}, "owner"),
    ({"verb": "resolve", "alert_ids": ["a"], "owner": "mei"}, "owner"),
    ({"verb": "assign", "alert_ids": ["a"], "owner": "mei", "note": "hm"}, "note"),
    ({"verb": "comment", "alert_ids": ["a"]}, "note"),
    ({"verb": "resolve", "alert_ids": ["a"], "force": True}, "force"),
]


@pytest.mark.parametrize(
    ("body", "field"), INVALID_BODIES, ids=[f"{number}-{row[1]}" for number, row in enumerate(INVALID_BODIES)]
)
def test_invalid_body_is_rejected_with_its_field(admin: ApiClient, body: dict[str, Any], field: str):
    response = admin.post(BULK, body)
    assert response.status in (400, 422) and [error["field"] for error in response.json["errors"]] == [field]
