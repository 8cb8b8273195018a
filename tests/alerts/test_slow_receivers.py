"""Receivers and actions that are slow, hang or fail: what they may occupy, and what is logged."""

import threading
import time
from collections import Counter
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection, connections
from django.utils import timezone

from alerts.models import Channel, Delivery
from alerts.notifications import channel_lifecycle, grouping, retry_queue, sender
from alerts.notifications.channels import webhook
from alerts.notifications.sender import Sender
from tests.alerts.factories import create_alerts, create_devices, create_notifying_rule, create_webhook
from tests.alerts.receivers import ReceivedRequest, Reply, WebhookReceiver, run_receiver


def test_channel_test_holds_no_database_connection_while_it_waits(receiver: WebhookReceiver) -> None:
    channel = create_webhook(receiver.url)
    sender_connection = connections["default"]  # of this thread; the receiver answers in another one
    is_held: list[bool] = []

    def reply(request: ReceivedRequest) -> Reply:
        is_held.append(sender_connection.connection is not None)
        return 200, {}, b""

    receiver.reply = reply
    assert channel_lifecycle.send_test(channel, "user:admin").status == "sent"
    assert is_held == [False]


def test_hanging_channel_tests_are_limited_by_channel_and_altogether(receiver: WebhookReceiver) -> None:
    released = threading.Event()

    def reply_late(request: ReceivedRequest) -> Reply:
        released.wait(10)
        return 200, {}, b""

    receiver.reply = reply_late
    channels = [create_webhook(receiver.url, f"hook {number}") for number in range(6)]
    results: list[str] = []

    def test(channel: Channel) -> None:
        try:
            results.append(channel_lifecycle.send_test(channel, "user:admin").status)
        except channel_lifecycle.ChannelBusy as busy:
            results.append(str(busy))
        finally:
            connection.close()

    threads = [threading.Thread(target=test, args=(channel,)) for channel in (channels[0], *channels)]
    for thread in threads:
        thread.start()
    deadline = time.monotonic() + 10
    while len(results) < 3:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    released.set()
    for thread in threads:
        thread.join(10)
    assert Counter(results) == {
        "sent": 4,
        "a test of hook 0 is running: try again in some seconds": 1,
        "4 channel tests are running: try again in some seconds": 2,
    }
    assert channel_lifecycle.send_test(channels[0], "user:admin").status == "sent"


@pytest.mark.slow
def test_failing_channels_leave_threads_to_the_others(
    receiver: WebhookReceiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Channels that do not answer: the first attempts may fill all threads, their retries may not."""
    monkeypatch.setattr(sender, "SENDER_THREADS", 4)
    monkeypatch.setattr(sender, "FAILING_THREADS", 2)
    monkeypatch.setattr(webhook, "SEND_TIMEOUT", 1.0)
    monkeypatch.setattr(retry_queue, "RETRY_DELAYS", (0,) * 9)
    hanging: list[float] = []

    def never_reply(request: ReceivedRequest) -> Reply:
        hanging.append(request.at)
        time.sleep(1.5)
        return 200, {}, b""

    (device,) = create_devices(1)
    stopping, wake = threading.Event(), threading.Event()
    with run_receiver(never_reply) as stuck:
        create_webhook(receiver.url)
        names = [create_webhook(stuck.url, f"stuck {number}").name for number in range(4)]
        create_alerts(create_notifying_rule("first", names, metric_name="a"), device)
        thread = threading.Thread(target=Sender().run, args=(stopping, wake))
        thread.start()
        deadline = time.monotonic() + 10
        while len(hanging) < 5:  # all of them failed once, and are retried
            assert time.monotonic() < deadline
            time.sleep(0.01)
        started = time.monotonic()
        create_alerts(create_notifying_rule("second", ["hook"], metric_name="b"), device)
        wake.set()
        while not receiver.requests:
            assert time.monotonic() < started + 5
            time.sleep(0.01)
        stopping.set()
        wake.set()
        thread.join(10)
    assert receiver.requests[0].at - started < 0.8


@pytest.mark.slow
def test_action_that_outlasts_its_lease_is_not_started_again_by_its_sender(site: None, settings: Any) -> None:
    settings.ALERT_ACTIONS = {"wait": "tests.alerts.test_slow_receivers.wait_for_release"}
    channel_lifecycle.create_channel({"name": "slow", "kind": "action", "action": "wait"}, "user:admin")
    create_alerts(create_notifying_rule(channels=["slow"]), *create_devices(1))
    slow_sender, now = Sender(), timezone.now()
    grouping.create_deliveries(now)
    action_released.clear()
    assert slow_sender._start(now) == 1
    assert slow_sender._start(now + retry_queue.LEASE + timedelta(seconds=1)) == 0
    action_released.set()
    assert slow_sender._record_finished(now, timeout=10) == 1
    assert Delivery.objects.get().status == "sent"


action_released = threading.Event()


def wait_for_release(payload: dict[str, Any]) -> None:
    action_released.wait(10)


@pytest.mark.slow
def test_each_failed_attempt_writes_a_log_line(receiver: WebhookReceiver, caplog: pytest.LogCaptureFixture) -> None:
    receiver.reply = lambda request: (503, {}, b"")
    create_webhook(receiver.url)
    create_alerts(create_notifying_rule(), *create_devices(1))
    now = timezone.now()
    for _ in range(retry_queue.MAX_ATTEMPTS):
        Sender().step(now)
        now += timedelta(hours=1)
    lines = [(record.levelname, record.getMessage()) for record in caplog.records if "retry_queue" in record.name]
    key = Delivery.objects.get().delivery_id
    assert [level for level, _ in lines] == ["WARNING"] * 9 + ["ERROR"]
    assert lines[0][1].startswith(
        f"notification {key} to channel hook failed in attempt 1 of 10: HTTP 503; next attempt"
    )
    last = f"notification {key} to channel hook failed in attempt 10 of 10: HTTP 503; no further attempt"
    assert lines[-1][1] == last
