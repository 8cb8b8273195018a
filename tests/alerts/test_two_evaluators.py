"""Evaluation without an evaluator, and with two at once: each breach opens and notifies one alert."""

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from alerts import loops
from alerts.evaluation.evaluator import Evaluator
from alerts.loops import EvaluationLoop, stop_loops
from alerts.models import Alert, Rule
from alerts.notifications.sender import Sender
from metrics.storage.connection import connect, dedicated_connection
from metrics.storage.locks import lock_evaluation, terminate_idle_evaluator
from tests.alerts.concurrent_evaluators import ConcurrentEvaluators
from tests.alerts.conftest import run, send
from tests.alerts.factories import create_webhook
from tests.alerts.receivers import WebhookReceiver
from tests.conftest import ApiClient
from tests.telemetry_site.site_process import wait_until

Make = Callable[..., Rule]
DEVICES = 4
ROUNDS = 25
HOLDER = "SELECT pid FROM pg_locks WHERE locktype = 'advisory' AND classid = 7205 AND granted"


@contextmanager
def running(*threads: threading.Thread) -> Iterator[None]:
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        for thread in threads:
            thread.join(20)


def breach_and_recover(gateway: ApiClient, rounds: int, between: Callable[[int], None] = lambda number: None) -> None:
    """Every device is beyond the threshold and well again, time after time."""
    for number in range(rounds):
        for value in (95.0, 20.0):
            for device in range(DEVICES):
                send(gateway, value, device=f"pump_{device}")
        between(number)


def all_over(expected: int) -> bool:
    return Alert.objects.filter(status="resolved").count() >= expected and not Alert.objects.open().exists()


def told(receiver: WebhookReceiver) -> Counter[tuple[str, str]]:
    """How often each alert was told of, by event."""
    return Counter((one.json["event"], alert["alert_id"]) for one in receiver.requests for alert in one.json["alerts"])


def check(receiver: WebhookReceiver, rounds: int) -> None:
    """Each breach is one alert that is told of once, and once that it is over."""
    sender = Sender()
    while sender.step(sender.clock()):
        pass
    alerts = Counter(Alert.objects.values_list("device_name", flat=True))
    assert alerts == {f"pump_{number}": rounds for number in range(DEVICES)}
    found = told(receiver)
    assert set(found.values()) == {1}
    assert len([one for one in found if one[0] == "alert.triggered"]) == rounds * DEVICES


@pytest.fixture
def watched(create_cpu_rule: Make, receiver: WebhookReceiver) -> WebhookReceiver:
    create_webhook(receiver.url)
    create_cpu_rule(notification_channels=["hook"])
    return receiver


def test_points_before_the_first_evaluator_are_evaluated(gateway: ApiClient, create_cpu_rule: Make) -> None:
    create_cpu_rule()
    send(gateway, 95.0)
    with dedicated_connection() as own:
        run(Evaluator(own))
    assert Alert.objects.count() == 1


@pytest.mark.slow
def test_two_evaluators_without_lock_open_and_notify_each_alert_once(
    gateway: ApiClient, watched: WebhookReceiver
) -> None:
    evaluators = ConcurrentEvaluators()
    with running(*evaluators.threads()):
        try:
            breach_and_recover(gateway, ROUNDS)
            wait_until(lambda: all_over(ROUNDS * DEVICES), 30, "everything is judged")
        finally:
            evaluators.stop.set()
    assert (evaluators.failures, evaluators.duplicates) == ([], [])
    check(watched, ROUNDS)
    assert sum(evaluators.replaced.values()) > 0  # otherwise there was no race


@pytest.mark.slow
def test_other_evaluator_takes_over_a_lost_lock(gateway: ApiClient, watched: WebhookReceiver) -> None:
    woken = threading.Event()
    evaluations = [EvaluationLoop(woken) for _ in range(2)]
    holders: list[int] = []
    waits: list[float] = []

    def take_the_lock(number: int) -> None:
        """End the connection that the lock is held on, as a failing network does; the evaluator learns of it later."""
        if number % 5 == 4:
            holders.append(holder())
            with connect() as own:
                own.execute("SELECT pg_terminate_backend(%s)", (holders[-1],))
            began = time.monotonic()
            wait_until(lambda: holder() not in (0, holders[-1]), 10, "somebody else evaluates")
            waits.append(time.monotonic() - began)

    with running(*evaluations):
        try:
            wait_until(holder, 10, "somebody evaluates")
            breach_and_recover(gateway, ROUNDS, take_the_lock)
            wait_until(lambda: all_over(ROUNDS * DEVICES), 30, "everything is judged")
        finally:
            stop_loops(evaluations)
    print(f"evaluation was taken over in at most {max(waits):.2f} s")
    assert max(waits) < 5
    check(watched, ROUNDS)


@pytest.mark.slow
def test_lock_is_taken_from_a_frozen_evaluator_and_not_from_a_slow_one(
    site: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loops, "HEARTBEAT_INTERVAL", 0.05)
    with connect() as slow, connect() as other:
        assert lock_evaluation(slow) and not lock_evaluation(other)
        with loops.heartbeat(slow):
            slow.execute("SELECT pg_sleep(0.5)")
            assert not terminate_idle_evaluator(other, 0.3)
            time.sleep(0.5)  # it judges
            assert not terminate_idle_evaluator(other, 0.3)
        time.sleep(0.5)  # it is frozen
        assert terminate_idle_evaluator(other, 0.3)
        wait_until(lambda: lock_evaluation(other), 5, "the lock is free")


def holder() -> int:
    """The backend that holds the lock of evaluation; 0: none."""
    with connect() as own:
        row = own.execute(HOLDER).fetchone()
    return row[0] if row else 0
