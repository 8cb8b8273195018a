"""Evaluation after a time without evaluator, and by two at once: each breach opens and notifies one alert."""

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from django.db import connection

from alerts import loops
from alerts.evaluation.evaluator import Evaluator
from alerts.loops import EvaluationLoop, stop_loops
from alerts.models import Alert, EvaluatorFailure, Rule
from alerts.notifications.sender import Sender
from metrics.storage.connection import connect, dedicated_connection
from metrics.storage.locks import lock_evaluation, terminate_idle_evaluator
from tests.alerts.concurrent_evaluators import ConcurrentEvaluators
from tests.alerts.conftest import run, send
from tests.alerts.factories import create_webhook
from tests.alerts.receivers import WebhookReceiver
from tests.conftest import ApiClient
from tests.telemetry_site.site_process import wait_until

RuleFactory = Callable[..., Rule]
DEVICES = 4
ROUNDS = 25
LOCK_HOLDER_QUERY = "SELECT pid FROM pg_locks WHERE locktype = 'advisory' AND classid = 7205 AND granted"


@contextmanager
def running(*threads: threading.Thread) -> Iterator[None]:
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        for thread in threads:
            thread.join(20)


def breach_and_recover(
    gateway: ApiClient, rounds: int, after_round: Callable[[int], None] = lambda round_number: None
) -> None:
    """Send a breach and a recovered value of every device, in each of the rounds."""
    for round_number in range(rounds):
        for value in (95.0, 20.0):
            for device in range(DEVICES):
                send(gateway, value, device=f"pump_{device}")
        after_round(round_number)


def all_resolved(expected: int) -> bool:
    return Alert.objects.filter(status="resolved").count() >= expected and not Alert.objects.open().exists()


def count_notifications(receiver: WebhookReceiver) -> Counter[tuple[str, str]]:
    """Count the received notifications by event and alert."""
    return Counter(
        (request.json["event"], alert["alert_id"]) for request in receiver.requests for alert in request.json["alerts"]
    )


def check_notified_once(receiver: WebhookReceiver, rounds: int) -> None:
    """Check that each breach opened one alert, notified once as triggered and once as resolved."""
    sender = Sender()
    while sender.step(sender.clock()):
        pass
    alerts = Counter(Alert.objects.values_list("device_name", flat=True))
    assert alerts == {f"pump_{number}": rounds for number in range(DEVICES)}
    counts = count_notifications(receiver)
    assert set(counts.values()) == {1}
    assert len([event for event, _ in counts if event == "alert.triggered"]) == rounds * DEVICES


@pytest.fixture
def receiver_with_rule(create_cpu_rule: RuleFactory, receiver: WebhookReceiver) -> WebhookReceiver:
    create_webhook(receiver.url)
    create_cpu_rule(notification_channels=["hook"])
    return receiver


def test_points_before_the_first_evaluator_are_evaluated(gateway: ApiClient, create_cpu_rule: RuleFactory) -> None:
    create_cpu_rule()
    send(gateway, 95.0)
    with dedicated_connection() as connection:
        run(Evaluator(connection))
    assert Alert.objects.count() == 1


@pytest.mark.slow
def test_two_evaluators_without_lock_open_and_notify_each_alert_once(
    gateway: ApiClient, receiver_with_rule: WebhookReceiver
) -> None:
    evaluators = ConcurrentEvaluators()
    with running(*evaluators.threads()):
        try:
            breach_and_recover(gateway, ROUNDS)
            wait_until(lambda: all_resolved(ROUNDS * DEVICES), 30, "all alerts are resolved")
        finally:
            evaluators.stop.set()
    assert (evaluators.failures, evaluators.duplicates) == ([], [])
    check_notified_once(receiver_with_rule, ROUNDS)
    assert sum(evaluators.replaced.values()) > 0  # the evaluators did race


