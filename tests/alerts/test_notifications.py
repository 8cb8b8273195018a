"""Notifications from the alert to a webhook receiver over HTTP."""

import threading
import time
from datetime import timedelta

import pytest
from django.db import connection
from django.utils import timezone

from alerts import alert_actions
from alerts.models import (
    Alert,
    AlertEvent,
    Delivery,
    DeliveryStatus,
    EventKind,
    Incident,
    Notice,
    NoticeStatus,
    Resolution,
    Route,
)
from alerts.models.alerts import AlertQuerySet
from alerts.notifications import channel_lifecycle, grouping, incidents, retry_queue
from alerts.notifications.sender import Sender
from metrics.storage.connection import close_pools
from tests.alerts.factories import build_alert, create_alerts, create_devices, create_notifying_rule, create_webhook
from tests.alerts.receivers import ReceivedRequest, Reply, WebhookReceiver, run_receiver


def send_due() -> int:
    return Sender().step(timezone.now())


def all_alerts() -> AlertQuerySet:
    return Alert.objects.all()


def notice_statuses() -> list[str]:
    return list(Notice.objects.order_by("id").values_list("status", flat=True))


def test_alert_is_delivered_signed_and_added_to_its_timeline(receiver: WebhookReceiver) -> None:
    create_webhook(receiver.url, secret="sesame")
    (alert,) = create_alerts(create_notifying_rule(description="x", runbook_url="https://y"), *create_devices(1))
    assert send_due() == 1
    (request,) = receiver.requests
    payload = request.json
    delivery = Delivery.objects.get()
    assert payload["event"] == "alert.triggered"
    assert payload["delivery_id"] == request.headers["Idempotency-Key"] == delivery.delivery_id
    assert (payload["alert_id"], payload["device_id"], payload["value"]) == (alert.alert_id, "device_0000", 97.5)
    assert (payload["level"], payload["severity"], payload["count"], payload["incident"]) == (
        "warning",
        "warning",
        1,
        None,
    )
    assert payload["alerts"][0]["threshold_value"] == 80
    assert request.headers["X-Telemetry-Signature"].startswith("t=")
    assert (delivery.status, delivery.answer_status, delivery.answer) == ("sent", 200, "ok")
    assert notice_statuses() == ["sent"]
    assert AlertEvent.objects.filter(kind=EventKind.NOTIFIED, note="hook").count() == 1
    assert send_due() == 0


def test_resolution_is_sent_to_channels_notified_of_the_alert(receiver: WebhookReceiver) -> None:
    create_webhook(receiver.url)
    create_webhook(receiver.url, "quiet", send_resolved=False)
    create_alerts(create_notifying_rule(channels=["hook", "quiet"]), *create_devices(1))
    send_due()
    alert_actions.resolve(all_alerts(), Resolution.RECOVERED, "evaluator")
    send_due()
    events = [request.json["event"] for request in receiver.requests]
    assert events == ["alert.triggered", "alert.triggered", "alert.resolved"]
    assert receiver.requests[-1].json["resolution"] == "recovered"


def test_alert_resolved_before_sending_is_sent_as_opened_then_resolved(receiver: WebhookReceiver) -> None:
    create_webhook(receiver.url)
    create_alerts(create_notifying_rule(), *create_devices(1))
    alert_actions.resolve(all_alerts(), Resolution.RECOVERED, "evaluator")
    send_due()
    send_due()
    assert [request.json["event"] for request in receiver.requests] == ["alert.triggered", "alert.resolved"]


def test_alert_resolved_while_gathering_is_dropped(receiver: WebhookReceiver) -> None:
    create_webhook(receiver.url, gather_seconds=60)
    create_alerts(create_notifying_rule(), *create_devices(1))
    alert_actions.resolve(all_alerts(), Resolution.RECOVERED, "evaluator")
    assert send_due() == 0
    assert notice_statuses() == [NoticeStatus.DROPPED]


def test_shadow_and_retroactive_alerts_have_no_notices(receiver: WebhookReceiver) -> None:
    create_webhook(receiver.url)
    first, second = create_devices(2)
    rule = create_notifying_rule()
    alert_actions.open_alerts([build_alert(rule, first, shadow=True), build_alert(rule, second, retroactive=True)])
    alert_actions.resolve(all_alerts(), Resolution.RECOVERED, "evaluator")
    assert not Notice.objects.exists()


