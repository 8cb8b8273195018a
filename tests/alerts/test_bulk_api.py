"""One verb over many alerts."""

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from alerts import alert_actions
from alerts.models import Alert, AlertEvent, Resolution, Rule, Status
from tests.alerts.factories import create_alert, create_device, create_rule
from tests.conftest import ApiClient

BULK = "alerts/bulk"


@pytest.fixture
def storm(site: None) -> list[Alert]:
    """Four alerts of site a: two are active, one is acknowledged, one is resolved. And an active one elsewhere."""
    hot = create_rule(level="critical")
    made = [create_alert(hot, create_device(f"d{number}", "site a"), number) for number in range(4)]
    alert_actions.acknowledge(Alert.objects.filter(pk=made[2].pk), "user:mei")
    alert_actions.resolve(Alert.objects.filter(pk=made[3].pk), Resolution.RECOVERED, "evaluator")
    return [*made, create_alert(create_rule(name="Other"), create_device("elsewhere"), 9)]


def states() -> list[str]:
    return list(Alert.objects.order_by("pk").values_list("status", flat=True))


def ids(storm: list[Alert]) -> list[str]:
    return [one.alert_id for one in storm]


def test_unchanged_alerts_are_listed_with_the_reason(operator: ApiClient, storm: list[Alert]):
    answer = operator.post(BULK, {"verb": "acknowledge", "alert_ids": [*ids(storm), "alt_none"], "note": "storm"})
    assert answer.status == 200
    assert (answer.json["found"], answer.json["changed"], answer.json["more"]) == (4, 2, False)
    assert {(one["alert_id"], one["detail"]) for one in answer.json["left_alone"]} == {
        (storm[2].alert_id, "it is acknowledged"),
        (storm[3].alert_id, "it is resolved"),
        (storm[4].alert_id, "is not known"),
        ("alt_none", "is not known"),
    }
    assert states() == ["acknowledged", "acknowledged", "acknowledged", "resolved", "active"]
    assert AlertEvent.objects.filter(kind="acknowledged", by="user:operator", note="storm").count() == 2


VERBS: dict[str, tuple[dict[str, Any], int, list[str]]] = {
    "acknowledge": ({}, 2, ["acknowledged", "acknowledged", "acknowledged", "resolved", "active"]),
    "resolve": ({"note": "fixed"}, 3, ["resolved", "resolved", "resolved", "resolved", "active"]),
    "assign": ({"owner": "jo"}, 3, ["active", "active", "acknowledged", "resolved", "active"]),
    "comment": ({"note": "hm"}, 4, ["active", "active", "acknowledged", "resolved", "active"]),
}


@pytest.mark.parametrize("verb", VERBS)
def test_filter_selects_alerts_in_a_suitable_state(admin: ApiClient, storm: list[Alert], verb: str):
    more, changed, after = VERBS[verb]
    answer = admin.post(BULK, {"verb": verb, "filter": {"device_group": "site a"}} | more).json
    assert (answer["changed"], answer["left_alone"], states()) == (changed, [], after)
    assert str(changed) in answer["message"]


def test_filter_by_state_leaves_unsuitable_alerts_unchanged(admin: ApiClient, storm: list[Alert]):
    sent = {"verb": "assign", "owner": "", "filter": {"status": ["resolved", "acknowledged"], "level": "critical"}}
    answer = admin.post(BULK, sent).json
    assert answer["changed"] == 1
    assert answer["left_alone"] == [{"alert_id": storm[3].alert_id, "detail": "it is resolved"}]
    storm[2].refresh_from_db()
    assert storm[2].owner == ""


def test_person_changes_only_alerts_of_visible_devices(operator: ApiClient, viewer: ApiClient, storm: list[Alert]):
    assert viewer.post(BULK, {"verb": "resolve", "alert_ids": ids(storm)}).status == 403
    assert operator.post(BULK, {"verb": "resolve", "filter": {"level": ["warning", "critical"]}}).json["changed"] == 3
    assert Alert.objects.get(pk=storm[4].pk).status == Status.ACTIVE


def test_alerts_beyond_the_batch_are_changed_by_the_next_request(
    admin: ApiClient, storm: list[Alert], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("alerts.api.bulk_actions.BULK_BATCH", 2)
    sent = {"verb": "resolve", "filter": {"level": "critical"}}
    assert [(one["changed"], one["more"]) for one in (admin.post(BULK, sent).json for _ in range(3))] == [
        (2, True),
        (1, False),
        (0, False),
    ]


def test_concurrent_requests_change_each_alert_once(admin: ApiClient, site: None):
    hot = create_rule()
    for number in range(20):
        create_alert(hot, create_device(f"d{number}"))
    with ThreadPoolExecutor(6) as pool:
        sent = {"verb": "acknowledge", "filter": {"status": "active"}}
        answers = list(pool.map(lambda _: admin.post(BULK, sent).json["changed"], range(6)))
    assert sum(answers) == 20 and AlertEvent.objects.filter(kind="acknowledged").count() == 20
    assert Rule.objects.get().total_triggers == 20


WRONG: list[tuple[dict[str, Any], str]] = [
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


@pytest.mark.parametrize(("sent", "field"), WRONG, ids=[f"{i}-{one[1]}" for i, one in enumerate(WRONG)])
def test_invalid_body_is_rejected_with_its_field(admin: ApiClient, sent: dict[str, Any], field: str):
    answer = admin.post(BULK, sent)
    assert answer.status == 422 and [one["field"] for one in answer.json["errors"]] == [field]
