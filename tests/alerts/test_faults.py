"""Faults of a running site: every breach is notified; repeats have the same idempotency key.

The site runs with `manage.py up`, with its own processes and servers; the receiver is a web server of the test.
"""

import random
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

import psutil
import pytest
import redis

from alerts.loops import EVALUATOR_TIMEOUT
from alerts.notifications import retry_queue
from alerts.notifications.channels import webhook
from telemetry_site.embedded import site_processes
from telemetry_site.embedded.child_process import request_stop, wait_until_stopped
from telemetry_site.embedded.paths import DataFolder
from telemetry_site.embedded.site_processes import Runtime
from tests.alerts.receivers import ReceivedRequest, Reply, WebhookReceiver, ok, run_dripping_server, run_receiver
from tests.alerts.site_notifications import (
    MAX_DELAY,
    NotificationRecorder,
    connect_to_database,
    create_object,
    record_notifications,
    rule_fields,
)
from tests.telemetry_site.site_process import Site, free_port, wait_until
from tests.telemetry_site.test_up import running_processes

pytestmark = pytest.mark.slow

SETTINGS = {"TELEMETRY_ALLOW_PRIVATE_WEBHOOKS": "127.0.0.0/8", "TELEMETRY_HOST_COLLECTOR": "off"}
KILLS = 5
FAULT_DELAY = 5.0  # seconds from a breach to its notification during a fault
DOWNTIME = 15.0  # seconds
STOP_LIMIT = 5.0  # seconds
DRIPPING_CHANNELS = 8


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    site = Site(tmp_path_factory.mktemp("site") / "data", variables=SETTINGS)
    site.start()
    wait_until(lambda: site.child("worker"), 30, "worker runs")
    yield site
    site.stop()


@pytest.fixture
def receiver() -> Iterator[WebhookReceiver]:
    with run_receiver() as webhook_receiver:
        yield webhook_receiver


def child(site: Site, name: str) -> psutil.Process:
    process: psutil.Process = wait_until(lambda: site.child(name), 30, f"{name} runs")
    return process


def test_repeatedly_killed_worker_loses_no_alert(running: Site, receiver: WebhookReceiver) -> None:
    rng = random.Random(20261121)
    recorder = record_notifications(running, receiver, "killed")
    request_received = threading.Event()

    def reply_slowly(request: ReceivedRequest) -> Reply:
        request_received.set()
        time.sleep(0.3)
        return ok(request)

    receiver.reply = reply_slowly
    with recorder.sending_breaches():
        for _ in range(KILLS):
            worker = child(running, "worker")
            request_received.clear()
            assert request_received.wait(MAX_DELAY)  # during a notification or between two
            time.sleep(rng.uniform(0, 0.4))
            worker.kill()
            wait_until(lambda worker=worker: child(running, "worker").pid != worker.pid, 30, "the worker is restarted")
            time.sleep(rng.uniform(0, 0.4))
    wait_until(
        lambda: any(len(notifications) > 1 for notifications in recorder.received().values()),
        MAX_DELAY,
        "a notification is repeated",
    )
    recorder.assert_notified(MAX_DELAY, f"worker killed {KILLS} times")


def kill_valkey(site: Site) -> None:
    valkey = child(site, "valkey")
    valkey.kill()
    wait_until(lambda: child(site, "valkey").pid != valkey.pid, 30, "valkey is restarted")


def freeze_valkey(site: Site) -> None:
    valkey = child(site, "valkey")
    valkey.suspend()
    time.sleep(DOWNTIME)
    valkey.resume()


def flush_valkey(site: Site) -> None:
    redis.Redis.from_url(DataFolder(site.data_dir).redis_url).flushall()


