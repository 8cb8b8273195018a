"""`manage.py run_alerts` as a process: it opens alerts, delivers notifications and ends on a signal."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from urllib.parse import urlencode

import pytest
from django.db import connection

from alerts.models import Alert, Rule
from tests.alerts.conftest import send
from tests.alerts.factories import create_alerts, create_devices, create_notifying_rule, create_webhook
from tests.alerts.receivers import WebhookReceiver
from tests.conftest import ApiClient
from tests.telemetry_site.site_process import ROOT, wait_until

STOP_LIMIT = 5.0  # seconds from the signal to the end of the process; about one on an idle machine


def environment() -> dict[str, str]:
    database = connection.settings_dict
    names = {"dbname": "NAME", "user": "USER", "password": "PASSWORD", "host": "HOST", "port": "PORT"}
    address = {libpq: database[django] for libpq, django in names.items() if database.get(django)}
    return os.environ | {
        "DATABASE_URL": "postgresql:///?" + urlencode(address),
        "TELEMETRY_ALLOW_PRIVATE_WEBHOOKS": "127.0.0.0/8",
    }


@contextmanager
def run_alerts(*options: str) -> Iterator["subprocess.Popen[str]"]:
    """Run the command until the end of the block; yields when its loops have started."""
    process = subprocess.Popen(
        [sys.executable, "manage.py", "run_alerts", *options],
        cwd=ROOT,
        env=environment(),
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline().startswith("running: ")
        yield process
    finally:
        process.kill()
        process.communicate()


def stop(process: "subprocess.Popen[str]", signal_number: signal.Signals = signal.SIGTERM) -> float:
    """Send a signal and wait until the process exits with code 0. Returns the seconds until then."""
    started = time.monotonic()
    process.send_signal(signal_number)
    assert process.wait(20) == 0
    return time.monotonic() - started


@pytest.fixture
def notifying_rule(create_cpu_rule: Callable[..., Rule], receiver: WebhookReceiver) -> Rule:
    create_webhook(receiver.url)
    return create_cpu_rule(notification_channels=["hook"])


@pytest.mark.slow
@pytest.mark.parametrize("signal_number", [signal.SIGTERM, signal.SIGINT])
def test_a_breach_is_delivered_and_the_process_ends_soon_after_a_signal(
    gateway: ApiClient, notifying_rule: Rule, receiver: WebhookReceiver, signal_number: signal.Signals
) -> None:
    with run_alerts() as process:
        send(gateway, 95.0)
        wait_until(lambda: receiver.requests, 20, "the webhook is called")
        alert = Alert.objects.get()
        assert (alert.rule, alert.value) == (notifying_rule, 95.0)
        assert receiver.requests[0].json["alert_id"] == alert.alert_id
        assert stop(process, signal_number) < STOP_LIMIT


@pytest.mark.slow
def test_only_evaluation_opens_alerts_and_delivers_nothing(
    gateway: ApiClient, notifying_rule: Rule, receiver: WebhookReceiver
) -> None:
    with run_alerts("--only", "evaluation") as process:
        send(gateway, 95.0)
        wait_until(Alert.objects.exists, 20, "the alert is open")
        time.sleep(1)
        stop(process)
    assert receiver.requests == []


@pytest.mark.slow
def test_only_delivery_delivers_and_evaluates_nothing(
    gateway: ApiClient, create_cpu_rule: Callable[..., Rule], receiver: WebhookReceiver
) -> None:
    create_webhook(receiver.url)
    create_cpu_rule()
    with run_alerts("--only", "delivery") as process:
        send(gateway, 95.0)
        create_alerts(create_notifying_rule(), *create_devices(1))
        wait_until(lambda: receiver.requests, 20, "the webhook is called")
        time.sleep(0.5)
        stop(process)
    assert [alert.rule_name for alert in Alert.objects.all()] == ["too hot"]


@pytest.mark.slow
def test_two_processes_open_and_deliver_each_alert_once(
    gateway: ApiClient, notifying_rule: Rule, receiver: WebhookReceiver
) -> None:
    with ExitStack() as stack:
        processes = [stack.enter_context(run_alerts()) for _ in range(2)]
        for number in range(10):
            send(gateway, 95.0, device=f"pump_{number}")
        wait_until(
            lambda: sum(len(request.json["alerts"]) for request in receiver.requests) >= 10, 20, "all are delivered"
        )
        for process in processes:
            stop(process)
    delivered = [alert["alert_id"] for request in receiver.requests for alert in request.json["alerts"]]
    assert sorted(delivered) == sorted(Alert.objects.values_list("alert_id", flat=True))
    assert len(delivered) == 10
