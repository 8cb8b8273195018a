"""Repeated notifications, escalation and the end of silences."""

from datetime import datetime, timedelta
from typing import Any

import pytest
from django.utils import timezone

from alerts import alert_actions, silences
from alerts.models import Alert, AlertEvent, EventKind, Notice, Resolution
from alerts.notifications import channel_lifecycle, grouping
from alerts.notifications.escalation import enqueue_due
from alerts.notifications.sender import Sender
from rest.caller import Caller, Scope
from rest.errors import InvalidFields
from tests.alerts.factories import create_alerts, create_devices, create_notifying_rule, create_webhook
from tests.alerts.receivers import WebhookReceiver

ADMIN = Caller("user:admin", Scope.ADMIN)


def create_route(**fields: Any) -> None:
    channel_lifecycle.create_route({"name": "route", "channels": ["hook"]} | fields, "user:admin")


def minutes_ahead(count: float) -> datetime:
    return timezone.now() + timedelta(minutes=count)


def create_silence(**fields: Any) -> Any:
    defaults = {"ends_at": minutes_ahead(60), "reason": "works", "metric_names": ["temperature"]} | fields
    return silences.create_silence(defaults, ADMIN)


def list_events(receiver: WebhookReceiver) -> list[str]:
    return [request.json["event"].removeprefix("alert.") for request in receiver.requests]


def sweep_and_send(now: datetime) -> None:
    """Enqueue due notifications and send them, as the sender does every few seconds."""
    enqueue_due(now)
    enqueue_due(now)  # a repeated call has no effect
    Sender().step(now)


def acknowledge_all() -> None:
    alert_actions.acknowledge(Alert.objects.all(), "user:somebody")


@pytest.mark.slow
def test_notification_repeats_until_the_alert_is_acknowledged(receiver: WebhookReceiver) -> None:
    create_webhook(receiver.url)
    create_route(repeat_minutes=10)
    create_alerts(create_notifying_rule(channels=[]), *create_devices(1))
    for minute in (0.1, 9, 10.5, 15, 21, 25):
        sweep_and_send(minutes_ahead(minute))
    assert list_events(receiver) == ["triggered", "repeated", "repeated"]
    acknowledge_all()
    sweep_and_send(minutes_ahead(60))
    assert len(receiver.requests) == 3


@pytest.mark.slow
def test_escalation_goes_step_by_step_and_stops_on_acknowledgement(receiver: WebhookReceiver) -> None:
    for name in ("hook", "chief", "owner"):
        create_webhook(f"{receiver.url}/{name}", name)
    create_route(escalation=[{"after_minutes": 5, "channels": ["chief"]}, {"after_minutes": 30, "channels": ["owner"]}])
    create_alerts(create_notifying_rule(channels=[]), *create_devices(1))
    for minute in (0.1, 4, 6, 7, 29):
        sweep_and_send(minutes_ahead(minute))
    assert [request.path for request in receiver.requests] == ["/hook/hook", "/hook/chief"]
    assert list_events(receiver) == ["triggered", "escalated"]
    event = AlertEvent.objects.get(kind=EventKind.ESCALATED)
    assert event.note.endswith("step 1: not acknowledged within 5 minutes")
    acknowledge_all()
    assert enqueue_due(minutes_ahead(31)) == 0
    sweep_and_send(minutes_ahead(31))
    assert len(receiver.requests) == 2
    alert_actions.resolve(Alert.objects.all(), Resolution.PERSON, "user:somebody")
    sweep_and_send(minutes_ahead(32))
    assert list_events(receiver)[2:] == ["resolved", "resolved"]


def test_channel_of_two_escalation_steps_is_notified_twice(receiver: WebhookReceiver) -> None:
    create_webhook(receiver.url)
    steps = [{"after_minutes": minutes, "channels": ["hook"]} for minutes in (5, 30)]
    create_route(channels=[], escalation=steps)
    create_alerts(create_notifying_rule(channels=[]), *create_devices(1))
    for minute in (6, 31):
        sweep_and_send(minutes_ahead(minute))
    assert list_events(receiver) == ["escalated", "escalated"]


def test_acknowledged_alert_cancels_waiting_escalations(receiver: WebhookReceiver) -> None:
    create_webhook(receiver.url)
    create_route(channels=[], escalation=[{"after_minutes": 5, "channels": ["hook"]}])
    create_alerts(create_notifying_rule(channels=[]), *create_devices(1))
    assert enqueue_due(minutes_ahead(6)) == 1
    acknowledge_all()
    Sender().step(minutes_ahead(6))
    assert (receiver.requests, Notice.objects.get().status) == ([], "dropped")


def test_route_matches_its_levels_groups_and_times_only(receiver: WebhookReceiver) -> None:
    create_webhook(receiver.url)
    create_webhook(receiver.url, "chief")
    steps = [{"after_minutes": 5, "channels": ["chief"]}]
    other_day = {"days": [(timezone.now() + timedelta(days=3)).weekday()], "from": "10:00", "to": "11:00"}
    create_route(name="levels", levels=["critical"], escalation=steps)
    create_route(name="groups", device_groups=["site a"], escalation=steps)
    create_route(name="times", weekly=other_day, escalation=steps)
    create_alerts(create_notifying_rule(), *create_devices(1, "site b"))
    sweep_and_send(minutes_ahead(6))
    assert list_events(receiver) == ["triggered"]