@pytest.mark.slow
def test_other_evaluator_takes_over_a_lost_lock(gateway: ApiClient, receiver_with_rule: WebhookReceiver) -> None:
    wake = threading.Event()
    evaluation_loops = [EvaluationLoop(wake) for _ in range(2)]
    terminated: list[int] = []
    takeover_times: list[float] = []

    def terminate_lock_holder(round_number: int) -> None:
        """Terminate the connection that holds the lock in every fifth round, as a failing network does."""
        if round_number % 5 == 4:
            terminated.append(lock_holder())
            with connect() as connection:
                connection.execute("SELECT pg_terminate_backend(%s)", (terminated[-1],))
            started = time.monotonic()
            wait_until(lambda: lock_holder() not in (0, terminated[-1]), 10, "the other evaluator holds the lock")
            takeover_times.append(time.monotonic() - started)

    with running(*evaluation_loops):
        try:
            wait_until(lock_holder, 10, "an evaluator holds the lock")
            breach_and_recover(gateway, ROUNDS, terminate_lock_holder)
            wait_until(lambda: all_resolved(ROUNDS * DEVICES), 30, "all alerts are resolved")
        finally:
            stop_loops(evaluation_loops)
    print(f"evaluation was taken over in at most {max(takeover_times):.2f} s")
    assert max(takeover_times) < 5
    check_notified_once(receiver_with_rule, ROUNDS)


@pytest.mark.slow
def test_lock_is_taken_from_a_frozen_evaluator_and_not_from_a_slow_one(
    site: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loops, "HEARTBEAT_INTERVAL", 0.05)
    with connect() as lock_connection, connect() as other_connection:
        assert lock_evaluation(lock_connection) and not lock_evaluation(other_connection)
        with loops.heartbeat(lock_connection):
            lock_connection.execute("SELECT pg_sleep(0.5)")
            assert not terminate_idle_evaluator(other_connection, 0.3)
            time.sleep(0.5)  # busy: its heartbeat goes on
            assert not terminate_idle_evaluator(other_connection, 0.3)
        time.sleep(0.5)  # frozen: no heartbeat
        assert terminate_idle_evaluator(other_connection, 0.3)
        wait_until(lambda: lock_evaluation(other_connection), 5, "the lock is free")


@pytest.mark.slow
def test_failed_step_is_stored_and_evaluation_continues_without_losing_an_alert(
    gateway: ApiClient, receiver_with_rule: WebhookReceiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    evaluate, fail = Evaluator._evaluate, threading.Event()

    def fail_once(evaluator: Evaluator, *arguments: Any) -> Any:
        if fail.is_set():
            fail.clear()
            raise ValueError("a commit of an unknown shape")
        return evaluate(evaluator, *arguments)

    monkeypatch.setattr(Evaluator, "_evaluate", fail_once)
    loop = EvaluationLoop(threading.Event())
    with running(loop):
        try:
            for round_number in range(3):
                fail.set()
                breach_and_recover(gateway, 1)
                wait_until(lambda number=round_number: all_resolved((number + 1) * DEVICES), 30, "alerts are resolved")
        finally:
            stop_loops([loop])
    assert [failure.error for failure in EvaluatorFailure.objects.all()] == 3 * [
        "ValueError: a commit of an unknown shape"
    ]
    check_notified_once(receiver_with_rule, 3)


@pytest.mark.slow
def test_dropped_connections_are_no_failure_and_lose_no_alert(
    gateway: ApiClient, receiver_with_rule: WebhookReceiver
) -> None:
    send(gateway, 20.0)  # connects the web server and the writer
    others = backends()
    loop = EvaluationLoop(threading.Event())
    with running(loop):
        try:
            for round_number in range(4):
                breach_and_recover(gateway, 1)
                terminate(backends() - others)
                wait_until(lambda number=round_number: all_resolved((number + 1) * DEVICES), 30, "alerts are resolved")
        finally:
            stop_loops([loop])
    assert not EvaluatorFailure.objects.exists()
    check_notified_once(receiver_with_rule, 4)


def backends() -> set[int]:
    """Return the process IDs of all connections to the database but that of this thread."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )
        return {pid for (pid,) in cursor.fetchall()}


def terminate(pids: set[int]) -> None:
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_terminate_backend(pid) FROM unnest(%s::int[]) pid", (list(pids),))


def lock_holder() -> int:
    """Return the process ID of the backend that holds the evaluation lock, or 0."""
    with connect() as connection:
        row = connection.execute(LOCK_HOLDER_QUERY).fetchone()
    return row[0] if row else 0