@pytest.mark.parametrize("fault", [kill_valkey, freeze_valkey, flush_valkey])
def test_failed_valkey_does_not_delay_notifications(
    running: Site, receiver: WebhookReceiver, fault: Callable[[Site], None]
) -> None:
    recorder = record_notifications(running, receiver, f"valkey-{fault.__name__}")
    with recorder.sending_breaches():
        time.sleep(1)
        fault(running)
        time.sleep(1)
    recorder.assert_notified(FAULT_DELAY, f"Valkey {fault.__name__}")


def test_failing_rule_is_suspended_and_other_rules_go_on(running: Site, receiver: WebhookReceiver) -> None:
    recorder = record_notifications(running, receiver, "sound")
    broken_rule = create_object(running, "/alerts/rules", rule_fields("sound") | {"name": "broken"})["rule_id"]
    with connect_to_database(running) as connection:
        connection.execute("UPDATE alerts_rule SET kind = 'forecast' WHERE rule_id = %s", (broken_rule,))
        connection.execute("UPDATE alerts_rulegeneration SET number = number + 1")
    recorder.send_breach()
    recorder.assert_notified(FAULT_DELAY, "with a broken rule")
    rule = running.request("GET", f"/alerts/rules/{broken_rule}")[1]
    assert "horizon" in rule["suspended"]


def test_frozen_worker_blocks_no_ingestion_and_catches_up(running: Site, receiver: WebhookReceiver) -> None:
    recorder = record_notifications(running, receiver, "frozen")
    worker = child(running, "worker")
    with recorder.sending_breaches():
        worker.suspend()
        time.sleep(20)
        worker.resume()
        resumed = time.monotonic()
        time.sleep(1)
    recorder.wait_until_notified()
    catch_up_time = time.monotonic() - resumed
    recorder.assert_notified(20 + FAULT_DELAY, "worker frozen for 20 s")
    print(f"all breaches were notified {catch_up_time:.2f} s after the worker resumed")


@contextmanager
def second_worker(site: Site, first_process: psutil.Process) -> Iterator[None]:
    """Run a second worker while the supervisor, which would restart the first one, is suspended."""
    child_process = site_processes.worker(Runtime(DataFolder(site.data_dir), first_process.environ()))
    child_process.start()
    assert child_process.process is not None
    second_process = psutil.Process(child_process.process.pid)
    try:
        wait_until(lambda: second_process.net_connections("unix"), 30, "the second worker is connected to the database")
        site.supervisor.suspend()
        yield
    finally:
        site.supervisor.resume()
        request_stop(child_process.process, child_process.stop_policy)
        wait_until_stopped(child_process.process, child_process.stop_policy)


def test_second_worker_takes_over_from_a_frozen_one(running: Site, receiver: WebhookReceiver) -> None:
    recorder = record_notifications(running, receiver, "overtaken")
    first_worker = child(running, "worker")
    with second_worker(running, first_worker):
        recorder.send_breach()
        recorder.wait_until_notified()
        first_worker.suspend()
        with recorder.sending_breaches():
            time.sleep(EVALUATOR_TIMEOUT + 5)
        recorder.wait_until_notified()
        first_worker.resume()
        with recorder.sending_breaches():
            time.sleep(1)
        recorder.assert_notified(EVALUATOR_TIMEOUT + FAULT_DELAY, "first of two workers frozen")


def test_second_worker_takes_over_from_a_killed_one(running: Site, receiver: WebhookReceiver) -> None:
    recorder = record_notifications(running, receiver, "followed")
    first_worker = child(running, "worker")
    with second_worker(running, first_worker):
        recorder.send_breach()
        recorder.wait_until_notified()
        first_worker.kill()
        with recorder.sending_breaches():
            time.sleep(3)
        recorder.assert_notified(FAULT_DELAY, "first of two workers killed")
        assert first_worker.pid not in psutil.pids() or first_worker.status() == psutil.STATUS_ZOMBIE


