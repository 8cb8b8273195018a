"""From an alert to whoever is told of it, over real HTTP."""

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
from tests.alerts.factories import build_alert, create_alerts, create_devices, create_notifying_rule, create_webhook
from tests.alerts.receivers import ReceivedRequest, Reply, WebhookReceiver, run_receiver


def step() -> int:
    return Sender().step(timezone.now())


def everything() -> AlertQuerySet:
    return Alert.objects.all()


def statuses() -> list[str]:
    return list(Notice.objects.order_by("id").values_list("status", flat=True))


def test_an_alert_arrives_whole_and_signed_and_stands_in_its_timeline(receiver: WebhookReceiver) -> None:
    create_webhook(receiver.url, secret="sesame")
    (made,) = create_alerts(create_notifying_rule(description="x", runbook_url="https://y"), *create_devices(1))
    assert step() == 1
    (heard,) = receiver.requests
    told = heard.json
    delivery = Delivery.objects.get()
    assert told["event"] == "alert.triggered"
    assert told["delivery_id"] == heard.headers["Idempotency-Key"] == delivery.delivery_id
    assert (told["alert_id"], told["device_id"], told["value"]) == (made.alert_id, "device_0000", 97.5)
    assert (told["level"], told["severity"], told["count"], told["incident"]) == ("warning", "warning", 1, None)
    assert told["alerts"][0]["threshold_value"] == 80
    assert heard.headers["X-Telemetry-Signature"].startswith("t=")
    assert (delivery.status, delivery.answer_status, delivery.answer) == ("sent", 200, "ok")
    assert statuses() == ["sent"]
    assert AlertEvent.objects.filter(kind=EventKind.NOTIFIED, note="hook").count() == 1
    assert step() == 0


def test_what_is_over_is_told_to_whoever_was_told_of_it(receiver: WebhookReceiver) -> None:
    create_webhook(receiver.url)
    create_webhook(receiver.url, "quiet", send_resolved=False)
    create_alerts(create_notifying_rule(channels=["hook", "quiet"]), *create_devices(1))
    step()
    alert_actions.resolve(everything(), Resolution.RECOVERED, "evaluator")
    step()
    told = [one.json["event"] for one in receiver.requests]
    assert told == ["alert.triggered", "alert.triggered", "alert.resolved"]
    assert receiver.requests[-1].json["resolution"] == "recovered"


def test_an_alert_that_was_over_at_once_is_told_all_the_same_and_first_that_it_began(receiver: WebhookReceiver) -> None:
    create_webhook(receiver.url)
    create_alerts(create_notifying_rule(), *create_devices(1))
    alert_actions.resolve(everything(), Resolution.RECOVERED, "evaluator")
    step()
    step()
    assert [one.json["event"] for one in receiver.requests] == ["alert.triggered", "alert.resolved"]


def test_an_alert_that_was_over_while_it_was_held_back_is_told_to_nobody(receiver: WebhookReceiver) -> None:
    create_webhook(receiver.url, gather_seconds=60)
    create_alerts(create_notifying_rule(), *create_devices(1))
    alert_actions.resolve(everything(), Resolution.RECOVERED, "evaluator")
    assert step() == 0
    assert statuses() == [NoticeStatus.DROPPED]


def test_shadow_and_retroactive_alerts_tell_nobody(receiver: WebhookReceiver) -> None:
    create_webhook(receiver.url)
    first, second = create_devices(2)
    found = create_notifying_rule()
    alert_actions.open_alerts([build_alert(found, first, shadow=True), build_alert(found, second, retroactive=True)])
    alert_actions.resolve(everything(), Resolution.RECOVERED, "evaluator")
    assert not Notice.objects.exists()


def test_a_channel_that_nobody_made_and_one_that_is_off_are_written_down_as_such(receiver: WebhookReceiver) -> None:
    create_webhook(receiver.url, enabled=False)
    create_alerts(create_notifying_rule(channels=["slack", "hook", "slack"]), *create_devices(1))
    assert step() == 0
    found = Notice.objects.order_by("id").values_list("channel_name", "status", "reason")
    assert list(found) == [
        ("slack", "unconfigured", "the channel does not exist"),
        ("hook", "dropped", "the channel is disabled"),
    ]


