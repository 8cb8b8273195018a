"""Whatever of a running site is killed, frozen or emptied: every breach is told of, once or again under the same key.

The site is the one of `manage.py up`, with processes and servers of its own; the receiver is a web server of the test.
"""

import random
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest
import redis

from alerts.loops import EVALUATOR_TIMEOUT
from telemetry_site.embedded import site_processes
from telemetry_site.embedded.child_process import request_stop, wait_until_stopped
from telemetry_site.embedded.paths import DataFolder
from tests.alerts.alerting_site import PROMISE, book, database, made, rule
from tests.alerts.receivers import ReceivedRequest, Reply, WebhookReceiver, ok, run_receiver
from tests.telemetry_site.site_process import Site, free_port, wait_until
from tests.telemetry_site.test_up import leftover

SETTINGS = {"TELEMETRY_ALLOW_PRIVATE_WEBHOOKS": "127.0.0.0/8", "TELEMETRY_HOST_COLLECTOR": "off"}
KILLS = 5
FEW = 5.0  # seconds in which somebody is told though something is wrong
DOWN = 15.0  # seconds
STOPS_WITHIN = 5.0  # seconds


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    site = Site(tmp_path_factory.mktemp("site") / "data", more=SETTINGS)
    site.start()
    wait_until(lambda: site.child("worker"), 30, "worker runs")
    yield site
    site.stop()


@pytest.fixture
def receiver() -> Iterator[WebhookReceiver]:
    with run_receiver() as found:
        yield found


def child(site: Site, name: str) -> psutil.Process:
    found: psutil.Process = wait_until(lambda: site.child(name), 30, f"{name} runs")
    return found


def test_repeatedly_killed_worker_loses_no_alert(running: Site, receiver: WebhookReceiver) -> None:
    chance = random.Random(20261121)
    told = book(running, receiver, "killed")
    asked = threading.Event()

    def slowly(heard: ReceivedRequest) -> Reply:
        asked.set()
        time.sleep(0.3)
        return ok(heard)

    receiver.reply = slowly
    with told.breaching():
        for _ in range(KILLS):
            victim = child(running, "worker")
            asked.clear()
            assert asked.wait(PROMISE)  # in the middle of telling somebody, if not between two of them
            time.sleep(chance.uniform(0, 0.4))
            victim.kill()
            wait_until(lambda victim=victim: child(running, "worker").pid != victim.pid, 30, "the next one starts")
            time.sleep(chance.uniform(0, 0.4))
    wait_until(lambda: any(len(some) > 1 for some in told.heard().values()), PROMISE, "it is told again")
    told.check(PROMISE, f"worker killed {KILLS} times")


def killed(site: Site) -> None:
    victim = child(site, "valkey")
    victim.kill()
    wait_until(lambda: child(site, "valkey").pid != victim.pid, 30, "it runs again")


def frozen(site: Site) -> None:
    victim = child(site, "valkey")
    victim.suspend()
    time.sleep(DOWN)
    victim.resume()


def emptied(site: Site) -> None:
    redis.Redis.from_url(DataFolder(site.data_dir).redis_url).flushall()


@pytest.mark.parametrize("fault", [killed, frozen, emptied])
def test_failed_valkey_does_not_delay_notifications(
    running: Site, receiver: WebhookReceiver, fault: Callable[[Site], None]
) -> None:
    told = book(running, receiver, f"valkey-{fault.__name__}")
    with told.breaching():
        time.sleep(1)
        fault(running)
        time.sleep(1)
    told.check(FEW, f"Valkey {fault.__name__}")


def test_failing_rule_is_suspended_and_other_rules_go_on(running: Site, receiver: WebhookReceiver) -> None:
    told = book(running, receiver, "sound")
    broken = made(running, "/alerts/rules", rule("sound") | {"name": "broken"})["rule_id"]
    with database(running) as connection:
        connection.execute("UPDATE alerts_rule SET kind = 'forecast' WHERE rule_id = %s", (broken,))
        connection.execute("UPDATE alerts_rulegeneration SET number = number + 1")
    told.breach()
    told.check(FEW, "beside a broken rule")
    shown = running.request("GET", f"/alerts/rules/{broken}")[1]
    assert "horizon" in shown["suspended"]


def test_frozen_worker_blocks_no_ingestion_and_catches_up(running: Site, receiver: WebhookReceiver) -> None:
    told = book(running, receiver, "frozen")
    victim = child(running, "worker")
    with told.breaching():
        victim.suspend()
        time.sleep(20)
        victim.resume()
        began = time.monotonic()
        time.sleep(1)
    told.await_told()
    caught_up = time.monotonic() - began
    told.check(20 + FEW, "worker frozen for 20 s")
    print(f"everything was told {caught_up:.2f} s after it went on")


@contextmanager
def second_worker(site: Site, first: psutil.Process) -> Iterator[None]:
    """Beside the first one; and nobody starts that again."""
    program = site_processes.worker(DataFolder(site.data_dir), first.environ())
    program.start()
    assert program.process is not None
    second = psutil.Process(program.process.pid)
    try:
        wait_until(lambda: second.net_connections("unix"), 30, "the second one has found the database")
        site.supervisor.suspend()
        yield
    finally:
        site.supervisor.resume()
        request_stop(program.process, program.stop_policy)
        wait_until_stopped(program.process, program.stop_policy)


def test_second_worker_takes_over_from_a_frozen_one(running: Site, receiver: WebhookReceiver) -> None:
    told = book(running, receiver, "overtaken")
    first = child(running, "worker")
    with second_worker(running, first):
        told.breach()
        told.await_told()
        first.suspend()
        with told.breaching():
            time.sleep(EVALUATOR_TIMEOUT + 5)
        told.await_told()
        first.resume()
        with told.breaching():
            time.sleep(1)
        told.check(EVALUATOR_TIMEOUT + FEW, "first of two workers frozen")


def test_second_worker_takes_over_from_a_killed_one(running: Site, receiver: WebhookReceiver) -> None:
    told = book(running, receiver, "followed")
    first = child(running, "worker")
    with second_worker(running, first):
        told.breach()
        told.await_told()
        first.kill()
        with told.breaching():
            time.sleep(3)
        told.check(FEW, "first of two workers killed")
        assert first.pid not in psutil.pids() or first.status() == psutil.STATUS_ZOMBIE


def test_receiver_that_was_down_is_notified_when_it_is_back(running: Site) -> None:
    port = free_port()
    told = book(running, WebhookReceiver(port=port), "down")
    began = time.monotonic()
    with run_receiver(lambda heard: (503, {}, b""), port) as failing:
        told.breach()
        wait_until(lambda: failing.requests, FEW, "it is tried")
    time.sleep(DOWN - (time.monotonic() - began))
    with run_receiver(port=port) as back:
        told.receiver = back
        told.check(PROMISE, f"receiver down for {DOWN:.0f} s")
        assert set(back.keys) == set(failing.keys)
        assert len(back.keys) == 1


def test_stop_ends_all_processes_within_seconds(tmp_path: Path, receiver: WebhookReceiver) -> None:
    site = Site(tmp_path / "data", more=SETTINGS)
    site.start()
    try:
        told = book(site, receiver, "stopped")
        told.breach()
        told.await_told()
        everything = site.processes()
    finally:
        began = time.monotonic()
        code = site.stop(signal.SIGTERM)
    took = time.monotonic() - began
    print(f"everything had stopped after {took:.2f} s")
    assert code == 0
    assert leftover(everything) == []
    assert took < STOPS_WITHIN