def test_notices_of_missing_and_disabled_channels_are_not_sent(receiver: WebhookReceiver) -> None:
    create_webhook(receiver.url, enabled=False)
    create_alerts(create_notifying_rule(channels=["slack", "hook", "slack"]), *create_devices(1))
    assert send_due() == 0
    notices = Notice.objects.order_by("id").values_list("channel_name", "status", "reason")
    assert list(notices) == [
        ("slack", "unconfigured", "the channel does not exist"),
        ("hook", "dropped", "the channel is disabled"),
    ]


def test_routes_add_channels_by_level_and_group_without_duplicates(receiver: WebhookReceiver) -> None:
    create_webhook(receiver.url)
    create_webhook(receiver.url, "night")
    channel_lifecycle.create_route({"name": "bad", "levels": ["critical"], "channels": ["hook", "night"]}, "user:admin")
    channel_lifecycle.create_route({"name": "a", "device_groups": ["site a"], "channels": ["night"]}, "user:admin")
    inside = create_devices(1, "site a")
    outside = create_devices(2, prefix="other")
    create_alerts(create_notifying_rule(), *inside, outside[0])
    create_alerts(create_notifying_rule("worse", level="critical"), outside[1])
    notices = Notice.objects.order_by("id").values_list("alert__device_name", "channel_name")
    assert list(notices) == [
        ("device_0000", "hook"),
        ("device_0000", "night"),
        ("other_0000", "hook"),
        ("other_0001", "hook"),
        ("other_0001", "night"),
    ]


@pytest.mark.slow
def test_5000_alerts_are_one_delivery_within_two_seconds(receiver: WebhookReceiver) -> None:
    create_webhook(receiver.url)
    rule = create_notifying_rule()
    create_alerts(rule, *create_devices(5000, "site a"))
    started = time.process_time()  # CPU time: other processes of this machine do not count
    assert send_due() == 1
    seconds = time.process_time() - started
    (request,) = receiver.requests
    assert request.json["title"] == "[WARNING] 5000 devices of site a: too hot"
    assert request.json["count"] == len(request.json["alerts"]) == 5000
    assert request.json["incident"]["cause"] == "group:site a"
    assert Incident.objects.get().title == "5000 devices of site a: too hot"
    assert AlertEvent.objects.filter(kind=EventKind.NOTIFIED).count() == 5000
    assert seconds < 2, seconds


@pytest.mark.slow
def test_fifth_alert_opens_an_incident_that_later_alerts_join(receiver: WebhookReceiver) -> None:
    create_webhook(receiver.url)
    rule = create_notifying_rule()
    for device in create_devices(7, "site a"):
        create_alerts(rule, device)
    (incident,) = Incident.objects.all()
    assert incident.title == "7 devices of site a: too hot"
    assert incident.alerts.count() == 7
    assert AlertEvent.objects.filter(kind=EventKind.JOINED).count() == 7
    assert send_due() == 1