def test_routes_add_channels_once_by_level_and_group(receiver: WebhookReceiver) -> None:
    create_webhook(receiver.url)
    create_webhook(receiver.url, "night")
    channel_lifecycle.create_route({"name": "bad", "levels": ["critical"], "channels": ["hook", "night"]}, "user:admin")
    channel_lifecycle.create_route({"name": "a", "device_groups": ["site a"], "channels": ["night"]}, "user:admin")
    inside = create_devices(1, "site a")
    outside = create_devices(2, prefix="other")
    create_alerts(create_notifying_rule(), *inside, outside[0])
    create_alerts(create_notifying_rule("worse", level="critical"), outside[1])
    told = Notice.objects.order_by("id").values_list("alert__device_name", "channel_name")
    assert list(told) == [
        ("device_0000", "hook"),
        ("device_0000", "night"),
        ("other_0000", "hook"),
        ("other_0001", "hook"),
        ("other_0001", "night"),
    ]


def test_a_storm_of_5000_is_one_delivery_for_less_than_two_seconds_of_work(receiver: WebhookReceiver) -> None:
    create_webhook(receiver.url)
    found = create_notifying_rule()
    create_alerts(found, *create_devices(5000, "site a"))
    begun = time.process_time()  # what else this machine does is not the sender's
    assert step() == 1
    took = time.process_time() - begun
    (heard,) = receiver.requests
    assert heard.json["title"] == "[WARNING] 5000 devices of site a: too hot"
    assert heard.json["count"] == len(heard.json["alerts"]) == 5000
    assert heard.json["incident"]["cause"] == "group:site a"
    assert Incident.objects.get().title == "5000 devices of site a: too hot"
    assert AlertEvent.objects.filter(kind=EventKind.NOTIFIED).count() == 5000
    assert took < 2, took


def test_alerts_that_come_one_by_one_join_the_incident_that_the_fifth_began(receiver: WebhookReceiver) -> None:
    create_webhook(receiver.url)
    found = create_notifying_rule()
    for device in create_devices(7, "site a"):
        create_alerts(found, device)
    (incident,) = Incident.objects.all()
    assert incident.title == "7 devices of site a: too hot"
    assert incident.alerts.count() == 7
    assert AlertEvent.objects.filter(kind=EventKind.JOINED).count() == 7
    assert step() == 1