def test_receiver_that_was_down_is_notified_when_it_is_back(running: Site) -> None:
    port = free_port()
    recorder = record_notifications(running, WebhookReceiver(port=port), "down")
    started = time.monotonic()
    with run_receiver(lambda request: (503, {}, b""), port) as failing:
        recorder.send_breach()
        wait_until(lambda: failing.requests, FAULT_DELAY, "the receiver has a request")
    time.sleep(DOWNTIME - (time.monotonic() - started))
    with run_receiver(port=port) as restarted:
        recorder.receiver = restarted
        recorder.assert_notified(MAX_DELAY, f"receiver down for {DOWNTIME:.0f} s")
        assert set(restarted.keys) == set(failing.keys)
        assert len(restarted.keys) == 1


@pytest.mark.parametrize("head", [b"HTTP/1.1 500 broken\r\nConnection: close\r\n\r\n", b""], ids=["body", "headers"])
def test_dripping_receivers_delay_no_other_notification_and_no_request(
    running: Site, receiver: WebhookReceiver, head: bytes
) -> None:
    """More channels than the site answers slow requests at once, whose receivers send a byte per second."""
    label = "dripping-body" if head else "dripping-headers"
    started = record_notifications(running, receiver, f"before-{label}")
    started.send_breach()
    started.wait_until_notified()  # the worker has started
    recorder = record_notifications(running, receiver, f"beside-{label}")
    with run_dripping_server(head, interval=1.0) as port:
        channels = [
            create_object(
                running,
                "/alerts/channels",
                {"name": f"{label} {number}", "kind": "webhook", "url": f"http://127.0.0.1:{port}/"},
            )
            for number in range(DRIPPING_CHANNELS)
        ]
        names = [channel["name"] for channel in channels]
        create_object(running, "/alerts/rules", rule_fields(label) | {"notification_channels": names})
        dripping = NotificationRecorder(running, receiver, label)
        for _ in range(3):  # more deliveries to each channel than it may occupy threads
            dripping.send_breach()
        tests = [threading.Thread(target=request_test, args=(running, channel)) for channel in channels]
        for thread in tests:
            thread.start()
        with recorder.sending_breaches():
            began = time.monotonic()
            while time.monotonic() < began + webhook.SEND_TIMEOUT + 5:
                asked = time.monotonic()
                assert running.request("GET", "/alerts/channels")[0] == 200
                assert time.monotonic() - asked < FAULT_DELAY
                time.sleep(0.2)
        for thread in tests:
            thread.join(webhook.SEND_TIMEOUT + FAULT_DELAY)
            assert not thread.is_alive()
        recorder.assert_notified(FAULT_DELAY, label)
        with connect_to_database(running) as connection:
            lasted = connection.execute(
                "SELECT max(due_at - created_at), min(attempts) FROM alerts_delivery"
                " WHERE channel_name = ANY(%s) AND attempts > 0 AND status <> 'sending'",
                [names],
            ).fetchone()
    assert lasted is not None
    print(f"{label}: the slowest attempt was recorded and due again after {lasted[0]}")
    assert lasted[0] < timedelta(seconds=webhook.SEND_TIMEOUT + retry_queue.RETRY_DELAYS[1] + FAULT_DELAY)


def request_test(site: Site, channel: dict[str, str]) -> None:
    status, body = site.request("POST", f"/alerts/channels/{channel['channel_id']}/test", {})
    assert status in (200, 409), body


def test_stop_ends_all_processes_within_seconds(tmp_path: Path, receiver: WebhookReceiver) -> None:
    site = Site(tmp_path / "data", variables=SETTINGS)
    site.start()
    try:
        recorder = record_notifications(site, receiver, "stopped")
        recorder.send_breach()
        recorder.wait_until_notified()
        processes = site.processes()
    finally:
        started = time.monotonic()
        exit_code = site.stop(signal.SIGTERM)
    stop_time = time.monotonic() - started
    print(f"all processes had stopped after {stop_time:.2f} s")
    assert exit_code == 0
    assert running_processes(processes) == []
    assert stop_time < STOP_LIMIT