def test_flapping_alert_does_not_rename_its_incident(
    receiver: WebhookReceiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    rule, [flapping, *others] = create_notifying_rule(), create_devices(7, "site a")
    create_alerts(rule, flapping, *others[:5])
    with monkeypatch.context() as patch:
        patch.setattr(incidents, "describe_incident", None)
        for _ in range(3):
            alert_actions.resolve(Alert.objects.filter(device=flapping), Resolution.RECOVERED, alert_actions.EVALUATOR)
            create_alerts(rule, flapping)
    (incident,) = Incident.objects.all()
    assert (incident.alerts.count(), incident.title) == (9, "6 devices of site a: too hot")
    create_alerts(rule, others[5])
    incident.refresh_from_db()
    assert incident.title == "7 devices of site a: too hot"


def test_incident_cause_is_the_group_that_fails_completely(receiver: WebhookReceiver) -> None:
    create_webhook(receiver.url)
    rule = create_notifying_rule()
    site_a, other_devices = create_devices(6, "site a"), create_devices(40, prefix="other")
    from metrics.models import DeviceGroup

    DeviceGroup.objects.create(name="all").devices.add(*site_a, *other_devices)
    create_alerts(rule, *site_a)
    assert Incident.objects.get().cause == "group:site a"


def test_incident_cause_without_group_is_gateway_or_rule(receiver: WebhookReceiver) -> None:
    create_webhook(receiver.url)
    tagged = create_devices(5, prefix="tagged")
    for device in tagged:
        device.tags = {"gateway": "gw 1"}
        device.save()
    create_alerts(create_notifying_rule(), *tagged)
    create_alerts(create_notifying_rule("too cold"), *create_devices(5))
    titles = list(Incident.objects.order_by("id").values_list("title", flat=True))
    assert titles == ["5 devices of gw 1: too hot", "5 devices: too cold"]


def test_three_alerts_of_one_group_are_one_message_and_others_separate(receiver: WebhookReceiver) -> None:
    create_webhook(receiver.url)
    first, second = create_notifying_rule(), create_notifying_rule("too wet")
    create_alerts(first, *create_devices(3, "site a"))
    create_alerts(second, *create_devices(2, prefix="other"))
    assert send_due() == 3
    assert sorted(request.json["count"] for request in receiver.requests) == [1, 1, 3]
    assert not Incident.objects.exists()


def test_gathering_channel_sends_first_alert_then_the_rest_in_one_message(receiver: WebhookReceiver) -> None:
    create_webhook(receiver.url, gather_seconds=60)
    rules = [create_notifying_rule(name) for name in ("one", "two", "three")]
    (device,) = create_devices(1)
    now = timezone.now()
    sender = Sender()
    for rule in rules:
        create_alerts(rule, device)
        sender.step(timezone.now())
    assert len(receiver.requests) == 1
    assert sender.step(now + timedelta(seconds=50)) == 0
    assert sender.step(now + timedelta(seconds=70)) == 1
    assert receiver.requests[-1].json["count"] == 2


def test_absence_alerts_are_delayed_and_grouped(receiver: WebhookReceiver) -> None:
    create_webhook(receiver.url)
    rule = create_notifying_rule("silent", kind="absence", threshold_value=None)
    now = timezone.now()
    devices = create_devices(6, "site a")
    create_alerts(rule, *devices[:3])
    assert Sender().step(now + timedelta(seconds=1)) == 0
    create_alerts(rule, *devices[3:])
    assert Sender().step(Notice.objects.earliest("due_at").due_at) == 1
    assert receiver.requests[0].json["title"] == "[WARNING] 6 devices of site a: no data"


def test_failed_delivery_is_retried_with_the_same_key_until_sent(receiver: WebhookReceiver) -> None:
    create_webhook(receiver.url)
    receiver.reply = lambda request: (503, {}, b"busy" * 1000) if len(receiver.requests) < 3 else (200, {}, b"")
    create_alerts(create_notifying_rule(), *create_devices(1))
    now = timezone.now()
    sender = Sender()
    assert [sender.step(now + timedelta(seconds=seconds)) for seconds in (0, 4, 6, 10, 22, 60)] == [1, 0, 1, 0, 1, 0]
    assert len(set(receiver.keys)) == 1
    assert len({request.body for request in receiver.requests}) == 1
    assert Delivery.objects.get().attempts == 3


def test_delivery_fails_after_ten_attempts_with_timeline_event(receiver: WebhookReceiver) -> None:
    create_webhook(receiver.url)
    receiver.reply = lambda request: (500, {}, b"x" * 2000)
    create_alerts(create_notifying_rule(), *create_devices(1))
    now = timezone.now()
    sender = Sender()
    assert sum(sender.step(now + timedelta(minutes=16 * number)) for number in range(12)) == 10
    delivery = Delivery.objects.get()
    assert (delivery.status, delivery.answer_status, len(delivery.answer)) == ("failed", 500, 1000)
    assert notice_statuses() == ["failed"]
    assert AlertEvent.objects.get(kind=EventKind.FAILED).details["error"] == "HTTP 500"
    alert_actions.resolve(all_alerts(), Resolution.RECOVERED, "evaluator")
    assert sender.step(now + timedelta(days=1)) == 0  # the channel never received the alert


def test_resolution_is_dropped_if_the_opening_was_not_delivered(receiver: WebhookReceiver) -> None:
    create_webhook(receiver.url)
    receiver.reply = lambda request: (400, {}, b"no")
    create_alerts(create_notifying_rule(), *create_devices(1))
    grouping.create_deliveries(timezone.now())
    alert_actions.resolve(all_alerts(), Resolution.RECOVERED, "evaluator")
    assert [send_due(), send_due()] == [1, 0]
    assert notice_statuses() == ["failed", "dropped"]


@pytest.mark.parametrize(
    ("status", "headers", "retry_after"),
    [(400, {}, None), (404, {}, None), (410, {}, None), (408, {}, 6), (425, {}, 6), (429, {"Retry-After": "40"}, 41)],
    ids=str,
)
def test_4xx_fails_except_408_425_and_429(
    receiver: WebhookReceiver, status: int, headers: dict[str, str], retry_after: float | None
) -> None:
    create_webhook(receiver.url)
    receiver.reply = lambda request: (status, headers, b"no")
    create_alerts(create_notifying_rule(), *create_devices(1))
    now = timezone.now()
    send_due()
    delivery = Delivery.objects.get()
    if retry_after is None:
        assert delivery.status == DeliveryStatus.FAILED
        return
    assert delivery.status == DeliveryStatus.WAITING
    assert now + timedelta(seconds=retry_after - 1.5) < delivery.due_at < now + timedelta(seconds=retry_after + 2)


def test_unrecorded_delivery_is_sent_again_after_its_lease_with_the_same_key(
    receiver: WebhookReceiver,
) -> None:
    create_webhook(receiver.url)
    create_alerts(create_notifying_rule(), *create_devices(1))
    now = timezone.now()
    grouping.create_deliveries(now)
    (claimed,) = retry_queue.claim_deliveries(now, 8)
    from alerts.notifications.sender import send

    send(claimed)  # the sender dies before it records the attempt
    other_sender = Sender()
    assert other_sender.step(now + timedelta(seconds=29)) == 0
    assert other_sender.step(now + timedelta(seconds=31)) == 1
    assert receiver.keys == [claimed.delivery_id] * 2
    assert notice_statuses() == ["sent"]


def test_late_success_is_recorded_and_late_failure_is_not(receiver: WebhookReceiver) -> None:
    create_webhook(receiver.url)
    create_alerts(create_notifying_rule(), *create_devices(1))
    now = timezone.now()
    grouping.create_deliveries(now)
    (first_claim,) = retry_queue.claim_deliveries(now, 8)
    (second_claim,) = retry_queue.claim_deliveries(now + timedelta(seconds=31), 8)
    retry_queue.record_attempts([(first_claim, retry_queue.SendFailed("late", retry=False))], now)
    assert Delivery.objects.get().status == DeliveryStatus.SENDING
    retry_queue.record_attempts([(first_claim, retry_queue.SendReceipt(200))], now)
    retry_queue.record_attempts([(second_claim, retry_queue.SendReceipt(200))], now)
    assert Delivery.objects.get().status == DeliveryStatus.SENT
    assert AlertEvent.objects.filter(kind=EventKind.NOTIFIED).count() == 1


@pytest.mark.slow
def test_concurrent_senders_send_each_delivery_once(receiver: WebhookReceiver) -> None:
    create_webhook(receiver.url)
    create_webhook(receiver.url, "second")
    (device,) = create_devices(1)
    for number in range(30):
        create_alerts(
            create_notifying_rule(f"rule {number}", channels=["hook", "second"], metric_name=f"metric {number}"), device
        )
        if number % 2 == 0:  # too old to join an incident
            Alert.objects.update(raised_at=timezone.now() - timedelta(minutes=5))
    stopping = threading.Event()
    threads = [threading.Thread(target=Sender().run, args=(stopping, threading.Event())) for _ in range(3)]
    for thread in threads:
        thread.start()
    deadline = time.monotonic() + 20
    while Delivery.objects.exclude(status="sent").exists() or "waiting" in notice_statuses():
        assert time.monotonic() < deadline
        time.sleep(0.05)
    stopping.set()
    for thread in threads:
        thread.join(10)
    assert len(receiver.keys) == len(set(receiver.keys)) == Delivery.objects.count()
    assert sum(request.json["count"] for request in receiver.requests) == 60


@pytest.mark.slow
def test_slow_channel_does_not_delay_others(receiver: WebhookReceiver) -> None:
    create_webhook(receiver.url)
    released = threading.Event()

    def reply_slowly(request: ReceivedRequest) -> Reply:
        released.wait(10)
        return 200, {}, b""

    with run_receiver(reply_slowly) as stuck:
        create_webhook(stuck.url, "stuck")
        (device,) = create_devices(1)
        stopping, wake = threading.Event(), threading.Event()
        thread = threading.Thread(target=Sender().run, args=(stopping, wake))
        thread.start()
        for number in range(4):
            rule = create_notifying_rule(f"rule {number}", ["stuck", "hook"], metric_name=f"metric {number}")
            create_alerts(rule, device)
            wake.set()
            deadline = time.monotonic() + 5
            while len(receiver.requests) <= number:
                assert time.monotonic() < deadline
                time.sleep(0.01)
        assert len(stuck.requests) == 2  # the limit per channel
        released.set()
        deadline = time.monotonic() + 5
        while Delivery.objects.filter(status="sent").count() < 8:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        stopping.set()
        wake.set()
        thread.join(10)


@pytest.mark.slow
def test_sender_recovers_from_a_lost_database_connection(receiver: WebhookReceiver) -> None:
    create_webhook(receiver.url)
    (device,) = create_devices(1)
    stopping, wake = threading.Event(), threading.Event()
    thread = threading.Thread(target=Sender().run, args=(stopping, wake))
    thread.start()
    time.sleep(0.3)
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid()"
            " AND datname = current_database() AND backend_type = 'client backend'"
        )
    create_alerts(create_notifying_rule(), device)
    deadline = time.monotonic() + 10
    while not receiver.requests:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    stopping.set()
    thread.join(10)
    close_pools()  # later tests must not get the lost connections
    assert notice_statuses() == ["sent"]


