"""API of evaluation traces and evaluator metrics."""

from collections.abc import Callable

import pytest

from alerts.evaluation.evaluator import Evaluator
from alerts.models import Alert, Rule
from metrics.storage.read.commit_stream import read_stream_state
from tests.alerts.conftest import run, send
from tests.conftest import ApiClient

RuleFactory = Callable[..., Rule]


@pytest.mark.slow
def test_trace_explains_why_a_rule_did_not_open_an_alert(
    gateway: ApiClient, reader: ApiClient, create_cpu_rule: RuleFactory, evaluator: Evaluator
) -> None:
    rule = create_cpu_rule(trigger_count=3, evaluation_window=60)
    send(gateway, 50.0, 95.0, 96.0, ago=2)
    run(evaluator)
    response = reader.get(f"alerts/rules/{rule.rule_id}/trace?device_id=boiler")
    assert response.status == 200
    assert (response.json["fired"], response.json["alert_id"]) == (False, None)
    assert response.json["verdict"] == "It did not fire: trigger count: 2 of 3 breaches within 60 s."
    assert [point["value"] for point in response.json["values"]] == [50.0, 95.0, 96.0]


@pytest.mark.slow
def test_trace_explains_why_an_alert_was_opened(
    gateway: ApiClient, reader: ApiClient, stranger: ApiClient, create_cpu_rule: RuleFactory, evaluator: Evaluator
) -> None:
    create_cpu_rule()
    send(gateway, 95.0)
    run(evaluator)
    path = f"alerts/{Alert.objects.get().alert_id}/trace"
    response = reader.get(path)
    assert (response.json["fired"], response.json["alert_id"]) == (True, Alert.objects.get().alert_id)
    assert stranger.get(path).status == 404


def test_trace_of_unknown_or_invisible_object_returns_404(
    gateway: ApiClient, reader: ApiClient, stranger: ApiClient, create_cpu_rule: RuleFactory
) -> None:
    rule = create_cpu_rule()
    send(gateway, 95.0)
    assert reader.get("alerts/rules/rule_none/trace?device_id=boiler").status == 404
    assert reader.get(f"alerts/rules/{rule.rule_id}/trace?device_id=nobody").status == 404
    assert stranger.get(f"alerts/rules/{rule.rule_id}/trace?device_id=boiler").status == 404
    assert reader.get(f"alerts/rules/{rule.rule_id}/trace").status == 400


@pytest.mark.slow
def test_evaluator_metrics_have_the_documented_fields(
    gateway: ApiClient, reader: ApiClient, create_cpu_rule: RuleFactory, evaluator: Evaluator
) -> None:
    create_cpu_rule()
    send(gateway, 50.0, 95.0)
    run(evaluator)
    evaluator.report(read_stream_state(evaluator.connection))
    metrics = reader.get("alerts/metrics").json
    assert (metrics["events_processed"], metrics["active_alerts"], metrics["queue_depth"]) == (2, 1, 0)
    assert (metrics["system_status"], metrics["rules"], metrics["pattern_rate"]) == ("healthy", 1, 0)
    assert metrics["processing_latency_ms"] > 0
