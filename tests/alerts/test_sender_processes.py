"""Sender processes that are killed while sending."""

import threading
import time
from datetime import timedelta
from typing import Any

import pytest
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


@pytest.mark.slow
def test_deliveries_of_a_killed_sender_are_sent_again_after_their_lease(
    receiver: WebhookReceiver,
) -> None:
    released = threading.Event()

    def wait_for_release(request: ReceivedRequest) -> Reply:
        released.wait(30)
        return 200, {}, b""

    receiver.reply = wait_for_release
    create_webhook(receiver.url)
    (device,) = create_devices(1)
    for number in range(2):  # too few to be grouped
        create_alerts(create_notifying_rule(f"rule {number}", metric_name=f"metric {number}"), device)
    process = ForkedProcess(database_settings(), send_all)
    deadline = time.monotonic() + 30
    while len(receiver.requests) < 2:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    process.kill()
    released.set()
    keys_before = list(receiver.keys)
    now = timezone.now()
    other_sender = Sender()
    assert other_sender.step(now) == 0
    assert other_sender.step(now + timedelta(seconds=31)) == 2
    assert sorted(receiver.keys) == sorted(keys_before * 2)
    assert not Delivery.objects.exclude(status="sent").exists()
    assert not Notice.objects.exclude(status="sent").exists()