def test_what_flaps_in_an_incident_does_not_call_it_anew(
    receiver: WebhookReceiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    found, [flapping, *others] = create_notifying_rule(), create_devices(7, "site a")
    create_alerts(found, flapping, *others[:5])
    with monkeypatch.context() as patched:
        patched.setattr(incidents, "_rebuild_title", None)
        for _ in range(3):
            alert_actions.resolve(Alert.objects.filter(device=flapping), Resolution.RECOVERED, alert_actions.EVALUATOR)
            create_alerts(found, flapping)
    (incident,) = Incident.objects.all()
    assert (incident.alerts.count(), incident.title) == (9, "6 devices of site a: too hot")
    create_alerts(found, others[5])
    incident.refresh_from_db()
    assert incident.title == "7 devices of site a: too hot"


def test_what_fails_whole_is_the_cause_and_not_the_group_of_everything(receiver: WebhookReceiver) -> None:
    create_webhook(receiver.url)
    found = create_notifying_rule()
    site_a, rest = create_devices(6, "site a"), create_devices(40, prefix="other")
    from metrics.models import DeviceGroup

    DeviceGroup.objects.create(name="all").devices.add(*site_a, *rest)
    create_alerts(found, *site_a)
    assert Incident.objects.get().cause == "group:site a"


def test_devices_without_a_group_share_a_gateway_or_else_the_rule(receiver: WebhookReceiver) -> None:
    create_webhook(receiver.url)
    tagged = create_devices(5, prefix="tagged")
    for device in tagged:
        device.tags = {"gateway": "gw 1"}
        device.save()
    create_alerts(create_notifying_rule(), *tagged)
    create_alerts(create_notifying_rule("too cold"), *create_devices(5))
    titles = list(Incident.objects.order_by("id").values_list("title", flat=True))
    assert titles == ["5 devices of gw 1: too hot", "5 devices: too cold"]


def test_three_of_one_group_go_together_and_strangers_apart(receiver: WebhookReceiver) -> None:
    create_webhook(receiver.url)
    first, second = create_notifying_rule(), create_notifying_rule("too wet")
    create_alerts(first, *create_devices(3, "site a"))
    create_alerts(second, *create_devices(2, prefix="other"))
    assert step() == 3
    assert sorted(one.json["count"] for one in receiver.requests) == [1, 1, 3]
    assert not Incident.objects.exists()


def test_a_channel_that_gathers_sends_one_message_and_then_all_others_together(receiver: WebhookReceiver) -> None:
    create_webhook(receiver.url, gather_seconds=60)
    found = [create_notifying_rule(name) for name in ("one", "two", "three")]
    (device,) = create_devices(1)
    now = timezone.now()
    sender = Sender()
    for each in found:
        create_alerts(each, device)
        sender.step(timezone.now())
    assert len(receiver.requests) == 1
    assert sender.step(now + timedelta(seconds=50)) == 0
    assert sender.step(now + timedelta(seconds=70)) == 1
    assert receiver.requests[-1].json["count"] == 2


def test_silent_devices_wait_for_each_other_and_go_together(receiver: WebhookReceiver) -> None:
    create_webhook(receiver.url)
    absent = create_notifying_rule("silent", kind="absence", threshold_value=None)
    now = timezone.now()
    among = create_devices(6, "site a")
    create_alerts(absent, *among[:3])
    assert Sender().step(now + timedelta(seconds=1)) == 0
    create_alerts(absent, *among[3:])
    assert Sender().step(Notice.objects.earliest("due_at").due_at) == 1
    assert receiver.requests[0].json["title"] == "[WARNING] 6 devices of site a: no data"


def test_what_fails_is_tried_again_later_under_the_same_key_until_it_arrives(receiver: WebhookReceiver) -> None:
    create_webhook(receiver.url)
    receiver.reply = lambda request: (503, {}, b"busy" * 1000) if len(receiver.requests) < 3 else (200, {}, b"")
    create_alerts(create_notifying_rule(), *create_devices(1))
    now = timezone.now()
    sender = Sender()
    assert [sender.step(now + timedelta(seconds=after)) for after in (0, 4, 6, 10, 22, 60)] == [1, 0, 1, 0, 1, 0]
    assert len(set(receiver.keys)) == 1
    assert len({one.body for one in receiver.requests}) == 1
    assert Delivery.objects.get().attempts == 3


def test_after_ten_attempts_it_has_failed_and_the_alert_says_so(receiver: WebhookReceiver) -> None:
    create_webhook(receiver.url)
    receiver.reply = lambda request: (500, {}, b"x" * 2000)
    create_alerts(create_notifying_rule(), *create_devices(1))
    now = timezone.now()
    sender = Sender()
    assert sum(sender.step(now + timedelta(minutes=16 * n)) for n in range(12)) == 10
    delivery = Delivery.objects.get()
    assert (delivery.status, delivery.answer_status, len(delivery.answer)) == ("failed", 500, 1000)
    assert statuses() == ["failed"]
    assert AlertEvent.objects.get(kind=EventKind.FAILED).details["error"] == "HTTP 500"
    alert_actions.resolve(everything(), Resolution.RECOVERED, "evaluator")
    assert sender.step(now + timedelta(days=1)) == 0  # nobody heard that it fired


def test_nobody_is_told_that_something_is_over_who_could_not_be_told_that_it_began(receiver: WebhookReceiver) -> None:
    create_webhook(receiver.url)
    receiver.reply = lambda request: (400, {}, b"no")
    create_alerts(create_notifying_rule(), *create_devices(1))
    grouping.create_deliveries(timezone.now())
    alert_actions.resolve(everything(), Resolution.RECOVERED, "evaluator")
    assert [step(), step()] == [1, 0]
    assert statuses() == ["failed", "dropped"]


@pytest.mark.parametrize(
    ("status", "headers", "again"),
    [(400, {}, None), (404, {}, None), (410, {}, None), (408, {}, 6), (425, {}, 6), (429, {"Retry-After": "40"}, 41)],
    ids=str,
)
def test_a_refusal_is_final_but_for_those_that_ask_to_come_again(
    receiver: WebhookReceiver, status: int, headers: dict[str, str], again: float | None
) -> None:
    create_webhook(receiver.url)
    receiver.reply = lambda request: (status, headers, b"no")
    create_alerts(create_notifying_rule(), *create_devices(1))
    now = timezone.now()
    step()
    delivery = Delivery.objects.get()
    if again is None:
        assert delivery.status == DeliveryStatus.FAILED
        return
    assert delivery.status == DeliveryStatus.WAITING
    assert now + timedelta(seconds=again - 1.5) < delivery.due_at < now + timedelta(seconds=again + 2)


def test_what_a_sender_had_in_hand_when_it_died_is_sent_by_another_under_the_same_key(
    receiver: WebhookReceiver,
) -> None:
    create_webhook(receiver.url)
    create_alerts(create_notifying_rule(), *create_devices(1))
    now = timezone.now()
    grouping.create_deliveries(now)
    (claimed,) = retry_queue.claim_deliveries(now, [], 8)
    from alerts.notifications.sender import send

    send(claimed)  # and then it died, before it was marked
    other = Sender()
    assert other.step(now + timedelta(seconds=29)) == 0
    assert other.step(now + timedelta(seconds=31)) == 1
    assert receiver.keys == [claimed.delivery_id] * 2
    assert statuses() == ["sent"]


def test_a_late_mark_of_what_arrived_counts_and_one_of_a_failure_does_not(receiver: WebhookReceiver) -> None:
    create_webhook(receiver.url)
    create_alerts(create_notifying_rule(), *create_devices(1))
    now = timezone.now()
    grouping.create_deliveries(now)
    (first,) = retry_queue.claim_deliveries(now, [], 8)
    (second,) = retry_queue.claim_deliveries(now + timedelta(seconds=31), [], 8)
    retry_queue.record_attempts([(first, retry_queue.SendFailed("late", retry=False))], now)
    assert Delivery.objects.get().status == DeliveryStatus.SENDING
    retry_queue.record_attempts([(first, retry_queue.SendReceipt(200))], now)
    retry_queue.record_attempts([(second, retry_queue.SendReceipt(200))], now)
    assert Delivery.objects.get().status == DeliveryStatus.SENT
    assert AlertEvent.objects.filter(kind=EventKind.NOTIFIED).count() == 1


def test_senders_that_run_at_once_send_each_delivery_once(receiver: WebhookReceiver) -> None:
    create_webhook(receiver.url)
    create_webhook(receiver.url, "second")
    (device,) = create_devices(1)
    for number in range(30):
        create_alerts(
            create_notifying_rule(f"rule {number}", channels=["hook", "second"], metric_name=f"metric {number}"), device
        )
        if number % 2 == 0:  # so that they are no incident
            Alert.objects.update(raised_at=timezone.now() - timedelta(minutes=5))
    stopping = threading.Event()
    threads = [threading.Thread(target=Sender().run, args=(stopping, threading.Event())) for _ in range(3)]
    for thread in threads:
        thread.start()
    until = time.monotonic() + 20
    while Delivery.objects.exclude(status="sent").exists() or "waiting" in statuses():
        assert time.monotonic() < until
        time.sleep(0.05)
    stopping.set()
    for thread in threads:
        thread.join(10)
    assert len(receiver.keys) == len(set(receiver.keys)) == Delivery.objects.count()
    assert sum(one.json["count"] for one in receiver.requests) == 60


def test_a_slow_channel_holds_up_no_other(receiver: WebhookReceiver) -> None:
    create_webhook(receiver.url)
    released = threading.Event()

    def slow(request: ReceivedRequest) -> Reply:
        released.wait(10)
        return 200, {}, b""

    with run_receiver(slow) as stuck:
        create_webhook(stuck.url, "stuck")
        (device,) = create_devices(1)
        stopping, wake = threading.Event(), threading.Event()
        thread = threading.Thread(target=Sender().run, args=(stopping, wake))
        thread.start()
        for number in range(4):
            found = create_notifying_rule(f"rule {number}", ["stuck", "hook"], metric_name=f"metric {number}")
            create_alerts(found, device)
            wake.set()
            until = time.monotonic() + 5
            while len(receiver.requests) <= number:
                assert time.monotonic() < until
                time.sleep(0.01)
        assert len(stuck.requests) == 2  # as many as go to one channel at once
        released.set()
        until = time.monotonic() + 5
        while Delivery.objects.filter(status="sent").count() < 8:
            assert time.monotonic() < until
            time.sleep(0.01)
        stopping.set()
        wake.set()
        thread.join(10)


def test_a_sender_goes_on_when_the_database_comes_back(receiver: WebhookReceiver) -> None:
    create_webhook(receiver.url)
    (device,) = create_devices(1)
    stopping, wake = threading.Event(), threading.Event()
    thread = threading.Thread(target=Sender().run, args=(stopping, wake))
    thread.start()
    time.sleep(0.3)
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid()"
            " AND datname = current_database()"
        )
    create_alerts(create_notifying_rule(), device)
    until = time.monotonic() + 10
    while not receiver.requests:
        assert time.monotonic() < until
        time.sleep(0.05)
    stopping.set()
    thread.join(10)
    assert statuses() == ["sent"]


