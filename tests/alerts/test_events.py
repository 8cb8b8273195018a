"""Events of alerts, alert rules and silences in the outbox."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.db import transaction
from django.utils import timezone

from alerts import alert_actions, silences
from alerts.evaluation.evaluator import Evaluator, _suspend_rule
from alerts.models import Alert, Resolution, Rule
from alerts.rules import lifecycle
from metrics.models import Device, Event
from rest.caller import Caller
from tests.alerts.conftest import run, send
from tests.alerts.factories import NOON, create_alert, create_alerts, create_device, create_rule
from tests.conftest import ApiClient
from tests.metrics.events.recorded import forget_events, recorded_events

ADMIN = Caller.internal("task:tests")
pytestmark = pytest.mark.usefixtures("site")


def _alert_data(alert: Alert, **fields: Any) -> dict[str, Any]:
    """Return the data of every event of an alert of `create_alert` on the device `boiler`."""
    assert alert.rule is not None
    data = {
        "alert_id": alert.alert_id,
        "rule_id": alert.rule.rule_id,
        "rule_name": "Too hot",
        "device_id": "boiler",
        "metric_name": "temperature",
        "level": "warning",
        "status": "active",
        "shadow": False,
        "value": 97.5,
        "worst_value": None,
        "message": "Too hot at boiler",
        "owner_name": "",
        "triggered_at": "2026-01-01T12:00:00Z",
        "by": "evaluator",
        "note": "",
    }
    return data | fields


def test_each_action_on_an_alert_has_an_event_with_the_state_after_it() -> None:
    alert = create_alert(create_rule(), create_device("boiler"))
    found = Alert.objects.filter(pk=alert.pk)
    alert_actions.assign(found, "user:ada", "user:mei")
    alert_actions.acknowledge(found, "user:mei", "on it")
    alert_actions.comment(found, "user:mei", "pump replaced")
    alert_actions.resolve(found, Resolution.PERSON, "user:mei", "done", {alert.pk: NOON + timedelta(minutes=9)})
    mei = {"by": "user:mei", "owner_name": "user:mei", "status": "acknowledged"}
    resolved = {"status": "resolved", "resolution": "person", "resolved_at": "2026-01-01T12:09:00Z", "note": "done"}
    subject = f"alert/{alert.alert_id}"
    assert [event for event in recorded_events("alert.") if event[1] == subject] == [
        ("alert.triggered", subject, _alert_data(alert)),
        ("alert.assigned", subject, _alert_data(alert, owner_name="user:ada", by="user:mei", note="user:ada")),
        ("alert.acknowledged", subject, _alert_data(alert, **mei, note="on it")),
        ("alert.updated", subject, _alert_data(alert, **mei, note="pump replaced", change="commented")),
        ("alert.resolved", subject, _alert_data(alert, **mei | resolved)),
    ]
    assert set(Event.objects.filter(subject=subject).values_list("device_id", "owner_id")) == {("boiler", None)}


def test_action_that_changes_no_alert_has_no_event() -> None:
    alert = create_alert(create_rule(), create_device("boiler"))
    alert_actions.resolve(Alert.objects.all(), Resolution.PERSON, "user:mei")
    forget_events()
    alert_actions.acknowledge(Alert.objects.filter(pk=alert.pk), "user:mei")
    alert_actions.resolve(Alert.objects.filter(pk=alert.pk), Resolution.PERSON, "user:mei")
    assert recorded_events() == []


def test_alerts_that_are_rolled_back_have_no_event() -> None:
    rule, device = create_rule(), create_device("boiler")
    forget_events()
    with pytest.raises(RuntimeError), transaction.atomic():
        create_alerts(rule, device)
        assert [event[0] for event in recorded_events()] == ["alert.triggered"]
        raise RuntimeError
    assert recorded_events() == []


def test_alert_that_was_open_already_has_no_second_event() -> None:
    rule, device = create_rule(), create_device("boiler")
    create_alerts(rule, device)
    create_alerts(rule, device)
    assert len(recorded_events("alert.triggered")) == 1


def test_evaluated_points_have_events_of_the_opened_worsened_and_resolved_alert(
    gateway: ApiClient, evaluator: Evaluator, create_cpu_rule: Callable[..., Rule]
) -> None:
    create_cpu_rule()
    run(evaluator)
    for value in (95.0, 99.0, 97.0, 50.0):
        send(gateway, value)
        run(evaluator)
    events = [event for event in recorded_events("alert.") if event[1].startswith("alert/")]
    assert [(event[0], event[2]["worst_value"], event[2]["by"]) for event in events] == [
        ("alert.triggered", 95.0, "evaluator"),
        ("alert.updated", 99.0, "evaluator"),
        ("alert.resolved", 99.0, "evaluator"),
    ]


def test_alert_of_a_deleted_device_is_resolved_with_an_event_that_names_the_device(
    gateway: ApiClient, evaluator: Evaluator, create_cpu_rule: Callable[..., Rule]
) -> None:
    create_cpu_rule()
    run(evaluator)
    send(gateway, 95.0)
    run(evaluator)
    Device.objects.get(device_id="boiler").delete()
    run(evaluator)
    last_type, _, data = recorded_events()[-1]
    assert (last_type, data["device_id"], data["resolution"]) == ("alert.resolved", "boiler", "device")
    assert Event.objects.order_by("id").last().device_id == "boiler"  # type: ignore[union-attr]


def test_rule_created_changed_suspended_and_deleted_has_events_and_its_alert_is_resolved() -> None:
    rule = create_rule()
    create_alert(rule, create_device("boiler"))
    lifecycle.change(rule, {"level": "critical"}, "user:mei")
    lifecycle.change(rule, {"level": "critical"}, "user:mei")
    _suspend_rule(rule.pk, "division by zero")
    _suspend_rule(rule.pk, "division by zero")
    fields = {
        "rule_id": rule.rule_id,
        "name": "Too hot",
        "mode": "live",
        "enabled": True,
        "level": "warning",
        "metric_name": "temperature",
        "version": 1,
    }
    changed = fields | {"level": "critical", "version": 2}
    lifecycle.delete(Rule.objects.get(), "user:mei")
    subject = f"rule/{rule.rule_id}"
    assert recorded_events("alert.rule.") == [
        ("alert.rule.created", subject, fields),
        ("alert.rule.updated", subject, changed | {"changed": ["level", "version"]}),
        ("alert.rule.updated", subject, changed | {"changed": ["suspended"]}),
        ("alert.rule.deleted", subject, changed),
    ]
    assert [event[0] for event in recorded_events("alert.")][-2:] == ["alert.resolved", "alert.rule.deleted"]


def test_silence_created_and_ended_has_events() -> None:
    now = timezone.now()
    fields = {"device_ids": ["boiler"], "starts_at": now, "ends_at": now + timedelta(hours=1), "reason": "repair"}
    silence = silences.create_silence(fields, ADMIN)
    silences.end_silence(silence, ADMIN)
    (created, ended) = recorded_events("silence.")
    assert created[:2] == ("silence.created", f"silence/{silence.silence_id}")
    assert created[2] == {
        "silence_id": silence.silence_id,
        "kind": "silence",
        "alert_id": "",
        "starts_at": _as_json(now),
        "ends_at": _as_json(now + timedelta(hours=1)),
        "reason": "repair",
    }
    assert ended[0] == "silence.updated" and ended[2]["changed"] == ["ends_at"]
    assert ended[2]["ends_at"] < created[2]["ends_at"]


def _as_json(time: Any) -> str:
    return str(time.isoformat().replace("+00:00", "Z"))