def test_silenced_alert_is_notified_after_its_silence(receiver: WebhookReceiver) -> None:
    create_webhook(receiver.url)
    create_route(repeat_minutes=10, escalation=[{"after_minutes": 5, "channels": ["hook"]}])
    silence = create_silence()
    (alert,) = create_alerts(create_notifying_rule(), *create_devices(1))
    sweep_and_send(minutes_ahead(20))
    notice = Notice.objects.get()
    assert (notice.status, notice.reason) == ("silenced", f"{silence.silence_id}: works")
    assert AlertEvent.objects.get(kind=EventKind.SILENCED).note == notice.reason
    sweep_and_send(minutes_ahead(61))
    assert sorted(list_events(receiver)) == ["escalated", "unsilenced"]
    assert receiver.requests[0].json["alert_id"] == alert.alert_id


def test_resolved_or_acknowledged_alert_is_not_notified_after_a_silence(receiver: WebhookReceiver) -> None:
    create_webhook(receiver.url)
    create_silence()
    first, second = create_devices(2)
    rule = create_notifying_rule()
    create_alerts(rule, first)
    create_alerts(rule, second)
    alert_actions.resolve(Alert.objects.filter(device=first), Resolution.RECOVERED, "evaluator")
    alert_actions.acknowledge(Alert.objects.filter(device=second), "user:somebody")
    sweep_and_send(minutes_ahead(61))
    assert receiver.requests == []


def test_resolve_is_notified_during_a_silence(receiver: WebhookReceiver) -> None:
    create_webhook(receiver.url)
    create_alerts(create_notifying_rule(), *create_devices(1))
    Sender().step(timezone.now())
    create_silence()
    alert_actions.resolve(Alert.objects.all(), Resolution.RECOVERED, "evaluator")
    Sender().step(timezone.now())
    assert list_events(receiver) == ["triggered", "resolved"]


def test_new_silence_covers_waiting_notifications(receiver: WebhookReceiver) -> None:
    create_webhook(receiver.url)
    create_alerts(create_notifying_rule(kind="absence", threshold_value=None), *create_devices(1))
    create_silence()
    Sender().step(minutes_ahead(1))
    assert (receiver.requests, Notice.objects.get().status) == ([], "silenced")
    assert AlertEvent.objects.filter(kind=EventKind.SILENCED).count() == 1
    sweep_and_send(minutes_ahead(61))
    assert list_events(receiver) == ["unsilenced"]


def test_silence_of_one_alert_covers_no_later_alert(receiver: WebhookReceiver) -> None:
    create_webhook(receiver.url)
    rule, (device,) = create_notifying_rule(), create_devices(1)
    (alert,) = create_alerts(rule, device)
    silences.create_silence({"ends_at": minutes_ahead(60), "reason": "known", "alert_id": alert.alert_id}, ADMIN)
    Sender().step(timezone.now())
    alert_actions.resolve(Alert.objects.all(), Resolution.PERSON, "user:somebody")
    create_alerts(rule, device)
    Sender().step(timezone.now())
    assert list_events(receiver) == ["triggered"]


def test_resolve_is_never_notified_before_the_trigger(receiver: WebhookReceiver) -> None:
    create_webhook(receiver.url)
    receiver.reply = lambda request: (503 if len(receiver.requests) == 1 else 200, {}, b"")
    create_alerts(create_notifying_rule(), *create_devices(1))
    Sender().step(timezone.now())
    alert_actions.resolve(Alert.objects.all(), Resolution.RECOVERED, "evaluator")
    assert grouping.create_deliveries(timezone.now()) == 0
    Sender().step(minutes_ahead(1))
    Sender().step(minutes_ahead(1))
    assert list_events(receiver) == ["triggered", "triggered", "resolved"]


@pytest.mark.parametrize(
    ("fields", "invalid_fields"),
    [
        ({"channels": []}, ["channels"]),
        ({"repeat_minutes": 0}, ["repeat_minutes"]),
        ({"levels": ["bad"]}, ["levels"]),
        ({"weekly": {}}, ["weekly"]),
        ({"escalation": [{"after_minutes": 5}]}, ["escalation"]),
        ({"escalation": [{"after_minutes": 5, "channels": []}]}, ["escalation"]),
        ({"escalation": [{"after_minutes": True, "channels": ["x"]}]}, ["escalation"]),
    ],
    ids=str,
)
def test_invalid_route_is_rejected_with_the_field(
    site: None, fields: dict[str, Any], invalid_fields: list[str]
) -> None:
    with pytest.raises(InvalidFields) as raised:
        create_route(**fields)
    assert [field for field, _ in raised.value.fields] == invalid_fields