def test_a_route_that_was_written_past_all_checks_ends_no_sender(receiver: WebhookReceiver) -> None:
    create_webhook(receiver.url)
    Route.objects.create(name="broken", escalation=[{"after": "ten"}])
    stopping, wake = threading.Event(), threading.Event()
    thread = threading.Thread(target=Sender().run, args=(stopping, wake))
    thread.start()
    create_alerts(create_notifying_rule(), *create_devices(1))
    until = time.monotonic() + 10
    while not receiver.requests:
        assert time.monotonic() < until
        time.sleep(0.05)
    stopping.set()
    wake.set()
    thread.join(10)


def test_a_deleted_channel_leaves_its_deliveries_and_ends_those_on_their_way(receiver: WebhookReceiver) -> None:
    channel = create_webhook(receiver.url)
    found = create_notifying_rule()
    first, second, third = create_devices(3)
    create_alerts(found, first)
    step()
    create_alerts(found, second)
    grouping.create_deliveries(timezone.now())
    create_alerts(found, third)
    channel_lifecycle.delete_channel(channel)
    assert [step(), step()] == [1, 0]
    assert list(Delivery.objects.order_by("id").values_list("status", "channel_name", "channel")) == [
        ("sent", "hook", None),
        ("failed", "hook", None),
    ]
    assert statuses() == ["sent", "failed", "unconfigured"]
    assert Delivery.objects.latest("id").error == "the channel was deleted"
    assert len(receiver.requests) == 1


def test_a_test_says_at_once_what_came_of_it(receiver: WebhookReceiver) -> None:
    channel = create_webhook(receiver.url)
    delivery = channel_lifecycle.send_test(channel, "user:admin")
    assert (delivery.status, delivery.test, delivery.answer_status) == ("sent", True, 200)
    assert receiver.requests[0].json["event"] == "test"
    receiver.reply = lambda request: (500, {}, b"broken")
    delivery = channel_lifecycle.send_test(channel, "user:admin")
    assert (delivery.status, delivery.error, delivery.answer) == ("failed", "HTTP 500", "broken")
    assert step() == 0
