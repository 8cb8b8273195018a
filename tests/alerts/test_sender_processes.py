"""Senders in separate processes that are killed while sending."""

import threading
import time
from datetime import timedelta
from typing import Any

from django.conf import settings
from django.db import connection
from django.utils import timezone

from alerts.models import Delivery, Notice
from alerts.notifications.sender import Sender
from telemetry_site.env import Environment
from tests.alerts.factories import create_alerts, create_devices, create_notifying_rule, create_webhook
from tests.alerts.receivers import ReceivedRequest, Reply, WebhookReceiver
from tests.forked_process import ForkedProcess


def send_all() -> None:
    settings.ALLOW_PRIVATE_WEBHOOKS = Environment({"X": "127.0.0.0/8"}).networks("X")
    Sender().step(timezone.now())


def database_settings() -> dict[str, Any]:
    database = connection.settings_dict
    return {name: database[name] for name in ("NAME", "USER", "PASSWORD", "HOST", "PORT")}


def test_deliveries_of_a_killed_sender_are_sent_again_after_their_lease(
    receiver: WebhookReceiver,
) -> None:
    released = threading.Event()

    def hold(request: ReceivedRequest) -> Reply:
        released.wait(30)
        return 200, {}, b""

    receiver.reply = hold
    create_webhook(receiver.url)
    (device,) = create_devices(1)
    for number in range(2):  # fewer than are grouped
        create_alerts(create_notifying_rule(f"rule {number}", metric_name=f"metric {number}"), device)
    running = ForkedProcess(database_settings(), send_all)
    until = time.monotonic() + 30
    while len(receiver.requests) < 2:
        assert time.monotonic() < until
        time.sleep(0.02)
    running.kill()
    released.set()
    killed = list(receiver.keys)
    now = timezone.now()
    other = Sender()
    assert other.step(now) == 0
    assert other.step(now + timedelta(seconds=31)) == 2
    assert sorted(receiver.keys) == sorted(killed * 2)
    assert not Delivery.objects.exclude(status="sent").exists()
    assert not Notice.objects.exclude(status="sent").exists()
