"""Feedback on the alerts of anomaly rules on the alert page, and the sensitivity in the rule form."""

import pytest
from django.test import Client

from alerts.anomaly_feedback import give_feedback
from alerts.models import Alert, AnomalyFeedback, Rule
from tests.alerts.factories import create_alert, create_device, create_rule
from tests.dashboard.factories import client_of
from tests.dashboard.test_rule_pages import FORM

QUESTION = "Was this an anomaly?"


@pytest.fixture
def anomaly(site: None) -> Alert:
    rule = create_rule(name="Unusual", kind="anomaly", threshold_value=None)
    return create_alert(rule, create_device("boiler", "site a"), series=7, evidence={"gravity": 1.6})


def page(client: Client, alert: Alert) -> str:
    return " ".join(client.get(f"/alerts/{alert.alert_id}/").content.decode().split())


def post(client: Client, alert: Alert, answer: str) -> int:
    return client.post(f"/alerts/{alert.alert_id}/feedback/", {"answer": answer}).status_code


def test_operator_sees_the_question_and_can_withdraw_the_answer(anomaly: Alert):
    ana = client_of("ana", operates=True)
    assert QUESTION in page(ana, anomaly)
    assert post(ana, anomaly, "no") == 302
    shown = page(ana, anomaly)
    assert QUESTION not in shown and "ana: <b>not an anomaly</b>" in shown
    assert "notifies from 1.76 × the usual threshold" in shown and "Feedback by <b>ana</b>" in shown
    assert post(ana, anomaly, "withdraw") == 302
    assert QUESTION in page(ana, anomaly) and not AnomalyFeedback.objects.exists()


def test_viewer_sees_the_answer_and_no_buttons(anomaly: Alert):
    eve = client_of("eve")
    assert QUESTION not in page(eve, anomaly)
    give_feedback(anomaly, True, "user:ana")
    shown = page(eve, anomaly)
    assert "ana: <b>an anomaly</b>" in shown and 'name="answer"' not in shown
    assert post(eve, anomaly, "no") == 403


def test_alert_of_a_threshold_rule_is_not_asked_about(site: None):
    alert = create_alert(create_rule(), create_device("boiler", "site a"))
    ana = client_of("ana", operates=True)
    assert QUESTION not in page(ana, alert)
    assert post(ana, alert, "no") == 400


def test_unknown_answer_is_rejected(anomaly: Alert):
    assert post(client_of("ana", operates=True), anomaly, "maybe") == 400


def test_rule_form_saves_the_sensitivity(admin_client: Client, site: None):
    form = FORM | {"kind": "anomaly", "sensitivity": "keen", "clear_threshold": "", "metric_name": "load"}
    assert admin_client.post("/rules/new/", form).status_code == 302
    rule = Rule.objects.get()
    assert rule.parameters == {"sensitivity": "keen"}
    assert "load is anomalous (keen)" in admin_client.get("/rules/").content.decode()