@pytest.mark.slow
def test_invalid_stored_route_does_not_stop_the_sender(receiver: WebhookReceiver) -> None:
    create_webhook(receiver.url)
    Route.objects.create(name="broken", escalation=[{"after": "ten"}])
    stopping, wake = threading.Event(), threading.Event()
    thread = threading.Thread(target=Sender().run, args=(stopping, wake))
    thread.start()
    create_alerts(create_notifying_rule(), *create_devices(1))
    deadline = time.monotonic() + 10
    while not receiver.requests:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    stopping.set()
    wake.set()
    thread.join(10)


def test_deleting_a_channel_keeps_deliveries_and_fails_pending_ones(receiver: WebhookReceiver) -> None:
    channel = create_webhook(receiver.url)
    rule = create_notifying_rule()
    first, second, third = create_devices(3)
    create_alerts(rule, first)
    send_due()
    create_alerts(rule, second)
    grouping.create_deliveries(timezone.now())
    create_alerts(rule, third)
    channel_lifecycle.delete_channel(channel)
    assert [send_due(), send_due()] == [1, 0]
    assert list(Delivery.objects.order_by("id").values_list("status", "channel_name", "channel")) == [
        ("sent", "hook", None),
        ("failed", "hook", None),
    ]
    assert notice_statuses() == ["sent", "failed", "unconfigured"]
    assert Delivery.objects.latest("id").error == "the channel was deleted"
    assert len(receiver.requests) == 1


def test_test_message_returns_its_result(receiver: WebhookReceiver) -> None:
    channel = create_webhook(receiver.url)
    delivery = channel_lifecycle.send_test(channel, "user:admin")
    assert (delivery.status, delivery.test, delivery.answer_status) == ("sent", True, 200)
    assert receiver.requests[0].json["event"] == "test"
    receiver.reply = lambda request: (500, {}, b"broken")
    delivery = channel_lifecycle.send_test(channel, "user:admin")
    assert (delivery.status, delivery.error, delivery.answer) == ("failed", "HTTP 500", "broken")
    assert send_due() == 0
