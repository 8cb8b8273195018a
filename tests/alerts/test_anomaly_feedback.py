"""Feedback on alerts of anomaly rules: who may give it, what it changes, and that it can be withdrawn."""

from typing import Any

import pytest

from alerts.anomaly_feedback import give_feedback, read_adjustments, takes_feedback, withdraw_feedback
from alerts.models import Alert, AnomalyFeedback, RuleGeneration
from metrics.models import AuditEntry
from tests.alerts.factories import create_alert, create_device, create_rule
from tests.conftest import ApiClient

SERIES = 7


@pytest.fixture
def anomaly(site: None) -> Alert:
    """An alert of an anomaly rule in group `site a`, 1.6 times as strong as needed."""
    rule = create_rule(name="Unusual", kind="anomaly", threshold_value=None)
    return create_alert(rule, create_device("boiler", "site a"), series=SERIES, evidence={"gravity": 1.6})


def other_anomaly(alert: Alert, minute: int, gravity: float, series: int = SERIES) -> Alert:
    alert.status = "resolved"
    alert.save()
    assert alert.rule is not None and alert.device is not None
    return create_alert(alert.rule, alert.device, minute, series=series, evidence={"gravity": gravity})


def generation() -> int:
    return RuleGeneration.objects.get().number


def answer(caller: ApiClient, alert: Alert, is_anomaly: Any) -> Any:
    return caller.call("PUT", f"alerts/{alert.alert_id}/feedback", {"is_anomaly": is_anomaly})


def test_not_an_anomaly_raises_the_threshold_above_its_gravity(anomaly: Alert):
    give_feedback(anomaly, False, "user:mei")
    assert read_adjustments() == {SERIES: pytest.approx(1.6 * 1.1)}


def test_anomaly_lowers_the_threshold(anomaly: Alert):
    give_feedback(anomaly, True, "user:mei")
    assert read_adjustments()[SERIES] < 1


def test_adjustment_follows_from_all_feedback_of_the_series_in_order(anomaly: Alert):
    give_feedback(anomaly, False, "user:mei")
    second = other_anomaly(anomaly, 5, 3.0)
    give_feedback(second, False, "user:mei")
    assert read_adjustments() == {SERIES: pytest.approx(3.0 * 1.1)}
    withdraw_feedback(second, "user:mei")
    assert read_adjustments() == {SERIES: pytest.approx(1.6 * 1.1)}
    withdraw_feedback(anomaly, "user:mei")
    assert read_adjustments() == {}


def test_adjustments_of_other_series_are_left_out(anomaly: Alert):
    give_feedback(anomaly, False, "user:mei")
    give_feedback(other_anomaly(anomaly, 5, 1.05, series=8), False, "user:mei")
    assert read_adjustments([8]) == {8: pytest.approx(1.25)}


def test_feedback_stays_after_its_alert_is_deleted(anomaly: Alert):
    give_feedback(anomaly, False, "user:mei")
    anomaly.delete()
    assert SERIES in read_adjustments()


def test_feedback_is_in_the_timeline_and_the_audit_log(operator: ApiClient, anomaly: Alert):
    assert answer(operator, anomaly, False).status == 200
    assert operator.call("DELETE", f"alerts/{anomaly.alert_id}/feedback").status == 200
    events = [(event.kind, event.by, event.note) for event in anomaly.events.order_by("pk")]
    assert events[-2:] == [
        ("feedback", "user:operator", "not an anomaly"),
        ("feedback", "user:operator", "withdrawn"),
    ]
    entries = AuditEntry.objects.filter(object_type="anomaly feedback").order_by("pk")
    assert [(entry.action, entry.object_id, entry.actor) for entry in entries] == [
        ("created", anomaly.alert_id, "user:operator"),
        ("deleted", anomaly.alert_id, "user:operator"),
    ]


def test_every_change_of_feedback_makes_evaluators_read_the_rules_again(anomaly: Alert):
    numbers = [generation()]
    for change in (
        lambda: give_feedback(anomaly, False, "user:mei"),
        lambda: give_feedback(anomaly, False, "user:mei"),
        lambda: give_feedback(anomaly, True, "user:mei"),
        lambda: withdraw_feedback(anomaly, "user:mei"),
        lambda: withdraw_feedback(anomaly, "user:mei"),
    ):
        change()
        numbers.append(generation())
    steps = [later - earlier for earlier, later in zip(numbers, numbers[1:], strict=False)]
    assert steps == [1, 0, 1, 1, 0]


def test_alert_has_its_feedback(operator: ApiClient, anomaly: Alert):
    assert operator.get(f"alerts/{anomaly.alert_id}").json["feedback"] is None
    response = answer(operator, anomaly, True).json
    assert response["message"] == f"{anomaly.alert_id} is an anomaly"
    feedback = operator.get(f"alerts/{anomaly.alert_id}").json["feedback"]
    assert (feedback["is_anomaly"], feedback["by"]) == (True, "user:operator")


def test_second_answer_replaces_the_first(operator: ApiClient, anomaly: Alert):
    answer(operator, anomaly, True)
    answer(operator, anomaly, False)
    assert AnomalyFeedback.objects.get().is_anomaly is False


def test_feedback_needs_the_operate_scope(viewer: ApiClient, reader: ApiClient, stranger: ApiClient, anomaly: Alert):
    assert [answer(caller, anomaly, False).status for caller in (viewer, reader)] == [403, 403]
    assert answer(stranger, anomaly, False).status in (403, 404)
    assert not AnomalyFeedback.objects.exists()


def test_alerts_of_other_groups_take_no_feedback(operator: ApiClient, anomaly: Alert):
    hidden = create_alert(
        create_rule(name="Other", kind="anomaly", threshold_value=None),
        create_device("pump", "site b"),
        series=9,
        evidence={"gravity": 2.0},
    )
    assert answer(operator, hidden, False).status == 404
    assert read_adjustments() == {}


def test_alert_of_a_threshold_rule_takes_no_feedback(operator: ApiClient, site: None):
    alert = create_alert(create_rule(), create_device("boiler", "site a"))
    assert not takes_feedback(alert)
    response = answer(operator, alert, False)
    assert response.status == 409 and "was not opened by an anomaly rule" in response.json["detail"]


@pytest.mark.parametrize("value", [None, "no", 1, "", [True]])
def test_answer_other_than_a_boolean_is_rejected_with_its_field(operator: ApiClient, anomaly: Alert, value: Any):
    response = answer(operator, anomaly, value)
    assert response.status in (400, 422)
    assert [error["field"] for error in response.json["errors"]] == ["is_anomaly"]
